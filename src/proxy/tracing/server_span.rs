//! SERVER span of a request: its facts when it ends, with plugin calls as events and the spans of its attempts.

use super::client_span::protocol_version;
use super::http_method;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::proxy::request::request_facts::RequestLine;
use crate::proxy::request_trace::{Recording, SpanClock};
use crate::telemetry::traces::{Attribute, FinishedSpan, SpanEvent, SpanKind, Value, keys};
use http::header::USER_AGENT;
use moongate_sdk::{PluginCall, PluginCalls};
use pingora::http::RequestHeader;
use std::borrow::Cow;
use std::time::Duration;

/// Ends the trace of a request with the status that the client got, if any.
pub(in crate::proxy) fn end(session: &Session, ctx: &mut Context, status: Option<u16>, lived: Duration) {
    let Some(mut trace) = ctx.trace.take() else { return };
    // An attempt that has not failed ends with its response.
    trace.end_attempt(None, Some(lived));
    let Some((context, recording)) = trace.finish() else { return };
    let Recording { clock, parent, state, links, mut finished, .. } = recording;
    let PluginCalls { calls, omitted } = ctx.running.take_calls();
    let (attributes, is_error) = facts(session, ctx, status);
    finished.push(FinishedSpan {
        parent,
        has_remote_parent: parent.is_some(),
        trace_state: state,
        name: name(session, ctx),
        attributes,
        events: calls.iter().map(|call| event(ctx, clock, call)).collect(),
        dropped_events: omitted,
        links,
        is_error,
        ..FinishedSpan::new(context, SpanKind::Server, clock.start(), clock.after(lived))
    });
    if let Some(tracer) = &ctx.snapshot.tracer {
        tracer.submit(finished);
    }
}

/// The method and the route; the method alone without one.
fn name(session: &Session, ctx: &Context) -> Cow<'static, str> {
    let method = method_name(session, ctx);
    match &ctx.route {
        Some(route) => format!("{method} {}", route.name).into(),
        None => method.into(),
    }
}

fn method_name(session: &Session, ctx: &Context) -> &'static str {
    if ctx.received.parts.has_no_method { "HTTP" } else { http_method::in_names(&session.request().method) }
}

fn event(ctx: &Context, clock: SpanClock, call: &PluginCall) -> SpanEvent {
    let entry = ctx.route.as_ref().and_then(|route| route.chain.entries().get(call.by));
    let name = entry.map_or(Value::Word(""), |entry| Value::Shared(entry.name().clone()));
    SpanEvent {
        at: clock.at(call.begun),
        name: format!("plugin.{}", call.phase).into(),
        attributes: vec![
            (keys::PLUGIN, name),
            (keys::PLUGIN_PHASE, Value::Word(call.phase)),
            (keys::PLUGIN_RESULT, Value::Word(call.result)),
            (keys::PLUGIN_DURATION, Value::Seconds(call.took.as_secs_f64())),
        ],
    }
}

/// The facts of a request that its WebSocket has too.
pub(super) fn request_facts(head: &RequestHeader, ctx: &Context) -> Vec<Attribute> {
    let received = &ctx.received;
    let mut attributes = Vec::with_capacity(24);
    let target = received.parts.target.as_deref().unwrap_or(head.raw_path());
    // The query is left out: it may have a token.
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    attributes.push((keys::URL_PATH, Value::bytes(path)));
    attributes.push((keys::URL_SCHEME, Value::Word(received.scheme)));
    let route = ctx.route.as_ref().map_or("", |route| &*route.name);
    let host = received.request(RequestLine::of(head), route).host;
    if !host.is_empty() {
        attributes.push((keys::SERVER_ADDRESS, Value::text(host)));
        let port =
            received.authority().get(host.len()..).and_then(|rest| rest.rsplit_once(':')?.1.parse().ok());
        attributes.extend(port.map(|port: u16| (keys::SERVER_PORT, Value::Number(port.into()))));
    }
    attributes.push((keys::CLIENT_ADDRESS, Value::text(&received.client.address().to_string())));
    attributes.push((keys::NETWORK_PEER_ADDRESS, Value::Text(received.peer.to_string().into())));
    attributes.push((keys::NETWORK_PROTOCOL_VERSION, Value::Word(protocol_version(received.version))));
    if let Some(agent) = head.headers.get(USER_AGENT) {
        attributes.push((keys::USER_AGENT_ORIGINAL, Value::bytes(agent.as_bytes())));
    }
    if let Some(route) = &ctx.route {
        attributes.push((keys::ROUTE, Value::Shared(route.name.clone())));
        attributes.extend(route.path.clone().map(|path| (keys::HTTP_ROUTE, Value::Shared(path))));
    }
    attributes.push((keys::LISTENER, Value::text(ctx.listener())));
    if let Some(id) = ctx.running.known_request_id() {
        attributes.push((keys::REQUEST_ID, Value::bytes(id.as_bytes())));
    }
    attributes
}

fn facts(session: &Session, ctx: &Context, status: Option<u16>) -> (Vec<Attribute>, bool) {
    let head = session.request();
    let mut attributes = request_facts(head, ctx);
    if ctx.received.parts.has_no_method {
        attributes.push((keys::HTTP_REQUEST_METHOD, Value::Word("_OTHER")));
    } else {
        http_method::describe(&head.method, &mut attributes);
    }
    let peer = session.conn_info().peer;
    if peer.port() > 0 {
        attributes.push((keys::NETWORK_PEER_PORT, Value::Number(peer.port().into())));
    }
    if let Some(cluster) = ctx.attempts.cluster() {
        attributes.push((keys::UPSTREAM, Value::text(cluster.name())));
    }
    if let Some(endpoint) = ctx.attempts.endpoint() {
        attributes.push((keys::ENDPOINT, Value::text(endpoint.name())));
        attributes.push((keys::ATTEMPTS, Value::Number(ctx.attempts.count().into())));
    }
    let is_error = error(ctx.failure, status, &mut attributes);
    (attributes, is_error)
}

/// Adds status and error. Returns whether the span has failed: 4xx are no errors of a server (semantic conventions).
fn error(failure: Option<Failure>, status: Option<u16>, attributes: &mut Vec<Attribute>) -> bool {
    if let Some(status) = status {
        attributes.push((keys::HTTP_RESPONSE_STATUS_CODE, Value::Number(status.into())));
    }
    let is_server_error = status.is_some_and(|status| status >= 500);
    let Some(failure) = failure else {
        if let Some(status) = status.filter(|_| is_server_error) {
            attributes.push((keys::ERROR_TYPE, Value::Text(status.to_string().into())));
        }
        return is_server_error;
    };
    attributes.push((keys::ERROR_TYPE, Value::Word(failure.token())));
    if !failure.detail().is_empty() {
        attributes.push((keys::ERROR_DETAIL, Value::Word(failure.detail())));
    }
    // A response that was cut off has failed, whatever its status was.
    let is_refused = status.is_some_and(|status| (400..500).contains(&status));
    is_server_error || !(is_refused || failure.client_abort().is_some())
}
