//! Host functions for the metrics that filters define.

use crate::memory::{Call, bytes, put, put_u32, split};
use crate::metrics::MetricType;
use crate::status::{HostResult, Status};

/// The longest name of a metric.
const NAME: usize = 256;

pub(super) fn define(call: &mut Call<'_>, kind: i32, p: i32, n: i32, at: i32) -> HostResult {
    let kind = [MetricType::Counter, MetricType::Gauge, MetricType::Histogram]
        .into_iter()
        .find(|known| *known as i32 == kind);
    let (memory, host) = split(call)?;
    let name = std::str::from_utf8(bytes(memory, p, n)?).ok().filter(|name| (1..=NAME).contains(&name.len()));
    let kind = kind.ok_or(Status::BadArgument)?;
    let id = host.shared.ledger.define(kind, name.ok_or(Status::BadArgument)?).ok_or(Status::BadArgument)?;
    put_u32(call, at, id)
}

pub(super) fn record(call: &mut Call<'_>, id: i32, value: i64) -> HostResult {
    let known = call.data().shared.ledger.record(id.cast_unsigned(), value.cast_unsigned());
    if known { Ok(()) } else { Err(Status::NotFound.into()) }
}

pub(super) fn increment(call: &mut Call<'_>, id: i32, offset: i64) -> HostResult {
    let taken = call.data().shared.ledger.increment(id.cast_unsigned(), offset);
    if taken { Ok(()) } else { Err(Status::BadArgument.into()) }
}

pub(super) fn get(call: &mut Call<'_>, id: i32, at: i32) -> HostResult {
    let value = call.data().shared.ledger.get(id.cast_unsigned()).ok_or(Status::NotFound)?;
    put(call, at, &value.to_le_bytes())
}
