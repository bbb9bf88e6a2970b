//! The cost of an upstream whose endpoints come and go: GETs at a fixed rate beside many WebSockets, first with a fixed list
//! of endpoints and then with changes of it. Only Moongate has discoveries.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, MEMBER_ADDRESSES, MEMBERS, Setup, member_list};
use crate::load::ClosedLoop;
use crate::load::IdleLoad;
use crate::load::paced::quantile;
use crate::load::paced_gets::PacedGets;
use crate::load::websockets::{Batch, EchoClient, Repeat};
use crate::process::{Process, on_cpu};
use crate::table::{Spread, Table};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// GETs a second, and the connections that share them.
const RATE: u32 = 2_000;
const CONNECTIONS: usize = 32;

/// Changes a second: half of them remove an endpoint, and half add one.
const CHANGES: usize = 100;

/// The time between two lists: the discovery reads its file once a second.
const PERIOD: Duration = Duration::from_secs(1);

/// Warm-up before each measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// Descriptors of the gateway that are not for WebSockets: idle connections to endpoints, and the others.
const OTHER_DESCRIPTORS: u64 = 8_000;

/// The result of one round: without changes, and with them.
struct Sample {
    quantiles: [[Duration; 2]; 2],
    /// CPU use of the gateway, 1 for a whole CPU.
    busy: [f64; 2],
    /// Bytes at the end of each part.
    memory: [u64; 2],
    sockets: usize,
}

/// Measures the rounds, each with a new process, and prints the table.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let mut series = bench.series(Setup::Members);
    let (_backend, address) = start_backend(bench.placement.backend)?;
    bench.rounds(bench.options.rounds, NoiseHandling::Accept, &mut series, |series| {
        let environment = bench.environment.with_backend(address);
        sample(bench, Gateway::start(series.installed, series.setup, &environment)?, address)
    })?;
    print(bench, &series);
    Ok(failures(&series))
}

/// A backend at the addresses of all endpoints.
fn start_backend(cpu: usize) -> Outcome<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["backend", "127.0.0.1:0", &MEMBER_ADDRESSES.to_string()]);
    let mut child = on_cpu(cpu, &command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the backend has no output")?;
    let process = Process::of("backend", child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((process, line.trim().parse().map_err(|_| "the backend did not start")?))
}

fn sample(bench: &Bench, mut gateway: Gateway, backend: SocketAddr) -> Outcome<Sample> {
    let transport = gateway.target.plain();
    let files = crate::machine::raise_open_files();
    let most = usize::try_from(files.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
    let sockets = bench.options.tunnels.min(most);
    let batch = Batch::new(1, 128, Repeat::Once);
    let mut idle = ClosedLoop::open(sockets, &bench.stop, |_| EchoClient::open(&transport, &batch, 0))?;
    idle.run_until_completed(sockets as u64)?;
    let mut load = PacedGets::open(&transport, CONNECTIONS, &bench.stop)?;
    let (mut quantiles, mut busy, mut memory) = ([[Duration::ZERO; 2]; 2], [0.0; 2], [0; 2]);
    let mut removed = 0;
    for (part, is_changing) in [false, true].into_iter().enumerate() {
        load.run(RATE, WARM_UP, |_| Ok(()))?;
        let (before, mut next) = (gateway.cpu(), Duration::ZERO);
        let latencies = load.run(RATE, bench.options.time, |elapsed| {
            if is_changing && elapsed >= next {
                next += PERIOD;
                removed += CHANGES / 2;
                let list = member_list(backend, removed);
                gateway.write_members(&list).map_err(|e| io::Error::other(e.to_string()))?;
            }
            Ok(())
        })?;
        busy[part] = gateway.cpu().since(before).total().as_secs_f64() / bench.options.time.as_secs_f64();
        quantiles[part] = [0.5, 0.99].map(|share| quantile(&latencies, share));
        // The WebSockets reply to pings, or fail if one was closed.
        idle.serve_idle(Duration::from_millis(500))?;
        memory[part] = gateway.process.pss()?;
        gateway.process.check()?;
    }
    Ok(Sample { quantiles, busy, memory, sockets })
}

fn print(bench: &Bench, series: &[SampleSeries<'_, Sample>]) {
    println!(
        "\nmembers: {RATE} GETs a second to an upstream of {MEMBERS} endpoints, without changes and with {CHANGES} a second"
    );
    let mut table = Table::new(["", "p50 us", "p99 us", "CPU busy %", "memory MiB"]);
    for gateway in series.iter().filter(|gateway| !gateway.samples.is_empty()) {
        let spread = |of: &dyn Fn(&Sample) -> f64| Spread::new(gateway.samples.iter().map(of));
        for (part, name) in ["without changes", "with changes"].into_iter().enumerate() {
            let latency =
                |at: usize| spread(&|sample| sample.quantiles[part][at].as_secs_f64() * 1e6).show(0);
            table.row(vec![
                name.to_owned(),
                latency(0),
                latency(1),
                spread(&|sample| sample.busy[part] * 100.0).show(1),
                spread(&|sample| sample.memory[part] as f64 / f64::from(1 << 20)).show(1),
            ]);
        }
        let ratio = |with: f64, without: f64| if without > 0.0 { with / without } else { 0.0 };
        println!(
            "  membership: {} % of a CPU; p99 {} times that without changes; memory {} times; beside {} WebSockets",
            spread(&|sample| (sample.busy[1] - sample.busy[0]) * 100.0).show(1),
            spread(&|sample| {
                ratio(sample.quantiles[1][1].as_secs_f64(), sample.quantiles[0][1].as_secs_f64())
            })
            .show(2),
            spread(&|sample| ratio(sample.memory[1] as f64, sample.memory[0] as f64)).show(2),
            gateway.samples.iter().map(|sample| sample.sockets).min().unwrap_or_default(),
        );
    }
    table.print();
    bench.print_conditions(series);
    println!("  every request had its response, and no WebSocket was closed");
}
