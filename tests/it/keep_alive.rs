//! Connections that are kept: how many, and keep-alive turned off by `keepalive_timeout: 0s` of the server and of an
//! upstream, and `max_idle_connections: 0`.

use crate::support::frames::{Frames, GOAWAY, HEADERS, request};
use crate::support::{Gateway, Origin, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn to(origin: &Origin, server: &str, upstream: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         server: {{ threads: 1{server} }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams: {{ one: {{ endpoints: ['{origin}']{upstream} }} }}\n\
         routes: [{{ upstream: one }}]"
    ))
}

#[test]
fn without_keep_alive_each_response_closes_its_connection() {
    let a = Origin::named("a");
    let gateway = to(&a, ", keepalive_timeout: 0s", "");
    for _ in 0..3 {
        let mut wire = gateway.wire();
        wire.send(GET);
        let response = wire.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert!(wire.ended());
    }
    assert_eq!(a.connections(), 1, "connections to the backend are kept");
}

#[test]
fn without_keep_alive_an_http2_connection_ends_with_its_last_request() {
    let a = Origin::named("a");
    let gateway = to(&a, ", keepalive_timeout: 0s", "");
    let mut client = Frames::connect(gateway.web());
    client.head(1, &request("GET", "/", &[]), true);
    assert_eq!(client.next_on(HEADERS, 1).status(), 200);
    assert_eq!(client.next_of(GOAWAY).number(4), 0, "no error");
}

#[test]
fn connections_to_a_backend_are_not_kept_without_keep_alive_or_room() {
    for upstream in [", keepalive_timeout: 0s", ", max_idle_connections: 0"] {
        let a = Origin::named("a");
        let gateway = to(&a, "", upstream);
        let mut wire = gateway.wire();
        for _ in 0..3 {
            wire.send(GET);
            let response = wire.response();
            assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
        }
        assert_eq!(a.connections(), 3, "{upstream}");
        assert!(a.seen().iter().all(|seen| seen.field("connection") == Some("close")));
    }
}

/// A backend at every loopback address of a port.
struct Everywhere {
    port: u16,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Everywhere {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("0.0.0.0:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, opened) = (Arc::clone(&accepted), Arc::clone(&open));
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Relaxed);
                opened.fetch_add(1, Relaxed);
                let opened = Arc::clone(&opened);
                tokio::spawn(async move {
                    // Each request is one segment.
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        if stream.write_all(response).await.is_err() {
                            break;
                        }
                    }
                    opened.fetch_sub(1, Relaxed);
                });
            }
        });
        Self { port, accepted, open, _runtime: runtime }
    }

    /// A gateway to that many endpoints, and with a limit of descriptors.
    fn gateway(&self, endpoints: usize, descriptors: usize) -> Gateway {
        let mut list = String::new();
        for n in 0..endpoints {
            write!(list, "127.1.{}.{}:{},", n / 250, n % 250 + 1, self.port).unwrap();
        }
        let yaml = format!(
            "admin: {{ address: 127.0.0.1:0 }}\n\
             server: {{ threads: 1 }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:0 }}]\n\
             upstreams: {{ many: {{ endpoints: [{list}] }} }}\n\
             routes: [{{ upstream: many }}]"
        );
        Gateway::start_limited(descriptors, &yaml)
    }

    /// Sends that many requests, one after the other.
    fn send(gateway: &Gateway, requests: usize) {
        let mut wire = gateway.wire();
        for _ in 0..requests {
            wire.send(GET);
            assert_eq!(wire.response().status, 200);
        }
    }
}

#[test]
fn a_connection_to_each_of_many_endpoints_is_kept() {
    // The connections to the backend end in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let backend = Everywhere::start();
    let gateway = backend.gateway(600, 4000);
    Everywhere::send(&gateway, 2 * 600);
    assert_eq!(backend.accepted.load(Relaxed), 600, "the second round uses the connections of the first");
}

#[test]
fn idle_connections_take_a_quarter_of_the_descriptors_at_most() {
    let backend = Everywhere::start();
    let gateway = backend.gateway(150, 400);
    Everywhere::send(&gateway, 150);
    assert_eq!(backend.accepted.load(Relaxed), 150);
    eventually("the connections that were idle longest are closed", || {
        (backend.open.load(Relaxed) == 100).then_some(())
    });
}

#[test]
fn a_client_may_be_slow_without_a_limit() {
    let a = Origin::named("a");
    let gateway = to(&a, ", header_timeout: 0s, body_timeout: 0s, send_timeout: 0s", "");
    let mut wire = gateway.wire();
    for _ in 0..2 {
        for piece in ["POST / HTTP/1.1\r\nHo", "st: a\r\nContent-Length: 2\r\n\r\nx", "y"] {
            std::thread::sleep(std::time::Duration::from_millis(100));
            wire.send(piece);
        }
        assert_eq!(wire.response().status, 200);
    }
}
