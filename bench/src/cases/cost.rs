//! CPU an operation: what the kernel says a gateway's processes used while the load counted operations.

use crate::Outcome;
use crate::cases::{Bench, Contestant, Disturbed, failures};
use crate::gateway::Gateway;
use crate::http::{INSPECTED, ROUTES};
use crate::load::pages::Reader;
use crate::load::short_connections::Caller;
use crate::load::short_websockets::Visitor;
use crate::load::sockets::{Again, Batch, Talker};
use crate::load::streams::Browser;
use crate::load::{Crowd, Load, pages, streams};
use crate::stop::Stop;
use crate::table::{Spread, Table};
use crate::tls::Tickets;
use crate::transport::{Road, Target};
use std::io;
use std::time::Duration;

/// Before each measurement: connections are new, caches cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// A load whose operations are counted.
pub(crate) struct Cost {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What stands above its table.
    pub(super) title: &'static str,
    /// Opens the load.
    pub(crate) open: fn(Target, &Stop) -> io::Result<Box<dyn Load>>,
}

/// Plain HTTP.
pub(crate) const HTTP: Cost = Cost {
    name: "http",
    title: "http: a keep-alive GET of 2 bytes; 16 connections, 100 routes",
    open: |target, stop| readers(target, stop, ""),
};

/// One small message at a time.
pub(crate) const ECHO: Cost = Cost {
    name: "echo",
    title: "echo: a WebSocket message of 128 bytes and its echo; 64 connections, one in flight each",
    open: |target, stop| talkers(&target.plain(), stop, &Batch::of(1, 128, Again::Always)),
};

/// Many small messages at once.
pub(crate) const BURST: Cost = Cost {
    name: "burst",
    title: "burst: a message of 128 bytes and its echo, 64 in one write; 64 connections",
    open: |target, stop| talkers(&target.plain(), stop, &Batch::of(64, 128, Again::Always)),
};

/// Large messages.
pub(crate) const BULK: Cost = Cost {
    name: "bulk",
    title: "bulk: a message of 16 KiB and its echo; 64 connections, one in flight each",
    open: |target, stop| talkers(&target.plain(), stop, &Batch::of(1, 16 << 10, Again::Always)),
};

/// One small message at a time, each looked at by a plugin.
pub(crate) const MESSAGES: Cost = Cost {
    name: "messages",
    title: "messages: as echo, on a route where a native plugin of Moongate's sees each message, both ways",
    open: |target, stop| {
        let (road, batch) = (target.plain(), Batch::of(1, 128, Again::Always));
        Ok(Box::new(Crowd::open(64, stop, |_| Talker::open(&road, &batch, INSPECTED))?))
    },
};

/// Short lives.
pub(crate) const CONNECT: Cost = Cost {
    name: "connect",
    title: "connect: connect, handshake, an echo of 128 bytes, close; 16 at a time",
    open: |target, stop| {
        let road = target.plain();
        Ok(Box::new(Crowd::open(16, stop, |number| Visitor::open(&road, number))?))
    },
};

/// Short lives under TLS, each begun by a full handshake.
pub(crate) const TLS_NEW: Cost = Cost {
    name: "tls-new",
    title: "tls-new: connect, a full handshake in TLS 1.3 (ECDSA), a GET of 2 bytes, close; 16 at a time",
    open: |target, stop| callers(target, stop, Tickets::Never),
};

/// Short lives under TLS, each with the ticket of the one before it.
pub(crate) const TLS_RESUMED: Cost = Cost {
    name: "tls-resumed",
    title: "tls-resumed: connect, a handshake in TLS 1.3 resumed by a ticket, a GET of 2 bytes, close; 16 at a time",
    open: |target, stop| callers(target, stop, Tickets::Kept),
};

/// One small message at a time, under TLS.
pub(crate) const TLS_ECHO: Cost = Cost {
    name: "tls-echo",
    title: "tls-echo: as echo, with TLS between client and gateway",
    open: |target, stop| talkers(&target.tls(Tickets::Never)?, stop, &Batch::of(1, 128, Again::Always)),
};

/// Requests over HTTP/2.
pub(crate) const H2: Cost = Cost {
    name: "h2",
    title: "h2: a GET of 2 bytes over HTTP/2 and TLS; 4 connections, 8 streams each, 100 routes",
    open: |target, stop| {
        let (road, requests) = (target.h2()?, streams::requests());
        Ok(Box::new(Crowd::open(4, stop, |number| Browser::open(&road, &requests, number))?))
    },
};

/// Sixteen readers, whose requests have the `fields` besides.
pub(super) fn readers(target: Target, stop: &Stop, fields: &str) -> io::Result<Box<dyn Load>> {
    let (road, requests) = (target.plain(), pages::requests(fields));
    Ok(Box::new(Crowd::open(16, stop, |number| Reader::open(&road, &requests, number))?))
}

fn talkers(road: &Road, stop: &Stop, batch: &Batch) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(Crowd::open(64, stop, |number| Talker::open(road, batch, number % ROUTES))?))
}

fn callers(target: Target, stop: &Stop, tickets: Tickets) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(Crowd::open(16, stop, |number| Caller::open(target, tickets, number))?))
}

/// One round of one gateway.
pub(super) struct Sample {
    /// CPU microseconds an operation.
    pub(super) micros: f64,
    /// The share of it that was in user space.
    pub(super) user: f64,
    /// Operations a second.
    pub(super) rate: f64,
    /// The share of its CPU that the gateway kept busy.
    busy: f64,
}

/// Measures the rounds and prints the table.
pub(crate) fn measure(bench: &Bench, cost: &Cost) -> Outcome<Vec<String>> {
    let mut contestants = bench.contestants();
    bench.rounds(bench.options.rounds, Disturbed::Again, &mut contestants, |contestant| {
        let gateway = contestant.gateway(&bench.ground)?;
        sample(bench, cost, gateway)
    })?;
    print(bench, cost, &contestants);
    Ok(failures(&contestants))
}

/// What the load's operations cost this gateway.
pub(super) fn sample(bench: &Bench, cost: &Cost, gateway: &mut Gateway) -> Outcome<Sample> {
    let mut load = (cost.open)(gateway.target, &bench.stop)?;
    load.drive(WARM_UP)?;
    let before = gateway.cpu();
    let tally = load.drive(bench.options.time)?;
    let cpu = gateway.cpu().since(before);
    gateway.process.check()?;
    let (used, elapsed) = (cpu.total().as_secs_f64(), tally.elapsed.as_secs_f64());
    if tally.operations == 0 || used == 0.0 {
        return Err("nothing was measured; give it more seconds".into());
    }
    Ok(Sample {
        micros: used * 1e6 / tally.operations as f64,
        user: cpu.user.as_secs_f64() / used,
        rate: tally.operations as f64 / elapsed,
        busy: used / elapsed,
    })
}

fn print(bench: &Bench, cost: &Cost, contestants: &[Contestant<'_, Sample>]) {
    let mut table = Table::new(&["", "CPU us/op", "user", "ops/s", "CPU busy", "of nginx", "of haproxy"]);
    for contestant in contestants.iter().filter(|contestant| !contestant.samples.is_empty()) {
        let spread = |of: fn(&Sample) -> f64| Spread::of(contestant.samples.iter().map(of));
        table.row(vec![
            contestant.name.to_owned(),
            spread(|sample| sample.micros).show(2),
            format!("{:.0} %", spread(|sample| sample.user * 100.0).median),
            format!("{:.0}", spread(|sample| sample.rate).median),
            format!("{:.0} %", spread(|sample| sample.busy * 100.0).median),
            ratio(contestants, contestant, "nginx"),
            ratio(contestants, contestant, "haproxy"),
        ]);
    }
    println!("\n{}", cost.title);
    table.print();
    bench.print_circumstances(contestants);
}

/// The cost against another's of the same round.
fn ratio(contestants: &[Contestant<'_, Sample>], own: &Contestant<'_, Sample>, other: &str) -> String {
    let Some(other) = contestants.iter().find(|contestant| contestant.name == other) else {
        return "-".into();
    };
    if other.samples.is_empty() || other.name == own.name {
        return "-".into();
    }
    Spread::of(own.samples.iter().zip(&other.samples).map(|(own, other)| own.micros / other.micros)).show(2)
}
