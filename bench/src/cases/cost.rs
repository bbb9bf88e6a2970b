//! CPU time per operation: the CPU time of a gateway's processes, divided by the operations of the load.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::Gateway;
use crate::http::{INSPECTED, ROUTES};
use crate::load::http2_streams::Http2Client;
use crate::load::keepalive_gets::KeepaliveClient;
use crate::load::short_connections::ShortConnection;
use crate::load::short_websockets::ShortWebSocket;
use crate::load::websockets::{Batch, EchoClient, Repeat};
use crate::load::{ClosedLoop, Load, http2_streams, keepalive_gets};
use crate::stop::Stop;
use crate::table::{Spread, Table};
use crate::tls::Tickets;
use crate::transport::{Target, Transport};
use std::io;
use std::time::Duration;

/// Warm-up before each measurement, because connections are new and caches cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// A case of CPU time: a load that counts its operations.
pub(crate) struct Cost {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The title of its table.
    pub(super) title: &'static str,
    /// Opens the load.
    pub(crate) open: fn(Target, &Stop) -> io::Result<Box<dyn Load>>,
}

/// Plain HTTP.
pub(crate) const HTTP: Cost = Cost {
    name: "http",
    title: "http: a keep-alive GET of 2 bytes; 16 connections, 100 routes",
    open: |target, stop| keepalive_clients(target, stop, ""),
};

/// One small message at a time.
pub(crate) const ECHO: Cost = Cost {
    name: "echo",
    title: "echo: a WebSocket message of 128 bytes and its echo; 64 connections, one in flight each",
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(1, 128, Repeat::Forever)),
};

/// Many small messages at once.
pub(crate) const BURST: Cost = Cost {
    name: "burst",
    title: "burst: a message of 128 bytes and its echo, 64 in one write; 64 connections",
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(64, 128, Repeat::Forever)),
};

/// Large messages.
pub(crate) const BULK: Cost = Cost {
    name: "bulk",
    title: "bulk: a message of 16 KiB and its echo; 64 connections, one in flight each",
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(1, 16 << 10, Repeat::Forever)),
};

/// One small message at a time, each inspected by a plugin.
pub(crate) const MESSAGES: Cost = Cost {
    name: "messages",
    title: "messages: as echo, on a route where a native plugin of Moongate inspects each message, both ways",
    open: |target, stop| {
        let (transport, batch) = (target.plain(), Batch::new(1, 128, Repeat::Forever));
        Ok(Box::new(ClosedLoop::open(64, stop, |_| EchoClient::open(&transport, &batch, INSPECTED))?))
    },
};

/// Short connections.
pub(crate) const CONNECT: Cost = Cost {
    name: "connect",
    title: "connect: connect, handshake, an echo of 128 bytes, close; 16 at a time",
    open: |target, stop| {
        let transport = target.plain();
        Ok(Box::new(ClosedLoop::open(16, stop, |number| ShortWebSocket::open(&transport, number))?))
    },
};

/// Short TLS connections, each with a full handshake.
pub(crate) const TLS_NEW: Cost = Cost {
    name: "tls-new",
    title: "tls-new: connect, a full handshake in TLS 1.3 (ECDSA), a GET of 2 bytes, close; 16 at a time",
    open: |target, stop| short_connections(target, stop, Tickets::Discard),
};

/// Short TLS connections, each resumed with the previous ticket.
pub(crate) const TLS_RESUMED: Cost = Cost {
    name: "tls-resumed",
    title: "tls-resumed: connect, a handshake in TLS 1.3 resumed by a ticket, a GET of 2 bytes, close; 16 at a time",
    open: |target, stop| short_connections(target, stop, Tickets::Reuse),
};

/// One small message at a time, under TLS.
pub(crate) const TLS_ECHO: Cost = Cost {
    name: "tls-echo",
    title: "tls-echo: as echo, with TLS between client and gateway",
    open: |target, stop| {
        echo_clients(&target.tls(Tickets::Discard)?, stop, &Batch::new(1, 128, Repeat::Forever))
    },
};

/// Requests over HTTP/2.
pub(crate) const H2: Cost = Cost {
    name: "h2",
    title: "h2: a GET of 2 bytes over HTTP/2 and TLS; 4 connections, 8 streams each, 100 routes",
    open: |target, stop| {
        let (transport, requests) = (target.h2()?, http2_streams::requests());
        Ok(Box::new(ClosedLoop::open(4, stop, |number| Http2Client::open(&transport, &requests, number))?))
    },
};

/// Sixteen keep-alive clients; their requests also carry `fields`.
pub(super) fn keepalive_clients(target: Target, stop: &Stop, fields: &str) -> io::Result<Box<dyn Load>> {
    let (transport, requests) = (target.plain(), keepalive_gets::requests(fields));
    Ok(Box::new(ClosedLoop::open(16, stop, |number| KeepaliveClient::open(&transport, &requests, number))?))
}

fn echo_clients(transport: &Transport, stop: &Stop, batch: &Batch) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(ClosedLoop::open(64, stop, |number| EchoClient::open(transport, batch, number % ROUTES))?))
}

fn short_connections(target: Target, stop: &Stop, tickets: Tickets) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(ClosedLoop::open(16, stop, |number| ShortConnection::open(target, tickets, number))?))
}

/// The result of one round of one gateway.
pub(super) struct Sample {
    /// CPU microseconds per operation.
    pub(super) micros: f64,
    /// The share of it in user space.
    pub(super) user: f64,
    /// Operations per second.
    pub(super) rate: f64,
    /// The CPU use of the gateway, 1 for a whole CPU.
    busy: f64,
}

/// Measures the rounds and prints the table.
pub(crate) fn measure(bench: &Bench, cost: &Cost) -> Outcome<Vec<String>> {
    let mut series = bench.series();
    bench.rounds(bench.options.rounds, NoiseHandling::Repeat, &mut series, |gateway| {
        let gateway = gateway.gateway(&bench.environment)?;
        sample(bench, cost, gateway)
    })?;
    print(bench, cost, &series);
    Ok(failures(&series))
}

/// Measures one round of one gateway.
pub(super) fn sample(bench: &Bench, cost: &Cost, gateway: &mut Gateway) -> Outcome<Sample> {
    let mut load = (cost.open)(gateway.target, &bench.stop)?;
    load.run(WARM_UP)?;
    let before = gateway.cpu();
    let tally = load.run(bench.options.time)?;
    let cpu = gateway.cpu().since(before);
    gateway.process.check()?;
    let (used, elapsed) = (cpu.total().as_secs_f64(), tally.elapsed.as_secs_f64());
    if tally.operations == 0 || used == 0.0 {
        return Err("no operation completed; increase `--seconds`".into());
    }
    Ok(Sample {
        micros: used * 1e6 / tally.operations as f64,
        user: cpu.user.as_secs_f64() / used,
        rate: tally.operations as f64 / elapsed,
        busy: used / elapsed,
    })
}

fn print(bench: &Bench, cost: &Cost, series: &[SampleSeries<'_, Sample>]) {
    let mut table = Table::new(&["", "CPU us/op", "user", "ops/s", "CPU busy", "of nginx", "of haproxy"]);
    for gateway in series.iter().filter(|gateway| !gateway.samples.is_empty()) {
        let spread = |of: fn(&Sample) -> f64| Spread::new(gateway.samples.iter().map(of));
        table.row(vec![
            gateway.name.to_owned(),
            spread(|sample| sample.micros).show(2),
            format!("{:.0} %", spread(|sample| sample.user * 100.0).median),
            format!("{:.0}", spread(|sample| sample.rate).median),
            format!("{:.0} %", spread(|sample| sample.busy * 100.0).median),
            ratio(series, gateway, "nginx"),
            ratio(series, gateway, "haproxy"),
        ]);
    }
    println!("\n{}", cost.title);
    table.print();
    bench.print_conditions(series);
}

/// The ratio to another gateway, formed within each round.
fn ratio(series: &[SampleSeries<'_, Sample>], gateway: &SampleSeries<'_, Sample>, other: &str) -> String {
    let Some(other) = series.iter().find(|series| series.name == other) else {
        return "-".into();
    };
    if other.samples.is_empty() || other.name == gateway.name {
        return "-".into();
    }
    let pairs = gateway.samples.iter().zip(&other.samples);
    Spread::new(pairs.map(|(sample, other)| sample.micros / other.micros)).show(2)
}
