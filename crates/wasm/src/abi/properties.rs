//! Host functions for properties of the request and of the filter.

use crate::memory::{Call, bytes, give_written, split};
use crate::properties;
use crate::status::{HostResult, Status};

/// Limits on the properties that a module may set on a stream: their number, and the bytes of one.
const PROPERTIES: usize = 64;
const PROPERTY: usize = 64 << 10;

pub(super) fn get(call: &mut Call<'_>, p: i32, n: i32, at: i32, length: i32) -> HostResult {
    give_written(call, at, length, |call, out| {
        let (memory, host) = split(call)?;
        let found = properties::read(host, bytes(memory, p, n)?, out);
        if found { Ok(()) } else { Err(Status::NotFound.into()) }
    })
}

/// A filter's properties are its own, and end with the stream.
pub(super) fn set(call: &mut Call<'_>, p: i32, n: i32, v: i32, vn: i32) -> HostResult {
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
