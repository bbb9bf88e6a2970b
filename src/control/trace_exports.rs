//! Exports of finished spans to a collector over OTLP/HTTP. One task per collector takes batches from its queue, one
//! after another: a collector that is slow or gone holds one batch, and the queue drops what exceeds its limit.

use crate::runtime::supervision;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{self, SpanDrop};
use crate::telemetry::traces::{CONTENT_TYPE, ExportSettings, SpanQueue, Tracer, encode, rejected_spans};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use log::{info, warn};
use moongate_sdk::{Call, CallError, CallResponse, CallTarget, Services, log_throttle};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// The pause after a failed export, doubled each time,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// up to this, also where the collector asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a batch is exported again. Its spans are dropped then, in favour of newer ones.
const GIVE_UP: Duration = Duration::from_secs(60);
/// The longest response of a collector in bytes; a successful one is empty.
const LARGEST_RESPONSE: usize = 64 << 10;

/// The running exporters: that of the current generation, and those of earlier ones until their last request has ended.
#[derive(Default)]
pub(super) struct TraceExports(Vec<(Arc<SpanQueue>, JoinHandle<()>)>);

impl TraceExports {
    /// Starts an exporter for a new queue. An exporter ends after its queue is closed.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, services: &Arc<dyn Services>) {
        self.0.retain(|(_, task)| !task.is_finished());
        let Some(tracer) = &snapshot.tracer else { return };
        if self.0.iter().any(|(queue, _)| Arc::ptr_eq(queue, tracer.queue())) {
            return;
        }
        let exporter = Arc::new(Exporter::new(tracer, services));
        let url = tracer.settings().url.clone();
        let work = move || {
            let exporter = Arc::clone(&exporter);
            async move { exporter.run().await }
        };
        self.0.push((Arc::clone(tracer.queue()), supervision::spawn("trace_exporter", url, work)));
    }

    /// Takes all exporters, to end them without a lock.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Exports what is queued, within a time limit, and ends.
    pub(super) async fn finish(self, within: Duration) {
        let until = Instant::now() + within;
        self.0.iter().for_each(|(queue, _)| queue.close());
        for (queue, mut task) in self.0 {
            if timeout_at(until, &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
                queue.discard(SpanDrop::Shutdown);
            }
        }
    }
}

/// The exporter of one queue.
struct Exporter {
    settings: ExportSettings,
    queue: Arc<SpanQueue>,
    services: Arc<dyn Services>,
    /// Whether the last export failed, so that a success is logged.
    is_failing: AtomicBool,
}

/// Encoded spans that are counted as dropped unless they are counted otherwise, also after a panic.
struct Batch {
    body: Bytes,
    spans: u64,
    reason: SpanDrop,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.spans > 0 {
            metrics::global().tracing().dropped(self.reason, self.spans);
        }
    }
}

/// Why a batch was not accepted.
enum ExportError {
    /// A later attempt may succeed, after this pause if the collector names one.
    Retry(String, Option<Duration>),
    /// Another attempt would fail too.
    Refused(StatusCode),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(cause, _) => f.write_str(cause),
            Self::Refused(status) => write!(f, "the response status was {}", status.as_str()),
        }
    }
}

impl Exporter {
    fn new(tracer: &Tracer, services: &Arc<dyn Services>) -> Self {
        Self {
            settings: tracer.settings().clone(),
            queue: Arc::clone(tracer.queue()),
            services: Arc::clone(services),
            is_failing: AtomicBool::new(false),
        }
    }

    async fn run(&self) {
        while let Some(spans) = self.queue.next_batch().await {
            let count = spans.len() as u64;
            let body = encode(&self.settings.service_name, spans);
            self.settle(Batch { body, spans: count, reason: SpanDrop::Shutdown }).await;
        }
    }

    /// Exports a batch until it is accepted or given up. When the queue is closed, nothing is waited for.
    async fn settle(&self, mut batch: Batch) {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let error = match self.export(&batch).await {
                Ok(rejected) => return self.accepted(&mut batch, rejected),
                Err(error) => error,
            };
            self.failed(&error, batch.spans);
            let retry_after = match error {
                ExportError::Refused(_) => {
                    batch.reason = SpanDrop::Refused;
                    return;
                }
                ExportError::Retry(_, retry_after) => retry_after,
            };
            if self.queue.is_closed() {
                // Each further batch could last as long.
                self.queue.discard(SpanDrop::Shutdown);
                return;
            }
            let gives_up = began.elapsed() >= GIVE_UP;
            if gives_up {
                batch.reason = SpanDrop::Unavailable;
                drop(std::mem::replace(
                    &mut batch,
                    Batch { body: Bytes::new(), spans: 0, reason: SpanDrop::Shutdown },
                ));
            }
            // Randomised, so that the gateways of one collector do not return together.
            let random = pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
            let wait = retry_after.map_or(random, |after| after.min(LONGEST_PAUSE));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.queue.closed() => {}
            }
            if gives_up {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn accepted(&self, batch: &mut Batch, rejected: u64) {
        let rejected = rejected.min(batch.spans);
        metrics::global().tracing().exported(batch.spans - rejected);
        metrics::global().tracing().dropped(SpanDrop::Rejected, rejected);
        batch.spans = 0;
        if self.is_failing.swap(false, Relaxed) {
            info!(collector = self.settings.url.as_str(); "trace export recovered");
        }
    }

    fn failed(&self, error: &ExportError, spans: u64) {
        const MESSAGE: &str = "trace export failed";
        self.is_failing.store(true, Relaxed);
        let collector = self.settings.url.as_str();
        if log_throttle::admit(log::Level::Warn, MESSAGE, &[collector]) {
            warn!(collector, spans, error:%; "{MESSAGE}");
        }
    }

    /// One attempt. Returns the number of spans that the collector rejected.
    async fn export(&self, batch: &Batch) -> Result<u64, ExportError> {
        let mut headers = self.settings.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        let call = Call {
            to: CallTarget::Url(self.settings.url.clone()),
            method: Method::POST,
            target: String::new(),
            headers,
            body: batch.body.clone(),
            timeout: self.settings.timeout,
            limit: LARGEST_RESPONSE,
        };
        let response = match self.services.call(call).await {
            Ok(response) => response,
            Err(CallError::Cut(status)) => {
                CallResponse { status, headers: HeaderMap::new(), body: Bytes::new() }
            }
            Err(error) => return Err(ExportError::Retry(error.to_string(), None)),
        };
        match response.status {
            status if status.is_success() => Ok(self.rejected(&response.body)),
            // The statuses that OTLP/HTTP defines as retryable.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let cause = ExportError::Refused(response.status).to_string();
                Err(ExportError::Retry(cause, retry_after(&response.headers)))
            }
            status => Err(ExportError::Refused(status)),
        }
    }

    fn rejected(&self, body: &[u8]) -> u64 {
        const MESSAGE: &str = "trace collector rejected spans";
        let Some((spans, reason)) = rejected_spans(body) else { return 0 };
        let collector = self.settings.url.as_str();
        if log_throttle::admit(log::Level::Warn, MESSAGE, &[collector]) {
            warn!(collector, spans, reason = crate::telemetry::quoted(&reason).as_str(); "{MESSAGE}");
        }
        spans
    }
}

/// The pause that a collector asks for, in seconds (RFC 9110 §10.2.3). A date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(value.trim().parse().ok()?))
}
