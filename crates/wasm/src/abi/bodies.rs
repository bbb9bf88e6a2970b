//! Host functions for buffers: bodies, messages, configurations, and the bodies of HTTP call responses.

use crate::host::Buffer;
use crate::memory::{Call, bytes, give, give_written, put_u32, split};
use crate::status::{HostResult, Status};
use bytes::{Bytes, BytesMut};

pub(super) fn get(
    call: &mut Call<'_>,
    buffer: i32,
    start: i32,
    most: i32,
    at: i32,
    length: i32,
) -> HostResult {
    let (start, most) = (start.cast_unsigned() as usize, most.cast_unsigned() as usize);
    give_written(call, at, length, |call, out| {
        let whole = call.data().buffer(buffer).ok_or(Status::NotFound)?;
        // As in other hosts, a range beyond the end is truncated without an error.
        let from = start.min(whole.len());
        let to = start.saturating_add(most).min(whole.len());
        out.extend_from_slice(&whole[from..to]);
        Ok(())
    })
}

/// Replaces `size` bytes from `start`: 0 and 0 prepend, a start beyond the end appends.
pub(super) fn set(call: &mut Call<'_>, buffer: i32, start: i32, size: i32, p: i32, n: i32) -> HostResult {
    let (start, size) = (start.cast_unsigned() as usize, size.cast_unsigned() as usize);
    let (memory, host) = split(call)?;
    let new = bytes(memory, p, n)?;
    let most = host.shared.settings.body.max(host.body.as_ref().map_or(0, |(_, whole)| whole.len()));
    let Some((known, whole)) = &mut host.body else { return Err(Status::BadArgument.into()) };
    if *known as i32 != buffer {
        return Err(Status::BadArgument.into());
    }
    let from = start.min(whole.len());
    let to = start.saturating_add(size).min(whole.len());
    let length = whole.len() - (to - from) + new.len();
    // A bound on the host's memory, which does not depend on the module's.
    if length > most.saturating_add(new.len()) || length > most.saturating_mul(2) {
        return Err(Status::BadArgument.into());
    }
    if from == 0 && to == whole.len() {
        *whole = Bytes::copy_from_slice(new);
        return Ok(());
    }
    let mut joined = BytesMut::with_capacity(length);
    joined.extend_from_slice(&whole[..from]);
    joined.extend_from_slice(new);
    joined.extend_from_slice(&whole[to..]);
    *whole = joined.freeze();
    Ok(())
}

pub(super) fn status(call: &mut Call<'_>, buffer: i32, length: i32, flags: i32) -> HostResult {
    let size = call.data().buffer(buffer).ok_or(Status::NotFound)?.len();
    put_u32(call, length, u32::try_from(size).unwrap_or(u32::MAX))?;
    put_u32(call, flags, 0)
}

/// The plugin configuration in proxy-wasm 0.1.0.
pub(super) fn configuration(call: &mut Call<'_>, at: i32, length: i32) -> HostResult {
    let shared = call.data().shared.clone();
    debug_assert_eq!(call.data().buffer(Buffer::PluginConfiguration as i32), Some(&*shared.settings.config));
    give(call, &shared.settings.config, at, length)
}
