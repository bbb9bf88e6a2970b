//! Trace of one request: the IDs that go to the backend, and what is recorded if the trace is sampled.

use crate::telemetry::TraceId;
use crate::telemetry::traces::{
    Attribute, FinishedSpan, SpanContext, SpanId, SpanKind, TRACEPARENT, TRACESTATE, TraceState, Tracer,
    Value, keys, unix_nanos,
};
use http::HeaderMap;
use moongate_sdk::Fields;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The longest `tracestate` in a span, in bytes, which every system must pass on (W3C Trace Context §3.3.1.5): a queue of
/// spans has bounded memory. A longer one is still passed on to the backend.
const LONGEST_RECORDED_STATE: usize = 512;

/// The trace of a request.
pub(super) struct RequestTrace {
    /// The SERVER span.
    context: SpanContext,
    /// Whether `tracestate` is passed on: it is valid, and of the same trace.
    keeps_state: bool,
    /// What is recorded; `None` if the trace is not sampled.
    recording: Option<Box<Recording>>,
}

/// The recorded parts of a request.
pub(super) struct Recording {
    pub(super) clock: SpanClock,
    /// The client's span, if its trace is continued.
    pub(super) parent: Option<SpanId>,
    pub(super) state: Option<Arc<str>>,
    /// The client's span if its trace is not continued, and the span of the WebSocket that the request opened.
    pub(super) links: Vec<SpanContext>,
    /// The spans of ended attempts.
    pub(super) finished: Vec<FinishedSpan>,
    attempt: Option<OpenAttempt>,
    /// The number of attempts, those on closed pooled connections included.
    attempts: u32,
}

/// An attempt that has not ended.
struct OpenAttempt {
    context: SpanContext,
    name: &'static str,
    start: u64,
    status: Option<u16>,
    attributes: Vec<Attribute>,
}

/// Converts times of the monotonic clock, so that the spans of a request have one order whatever the system's clock
/// does.
#[derive(Clone, Copy)]
pub(super) struct SpanClock {
    begun: Instant,
    begun_at: u64,
}

impl SpanClock {
    /// Reads the system's clock; `begun` is the start of the first span.
    pub(super) fn new(begun: Instant) -> Self {
        let now = unix_nanos(SystemTime::now());
        Self { begun, begun_at: now.saturating_sub(nanos(begun.elapsed())) }
    }

    /// Continues the clock of another process: `age` has passed since its start.
    pub(super) fn resume(start: u64, age: Duration) -> Self {
        let now = Instant::now();
        Self { begun: now.checked_sub(age).unwrap_or(now), begun_at: start }
    }

    /// The time since the start.
    pub(super) fn age(self) -> Duration {
        self.begun.elapsed()
    }

    /// The start in nanoseconds since 1970.
    pub(super) fn start(self) -> u64 {
        self.begun_at
    }

    /// The end of a span that began at the start, in nanoseconds since 1970.
    pub(super) fn after(self, lived: Duration) -> u64 {
        self.begun_at.saturating_add(nanos(lived))
    }

    /// A time in nanoseconds since 1970.
    pub(super) fn at(self, time: Instant) -> u64 {
        self.after(time.saturating_duration_since(self.begun))
    }

    /// The current time in nanoseconds since 1970.
    pub(super) fn now(self) -> u64 {
        self.at(Instant::now())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl RequestTrace {
    /// Continues the trace of a request's fields, or begins one.
    pub(super) fn begin(tracer: &Tracer, fields: &HeaderMap, is_trusted: bool, begun: Instant) -> Box<Self> {
        let received = SpanContext::of(fields);
        let followed = received.filter(|_| tracer.follows(is_trusted));
        let state = if followed.is_some() { TraceState::of(fields) } else { TraceState::Absent };
        let keeps_state = followed.is_some() && state != TraceState::Invalid;
        let context = followed.map_or_else(|| tracer.begin_trace(), SpanContext::child);
        let recording = context.is_sampled().then(|| {
            Box::new(Recording {
                clock: SpanClock::new(begun),
                parent: followed.map(|parent| parent.span),
                state: match state {
                    TraceState::Valid(state) if state.len() <= LONGEST_RECORDED_STATE => Some(state.into()),
                    TraceState::Valid(_) | TraceState::Absent | TraceState::Invalid => None,
                },
                links: received.filter(|_| followed.is_none()).into_iter().collect(),
                finished: Vec::new(),
                attempt: None,
                attempts: 0,
            })
        });
        Box::new(Self { context, keeps_state, recording })
    }

    /// The ID of the trace.
    pub(super) fn id(&self) -> TraceId {
        self.context.trace
    }

    /// The SERVER span, if the trace is sampled.
    pub(super) fn sampled(&self) -> Option<SpanContext> {
        self.recording.is_some().then_some(self.context)
    }

    /// The span that the backend continues: the current attempt, if it is recorded.
    pub(super) fn outgoing(&self) -> SpanContext {
        let attempt = self.recording.as_ref().and_then(|recording| recording.attempt.as_ref());
        attempt.map_or(self.context, |attempt| attempt.context)
    }

    /// Sets the fields of the trace in a request to the backend.
    pub(super) fn write(&self, fields: &mut impl Fields) {
        fields.set(&TRACEPARENT, self.outgoing().traceparent());
        if !self.keeps_state {
            fields.remove(&TRACESTATE);
        }
    }

    /// Links the SERVER span to another one.
    pub(super) fn link(&mut self, to: SpanContext) {
        if let Some(recording) = &mut self.recording {
            recording.links.push(to);
        }
    }

    /// Begins the span of an attempt. One that has not ended ends here.
    pub(super) fn begin_attempt(&mut self, name: &'static str, mut attributes: Vec<Attribute>) {
        self.end_attempt(None, None);
        let context = self.context.child();
        let Some(recording) = &mut self.recording else { return };
        if recording.attempts > 0 {
            let resends = Value::count(u64::from(recording.attempts));
            attributes.push((keys::HTTP_REQUEST_RESEND_COUNT, resends));
        }
        recording.attempts += 1;
        let start = recording.clock.now();
        recording.attempt = Some(OpenAttempt { context, name, start, status: None, attributes });
    }

    /// Records the backend's final response.
    pub(super) fn responded(&mut self, status: u16, protocol_version: &'static str) {
        let attempt = self.recording.as_mut().and_then(|recording| recording.attempt.as_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.status.is_none()) else { return };
        attempt.status = Some(status);
        attempt.attributes.push((keys::NETWORK_PROTOCOL_VERSION, Value::Word(protocol_version)));
    }

    /// Ends the span of the current attempt, with the reason token of its failure if it failed, and now unless the
    /// request has ended after `lived`.
    pub(super) fn end_attempt(&mut self, failure: Option<&'static str>, lived: Option<Duration>) {
        let Some(recording) = &mut self.recording else { return };
        let Some(attempt) = recording.attempt.take() else { return };
        let OpenAttempt { context, name, start, status, mut attributes } = attempt;
        let is_error = add_outcome(status, failure, &mut attributes);
        let end = lived.map_or_else(|| recording.clock.now(), |lived| recording.clock.after(lived));
        recording.finished.push(FinishedSpan {
            parent: Some(self.context.span),
            trace_state: recording.state.clone(),
            name: name.into(),
            attributes,
            is_error,
            ..FinishedSpan::new(context, SpanKind::Client, start, end)
        });
    }

    /// Ends the trace: the SERVER span, and what was recorded if the trace is sampled.
    pub(super) fn finish(self) -> Option<(SpanContext, Recording)> {
        Some((self.context, *self.recording?))
    }
}

/// Adds status and error of an attempt. Returns whether it failed: for a client, 4xx are errors too (semantic
/// conventions).
pub(super) fn add_outcome(
    status: Option<u16>,
    failure: Option<&'static str>,
    attributes: &mut Vec<Attribute>,
) -> bool {
    if let Some(status) = status {
        attributes.push((keys::HTTP_RESPONSE_STATUS_CODE, Value::Number(status.into())));
    }
    let error = failure.map(Value::Word).or_else(|| {
        status.filter(|status| *status >= 400).map(|status| Value::Text(status.to_string().into()))
    });
    let is_error = error.is_some();
    attributes.extend(error.map(|error| (keys::ERROR_TYPE, error)));
    is_error
}
