//! Metrics of one plugin: calls, errors and time, by phase.
//!
//! Each worker has its own counters: a shared cache line and an atomic add would cost more than a small
//! plugin. Reading the clock costs more too, so one call in [`SAMPLE`] is timed and stands for all. Waiting
//! time is exact.

use super::exposition::Exposition;
use super::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One call in this many is timed.
const SAMPLE: u64 = 16;

/// Sets of counters: the first for threads that are not workers, then one per worker.
const SHARDS: usize = 16;

/// A phase, as in the label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request's header.
    RequestHeaders,
    /// A chunk of the request's body.
    RequestBody,
    /// The response's header.
    ResponseHeaders,
    /// A chunk of the response's body.
    ResponseBody,
    /// A WebSocket message.
    Message,
    /// The end of a WebSocket.
    Closed,
    /// The end of an exchange.
    Log,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::Message,
        Self::Closed,
        Self::Log,
    ];

    /// The phase's name as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RequestHeaders => "request_headers",
            Self::RequestBody => "request_body",
            Self::ResponseHeaders => "response_headers",
            Self::ResponseBody => "response_body",
            Self::Message => "message",
            Self::Closed => "closed",
            Self::Log => "log",
        }
    }
}

/// The series of one plugin, shared by all entries of this name and kind.
#[derive(Debug)]
pub struct PluginMetrics {
    name: Box<str>,
    kind: Box<str>,
    shards: [Shard; SHARDS],
}

/// The counters of a worker, on separate cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([Counters; Phase::ALL.len()]);

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

/// A call in progress.
#[derive(Debug)]
pub struct Call<'a> {
    counters: &'a Counters,
    /// The start, if the call is timed.
    begun: Option<Instant>,
}

impl PluginMetrics {
    /// The existing or new series of the plugin `name` of this kind.
    pub fn of(name: &str, kind: &str) -> Arc<Self> {
        super::global().plugin(name, kind)
    }

    pub(super) fn new(name: &str, kind: &str) -> Self {
        Self { name: name.into(), kind: kind.into(), shards: Default::default() }
    }

    /// Counts a call, and reads the clock for one in 16.
    #[inline]
    pub fn call(&self, phase: Phase) -> Call<'_> {
        let worker = moongate_sdk::worker();
        let own = (1..SHARDS).contains(&worker);
        let counters = &self.shards[if own { worker } else { 0 }].0[phase as usize];
        let before = if own {
            // Only this worker writes here.
            let before = counters.calls.load(Relaxed);
            counters.calls.store(before.wrapping_add(1), Relaxed);
            before
        } else {
            counters.calls.fetch_add(1, Relaxed)
        };
        Call { counters, begun: before.is_multiple_of(SAMPLE).then(Instant::now) }
    }

    pub(super) fn collect(&self, scrape: &mut Exposition) {
        for phase in Phase::ALL {
            let sum = |which: fn(&Counters) -> &AtomicU64| -> u64 {
                self.shards.iter().map(|shard| which(&shard.0[phase as usize]).load(Relaxed)).sum()
            };
            let calls = sum(|counters| &counters.calls);
            if calls == 0 {
                continue;
            }
            let labels = &[&*self.name, &*self.kind, phase.label()];
            scrape.counter(&names::PLUGIN_CALLS, labels, calls as f64);
            scrape.counter(&names::PLUGIN_ERRORS, labels, sum(|counters| &counters.errors) as f64);
            let time = Duration::from_nanos(sum(|counters| &counters.nanoseconds));
            scrape.counter(&names::PLUGIN_SECONDS, labels, time.as_secs_f64());
        }
    }
}

impl Call<'_> {
    /// Records the return of the call.
    #[inline]
    pub fn returned(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.add(begun.elapsed(), SAMPLE);
        }
    }

    /// Records the waiting time of a call that returned a future.
    pub fn waited(&mut self, time: Duration) {
        self.add(time, 1);
    }

    /// Counts the call as failed.
    pub fn failed(&self) {
        self.counters.errors.fetch_add(1, Relaxed);
    }

    fn add(&self, time: Duration, weight: u64) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(weight);
        self.counters.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn shown(metrics: &PluginMetrics) -> String {
        let mut scrape = Exposition::default();
        metrics.collect(&mut scrape);
        scrape.encode()
    }

    #[test]
    fn calls_of_all_workers_are_one_number() {
        let metrics = PluginMetrics::new("gate", "jwt");
        std::thread::scope(|scope| {
            for worker in 1..=20 {
                let metrics = &metrics;
                scope.spawn(move || {
                    moongate_sdk::set_worker(worker);
                    (0..100).for_each(|_| metrics.call(Phase::RequestHeaders).returned());
                    metrics.call(Phase::Log).failed();
                });
            }
        });
        let text = shown(&metrics);
        let has = |line: &str| assert!(text.contains(line), "{line} in {text}");
        has("moongate_plugin_calls_total{plugin=\"gate\",kind=\"jwt\",phase=\"request_headers\"} 2000");
        has("moongate_plugin_errors_total{plugin=\"gate\",kind=\"jwt\",phase=\"log\"} 20");
        assert!(!text.contains("response_body"), "a phase without calls is not shown: {text}");
    }

    #[test]
    fn sampled_time_is_scaled_and_waiting_time_is_exact() {
        let metrics = PluginMetrics::new("a", "b");
        (0..SAMPLE).for_each(|_| metrics.call(Phase::Log).returned());
        metrics.call(Phase::Message).waited(Duration::from_millis(1500));
        let text = shown(&metrics);
        assert!(
            text.contains("moongate_plugin_seconds_total{plugin=\"a\",kind=\"b\",phase=\"message\"} 1.5")
        );
        let log =
            text.lines().find(|line| line.contains("seconds_total") && line.contains("\"log\"")).unwrap();
        assert!(log.rsplit(' ').next().unwrap().parse::<f64>().unwrap() > 0.0, "{log}");
    }
}
