//! Span of a WebSocket or of another upgraded connection, exported when it closes. It is the root of a trace of its own, because a WebSocket may outlive
//! the handshake's trace by weeks. Links lead from the handshake's span to it and back.

use super::client_span;
use super::server_span::request_facts;
use crate::proxy::Shared;
use crate::proxy::context::Context;
use crate::proxy::request_trace::{SpanClock, add_outcome};
use crate::telemetry::metrics::{self, InitiatorLabel, SpanDrop};
use crate::telemetry::traces::{
    Attribute, FinishedSpan, SpanContext, SpanEvent, SpanKind, TRACEPARENT, Value, keys,
};
use crate::tunnel::{Outcome, Reason, Side};
use crate::upstream::{Cluster, Endpoint};
use crate::websocket::handshake::Request;
use http::Method;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::Instant;

/// The maximum numbers of endpoints and failovers in a span.
const MOST_MOVES: usize = 32;

/// The name of the event of a failover.
pub(super) const FAILOVER: &str = "failover";

/// A WebSocket whose trace is sampled.
pub(in crate::proxy) struct WebSocketTrace {
    /// For the current tracer when spans end: the WebSocket may outlive the settings that it began with.
    pub(super) shared: Arc<Shared>,
    pub(super) context: SpanContext,
    pub(super) handshake: SpanContext,
    pub(super) clock: SpanClock,
    pub(super) name: String,
    pub(super) path: Box<str>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) moves: Mutex<Moves>,
}

/// The endpoints of a WebSocket.
#[derive(Default)]
pub(super) struct Moves {
    pub(super) endpoints: Vec<Arc<str>>,
    pub(super) events: Vec<SpanEvent>,
    pub(super) omitted: u32,
}

/// An attempt of a redial.
pub(in crate::proxy) struct RedialSpan<'a> {
    trace: &'a WebSocketTrace,
    context: SpanContext,
    start: u64,
    attributes: Vec<Attribute>,
}

impl WebSocketTrace {
    /// The trace of the WebSocket that the request opens now, or of the connection that it upgrades to `protocol`; `None` if
    /// the request is not sampled. The span of the request gets the link to it.
    pub(in crate::proxy) fn open(
        shared: &Arc<Shared>,
        head: &RequestHeader,
        ctx: &mut Context,
        protocol: Option<&Arc<str>>,
    ) -> Option<Arc<Self>> {
        let handshake = ctx.trace.as_ref()?.sampled()?;
        let context = handshake.sibling_trace();
        let route = ctx.route.as_ref()?;
        let endpoint = ctx.attempts.endpoint()?.name().into();
        let mut attributes = request_facts(head, ctx);
        attributes.push((keys::GENERATION, Value::count(ctx.snapshot.generation)));
        attributes.extend(protocol.map(|protocol| (keys::UPGRADE, Value::Shared(Arc::clone(protocol)))));
        let kind = if protocol.is_some() { "upgrade" } else { "websocket" };
        let path = ctx.received.path_and_query(&head.uri).0.into();
        let opened = Self {
            shared: Arc::clone(shared),
            context,
            handshake,
            clock: SpanClock::new(Instant::now()),
            name: format!("{kind} {}", route.name),
            path,
            attributes,
            moves: Mutex::new(Moves { endpoints: vec![endpoint], ..Moves::default() }),
        };
        if let Some(trace) = &mut ctx.trace {
            trace.link(context);
        }
        Some(Arc::new(opened))
    }

    /// Records the loss of an endpoint, and the new one if there is one.
    pub(in crate::proxy) fn moved(
        &self,
        from: &Endpoint,
        to: Option<&Endpoint>,
        reason: &'static str,
        lost: Instant,
    ) {
        let mut moves = self.moves.lock();
        if moves.events.len() >= MOST_MOVES {
            moves.omitted = moves.omitted.saturating_add(1);
            return;
        }
        let mut attributes = vec![
            (keys::FAILOVER_FROM, Value::text(from.name())),
            (keys::CLOSE_REASON, Value::Word(reason)),
            (keys::FAILOVER_DURATION, Value::Seconds(lost.elapsed().as_secs_f64())),
        ];
        if let Some(to) = to {
            attributes.push((keys::FAILOVER_TO, Value::text(to.name())));
            moves.endpoints.push(to.name().into());
        }
        moves.events.push(SpanEvent { at: self.clock.at(lost), name: FAILOVER.into(), attributes });
    }

    /// Begins the span of a redial's attempt, which the backend continues.
    pub(in crate::proxy) fn redial(
        &self,
        request: &mut Request,
        cluster: &Cluster,
        to: &Endpoint,
    ) -> RedialSpan<'_> {
        let context = self.context.child();
        request.replace(&TRACEPARENT, &context.traceparent_bytes());
        let attributes = client_span::describe(&Method::GET, &self.path, cluster, to);
        RedialSpan { trace: self, context, start: self.clock.now(), attributes }
    }

    /// Exports the span of the WebSocket.
    pub(in crate::proxy) fn end(&self, outcome: &Outcome) {
        let [to_backend, to_client] = [Side::Client, Side::Backend].map(|from| from as usize);
        let Moves { endpoints, events, omitted } = std::mem::take(&mut *self.moves.lock());
        let mut attributes = self.attributes.clone();
        let by = InitiatorLabel::from(outcome.by).label();
        let (messages, bytes) = (outcome.messages, outcome.bytes);
        attributes.extend(outcome.close_code().map(|code| (keys::CLOSE_CODE, Value::Number(code.into()))));
        if !self.attributes.iter().any(|(key, _)| *key == keys::UPGRADE) {
            attributes.extend([
                (keys::MESSAGES_TO_BACKEND, Value::count(messages[to_backend])),
                (keys::MESSAGES_TO_CLIENT, Value::count(messages[to_client])),
            ]);
        }
        attributes.extend([
            (keys::CLOSED_BY, Value::Word(by)),
            (keys::CLOSE_REASON, Value::Word(outcome.reason.token())),
            (keys::BYTES_TO_BACKEND, Value::count(bytes[to_backend])),
            (keys::BYTES_TO_CLIENT, Value::count(bytes[to_client])),
            (keys::ENDPOINTS, Value::List(endpoints)),
        ]);
        let is_error = is_failure(outcome.reason);
        if is_error {
            attributes.push((keys::ERROR_TYPE, Value::Word(outcome.reason.token())));
        }
        self.submit(FinishedSpan {
            name: self.name.clone().into(),
            attributes,
            events,
            dropped_events: omitted,
            links: vec![self.handshake],
            is_error,
            ..FinishedSpan::new(self.context, SpanKind::Internal, self.clock.start(), self.clock.now())
        });
    }

    fn submit(&self, span: FinishedSpan) {
        match &self.shared.live.look().tracer {
            Some(tracer) => tracer.submit([span]),
            None => metrics::global().tracing().dropped(SpanDrop::Disabled, 1),
        }
    }
}

impl RedialSpan<'_> {
    /// Exports the span of the attempt, with its status or the reason token of its failure.
    pub(in crate::proxy) fn end(mut self, status: Option<u16>, failure: Option<&'static str>) {
        let is_error = add_outcome(status, failure, &mut self.attributes);
        let Self { trace, context, start, attributes } = self;
        trace.submit(FinishedSpan {
            parent: Some(trace.context.span),
            name: "GET".into(),
            attributes,
            is_error,
            ..FinishedSpan::new(context, SpanKind::Client, start, trace.clock.now())
        });
    }
}

/// Returns whether a WebSocket ended by a failure of a side or of the gateway, and not by a decision.
fn is_failure(reason: Reason) -> bool {
    match reason {
        Reason::Reset
        | Reason::PingTimeout
        | Reason::WriteTimeout
        | Reason::Invalid(..)
        | Reason::TooBig(..)
        | Reason::PluginFailed
        | Reason::Aborted
        | Reason::Panicked => true,
        Reason::Closed
        | Reason::Eof
        | Reason::Idle
        | Reason::MaxAge
        | Reason::Drain(_)
        | Reason::Operator
        | Reason::Moved
        | Reason::Rate
        | Reason::Plugin
        | Reason::Refused => false,
    }
}
