//! Host function for a module's HTTP calls, to the upstreams that its entry allows.

use super::maps;
use crate::header_encoding;
use crate::memory::{Call, bytes, put_u32, split};
use crate::request_scope::{self, Side};
use crate::status::{HostResult, Status};
use bytes::Bytes;
use http::Method;
use http::header::{HOST, HeaderValue};
use moongate_sdk::{Call as Request, CallTarget};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of pending calls of an instance.
const MOST: usize = 1_000;

/// The maximum timeout of a call.
const LONGEST: Duration = Duration::from_secs(60);

#[allow(clippy::too_many_arguments, reason = "the interface has them")]
pub(super) fn http(
    call: &mut Call<'_>,
    u: i32,
    un: i32,
    h: i32,
    hn: i32,
    b: i32,
    bn: i32,
    t: i32,
    tn: i32,
    timeout: i32,
    at: i32,
) -> HostResult {
    let (memory, host) = split(call)?;
    let upstream = std::str::from_utf8(bytes(memory, u, un)?).map_err(|_| Status::BadArgument)?;
    let pairs = header_encoding::read(bytes(memory, h, hn)?).ok_or(Status::ParseFailure)?;
    let body = bytes(memory, b, bn)?;
    // Read only to check its bounds: no trailers are sent.
    bytes(memory, t, tn)?;
    let timeout = Duration::from_millis(u64::from(timeout.cast_unsigned()));
    let shared = host.shared.clone();
    if !shared.settings.upstreams.contains(upstream) {
        host.log(
            log::Level::Warn,
            format!("a call to `{upstream}`, which `allow.upstreams` does not name").as_bytes(),
        );
        return Err(Status::BadArgument.into());
    }
    let services =
        request_scope::services().or_else(|| host.services.clone()).ok_or(Status::InternalFailure)?;
    if !services.has_upstream(upstream) {
        host.log(log::Level::Warn, format!("a call to `{upstream}`, which is not an upstream").as_bytes());
        return Err(Status::BadArgument.into());
    }
    if Arc::strong_count(&host.outstanding) > MOST {
        return Err(Status::InternalFailure.into());
    }
    let request = Request {
        to: CallTarget::Upstream(upstream.to_owned()),
        body: Bytes::copy_from_slice(body),
        timeout: if timeout.is_zero() { LONGEST } else { timeout.min(LONGEST) },
        limit: shared.settings.body,
        ..head(&pairs)?
    };
    host.calls = host.calls.wrapping_add(1);
    let number = host.calls;
    put_u32(call, at, number)?;
    let host = call.data_mut();
    let (share, calling) = (host.outstanding.clone(), services.call(request));
    let calling = Box::pin(async move {
        // A cancelled call ends here too.
        let _share = share;
        calling.await
    });
    host.outcome.calls.push((number, calling));
    Ok(())
}

/// Converts `:method`, `:path`, `:authority` and the other fields into a request.
fn head(pairs: &[(&[u8], &[u8])]) -> Result<Request, Status> {
    let pseudo = |wanted: &[u8]| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let method = pseudo(b":method").and_then(|method| Method::from_bytes(method).ok());
    let target = pseudo(b":path").and_then(|path| std::str::from_utf8(path).ok());
    let fits = |target: &&str| target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    let authority = pseudo(b":authority").and_then(|host| HeaderValue::from_bytes(host).ok());
    let mut headers = maps::fields(pairs, Side::Request)?;
    headers.insert(HOST, authority.ok_or(Status::BadArgument)?);
    Ok(Request {
        to: CallTarget::Upstream(String::new()),
        method: method.ok_or(Status::BadArgument)?,
        target: target.filter(fits).ok_or(Status::BadArgument)?.to_owned(),
        headers,
        body: Bytes::new(),
        timeout: LONGEST,
        limit: 0,
    })
}
