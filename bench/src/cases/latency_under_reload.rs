//! Latency of an echo at a fixed offered rate, then the same with a changed configuration and a reload every
//! second.

use crate::Outcome;
use crate::cases::{Bench, Contestant, Disturbed, failures};
use crate::gateway::Gateway;
use crate::load::paced::{Paced, quantile};
use crate::table::{Spread, Table};
use std::io;
use std::time::Duration;

/// WebSockets that share the rate.
const CONNECTIONS: usize = 64;

/// Bytes per message.
const SIZE: usize = 128;

/// Warm-up before each measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// The time between two reloads.
const PERIOD: Duration = Duration::from_secs(1);

/// Activity during the measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Reloads,
}

/// One round of one gateway.
struct Sample {
    quantiles: [Duration; 3],
    most: Duration,
}

/// Measures both and prints their tables.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let mut failed = Vec::new();
    for (meanwhile, title) in [(Meanwhile::Nothing, ""), (Meanwhile::Reloads, ", with a reload every second")]
    {
        let mut contestants = bench.contestants();
        bench.rounds(bench.options.rounds, Disturbed::Again, &mut contestants, |contestant| {
            sample(bench, contestant.gateway(&bench.ground)?, meanwhile)
        })?;
        println!(
            "\nlatency{title}: an echo of {SIZE} bytes, {} a second offered over {CONNECTIONS} connections",
            bench.options.rate
        );
        print(bench, &contestants);
        failed.extend(failures(&contestants));
    }
    Ok(failed)
}

fn sample(bench: &Bench, gateway: &mut Gateway, meanwhile: Meanwhile) -> Outcome<Sample> {
    let mut load = Paced::open(&gateway.target.plain(), CONNECTIONS, SIZE, &bench.stop)?;
    load.drive(bench.options.rate, WARM_UP, |_| Ok(()))?;
    // The first reload comes after half a period, so that every reload is inside the measurement.
    let mut next = PERIOD / 2;
    let latencies = load.drive(bench.options.rate, bench.options.time, |elapsed| {
        if meanwhile == Meanwhile::Reloads && elapsed >= next {
            next += PERIOD;
            gateway.reload().map_err(|e| io::Error::other(e.to_string()))?;
        }
        Ok(())
    })?;
    gateway.process.check()?;
    let quantiles = [0.5, 0.99, 0.999].map(|share| quantile(&latencies, share));
    Ok(Sample { quantiles, most: quantile(&latencies, 1.0) })
}

fn print(bench: &Bench, contestants: &[Contestant<'_, Sample>]) {
    let mut table = Table::new(&["", "p50 us", "p99 us", "p99.9 us", "worst us"]);
    for contestant in contestants.iter().filter(|contestant| !contestant.samples.is_empty()) {
        let spread = |of: &dyn Fn(&Sample) -> Duration| {
            Spread::of(contestant.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e6)).show(0)
        };
        table.row(vec![
            contestant.name.to_owned(),
            spread(&|sample| sample.quantiles[0]),
            spread(&|sample| sample.quantiles[1]),
            spread(&|sample| sample.quantiles[2]),
            spread(&|sample| sample.most),
        ]);
    }
    table.print();
    bench.print_circumstances(contestants);
    println!("  every message was echoed");
}
