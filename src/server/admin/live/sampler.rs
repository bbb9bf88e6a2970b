//! Samples of the live view, shared by all viewers. Nothing is computed without a viewer.

use super::counters::{CounterReading, DirectionRates, error_rates, rate, rates, rounded};
use super::history::{History, RttPercentiles};
use super::rows::{self, EndpointRow, FlowRow};
use crate::server::admin::{AdminState, ProcessFacts};
use crate::telemetry::metrics::ProcessValues;
use crate::telemetry::unix_millis;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// A sample is shared by those who ask within this time.
const SHARED_FOR: Duration = Duration::from_millis(900);

/// Rates are not computed from a reading older than this: they would be the average of a time without a viewer.
const MAX_READING_AGE: Duration = Duration::from_secs(3);

/// The live view at one moment.
pub(super) struct Sample {
    pub(super) overview: Overview,
    pub(super) endpoints: Vec<EndpointRow>,
    pub(super) flows: Vec<FlowRow>,
}

/// The sums of the live view.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Overview {
    at: u64,
    requests: f64,
    handshakes: f64,
    messages: DirectionRates,
    bytes: DirectionRates,
    websockets: u64,
    requests_in_flight: usize,
    errors: Vec<ErrorRate>,
    rtt: Option<RttPercentiles>,
    process: Process,
}

#[derive(Clone, Debug, Serialize)]
struct ErrorRate {
    reason: &'static str,
    total: u64,
    rate: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Process {
    uptime: f64,
    memory: Option<f64>,
    descriptors: Option<f64>,
    max_descriptors: Option<f64>,
    threads: Option<f64>,
    cpu: Option<f64>,
    generation: u64,
    draining: bool,
}

/// Makes samples.
#[derive(Default)]
pub(crate) struct Sampler(Mutex<LastSample>);

#[derive(Default)]
struct LastSample {
    reading: Option<(CounterReading, ProcessValues)>,
    sample: Option<Arc<Sample>>,
}

impl Sampler {
    /// The current sample; `None` if rates need another reading after [`INTERVAL`].
    pub(super) fn sample(&self, state: &dyn AdminState, history: &History) -> Option<Arc<Sample>> {
        let mut last = self.0.lock();
        let age = last.reading.as_ref().map(|(reading, _)| reading.at.elapsed());
        if age.is_some_and(|age| age < SHARED_FOR) {
            return last.sample.clone();
        }
        let now = (CounterReading::now(), ProcessValues::read());
        let before = last.reading.take().filter(|_| age.is_some_and(|age| age <= MAX_READING_AGE));
        last.sample = before.map(|before| Arc::new(Sample::new(&now, &before, state, history)));
        last.reading = Some(now);
        last.sample.clone()
    }
}

impl Sample {
    fn new(
        (now, process): &(CounterReading, ProcessValues),
        (before, earlier): &(CounterReading, ProcessValues),
        state: &dyn AdminState,
        history: &History,
    ) -> Self {
        let seconds = (now.at - before.at).as_secs_f64();
        let change = now.since(before);
        let facts = state.process();
        Self {
            endpoints: rows::endpoint_rows(state.endpoints(), now, before, seconds),
            flows: rows::flow_rows(now, before, seconds),
            overview: Overview {
                at: unix_millis(),
                requests: rate(change.requests, 0, seconds),
                handshakes: rate(change.handshakes, 0, seconds),
                messages: rates(change.messages, [0; 2], seconds),
                bytes: rates(change.bytes, [0; 2], seconds),
                websockets: state.tunnels().websockets() as u64,
                requests_in_flight: facts.requests,
                errors: errors(now, before, seconds),
                rtt: history.round_trips(&now.round_trips),
                process: Process::new(&facts, *process, *earlier, seconds),
            },
        }
    }
}

fn errors(now: &CounterReading, before: &CounterReading, seconds: f64) -> Vec<ErrorRate> {
    let totals = now.failed.iter().map(|(_, total)| *total);
    let rates = error_rates(now, before, seconds).zip(totals);
    rates.map(|((reason, rate), total)| ErrorRate { reason, total, rate }).collect()
}

impl Process {
    fn new(facts: &ProcessFacts, now: ProcessValues, before: ProcessValues, seconds: f64) -> Self {
        let cpu = now.cpu.zip(before.cpu).map(|(now, before)| rounded((now - before) / seconds.max(1e-3)));
        Self {
            uptime: facts.uptime.as_secs_f64().floor(),
            memory: now.memory,
            descriptors: now.descriptors,
            max_descriptors: now.max_descriptors,
            threads: now.threads,
            cpu,
            generation: facts.generation,
            draining: facts.draining,
        }
    }
}
