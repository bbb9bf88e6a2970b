//! Host functions for header maps, one field or all at once.
//!
//! As in Envoy the request's `host` and `:authority` are the same, and pseudo-headers are listed with the other
//! fields. Only the gateway writes the fields of framing and of one connection: a filter's write to them succeeds
//! without effect.

use crate::header_encoding::{self, Pairs};
use crate::host::Host;
use crate::memory::{Call, bytes, give_written, put_u32, split};
use crate::request_scope::{self, Change, RequestScope, Side, pseudo_names};
use crate::status::{HostResult, Status, Stop};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// The maximum number of pairs in one call.
const MOST: usize = 1_000;

/// A map that is readable now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Map {
    Of(Side),
    /// The response to an HTTP call of the module.
    CallResponse,
    /// No trailers.
    Empty,
}

fn map(host: &Host, number: i32) -> Result<Map, Status> {
    match number {
        0 | 2 if !host.sees_request() => Err(Status::BadArgument),
        0 => Ok(Map::Of(Side::Request)),
        2 => Ok(Map::Of(Side::Response)),
        1 | 3 => Ok(Map::Empty),
        6 if host.call_response.is_some() => Ok(Map::CallResponse),
        7 if host.call_response.is_some() => Ok(Map::Empty),
        _ => Err(Status::BadArgument),
    }
}

/// The writable side of a map.
fn changeable(host: &Host, number: i32) -> Result<Side, Status> {
    match map(host, number)? {
        Map::Of(side) => Ok(side),
        Map::CallResponse | Map::Empty => Err(Status::BadArgument),
    }
}

pub(super) fn pairs(call: &mut Call<'_>, number: i32, at: i32, length: i32) -> HostResult {
    let map = map(call.data(), number)?;
    give_written(call, at, length, |call, out| {
        all(call.data(), map, |pairs| header_encoding::write(out, pairs))
    })
}

pub(super) fn size(call: &mut Call<'_>, number: i32, at: i32) -> HostResult {
    let map = map(call.data(), number)?;
    let mut size = 0;
    all(call.data(), map, |pairs| size = header_encoding::size(pairs))?;
    put_u32(call, at, u32::try_from(size).unwrap_or(u32::MAX))
}

/// Passes all pairs of a map to `show`: pseudo-headers, then fields.
fn all(host: &Host, map: Map, mut show: impl FnMut(&MapView<'_>)) -> HostResult {
    match map {
        Map::Empty => show(&MapView { pseudo: &[], fields: &HeaderMap::new(), hides_host: false }),
        Map::CallResponse => {
            let response = host.call_response.as_ref().ok_or(Status::BadArgument)?;
            let status = [(":status", response.status.as_str().as_bytes().into())];
            show(&MapView { pseudo: &status, fields: &response.headers, hides_host: false });
        }
        Map::Of(side) => request_scope::with_request(|scope| {
            let pseudo: Vec<(&str, Vec<u8>)> = pseudo_names(side)
                .iter()
                .filter_map(|name| {
                    let mut value = Vec::new();
                    scope.pseudo(side, name.as_bytes(), &mut value).then_some((*name, value))
                })
                .collect();
            let fields = scope.fields(side).ok_or(Status::BadArgument)?;
            show(&MapView { pseudo: &pseudo, fields, hides_host: side == Side::Request });
            Ok(())
        })
        .unwrap_or(Err(Status::BadArgument))?,
    }
    Ok(())
}

/// The pairs of a map.
struct MapView<'m> {
    pseudo: &'m [(&'m str, Vec<u8>)],
    fields: &'m HeaderMap,
    /// Replaced by `:authority`.
    hides_host: bool,
}

impl Pairs for MapView<'_> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        self.pseudo.iter().for_each(|(name, value)| visit(name.as_bytes(), value));
        for (name, value) in self.fields {
            if !(self.hides_host && name == HOST) {
                visit(name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }
}

pub(super) fn value(call: &mut Call<'_>, number: i32, k: i32, kn: i32, at: i32, length: i32) -> HostResult {
    let map = map(call.data(), number)?;
    give_written(call, at, length, |call, out| {
        let (memory, host) = split(call)?;
        let name = bytes(memory, k, kn)?;
        let found = match map {
            Map::Empty => false,
            Map::CallResponse => host.call_response.as_ref().is_some_and(|response| {
                name == b":status" && append(out, response.status.as_str().as_bytes())
                    || first(&response.headers, name, out)
            }),
            Map::Of(side) => match request_scope::with_request(|scope| find(scope, side, name, out)) {
                Some(found) => found?,
                None => return Err(Status::BadArgument.into()),
            },
        };
        if found { Ok(()) } else { Err(Status::NotFound.into()) }
    })
}

fn find(scope: &mut dyn RequestScope, side: Side, name: &[u8], out: &mut Vec<u8>) -> Result<bool, Status> {
    let fields = scope.fields(side).ok_or(Status::BadArgument)?;
    if name.first() == Some(&b':') {
        return Ok(scope.pseudo(side, name, out));
    }
    Ok(first(fields, name, out))
}

fn first(fields: &HeaderMap, name: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(name) = HeaderName::from_bytes(name) else { return false };
    fields.get(name).is_some_and(|value| append(out, value.as_bytes()))
}

fn append(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    true
}

/// A change of a field.
#[derive(Clone, Copy)]
enum Edit {
    Add,
    Replace,
}

pub(super) fn add(call: &mut Call<'_>, map: i32, k: i32, kn: i32, v: i32, vn: i32) -> HostResult {
    edit(call, map, Edit::Add, (k, kn), (v, vn))
}

pub(super) fn replace(call: &mut Call<'_>, map: i32, k: i32, kn: i32, v: i32, vn: i32) -> HostResult {
    edit(call, map, Edit::Replace, (k, kn), (v, vn))
}

fn edit(call: &mut Call<'_>, number: i32, edit: Edit, name: (i32, i32), value: (i32, i32)) -> HostResult {
    let side = changeable(call.data(), number)?;
    let (memory, _) = split(call)?;
    let (name, value) = (bytes(memory, name.0, name.1)?, bytes(memory, value.0, value.1)?);
    Ok(request_scope::with_request(|scope| write(scope, side, edit, name, value))
        .unwrap_or(Err(Status::BadArgument))?)
}

fn write(
    scope: &mut dyn RequestScope,
    side: Side,
    edit: Edit,
    name: &[u8],
    value: &[u8],
) -> Result<(), Status> {
    if name.first() == Some(&b':') {
        return scope.set_pseudo(side, name, value);
    }
    let name = HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
    if is_gateways(side, &name) {
        return Ok(());
    }
    match edit {
        // A request has exactly one `Host`.
        Edit::Add if !(side == Side::Request && name == HOST) => {
            scope.change(side, &name, Change::Append(value))
        }
        Edit::Add | Edit::Replace => scope.change(side, &name, Change::Set(value)),
    }
}

pub(super) fn remove(call: &mut Call<'_>, number: i32, k: i32, kn: i32) -> HostResult {
    let side = changeable(call.data(), number)?;
    let (memory, _) = split(call)?;
    let name = bytes(memory, k, kn)?;
    let Ok(name) = HeaderName::from_bytes(name) else { return Err(Status::BadArgument.into()) };
    if is_gateways(side, &name) || side == Side::Request && name == HOST {
        return Ok(());
    }
    Ok(request_scope::with_request(|scope| scope.change(side, &name, Change::Remove))
        .unwrap_or(Err(Status::BadArgument))?)
}

pub(super) fn set_pairs(call: &mut Call<'_>, number: i32, at: i32, length: i32) -> HostResult {
    let side = changeable(call.data(), number)?;
    let (memory, _) = split(call)?;
    let pairs = header_encoding::read(bytes(memory, at, length)?).ok_or(Status::ParseFailure)?;
    if pairs.len() > MOST {
        return Err(Status::BadArgument.into());
    }
    let replace = |scope: &mut dyn RequestScope| -> Result<(), Stop> {
        let fields = scope.fields(side).ok_or(Status::BadArgument)?;
        let kept = |name: &HeaderName| is_gateways(side, name) || side == Side::Request && *name == HOST;
        let gone: Vec<_> = fields.keys().filter(|name| !kept(name)).cloned().collect();
        for name in gone {
            scope.change(side, &name, Change::Remove)?;
        }
        for (name, value) in &pairs {
            write(scope, side, Edit::Add, name, value)?;
        }
        Ok(())
    };
    request_scope::with_request(replace).unwrap_or(Err(Status::BadArgument.into()))
}

/// Fields of a filter's response or HTTP call, without those that only the gateway writes.
pub(super) fn fields(pairs: &[(&[u8], &[u8])], side: Side) -> Result<HeaderMap, Status> {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs.iter().filter(|(name, _)| name.first() != Some(&b':')).take(MOST) {
        let name = HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
        if !is_gateways(side, &name) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}

/// Whether only the gateway writes a field.
fn is_gateways(side: Side, name: &HeaderName) -> bool {
    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE, TRAILER, EXPECT];
    framing.contains(name)
        || side == Side::Request && *name == TE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        // A filter may choose the subprotocol; the handshake sets the other fields.
        || name.as_str().starts_with("sec-websocket-") && name.as_str() != "sec-websocket-protocol"
}
