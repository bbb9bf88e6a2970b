//! Clients that send three times what a limit allows, evenly over gateways.

use super::status_of;
use crate::support::Gateway;
use std::thread;
use std::time::{Duration, Instant};

/// Each gateway gets a request in this time.
const PACE: Duration = Duration::from_millis(10);

/// One request.
pub(super) struct Sample {
    /// Since the start.
    pub(super) begun: Duration,
    pub(super) took: Duration,
    /// The time of a request without a limit after it.
    pub(super) free: Duration,
    pub(super) status: u16,
}

/// Sends requests to all gateways for this time, while `event` runs.
pub(super) fn drive(gateways: &[Gateway], time: Duration, event: impl FnOnce(Instant) + Send) -> Vec<Sample> {
    let start = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> =
            gateways.iter().map(|gateway| scope.spawn(move || client(gateway, start, time))).collect();
        scope.spawn(move || event(start));
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn client(gateway: &Gateway, start: Instant, time: Duration) -> Vec<Sample> {
    let mut wire = gateway.wire();
    let mut samples = Vec::new();
    let mut next = start;
    while start.elapsed() < time {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next = (next + PACE).max(Instant::now());
        let begun = start.elapsed();
        let status = status_of(&mut wire, "/");
        let took = start.elapsed() - begun;
        assert_eq!(status_of(&mut wire, "/free"), 200);
        samples.push(Sample { begun, took, free: start.elapsed() - begun - took, status });
    }
    samples
}

/// The number of requests that were allowed between these times.
pub(super) fn allowed(samples: &[Sample], from: Duration, to: Duration) -> f64 {
    samples.iter().filter(|sample| sample.status == 200 && (from..to).contains(&sample.begun)).count() as f64
}
