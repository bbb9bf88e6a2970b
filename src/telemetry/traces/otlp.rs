//! Encoding of finished spans for OTLP/HTTP, as protobuf.

use super::span::{Attribute, FinishedSpan, SpanEvent, SpanKind, Value};
use super::span_context::SpanContext;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::resource::{SERVICE_NAME, SERVICE_VERSION};
use prost::Message;
use std::sync::Arc;

/// The media type of an export.
pub(crate) const CONTENT_TYPE: &str = "application/x-protobuf";

/// The name of the instrumentation scope.
const SCOPE: &str = "moongate";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The body of an export of these spans.
pub(crate) fn encode(service_name: &str, spans: Vec<FinishedSpan>) -> Bytes {
    let name = Value::Text(service_name.into());
    let resource = Resource {
        attributes: [(SERVICE_NAME, name), (SERVICE_VERSION, Value::Word(VERSION))].map(attribute).to_vec(),
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.into_iter().map(span).collect(),
        schema_url: SCHEMA_URL.to_owned(),
    };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        schema_url: SCHEMA_URL.to_owned(),
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
}

/// The number of spans that the collector did not accept, and its message; `None` if it accepted all.
pub(crate) fn rejected_spans(body: &[u8]) -> Option<(u64, String)> {
    let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_spans).ok().filter(|count| *count > 0)?;
    Some((rejected, partial.error_message))
}

fn span(span: FinishedSpan) -> Span {
    let code = if span.is_error { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: span.context.trace.0.to_vec(),
        span_id: span.context.span.0.to_vec(),
        trace_state: span.trace_state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        flags: flags(span.context, span.has_remote_parent),
        name: span.name.into_owned(),
        kind: match span.kind {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Internal => Kind::Internal,
        }
        .into(),
        start_time_unix_nano: span.start,
        // The clock of the system may have been set back.
        end_time_unix_nano: span.end.max(span.start),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        links: span.links.into_iter().map(link).collect(),
        status: Some(Status { code: code.into(), message: String::new() }),
        ..Span::default()
    }
}

fn flags(context: SpanContext, is_remote: bool) -> u32 {
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    let remote = if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    u32::from(context.flags()) | known | remote
}

fn event(event: SpanEvent) -> Event {
    Event {
        time_unix_nano: event.at,
        name: event.name.into_owned(),
        attributes: event.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
    }
}

fn link(to: SpanContext) -> Link {
    Link {
        trace_id: to.trace.0.to_vec(),
        span_id: to.span.0.to_vec(),
        flags: flags(to, false),
        ..Link::default()
    }
}

fn attribute((key, value): Attribute) -> KeyValue {
    let text = |text: &Arc<str>| AnyValue { value: Some(Any::StringValue((**text).to_owned())) };
    let value = match value {
        Value::Word(word) => Any::StringValue(word.to_owned()),
        Value::Text(text) => Any::StringValue(text.into()),
        Value::Shared(text) => Any::StringValue((*text).to_owned()),
        Value::Number(number) => Any::IntValue(number),
        Value::Seconds(seconds) => Any::DoubleValue(seconds),
        Value::List(items) => Any::ArrayValue(ArrayValue { values: items.iter().map(text).collect() }),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
