//! Memory of an idle tunnel after one message each way: the growth of the processes' proportional set size. The
//! kernel's socket memory is the same for all gateways and not counted.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, Setup};
use crate::http::ROUTES;
use crate::load::ClosedLoop;
use crate::load::websockets::{Batch, EchoClient, Repeat};
use crate::table::{Spread, Table};
use crate::tls::Tickets;
use crate::transport::{Target, Transport};
use std::io;
use std::time::{Duration, Instant};

/// Idle WebSockets whose memory is measured.
pub(crate) struct IdleMemory {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The title of its table.
    title: &'static str,
    /// The transport of the connections.
    transport: fn(Target) -> io::Result<Transport>,
}

/// Plaintext.
pub(crate) const IDLE: IdleMemory = IdleMemory {
    name: "idle",
    title: "idle: memory of an idle WebSocket",
    transport: |target| Ok(target.plain()),
};

/// TLS.
pub(crate) const TLS_IDLE: IdleMemory = IdleMemory {
    name: "tls-idle",
    title: "tls-idle: as idle, with TLS between client and gateway",
    transport: |target| target.tls(Tickets::Discard),
};

/// Tunnels opened and closed before the baseline, so that one-time allocations are not counted.
const WARM_UP: usize = 64;

/// The time between two samples of the memory.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// After this time a sample counts even if the memory still changes.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most rounds: memory hardly differs between them.
const ROUNDS: u32 = 3;

/// Measures the rounds, each with a new process, and prints the table.
pub(crate) fn measure(bench: &Bench, idle: &IdleMemory) -> Outcome<Vec<String>> {
    let mut series = bench.series(Setup::Minimal);
    let rounds = bench.options.rounds.min(ROUNDS);
    bench.rounds(rounds, NoiseHandling::Accept, &mut series, |gateway| {
        // Every round starts a new process: a gateway that has held tunnels before has free memory to reuse.
        let gateway = Gateway::start(gateway.installed, gateway.setup, &bench.environment)?;
        sample(bench, idle, gateway)
    })?;
    print(bench, idle, rounds, &series);
    Ok(failures(&series))
}

/// Bytes per tunnel.
fn sample(bench: &Bench, idle: &IdleMemory, mut gateway: Gateway) -> Outcome<f64> {
    let (count, transport) = (bench.options.tunnels, (idle.transport)(gateway.target)?);
    drop(open(bench, &transport, WARM_UP.min(count))?);
    let before = settled(&gateway, || {
        std::thread::sleep(SAMPLE_INTERVAL);
        Ok(())
    })?;
    let mut tunnels = open(bench, &transport, count)?;
    let after = settled(&gateway, || Ok(tunnels.serve_idle(SAMPLE_INTERVAL)?))?;
    gateway.process.check()?;
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// Tunnels that have carried one message each way.
fn open(bench: &Bench, transport: &Transport, count: usize) -> Outcome<ClosedLoop<EchoClient>> {
    let batch = Batch::new(1, 128, Repeat::Once);
    let mut clients =
        ClosedLoop::open(count, &bench.stop, |number| EchoClient::open(transport, &batch, number % ROUTES))?;
    clients.run_until_completed(count as u64)?;
    Ok(clients)
}

/// The memory in bytes once it no longer changes.
fn settled(gateway: &Gateway, mut wait: impl FnMut() -> Outcome<()>) -> Outcome<u64> {
    let began = Instant::now();
    let mut last = gateway.process.pss()?;
    loop {
        wait()?;
        let now = gateway.process.pss()?;
        if now.abs_diff(last) < now / 200 || began.elapsed() > SETTLE_TIMEOUT {
            return Ok(now);
        }
        last = now;
    }
}

fn print(bench: &Bench, idle: &IdleMemory, rounds: u32, series: &[SampleSeries<'_, f64>]) {
    let mut table = Table::new(["", "KB/tunnel"]);
    for gateway in series.iter().filter(|gateway| !gateway.samples.is_empty()) {
        let spread = Spread::new(gateway.samples.iter().map(|bytes| bytes / 1024.0));
        table.row(vec![gateway.name.to_owned(), spread.show(2)]);
    }
    println!("\n{}; {} of them, one message each before", idle.title, bench.options.tunnels);
    table.print();
    println!("  rounds: {rounds}, each with a new process; KB are 1024 bytes");
}
