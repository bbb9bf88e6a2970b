//! Echoes over many WebSockets while they move to a new process of the gateway. Only Moongate can do that.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, Setup};
use crate::load::paced::{PacedLoad, TimedEcho, quantile};
use crate::options::Options;
use crate::table::{Spread, Table};
use std::io;
use std::time::{Duration, Instant};

/// Bytes per message.
const SIZE: usize = 128;

/// The time of the load before the upgrade, and in all.
const BEFORE: Duration = Duration::from_secs(1);
const WHOLE: Duration = Duration::from_secs(4);

/// The time between two looks at the gateway's output.
const LOOK: Duration = Duration::from_millis(5);

/// The most rounds: each opens all WebSockets.
const ROUNDS: u32 = 5;

/// The result of one round.
struct Sample {
    /// By whether the messages were due before the handover or during it.
    quantiles: [[Duration; 4]; 2],
    /// From the order until no WebSocket is left in the old process.
    took: Duration,
}

/// Measures the rounds, each with a new process, and prints the table.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let mut series = bench.series(Setup::Minimal);
    series.retain(|gateway| gateway.name == "moongate");
    let rounds = bench.options.rounds.min(ROUNDS);
    // The new process is not a child of the bench, so it would count as a disturbance.
    bench.rounds(rounds, NoiseHandling::Accept, &mut series, |series| {
        sample(bench, Gateway::start(series.installed, series.setup, &bench.environment)?)
    })?;
    print(bench, rounds, &series);
    Ok(failures(&series))
}

fn sample(bench: &Bench, mut gateway: Gateway) -> Outcome<Sample> {
    let count = bench.options.tunnels;
    let mut load = PacedLoad::open(&gateway.target.plain(), count, SIZE, &bench.stop)?;
    let began = Instant::now();
    let (mut ordered, mut ended, mut look) = (None, None, BEFORE);
    let echoes = load.run_timed(bench.options.rate, WHOLE, |elapsed| {
        if elapsed < look || ended.is_some() {
            return Ok(());
        }
        look = elapsed + LOOK;
        let failed = |error: Box<dyn std::error::Error>| io::Error::other(error.to_string());
        if ordered.is_none() {
            ordered = Some(Instant::now());
            return gateway.upgrade().map_err(failed);
        }
        ended = gateway.upgraded().map_err(failed)?.map(|handover| (Instant::now(), handover));
        Ok(())
    })?;
    let (Some(ordered), Some((ended, handover))) = (ordered, ended) else {
        return Err(format!("no handover within {} s", (WHOLE - BEFORE).as_secs()).into());
    };
    gateway.process.succeed(handover.process)?;
    if (handover.moved, handover.left) != (count, 0) {
        return Err(format!("{} of {count} WebSockets moved", handover.moved).into());
    }
    let between = |from: Instant, to: Instant| quantiles(&echoes, |due| due >= from && due < to);
    Ok(Sample { quantiles: [between(began, ordered), between(ordered, ended)], took: ended - ordered })
}

fn quantiles(echoes: &[TimedEcho], is_counted: impl Fn(Instant) -> bool) -> [Duration; 4] {
    let counted = echoes.iter().filter(|echo| is_counted(echo.due));
    let mut latencies: Vec<_> = counted.map(|echo| echo.latency).collect();
    latencies.sort_unstable();
    [0.5, 0.99, 0.999, 1.0].map(|share| quantile(&latencies, share))
}

fn print(bench: &Bench, rounds: u32, series: &[SampleSeries<'_, Sample>]) {
    let Options { tunnels, rate, .. } = &bench.options;
    println!(
        "\nupgrade: an echo of {SIZE} bytes, {rate} a second offered over {tunnels} WebSockets that move to a new process"
    );
    let mut table = Table::new(["", "p50 ms", "p99 ms", "p99.9 ms", "worst ms"]);
    for gateway in series.iter().filter(|gateway| !gateway.samples.is_empty()) {
        let spread = |of: &dyn Fn(&Sample) -> Duration| {
            Spread::new(gateway.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e3)).show(1)
        };
        for (row, name) in ["before", "during the handover"].into_iter().enumerate() {
            let cells = (0..4).map(|index| spread(&|sample| sample.quantiles[row][index]));
            table.row([name.to_owned()].into_iter().chain(cells).collect());
        }
        println!("  handover: {} ms from the order to the last WebSocket", spread(&|sample| sample.took));
    }
    table.print();
    println!(
        "  rounds: {rounds}, each with new processes; every message was echoed, and every WebSocket moved"
    );
}
