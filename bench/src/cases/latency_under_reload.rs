//! Latency of an echo at a fixed rate, without and with a changed configuration and a reload every second.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, Setup};
use crate::load::paced::{PacedLoad, quantile};
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

/// Whether reloads happen during the measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reloads {
    None,
    EverySecond,
}

/// The result of one round of one gateway.
struct Sample {
    quantiles: [Duration; 3],
    max: Duration,
}

/// Measures both and prints their tables.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let mut failed = Vec::new();
    for (reloads, title) in [(Reloads::None, ""), (Reloads::EverySecond, ", with a reload every second")] {
        let mut series = bench.series(Setup::Full);
        bench.rounds(bench.options.rounds, NoiseHandling::Repeat, &mut series, |gateway| {
            sample(bench, gateway.gateway(&bench.environment)?, reloads)
        })?;
        println!(
            "\nlatency{title}: an echo of {SIZE} bytes, {} a second offered over {CONNECTIONS} connections",
            bench.options.rate
        );
        print(bench, &series);
        failed.extend(failures(&series));
    }
    Ok(failed)
}

fn sample(bench: &Bench, gateway: &mut Gateway, reloads: Reloads) -> Outcome<Sample> {
    let mut load = PacedLoad::open(&gateway.target.plain(), CONNECTIONS, SIZE, &bench.stop)?;
    load.run(bench.options.rate, WARM_UP, |_| Ok(()))?;
    // The first reload comes after half a period, so that every reload is inside the measurement.
    let mut next = PERIOD / 2;
    let latencies = load.run(bench.options.rate, bench.options.time, |elapsed| {
        if reloads == Reloads::EverySecond && elapsed >= next {
            next += PERIOD;
            gateway.reload().map_err(|e| io::Error::other(e.to_string()))?;
        }
        Ok(())
    })?;
    gateway.process.check()?;
    let quantiles = [0.5, 0.99, 0.999].map(|share| quantile(&latencies, share));
    Ok(Sample { quantiles, max: quantile(&latencies, 1.0) })
}

fn print(bench: &Bench, series: &[SampleSeries<'_, Sample>]) {
    let mut table = Table::new(["", "p50 us", "p99 us", "p99.9 us", "worst us"]);
    for gateway in series.iter().filter(|gateway| !gateway.samples.is_empty()) {
        let spread = |of: &dyn Fn(&Sample) -> Duration| {
            Spread::new(gateway.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e6)).show(0)
        };
        table.row(vec![
            gateway.name.to_owned(),
            spread(&|sample| sample.quantiles[0]),
            spread(&|sample| sample.quantiles[1]),
            spread(&|sample| sample.quantiles[2]),
            spread(&|sample| sample.max),
        ]);
    }
    table.print();
    bench.print_conditions(series);
    println!("  every message was echoed");
}
