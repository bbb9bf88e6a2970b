//! The cases of CPU time: a load each.

use crate::cases::cost::{BROADCAST, Cost, GIB, OPERATION};
use crate::gateway::Setup;
use crate::http::{INSPECTED, ROUTES};
use crate::load::event_streams::Broadcast;
use crate::load::http2_streams::Http2Client;
use crate::load::keepalive_gets::KeepaliveClient;
use crate::load::short_connections::ShortConnection;
use crate::load::short_websockets::ShortWebSocket;
use crate::load::transfers::{Downloader, Uploader};
use crate::load::websockets::{Batch, EchoClient, Repeat};
use crate::load::{ClosedLoop, Load, http2_streams, keepalive_gets};
use crate::stop::Stop;
use crate::tls::Tickets;
use crate::transport::{Target, Transport};
use std::io;

/// Plain HTTP: the cost of a proxied request.
pub(crate) const HTTP: Cost = Cost {
    name: "http",
    title: "http: a keep-alive GET of 2 bytes; 16 connections; no access log",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| keepalive_clients(target, stop, ""),
};

/// Plain HTTP with the usual work of a gateway.
pub(crate) const HTTP_ROUTES: Cost = Cost {
    name: "http-routes",
    title: "http-routes: as http, with 100 routes, access log and X-Forwarded-*",
    setup: Setup::Full,
    unit: &OPERATION,
    open: |target, stop| keepalive_clients(target, stop, ""),
};

/// One small message at a time.
pub(crate) const ECHO: Cost = Cost {
    name: "echo",
    title: "echo: a WebSocket message of 128 bytes and its echo; 64 connections, one in flight each",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(1, 128, Repeat::Forever)),
};

/// Many small messages at once.
pub(crate) const BURST: Cost = Cost {
    name: "burst",
    title: "burst: a message of 128 bytes and its echo, 64 in one write; 64 connections",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(64, 128, Repeat::Forever)),
};

/// Large messages.
pub(crate) const BULK: Cost = Cost {
    name: "bulk",
    title: "bulk: a message of 16 KiB and its echo; 64 connections, one in flight each",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| echo_clients(&target.plain(), stop, &Batch::new(1, 16 << 10, Repeat::Forever)),
};

/// One small message at a time, each inspected by a plugin.
pub(crate) const MESSAGES: Cost = Cost {
    name: "messages",
    title: "messages: as echo, on a route where a native plugin of Moongate inspects each message, both ways",
    setup: Setup::Full,
    unit: &OPERATION,
    open: |target, stop| {
        let (transport, batch) = (target.plain(), Batch::new(1, 128, Repeat::Forever));
        Ok(Box::new(ClosedLoop::open(64, stop, |_| EchoClient::open(&transport, &batch, INSPECTED))?))
    },
};

/// Short WebSockets.
pub(crate) const CONNECT: Cost = Cost {
    name: "connect",
    title: "connect: connect, handshake, an echo of 128 bytes, close; 16 at a time",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| {
        let transport = target.plain();
        Ok(Box::new(ClosedLoop::open(16, stop, |number| ShortWebSocket::open(&transport, number))?))
    },
};

/// One event to many event streams.
pub(crate) const SSE: Cost = Cost {
    name: "sse",
    title: "sse: an event of 128 bytes to each of 1,000 event streams",
    setup: Setup::Minimal,
    unit: &BROADCAST,
    open: |target, stop| Ok(Box::new(Broadcast::open(&target.plain(), stop)?)),
};

/// Response bodies of 1 MiB.
pub(crate) const DOWNLOAD_1M: Cost = Cost {
    name: "download-1m",
    title: "download-1m: responses of 1 MiB; 16 connections",
    setup: Setup::Minimal,
    unit: &GIB,
    open: |target, stop| downloaders(target, stop, 16, 1 << 20),
};

/// Response bodies of 1 GiB.
pub(crate) const DOWNLOAD_1G: Cost = Cost {
    name: "download-1g",
    title: "download-1g: responses of 1 GiB; 4 connections",
    setup: Setup::Minimal,
    unit: &GIB,
    open: |target, stop| downloaders(target, stop, 4, 1 << 30),
};

/// Request bodies of 1 MiB.
pub(crate) const UPLOAD_1M: Cost = Cost {
    name: "upload-1m",
    title: "upload-1m: requests of 1 MiB; 16 connections",
    setup: Setup::Minimal,
    unit: &GIB,
    open: |target, stop| uploaders(target, stop, 16, 1 << 20),
};

/// Request bodies of 1 GiB.
pub(crate) const UPLOAD_1G: Cost = Cost {
    name: "upload-1g",
    title: "upload-1g: requests of 1 GiB; 4 connections",
    setup: Setup::Minimal,
    unit: &GIB,
    open: |target, stop| uploaders(target, stop, 4, 1 << 30),
};

/// Short TLS connections, each with a full handshake.
pub(crate) const TLS_NEW: Cost = Cost {
    name: "tls-new",
    title: "tls-new: connect, a full handshake in TLS 1.3 (ECDSA), a GET of 2 bytes, close; 16 at a time",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| short_connections(target, stop, Tickets::Discard),
};

/// Short TLS connections, each resumed with the previous ticket.
pub(crate) const TLS_RESUMED: Cost = Cost {
    name: "tls-resumed",
    title: "tls-resumed: connect, a handshake in TLS 1.3 resumed by a ticket, a GET of 2 bytes, close; 16 at a time",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| short_connections(target, stop, Tickets::Reuse),
};

/// One small message at a time, under TLS.
pub(crate) const TLS_ECHO: Cost = Cost {
    name: "tls-echo",
    title: "tls-echo: as echo, with TLS between client and gateway",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| {
        echo_clients(&target.tls(Tickets::Discard)?, stop, &Batch::new(1, 128, Repeat::Forever))
    },
};

/// Requests over HTTP/2.
pub(crate) const H2: Cost = Cost {
    name: "h2",
    title: "h2: a GET of 2 bytes over HTTP/2 and TLS; 4 connections, 8 streams each; no access log",
    setup: Setup::Minimal,
    unit: &OPERATION,
    open: |target, stop| {
        let (transport, requests) = (target.h2()?, http2_streams::requests());
        Ok(Box::new(ClosedLoop::open(4, stop, |number| Http2Client::open(&transport, &requests, number))?))
    },
};

/// Sixteen keep-alive clients, whose requests also have `fields`.
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

fn downloaders(target: Target, stop: &Stop, count: usize, size: u64) -> io::Result<Box<dyn Load>> {
    let transport = target.plain();
    Ok(Box::new(ClosedLoop::open(count, stop, |number| Downloader::open(&transport, size, number))?))
}

fn uploaders(target: Target, stop: &Stop, count: usize, size: u64) -> io::Result<Box<dyn Load>> {
    let transport = target.plain();
    Ok(Box::new(ClosedLoop::open(count, stop, |number| Uploader::open(&transport, size, number))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn every_plaintext_load_runs_against_the_backend() {
        crate::machine::raise_open_files();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::one(listener.local_addr().unwrap());
        let (_parent, end) = UnixStream::pair().unwrap();
        std::thread::spawn(move || crate::backend::serve(&[listener], end));
        for cost in
            [&HTTP, &ECHO, &BURST, &BULK, &CONNECT, &SSE, &DOWNLOAD_1M, &DOWNLOAD_1G, &UPLOAD_1M, &UPLOAD_1G]
        {
            let mut load = (cost.open)(target, &Stop::default()).unwrap();
            let tally = load.run(Duration::from_millis(50)).unwrap();
            assert!(tally.operations > 0, "{}", cost.name);
        }
    }
}
