//! A gateway of which almost every metric has a value: routes that succeed and fail, WebSockets, TLS, name lookups,
//! plugins, and a rejected reload.

use super::certs::{Authority, Sort};
use super::collector::{Collector, Reply};
use super::fake_etcd::FakeEtcd;
use super::name_server::{NameServer, Says};
use super::raw::ask;
use super::{Gateway, Next, Origin, Socket, Wire, eventually, h2, upgraded, ws};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A gateway and its backends.
pub(crate) struct BusyGateway {
    pub(crate) gateway: Gateway,
    yaml: String,
    authority: Authority,
    backends: [Origin; 2],
    // Kept alive.
    /// The file of an upstream.
    list: PathBuf,
    _slow: Origin,
    _raw: Origin,
    _collector: Collector,
    _names: NameServer,
    _folder: TempDir,
}

impl BusyGateway {
    /// Starts it, and gives every metric its first value.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let backends = [Origin::named("a"), Origin::named("b")];
        let slow = Origin::scripted("slow", |_, wire| {
            drop(wire.try_rest());
            Next::Close
        });
        let names = NameServer::start(Says::ServFail);
        // Every span is lost.
        let collector = Collector::replying(Reply::Status(400, "", Vec::new()));
        let tracing = collector.yaml("");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let soon = time::OffsetDateTime::from_unix_timestamp((now + 7 * 86_400).try_into().unwrap()).unwrap();
        let pair = authority.issue_with("a", &["a.example"], Sort::Ecdsa, |params| params.not_after = soon);
        let [a, b] = &backends;
        let etcd = FakeEtcd::start();
        etcd.put("/moongate/a.yaml", "routes: [{ host: a.document, upstream: dead }]");
        let documents = etcd.url();
        let list = folder.path().join("backends.list");
        std::fs::write(&list, format!("['{a}']")).unwrap();
        let raw = upgraded::echoing("raw");
        let [stores, shared] = shared_limit();
        let filter = if cfg!(feature = "wasm") {
            format!(
                "- {{ name: filtered, path: /filtered, upstream: web, plugins: [{{ kind: wasm, name: filter, module: '{}/crates/wasm/fixtures/rust-http.wasm' }}] }}",
                env!("CARGO_MANIFEST_DIR")
            )
        } else {
            String::new()
        };
        let yaml = format!(
            "admin: {{ address: 127.0.0.1:0 }}
server: {{ name_servers: ['{names}'] }}
# Every line is lost.
access_log: {{ path: /dev/full }}
{tracing}{stores}listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: h2c, address: 127.0.0.1:0, protocols: [h2c] }}
  - {{ name: proxied, address: 127.0.0.1:0, proxy_protocol: {{ from: [127.0.0.1] }} }}
  - {{ name: secure, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{cert}', key: '{key}' }}] }} }}
  - name: automatic
    address: 127.0.0.1:0
    tls: {{ acme: {{ domains: [b.example], directory: 'http://127.0.0.1:1/dir', storage: '{storage}' }} }}
upstreams:
  web: {{ endpoints: ['{a}'], health_check: {{ kind: http, path: /health }} }}
  chat: {{ endpoints: ['{a}', '{b}'], balance: least_connections }}
  dead: {{ endpoints: ['127.0.0.1:1'] }}
  sick: {{ endpoints: ['127.0.0.1:1'], health_check: {{ kind: tcp, interval: 100ms }} }}
  lost: {{ endpoints: ['lost.example:80'] }}
  listed: {{ discovery: {{ kind: file, path: '{list}' }} }}
sources: [{{ kind: etcd, servers: ['{documents}'], prefix: /moongate/ }}]
routes:
  - {{ name: chat, path: /chat, upstream: chat, websocket: {{ on_endpoint_loss: reconnect, ping_interval: 100ms }} }}
  - {{ name: full, path: /full, upstream: chat, websocket: {{ max_connections: 1 }} }}
  - {{ name: dead, path: /dead, upstream: dead }}
  - {{ name: sick, path: /sick, upstream: sick }}
  - {{ name: lost, path: /lost, upstream: lost }}
  - {{ name: listed, path: /listed, upstream: listed }}
  - {{ name: raw, path: /raw, upstream: ['{raw}'], upgrades: [tcp] }}
  {shared}
  - {{ name: slow, path: /slow, upstream: ['{slow}'] }}
  - {{ name: web, upstream: web, plugins: [request_id, {{ kind: headers, when: 'request.headers.x == \"y\"', request: {{ set: {{ X: z }} }} }}] }}
  {filter}
",
            names = names.address(),
            cert = pair.cert.display(),
            key = pair.key.display(),
            list = list.display(),
            storage = folder.path().join("acme").display(),
        );
        let gateway = Gateway::start_whole(&yaml);
        gateway.log().wait(0, &["certificate request failed"]);
        gateway.await_health("sick", "127.0.0.1:1".parse().unwrap(), "unhealthy");
        let busy = Self {
            gateway,
            yaml,
            authority,
            backends,
            list,
            _slow: slow,
            _raw: raw,
            _collector: collector,
            _names: names,
            _folder: folder,
        };
        busy.work();
        busy.lose_a_backend();
        busy.reject_a_reload();
        busy
    }

    /// A reload that is rejected.
    pub(crate) fn reject_a_reload(&self) {
        self.gateway.reload_whole(&format!("{}nonsense: 1\n", self.yaml)).unwrap_err();
    }

    /// Requests and WebSockets of every kind, so that every rate rises.
    pub(crate) fn work(&self) {
        let gateway = &self.gateway;
        for path in ["/", "/dead", "/sick", "/lost", "/listed", "/shared", "/none"] {
            gateway.get(path);
        }
        if cfg!(feature = "wasm") {
            ask(
                gateway.web(),
                "GET /filtered HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Team: blue\r\n\r\n",
            );
        }
        h2::Client::connect(gateway.listener("h2c")).ask(h2::get("/"), &[]);
        self.authority.client().get(gateway.listener("secure"), "a.example", "/").unwrap();
        for listener in ["secure", "proxied"] {
            let mut wire = Wire::connect(gateway.listener(listener));
            wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            wire.rest();
        }
        let aborts = || gateway.metrics().sum("moongate_http_client_aborts_total", &[]);
        let before = aborts();
        let mut wire = gateway.wire();
        wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.await_read();
        wire.close();
        eventually("an abort is counted", || (aborts() > before).then_some(()));
        self.open_and_close();
        self.upgrade_to_another_protocol();
        self.break_the_list();
    }

    /// A raw relay.
    fn upgrade_to_another_protocol(&self) {
        let mut wire = self.gateway.wire();
        wire.send(upgraded::request("/raw", "tcp"));
        assert_eq!(wire.response().status, 101);
        wire.send("hello");
        assert_eq!(wire.exactly(5).unwrap(), b"hello");
        wire.half_close();
        wire.rest();
    }

    /// An error in the file of an upstream, which keeps its endpoint.
    fn break_the_list(&self) {
        let errors = || self.gateway.metrics().sum("moongate_source_errors_total", &[]);
        let before = errors();
        std::fs::write(&self.list, format!("[{}]", before + 1.0)).unwrap();
        eventually("an error of the list is counted", || (errors() > before).then_some(()));
    }

    /// WebSockets that end with and without a Close frame, and one too many.
    fn open_and_close(&self) {
        let web = self.gateway.web();
        let closed = || self.gateway.metrics().sum("moongate_websocket_closed_total", &[]);
        let before = closed();
        let mut pinged = Socket::open(web, "/chat");
        pinged.echo("hello");
        eventually("a round trip of both sides", || {
            pinged.hear_within(Duration::from_millis(10));
            let metrics = self.gateway.metrics();
            let has = |side| metrics.has("moongate_websocket_ping_rtt_seconds_count", &[("side", side)]);
            (has("client") && has("backend")).then_some(())
        });
        let mut polite = ws::open_raw(web, "/chat");
        polite.send(ws::masked(8, &1000_u16.to_be_bytes()));
        polite.rest();
        drop((0..12).map(|_| Socket::open(web, "/chat")).collect::<Vec<_>>());
        let only = Socket::open(web, "/full");
        assert_eq!(Socket::open_with(web, "/full", &[]).err(), Some(503));
        drop((pinged, only));
        eventually("all WebSockets are closed", || (closed() == before + 15.0).then_some(()));
    }

    /// One WebSocket is moved from a backend that ends.
    fn lose_a_backend(&self) {
        let mut sockets =
            [Socket::open(self.gateway.web(), "/chat"), Socket::open(self.gateway.web(), "/chat")];
        let [_, b] = &self.backends;
        b.die();
        sockets.iter_mut().for_each(|socket| socket.echo("still here"));
        b.revive();
    }
}

/// The sections of a limit in a store, and of a route with it.
#[cfg(feature = "redis")]
fn shared_limit() -> [String; 2] {
    // It lives as long as the process.
    let store = super::fake_store::FakeStore::generous();
    [
        format!("stores: {{ fleet: {{ kind: redis, url: 'redis://{}' }} }}\n", store.address()),
        "- { name: shared, path: /shared, upstream: web, plugins: [{ kind: rate_limit, rate: 1000/s, store: fleet }] }"
            .to_owned(),
    ]
}

#[cfg(not(feature = "redis"))]
fn shared_limit() -> [String; 2] {
    [String::new(), String::new()]
}
