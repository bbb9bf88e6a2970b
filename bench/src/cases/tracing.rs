//! CPU time of a request and of a WebSocket with tracing off and with several samplings. The spans go to the backend of
//! the bench, which accepts every export; the exporter is part of the gateway's CPU time.

use crate::Outcome;
use crate::cases::cost::{Cost, OPERATION};
use crate::cases::variants::{Comparison, Variant};
use crate::cases::{Bench, cost_cases};
use crate::gateway::Setup;

const GETS: Cost = Cost {
    name: "tracing",
    title: "tracing: a keep-alive GET of 2 bytes with spans exported over OTLP; 16 connections, 100 routes",
    setup: Setup::Full,
    unit: &OPERATION,
    open: |target, stop| cost_cases::keepalive_clients(target, stop, ""),
};

/// Rows and samplings; the first row is the baseline.
const ROWS: [(&str, Option<&str>); 4] =
    [("off", None), ("sampling 0", Some("0")), ("sampling 0.01", Some("0.01")), ("sampling 1", Some("1"))];

/// Measures the rounds and prints the table.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let collector = bench.environment.backend;
    let variant = |(name, sampling): (&'static str, Option<&str>)| Variant {
        name,
        settings: sampling.map_or(String::new(), |sampling| {
            format!("tracing: {{ otlp: \"http://{collector}\", sampling: {sampling}, queue: 65536 }}\n")
        }),
        parts: usize::from(sampling.is_some()),
    };
    let comparison =
        Comparison { cost: &GETS, per_part: None, variants: ROWS.map(variant).into(), check: |_, _| Ok(()) };
    comparison.measure(bench)
}
