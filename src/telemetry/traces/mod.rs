//! Traces: propagation, sampling, finished spans, and their queue to the exporter.
//!
//! A request that is sampled collects plain [`FinishedSpan`]s and gives them to its [`Tracer`]. A task of `control`
//! takes them from the [`SpanQueue`], and sends what `otlp` encodes. Types of OpenTelemetry appear in `otlp` alone.

mod otlp;
mod span;
mod span_context;
mod span_queue;
mod trace_state;
mod tracer;

pub(crate) use otlp::{CONTENT_TYPE, encode, rejected_spans};
pub(crate) use span::{Attribute, FinishedSpan, SpanEvent, SpanKind, Value, keys, unix_nanos};
pub(crate) use span_context::{SpanContext, SpanId, TRACEPARENT};
pub(crate) use span_queue::SpanQueue;
pub(crate) use trace_state::{TRACESTATE, TraceState};
pub(crate) use tracer::{ExportSettings, Parent, Tracer};
