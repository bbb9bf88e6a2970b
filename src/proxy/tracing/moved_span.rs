//! Span of an open WebSocket that moves to another process, which exports it.

use super::websocket_span::{FAILOVER, Moves, WebSocketTrace};
use crate::proxy::Shared;
use crate::proxy::request_trace::SpanClock;
use crate::telemetry::traces::{Attribute, SpanContext, SpanEvent, Value, keys};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The span of an open WebSocket.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::proxy) struct TraceState {
    /// In the form of `traceparent`.
    context: String,
    handshake: String,
    /// Nanoseconds since 1970.
    start: u64,
    age: Duration,
    name: String,
    path: String,
    attributes: Vec<(String, Value)>,
    endpoints: Vec<Arc<str>>,
    failovers: Vec<FailoverState>,
    omitted: u32,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct FailoverState {
    at: u64,
    attributes: Vec<(String, Value)>,
}

impl WebSocketTrace {
    /// The span for another process.
    pub(in crate::proxy) fn state(&self) -> TraceState {
        let moves = self.moves.lock();
        let failover =
            |event: &SpanEvent| FailoverState { at: event.at, attributes: written(&event.attributes) };
        TraceState {
            context: text(self.context),
            handshake: text(self.handshake),
            start: self.clock.start(),
            age: self.clock.age(),
            name: self.name.clone(),
            path: self.path.to_string(),
            attributes: written(&self.attributes),
            endpoints: moves.endpoints.clone(),
            failovers: moves.events.iter().map(failover).collect(),
            omitted: moves.omitted,
        }
    }

    /// Continues the span of another process; `None` if the state has none.
    pub(in crate::proxy) fn restore(state: TraceState, shared: &Arc<Shared>) -> Option<Arc<Self>> {
        let TraceState {
            context,
            handshake,
            start,
            age,
            name,
            path,
            attributes,
            endpoints,
            failovers,
            omitted,
        } = state;
        let event = |failover: FailoverState| SpanEvent {
            at: failover.at,
            name: FAILOVER.into(),
            attributes: read(failover.attributes),
        };
        let events = failovers.into_iter().map(event).collect();
        Some(Arc::new(Self {
            shared: Arc::clone(shared),
            context: SpanContext::of_text(&context)?,
            handshake: SpanContext::of_text(&handshake)?,
            clock: SpanClock::resume(start, age),
            name,
            path: path.into(),
            attributes: read(attributes),
            moves: Mutex::new(Moves { endpoints, events, omitted }),
        }))
    }
}

fn text(context: SpanContext) -> String {
    // All of its bytes are ASCII.
    String::from_utf8_lossy(&context.traceparent_bytes()).into_owned()
}

fn written(attributes: &[Attribute]) -> Vec<(String, Value)> {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn read(attributes: Vec<(String, Value)>) -> Vec<Attribute> {
    attributes.into_iter().filter_map(|(key, value)| Some((keys::known(&key)?, value))).collect()
}
