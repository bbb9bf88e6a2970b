//! Memory of an idle connection that has carried one message: the growth of the processes' proportional set size. The
//! kernel's socket memory is the same for all gateways and not counted.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, Setup};
use crate::http::ROUTES;
use crate::load::event_streams::{EventStream, STREAMS};
use crate::load::keepalive_gets::IdleClient;
use crate::load::websockets::{Batch, EchoClient, Repeat};
use crate::load::{ClosedLoop, IdleLoad};
use crate::options::Options;
use crate::stop::Stop;
use crate::table::{Spread, Table};
use crate::tls::Tickets;
use crate::transport::{Target, Transport};
use std::io;
use std::time::{Duration, Instant};

/// Idle connections whose memory is measured.
pub(crate) struct IdleMemory {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The title of its table.
    title: &'static str,
    /// The number of connections.
    count: fn(&Options) -> usize,
    /// Opens this many connections, each of which has carried one message.
    open: fn(Target, usize, &Stop) -> io::Result<Box<dyn IdleLoad>>,
}

/// WebSockets.
pub(crate) const IDLE: IdleMemory = IdleMemory {
    name: "idle",
    title: "idle: memory of an idle WebSocket",
    count: |options| options.tunnels,
    open: |target, count, stop| open_websockets(&target.plain(), count, stop),
};

/// WebSockets over TLS.
pub(crate) const TLS_IDLE: IdleMemory = IdleMemory {
    name: "tls-idle",
    title: "tls-idle: as idle, with TLS between client and gateway",
    count: |options| options.tunnels,
    open: |target, count, stop| open_websockets(&target.tls(Tickets::Discard)?, count, stop),
};

/// Event streams.
pub(crate) const SSE_IDLE: IdleMemory = IdleMemory {
    name: "sse-idle",
    title: "sse-idle: memory of an idle event stream",
    count: |_| STREAMS,
    open: |target, count, stop| {
        let transport = target.plain();
        Ok(Box::new(ClosedLoop::open(count, stop, |number| EventStream::open(&transport, number))?))
    },
};

/// Keep-alive clients.
pub(crate) const HTTP_IDLE: IdleMemory = IdleMemory {
    name: "http-idle",
    title: "http-idle: memory of an idle keep-alive client",
    count: |options| options.tunnels,
    open: |target, count, stop| {
        let transport = target.plain();
        Ok(Box::new(ClosedLoop::open(count, stop, |number| IdleClient::open(&transport, number))?))
    },
};

/// Connections opened and closed before the baseline, so that one-time allocations are not counted.
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
    bench.rounds(rounds, NoiseHandling::Accept, &mut series, |series| {
        // Every round starts a new process: a gateway that has held connections before has free memory to reuse.
        let gateway = Gateway::start(series.installed, series.setup, &bench.environment)?;
        sample(bench, idle, gateway)
    })?;
    print(bench, idle, rounds, &series);
    Ok(failures(&series))
}

/// Bytes per connection.
fn sample(bench: &Bench, idle: &IdleMemory, mut gateway: Gateway) -> Outcome<f64> {
    let count = (idle.count)(&bench.options);
    drop((idle.open)(gateway.target, WARM_UP.min(count), &bench.stop)?);
    let before = settled(&gateway, || {
        std::thread::sleep(SAMPLE_INTERVAL);
        Ok(())
    })?;
    let mut connections = (idle.open)(gateway.target, count, &bench.stop)?;
    let after = settled(&gateway, || Ok(connections.serve_idle(SAMPLE_INTERVAL)?))?;
    gateway.process.check()?;
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// WebSockets that have carried one message in each direction.
fn open_websockets(transport: &Transport, count: usize, stop: &Stop) -> io::Result<Box<dyn IdleLoad>> {
    let batch = Batch::new(1, 128, Repeat::Once);
    let mut clients =
        ClosedLoop::open(count, stop, |number| EchoClient::open(transport, &batch, number % ROUTES))?;
    clients.run_until_completed(count as u64)?;
    Ok(Box::new(clients))
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
    let mut table = Table::new(["", "KB/connection"]);
    for gateway in series.iter().filter(|series| !series.samples.is_empty()) {
        let spread = Spread::new(gateway.samples.iter().map(|bytes| bytes / 1024.0));
        table.row(vec![gateway.name.to_owned(), spread.show(2)]);
    }
    println!("\n{}; {} of them, one message each before", idle.title, (idle.count)(&bench.options));
    table.print();
    println!("  rounds: {rounds}, each with a new process; KB are 1024 bytes");
}
