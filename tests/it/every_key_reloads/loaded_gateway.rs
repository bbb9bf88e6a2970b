//! A gateway whose route `steady` always has clients, and the configuration files of the cases.

use crate::support::eventually::within;
use crate::support::raw::{Wire, get};
use crate::support::{Gate, Gateway, LIMIT, Origin, Response, Socket};
use std::fmt::{Display, Write as _};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

const WEBSOCKETS: usize = 3;

/// The pause between two requests, which leaves the processor to the case.
const PAUSE: Duration = Duration::from_millis(2);

/// A gateway under load.
pub(super) struct LoadedGateway {
    gateway: Gateway,
    origin: Origin,
    folder: TempDir,
    stop: Arc<Gate>,
    progress: [Arc<AtomicUsize>; 2],
    clients: Mutex<Vec<JoinHandle<Vec<String>>>>,
}

/// A configuration file without the parts that the load needs.
#[derive(Clone, Default)]
pub(super) struct File {
    top: String,
    listeners: String,
    upstreams: String,
    routes: String,
    admin: Option<String>,
}

impl File {
    /// One with this line at the top level.
    pub(super) fn top(line: impl Display) -> Self {
        Self::default().and_top(line)
    }

    /// One with these settings of `server`.
    pub(super) fn server(settings: impl Display) -> Self {
        Self::top(format!("server: {{ {settings} }}"))
    }

    /// One with this route.
    pub(super) fn route(settings: impl Display) -> Self {
        Self::default().and_route(settings)
    }

    pub(super) fn and_top(mut self, line: impl Display) -> Self {
        writeln!(self.top, "{line}").unwrap();
        self
    }

    /// In place of the usual admin address.
    pub(super) fn and_admin(mut self, settings: impl Display) -> Self {
        self.admin = Some(format!("admin: {{ {settings} }}\n"));
        self
    }

    /// Without an admin address.
    pub(super) fn without_admin(mut self) -> Self {
        self.admin = Some(String::new());
        self
    }

    pub(super) fn and_listener(mut self, settings: impl Display) -> Self {
        writeln!(self.listeners, "  - {{ {settings} }}").unwrap();
        self
    }

    pub(super) fn and_upstream(mut self, name: &str, settings: impl Display) -> Self {
        writeln!(self.upstreams, "  {name}: {{ {settings} }}").unwrap();
        self
    }

    pub(super) fn and_route(mut self, settings: impl Display) -> Self {
        writeln!(self.routes, "  - {{ {settings} }}").unwrap();
        self
    }

    /// A route `case` at `/case` to these endpoints, with more settings of the upstream and of the route.
    pub(super) fn upstream(endpoints: &[&dyn Display], upstream: impl Display, route: impl Display) -> Self {
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
        let endpoints = endpoints.join(", ");
        Self::default()
            .and_upstream("case", format!("endpoints: [{endpoints}], {upstream}"))
            .and_route(format!("name: case, path: /case, upstream: case, {route}"))
    }

    fn text(&self, steady: &Origin) -> String {
        let admin = self.admin.as_deref().unwrap_or("admin: { address: 127.0.0.1:0 }\n");
        let Self { top, listeners, upstreams, routes, .. } = self;
        format!(
            "{admin}{top}listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
{listeners}upstreams:
  steady: {{ endpoints: ['{steady}'] }}
{upstreams}routes:
  - {{ name: steady, path: /steady, upstream: steady }}
{routes}"
        )
    }
}

impl LoadedGateway {
    pub(super) fn start() -> Self {
        let origin = Origin::named("steady");
        let gateway = Gateway::start_whole(&File::default().text(&origin));
        let (web, stop) = (gateway.web(), Arc::<Gate>::default());
        let progress: [Arc<AtomicUsize>; 2] = Default::default();
        let (ends, requests) = (Arc::clone(&stop), Arc::clone(&progress[0]));
        let requester = std::thread::spawn(move || request(web, &ends, &requests));
        let (ends, echoes) = (Arc::clone(&stop), Arc::clone(&progress[1]));
        let echoer = std::thread::spawn(move || echo(web, &ends, &echoes));
        let loaded = Self {
            gateway,
            origin,
            folder: tempfile::tempdir().unwrap(),
            stop,
            progress,
            clients: Mutex::new(vec![requester, echoer]),
        };
        loaded.await_load();
        loaded
    }

    /// Waits for a response and a round of echoes that begin after this call.
    pub(super) fn await_load(&self) {
        let goals = self.progress.each_ref().map(|progress| progress.load(SeqCst) + 2);
        within(LIMIT, "the load goes on", || {
            let ended = self.clients.lock().unwrap().iter().any(JoinHandle::is_finished);
            let reached =
                self.progress.iter().zip(goals).all(|(progress, goal)| progress.load(SeqCst) >= goal);
            (ended || reached).then_some(())
        });
    }

    /// Ends the load and returns its failures.
    pub(super) fn stop_load(&self) -> Vec<String> {
        self.stop.open();
        let clients: Vec<_> = self.clients.lock().unwrap().drain(..).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }

    /// Reloads this file by SIGHUP.
    pub(super) fn reload(&self, file: &File) {
        let text = file.text(&self.origin);
        if let Err(report) = self.gateway.reload_whole(&text) {
            panic!("the reload is rejected: {report}\n{text}");
        }
    }

    /// Writes this file without a reload.
    pub(super) fn write(&self, file: &File) {
        self.gateway.write_whole(&file.text(&self.origin));
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(super) fn web(&self) -> SocketAddr {
        self.gateway.web()
    }

    /// A GET at the listener `web`.
    pub(super) fn get(&self, path: &str) -> Response {
        get(self.web(), path)
    }

    /// A GET with these header lines, each with its CRLF.
    pub(super) fn get_with(&self, path: &str, lines: &str) -> Response {
        let mut wire = self.gateway.wire();
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n"));
        wire.response()
    }

    /// The status of a WebSocket handshake, and the WebSocket if it is open.
    pub(super) fn open(&self, path: &str) -> Result<Socket, u16> {
        Socket::open_with(self.web(), path, &[])
    }

    pub(super) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.gateway.metrics().sum(name, labels)
    }

    /// The current address of this listener, from the status.
    pub(super) fn listener(&self, name: &str) -> SocketAddr {
        let status = self.gateway.status();
        let listeners = status["listeners"].as_array().unwrap();
        let listener = listeners.iter().find(|listener| listener["name"] == name);
        let listener = listener.unwrap_or_else(|| panic!("no listener {name}: {status}"));
        listener["address"].as_str().unwrap().parse().unwrap()
    }

    /// A file of the test.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Requests on a connection that is kept; returns the failures.
fn request(web: SocketAddr, stop: &Gate, responses: &AtomicUsize) -> Vec<String> {
    let (mut failures, mut kept) = (Vec::new(), None);
    while !stop.is_open_within(PAUSE) && failures.len() < 5 {
        match request_once(web, &mut kept) {
            Ok(response) if response.status == 200 => _ = responses.fetch_add(1, SeqCst),
            Ok(response) => failures.push(format!("{}{}", response.head, response.text())),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

fn request_once(web: SocketAddr, kept: &mut Option<Wire>) -> io::Result<Response> {
    const GET: &str = "GET /steady HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let exchange = |wire: &mut Wire| wire.try_send(GET).and_then(|()| wire.try_response("GET"));
    let reused = kept.take().and_then(|mut wire| {
        // A server may close an idle connection at any time, so a client repeats a request that it sent on one that
        // was closed without a byte (RFC 9112 section 9.3.1). The threads case does so.
        let response = exchange(&mut wire);
        match response {
            Err(error) if is_end(&error) && wire.buffered().is_empty() => None,
            response => Some((wire, response)),
        }
    });
    let (wire, response) = reused.unwrap_or_else(|| {
        let mut wire = Wire::connect(web);
        let response = exchange(&mut wire);
        (wire, response)
    });
    let closes = |response: &Response| response.field("connection").is_some_and(|value| value == "close");
    *kept = response.as_ref().is_ok_and(|response| !closes(response)).then_some(wire);
    response
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Echoes over WebSockets that are never reopened; returns the failures.
fn echo(web: SocketAddr, stop: &Gate, rounds: &AtomicUsize) -> Vec<String> {
    let mut sockets: Vec<_> = (0..WEBSOCKETS).map(|_| Socket::open(web, "/steady/ws")).collect();
    while !stop.is_open_within(PAUSE) {
        for socket in &mut sockets {
            if let Err(code) = socket.try_echo(&format!("round {}", rounds.load(SeqCst))) {
                return vec![format!("a WebSocket of the load ended with {code:?}")];
            }
        }
        rounds.fetch_add(1, SeqCst);
    }
    Vec::new()
}
