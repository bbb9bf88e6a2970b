//! Claims about everything that a client may keep open: a plain request, a WebSocket over HTTP/1.1, one over
//! HTTP/2 (RFC 8441), and a gRPC stream. Each claim is tested for all of them.

use crate::support::access_log::AccessLog;
use crate::support::secured::Http2;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Socket, Wire, eventually, h2, h2ws};
use bytes::Bytes;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The kinds.
const ALL: [Kind; 4] = [Kind::Request, Kind::WebSocket, Kind::WebSocketOverHttp2, Kind::Grpc];
const WEBSOCKETS: [Kind; 2] = [Kind::WebSocket, Kind::WebSocketOverHttp2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    WebSocket,
    WebSocketOverHttp2,
    Grpc,
}

/// An open exchange, on a connection of its own.
enum Open {
    Request(Wire),
    WebSocket(Box<Socket>),
    WebSocketOverHttp2(h2ws::Stream, h2ws::Client),
    Grpc(::h2::SendStream<Bytes>, ::h2::client::ResponseFuture, h2::Client),
}

/// A gateway, and backends for every kind.
struct Setup {
    gateway: Gateway,
    log: AccessLog,
    plain: Origin,
    sockets: Origin,
    grpc: Http2,
    /// Lets plain requests finish.
    gate: Arc<Gate>,
}

impl Setup {
    fn new(server: &str, listener: &str, route: &str) -> Self {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let plain = Origin::scripted("plain", move |_, wire| {
            if wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").is_err() {
                return Next::Close;
            }
            held.pass_within(LIMIT);
            wire.try_send("body").map_or(Next::Close, |()| Next::Keep)
        });
        let (sockets, grpc, log) = (Origin::named("sockets"), Http2::start(None), AccessLog::new());
        let gateway = Gateway::start_whole(&format!(
            "admin: {{ address: 127.0.0.1:0 }}\n{}server: {{ threads: 1, {server} }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c]{listener} }}]\n\
             upstreams:\n  \
               plain: {{ endpoints: ['{plain}'] }}\n  \
               sockets: {{ endpoints: ['{sockets}'] }}\n  \
               grpc: {{ endpoints: ['{}'], protocol: h2c }}\n\
             routes:\n  \
               - {{ name: plain, path: /plain, upstream: plain{route} }}\n  \
               - {{ name: sockets, path: /ws, upstream: sockets{route} }}\n  \
               - {{ name: grpc, path: /grpc, upstream: grpc{route} }}",
            log.yaml(),
            grpc.address
        ));
        Self { gateway, log, plain, sockets, grpc, gate }
    }

    fn open(&self, kind: Kind) -> Open {
        let web = self.gateway.web();
        match kind {
            Kind::Request => {
                let mut wire = Wire::connect(web);
                wire.send(
                    "GET /plain/x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test\r\nReferer: /r\r\n\r\n",
                );
                wire.head().unwrap().expect("a head");
                Open::Request(wire)
            }
            Kind::WebSocket => {
                let fields = [("user-agent", "test"), ("referer", "/r"), ("host", "a.example")];
                Open::WebSocket(Box::new(Socket::open_with(web, "/ws/x", &fields).unwrap()))
            }
            Kind::WebSocketOverHttp2 => {
                let client = h2ws::Client::plain(web);
                let fields = [("user-agent", "test"), ("referer", "/r")];
                Open::WebSocketOverHttp2(client.open_with("/ws/x", &fields).unwrap(), client)
            }
            Kind::Grpc => {
                let client = h2::Client::connect(web);
                let head = h2::request("POST", "/grpc/x").header("te", "trailers");
                let head = head.header("content-type", "application/grpc");
                let head = head.header("user-agent", "test").header("referer", "/r");
                let (answer, mut body) = client.begin(head.body(()).unwrap(), false);
                client.write(&mut body, b"once", false).unwrap();
                eventually("the call", || (!self.grpc.seen.heads.lock().unwrap().is_empty()).then_some(()));
                Open::Grpc(body, answer, client)
            }
        }
    }

    fn upstream(&self, kind: Kind) -> (&'static str, SocketAddr) {
        match kind {
            Kind::Request => ("plain", self.plain.address()),
            Kind::WebSocket | Kind::WebSocketOverHttp2 => ("sockets", self.sockets.address()),
            Kind::Grpc => ("grpc", self.grpc.address),
        }
    }

    /// Asserts that it still works: its bytes arrive. A plain request ends with that.
    fn finish(&self, open: Open) {
        match open {
            Open::Request(mut wire) => {
                self.gate.open();
                assert_eq!(wire.exactly(4).unwrap(), b"body");
            }
            Open::WebSocket(mut socket) => {
                socket.echo("there");
                socket.close();
            }
            Open::WebSocketOverHttp2(mut stream, _client) => {
                stream.echo("there");
                stream.say(8, &1000_u16.to_be_bytes());
                assert_eq!(stream.end(), Some(1000));
            }
            Open::Grpc(mut body, answer, client) => {
                client.write(&mut body, b"twice", true).unwrap();
                let answer = client.read(answer).unwrap();
                assert_eq!(answer.body, b"oncetwice");
                assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
            }
        }
    }
}

#[test]
fn max_connections_counts_each_until_it_ends() {
    for kind in ALL {
        let setup = Setup::new("", ", max_connections: 2", "");
        let (first, second) = (setup.open(kind), setup.open(kind));
        let mut third = setup.gateway.wire();
        third.send("GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        third.patience(Duration::from_millis(300));
        assert!(third.head().is_err(), "{kind:?}: the third connection waits");
        drop(first);
        third.patience(LIMIT);
        assert_eq!(third.response().status, 404, "{kind:?}");
        setup.finish(second);
    }
}

#[test]
fn none_is_bound_by_the_times_of_requests_that_are_idle() {
    let times = "header_timeout: 1s, keepalive_timeout: 1s, body_timeout: 1s, send_timeout: 1s, \
                 body_min_rate: { rate: 1GiB, grace: 100ms }, send_min_rate: { rate: 1GiB, grace: 100ms }";
    for kind in ALL {
        let setup = Setup::new(times, "", ", timeout: 500ms");
        let open = setup.open(kind);
        std::thread::sleep(Duration::from_millis(1600));
        setup.finish(open);
    }
}

#[test]
fn each_counts_at_its_endpoint_while_it_lives() {
    for kind in ALL {
        let setup = Setup::new("", "", "");
        let (upstream, address) = setup.upstream(kind);
        let active = |count| {
            eventually(&format!("{kind:?}: {count} active"), || {
                (setup.gateway.active(upstream, address) == Some(count)).then_some(())
            });
            let metric = setup
                .gateway
                .metrics()
                .sum("moongate_upstream_connections_active", &[("upstream", upstream)]);
            assert_eq!(metric, count as f64, "{kind:?}");
        };
        let (first, second) = (setup.open(kind), setup.open(kind));
        active(2);
        drop(first);
        active(1);
        setup.finish(second);
        active(0);
    }
}

#[test]
fn each_is_counted_once_with_its_route_upstream_and_status() {
    for (kind, status) in ALL.into_iter().zip(["200", "101", "200", "200"]) {
        let setup = Setup::new("", "", "");
        let open = setup.open(kind);
        setup.finish(open);
        let (name, _) = setup.upstream(kind);
        let labels = [("route", name), ("upstream", name), ("status", status)];
        eventually(&format!("{kind:?} counted"), || {
            (setup.gateway.metrics().sum("moongate_http_requests_total", &labels) == 1.0).then_some(())
        });
        assert_eq!(setup.gateway.metrics().sum("moongate_http_requests_total", &[]), 1.0, "{kind:?}");
    }
}

#[test]
fn the_access_log_has_every_field_of_each() {
    for kind in ALL {
        let setup = Setup::new("", "", "");
        let (upstream, address) = setup.upstream(kind);
        let open = setup.open(kind);
        setup.finish(open);
        let websocket = WEBSOCKETS.contains(&kind);
        let (path, method, protocol, status) = match kind {
            Kind::Request => ("/plain/x", "GET", "HTTP/1.1", 200),
            Kind::WebSocket => ("/ws/x", "GET", "HTTP/1.1", 101),
            Kind::WebSocketOverHttp2 => ("/ws/x", "GET", "HTTP/2.0", 200),
            Kind::Grpc => ("/grpc/x", "POST", "HTTP/2.0", 200),
        };
        let events: &[Option<&str>] = if websocket { &[Some("open"), Some("close")] } else { &[None] };
        for event in events {
            let line = setup.log.wait("its end", |line| line.get("event").and_then(Value::as_str) == *event);
            for (key, value) in [
                ("client", json!("127.0.0.1")),
                ("method", json!(method)),
                ("path", json!(path)),
                ("protocol", json!(protocol)),
                ("status", json!(status)),
                ("route", json!(upstream)),
                ("upstream", json!(upstream)),
                ("endpoint", json!(address.to_string())),
                ("attempts", json!(1)),
                ("user_agent", json!("test")),
                ("referer", json!("/r")),
            ] {
                assert_eq!(line[key], value, "{kind:?} {event:?} {key}: {line}");
            }
            assert!(line["host"].as_str().is_some_and(|host| !host.is_empty()), "{line}");
            assert!(line["duration_ms"].is_number(), "{line}");
            assert_eq!(line.get("error").unwrap_or(&Value::Null), &Value::Null, "{kind:?}: {line}");
        }
    }
}

#[test]
fn a_websocket_that_has_a_first_line_has_a_last_one_whatever_ends_the_process() {
    for kind in WEBSOCKETS {
        for signals in [&["INT"][..], &["TERM"], &["TERM", "TERM"], &["TERM", "INT"]] {
            // A client that does not respond to the drain's Close frame is disconnected at the end of the
            // grace period.
            let setup = Setup::new("grace_period: 1s", "", ", websocket: { close_timeout: 1h }");
            let open = [setup.open(kind), setup.open(kind)];
            eventually("the first lines", || (setup.log.lines().len() == 2).then_some(()));
            setup.gateway.signal(signals[0]);
            if let Some(second) = signals.get(1) {
                setup.gateway.log().wait(0, &["draining"]);
                setup.gateway.signal(second);
            }
            setup.gateway.exit_within(LIMIT);
            let lines = setup.log.lines();
            let closes: Vec<_> = lines.iter().filter(|line| line["event"] == "close").collect();
            assert_eq!(closes.len(), 2, "{kind:?} {signals:?}: {lines:?}");
            for line in closes {
                assert_eq!(line["by"], "gateway", "{line}");
                assert!(["aborted", "drain_shutdown"].contains(&line["reason"].as_str().unwrap()), "{line}");
                assert_eq!(line["path"], "/ws/x");
            }
            drop(open);
        }
    }
}
