//! Host functions for log lines and the log level.

use crate::memory::{Call, bytes, put_u32, split};
use crate::status::{HostResult, Status};

pub(super) fn write(call: &mut Call<'_>, level: i32, p: i32, n: i32) -> HostResult {
    let level = match level {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        4 | 5 => log::Level::Error,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, host) = split(call)?;
    host.log(level, bytes(memory, p, n)?);
    Ok(())
}

pub(super) fn level(call: &mut Call<'_>, at: i32) -> HostResult {
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
