//! CLIENT span of an attempt at an endpoint: each retry has its own, with the reason of its failure.

use super::http_method;
use crate::proxy::context::Context;
use crate::telemetry::traces::{Attribute, Value, keys};
use crate::upstream::{Address, Cluster, Endpoint};
use http::{Method, StatusCode, Version};
use pingora::http::RequestHeader;

/// Begins the span of the attempt that the context has just begun.
pub(in crate::proxy) fn begin(head: &RequestHeader, ctx: &mut Context) {
    if ctx.trace.as_ref().is_none_or(|trace| trace.sampled().is_none()) {
        return;
    }
    let (Some(cluster), Some(lease)) = (ctx.attempts.cluster(), ctx.attempts.lease()) else { return };
    let method = ctx.method().unwrap_or(&head.method);
    let target = ctx.outgoing().unwrap_or_else(|| ctx.received.path_and_query(&head.uri).0);
    let attributes = describe(method, target, cluster, lease.endpoint());
    let name = http_method::in_names(method);
    if let Some(trace) = &mut ctx.trace {
        trace.begin_attempt(name, attributes);
    }
}

/// The attributes of a request for `target` to an endpoint. The query is left out: it may contain a token.
pub(super) fn describe(
    method: &Method,
    target: &str,
    cluster: &Cluster,
    endpoint: &Endpoint,
) -> Vec<Attribute> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut attributes = Vec::with_capacity(12);
    http_method::describe(method, &mut attributes);
    let scheme = if cluster.spec().tls.is_some() { "https" } else { "http" };
    let authority = cluster.connector().authority(endpoint);
    attributes.push((keys::URL_FULL, Value::text(&format!("{scheme}://{authority}{path}"))));
    match endpoint.address() {
        Address::Tcp(address) => {
            let peer = Value::Text(address.ip().to_string().into());
            let name = endpoint.host().map_or_else(|| peer.clone(), Value::Shared);
            attributes.push((keys::SERVER_ADDRESS, name));
            attributes.push((keys::SERVER_PORT, Value::Number(address.port().into())));
            attributes.push((keys::NETWORK_PEER_ADDRESS, peer));
            attributes.push((keys::NETWORK_PEER_PORT, Value::Number(address.port().into())));
        }
        Address::Unix(path) => {
            attributes.push((keys::SERVER_ADDRESS, Value::text(&path.to_string_lossy())));
            attributes.push((keys::NETWORK_TRANSPORT, Value::Word("unix")));
        }
    }
    attributes.push((keys::UPSTREAM, Value::text(endpoint.upstream())));
    attributes.push((keys::ENDPOINT, Value::text(endpoint.name())));
    attributes
}

/// Records the status of the backend's response, and the version of HTTP in it.
pub(in crate::proxy) fn responded(ctx: &mut Context, status: StatusCode, version: Version) {
    if let Some(trace) = &mut ctx.trace {
        trace.responded(status.as_u16(), protocol_version(version));
    }
}

/// Ends the span of the current attempt with the reason token of its failure.
pub(in crate::proxy) fn failed(ctx: &mut Context, failure: &'static str) {
    if let Some(trace) = &mut ctx.trace {
        trace.end_attempt(Some(failure), None);
    }
}

/// The version of HTTP in an attribute.
pub(super) fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
