//! Host functions for logs, time, properties, shared data and metrics.

use crate::memory::{Call, bytes, give, give_written, put, put_u32, split};
use crate::metrics::Sort;
use crate::properties;
use crate::shared_data::NotSet;
use crate::status::{Done, Status};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Limits on the properties that a module may set on a stream: their number, and the bytes of one.
const PROPERTIES: usize = 64;
const PROPERTY: usize = 64 << 10;

/// The longest name of a metric.
const NAME: usize = 256;

/// The shortest tick period.
const SHORTEST: Duration = Duration::from_millis(10);

pub(super) fn log(call: &mut Call<'_>, level: i32, p: i32, n: i32) -> Done {
    let level = match level {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        4 | 5 => log::Level::Error,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, host) = split(call)?;
    host.say(level, bytes(memory, p, n)?);
    Ok(())
}

pub(super) fn log_level(call: &mut Call<'_>, at: i32) -> Done {
    let level = match log::max_level() {
        log::LevelFilter::Trace => 0,
        log::LevelFilter::Debug => 1,
        log::LevelFilter::Info => 2,
        log::LevelFilter::Warn => 3,
        log::LevelFilter::Error => 4,
        log::LevelFilter::Off => 5,
    };
    put_u32(call, at, level)
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn time(call: &mut Call<'_>, at: i32) -> Done {
    put(call, at, &now().to_le_bytes())
}

pub(super) fn tick(call: &mut Call<'_>, period: i32) -> Done {
    let period = Duration::from_millis(u64::from(period.cast_unsigned()));
    let host = call.data_mut();
    host.tick = (!period.is_zero()).then(|| period.max(SHORTEST));
    host.shared.ticks.notify_one();
    Ok(())
}

pub(super) fn property(call: &mut Call<'_>, p: i32, n: i32, at: i32, length: i32) -> Done {
    give_written(call, at, length, |call, out| {
        let (memory, host) = split(call)?;
        let found = properties::read(host, bytes(memory, p, n)?, out);
        if found { Ok(()) } else { Err(Status::NotFound.into()) }
    })
}

/// A filter's properties are its own, and end with the stream.
pub(super) fn set_property(call: &mut Call<'_>, p: i32, n: i32, v: i32, vn: i32) -> Done {
    let (memory, host) = split(call)?;
    let (path, value) = (bytes(memory, p, n)?, bytes(memory, v, vn)?);
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    let effective = host.effective;
    let context = host.contexts.get_mut(&effective).ok_or(Status::BadArgument)?;
    if path.len() + value.len() > PROPERTY {
        return Err(Status::BadArgument.into());
    }
    let room = context.properties.len() < PROPERTIES;
    match context.properties.iter_mut().find(|(known, _)| **known == *path) {
        Some((_, known)) => *known = value.into(),
        None if !room => return Err(Status::BadArgument.into()),
        None => context.properties.push((path.into(), value.into())),
    }
    Ok(())
}

pub(super) fn shared(call: &mut Call<'_>, k: i32, kn: i32, at: i32, length: i32, cas: i32) -> Done {
    let (memory, host) = split(call)?;
    let (value, number) = host.shared.data.get(bytes(memory, k, kn)?).ok_or(Status::NotFound)?;
    give(call, &value, at, length)?;
    put_u32(call, cas, number)
}

pub(super) fn set_shared(call: &mut Call<'_>, k: i32, kn: i32, v: i32, vn: i32, cas: i32) -> Done {
    let (memory, host) = split(call)?;
    let (key, value) = (bytes(memory, k, kn)?, bytes(memory, v, vn)?);
    host.shared.data.set(key, value, cas.cast_unsigned()).map_err(|not| match not {
        NotSet::Mismatch => Status::CasMismatch,
        NotSet::Full => Status::InternalFailure,
    })?;
    Ok(())
}

pub(super) fn define_metric(call: &mut Call<'_>, sort: i32, p: i32, n: i32, at: i32) -> Done {
    let sort = [Sort::Counter, Sort::Gauge, Sort::Histogram].into_iter().find(|known| *known as i32 == sort);
    let (memory, host) = split(call)?;
    let name = std::str::from_utf8(bytes(memory, p, n)?).ok().filter(|name| (1..=NAME).contains(&name.len()));
    let sort = sort.ok_or(Status::BadArgument)?;
    let id = host.shared.ledger.define(sort, name.ok_or(Status::BadArgument)?).ok_or(Status::BadArgument)?;
    put_u32(call, at, id)
}

pub(super) fn record_metric(call: &mut Call<'_>, id: i32, value: i64) -> Done {
    let known = call.data().shared.ledger.record(id.cast_unsigned(), value.cast_unsigned());
    if known { Ok(()) } else { Err(Status::NotFound.into()) }
}

pub(super) fn increment_metric(call: &mut Call<'_>, id: i32, offset: i64) -> Done {
    let taken = call.data().shared.ledger.increment(id.cast_unsigned(), offset);
    if taken { Ok(()) } else { Err(Status::BadArgument.into()) }
}

pub(super) fn metric(call: &mut Call<'_>, id: i32, at: i32) -> Done {
    let value = call.data().shared.ledger.get(id.cast_unsigned()).ok_or(Status::NotFound)?;
    put(call, at, &value.to_le_bytes())
}
