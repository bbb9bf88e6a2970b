//! Memory of a tunnel that has spoken once and fallen silent: the growth of the processes' proportional set
//! size. Memory of the kernel's sockets is the same for all and not in it.

use crate::Outcome;
use crate::cases::{Bench, Contestant, Disturbed, failures};
use crate::gateway::Gateway;
use crate::http::ROUTES;
use crate::load::Crowd;
use crate::load::sockets::{Again, Batch, Talker};
use crate::table::{Spread, Table};
use crate::tls::Tickets;
use crate::transport::{Road, Target};
use std::io;
use std::time::{Duration, Instant};

/// Silent WebSockets whose memory is measured.
pub(crate) struct Idle {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What stands above its table.
    title: &'static str,
    /// How they come.
    road: fn(Target) -> io::Result<Road>,
}

/// In the clear.
pub(crate) const IDLE: Idle =
    Idle { name: "idle", title: "idle: memory of a silent WebSocket", road: |target| Ok(target.plain()) };

/// Under TLS.
pub(crate) const TLS_IDLE: Idle = Idle {
    name: "tls-idle",
    title: "tls-idle: as idle, with TLS between client and gateway",
    road: |target| target.tls(Tickets::Never),
};

/// Tunnels opened and closed before the baseline, so that what is allocated once is not counted.
const WARM_UP: usize = 64;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_secs(1);

/// After this, memory that still moves is taken as it is.
const SETTLE: Duration = Duration::from_secs(10);

/// More rounds tell little: the figure does not depend on what else the machine does.
const ROUNDS: u32 = 3;

/// Measures the rounds, each with a new process, and prints the table.
pub(crate) fn measure(bench: &Bench, idle: &Idle) -> Outcome<Vec<String>> {
    let mut contestants = bench.contestants();
    let rounds = bench.options.rounds.min(ROUNDS);
    bench.rounds(rounds, Disturbed::Counts, &mut contestants, |contestant| {
        // A gateway that has held tunnels before has memory to give: every round begins with a new one.
        let gateway = Gateway::start(contestant.installed, &bench.ground)?;
        sample(bench, idle, gateway)
    })?;
    print(bench, idle, rounds, &contestants);
    Ok(failures(&contestants))
}

/// Bytes a tunnel.
fn sample(bench: &Bench, idle: &Idle, mut gateway: Gateway) -> Outcome<f64> {
    let (count, road) = (bench.ground.tunnels, (idle.road)(gateway.target)?);
    drop(open(bench, &road, WARM_UP.min(count))?);
    let before = settled(&gateway, || {
        std::thread::sleep(LOOK);
        Ok(())
    })?;
    let mut tunnels = open(bench, &road, count)?;
    let after = settled(&gateway, || Ok(tunnels.attend(LOOK)?))?;
    gateway.process.check()?;
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// Tunnels that have carried one message each way.
fn open(bench: &Bench, road: &Road, count: usize) -> Outcome<Crowd<Talker>> {
    let batch = Batch::of(1, 128, Again::Never);
    let mut crowd = Crowd::open(count, &bench.stop, |number| Talker::open(road, &batch, number % ROUTES))?;
    crowd.complete(count as u64)?;
    Ok(crowd)
}

/// The memory in bytes once it has stopped moving.
fn settled(gateway: &Gateway, mut wait: impl FnMut() -> Outcome<()>) -> Outcome<u64> {
    let began = Instant::now();
    let mut last = gateway.process.pss()?;
    loop {
        wait()?;
        let now = gateway.process.pss()?;
        if now.abs_diff(last) < now / 200 || began.elapsed() > SETTLE {
            return Ok(now);
        }
        last = now;
    }
}

fn print(bench: &Bench, idle: &Idle, rounds: u32, contestants: &[Contestant<'_, f64>]) {
    let mut table = Table::new(&["", "KB/tunnel"]);
    for contestant in contestants.iter().filter(|contestant| !contestant.samples.is_empty()) {
        let spread = Spread::of(contestant.samples.iter().map(|bytes| bytes / 1024.0));
        table.row(vec![contestant.name.to_owned(), spread.show(2)]);
    }
    println!("\n{}; {} of them, one message each before", idle.title, bench.ground.tunnels);
    table.print();
    println!("  {rounds} rounds, each with a new process; KB are 1024 bytes");
}
