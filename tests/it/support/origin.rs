//! Backends: threads on a loopback port that record every received byte, respond by a script, stop and
//! restart on the same port. A plain one sends its name and echoes WebSockets.

use super::raw::{Wire, fields, lossy};
use super::{LIMIT, eventually, ws};
use socket2::{Domain, Socket, Type};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use tungstenite::{Message, WebSocket, protocol::Role};

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its header, including the empty line.
    pub(crate) head: String,
    /// Its body without chunking.
    pub(crate) body: Vec<u8>,
    /// Its body as received.
    pub(crate) wire_body: Vec<u8>,
}

impl Seen {
    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        fields(&self.head, name).next()
    }

    /// The values of all fields of that name.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name).collect()
    }
}

/// The connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request is read.
    Keep,
    /// It is closed.
    Close,
}

/// Any port of the usual loopback address.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Script = dyn Fn(&Seen, &mut Wire) -> Next + Send + Sync;

/// Its response on `/health`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Sick,
    Mute,
}

/// A backend.
pub(crate) struct Origin {
    shared: Arc<Shared>,
    // Bound and never listening: while the backend is stopped, the port stays reserved and refuses
    // connections.
    _port: Socket,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    address: SocketAddr,
    script: Option<Box<Script>>,
    alive: AtomicBool,
    accepted: AtomicUsize,
    sockets: AtomicUsize,
    probes: AtomicUsize,
    streams: Mutex<HashMap<usize, TcpStream>>,
    seen: Mutex<Vec<Seen>>,
    seen_more: Condvar,
    mood: Mutex<Mood>,
    mood_changed: Condvar,
}

impl Origin {
    /// One that responds 200 with its name and echoes WebSockets.
    pub(crate) fn named(name: &str) -> Self {
        Self::start(name, None, LOOPBACK)
    }

    /// The same on another address of the loopback network; port 0 means any.
    pub(crate) fn named_at(name: &str, address: SocketAddr) -> Self {
        Self::start(name, None, address)
    }

    /// One that runs a script; `/health` is still answered without it.
    pub(crate) fn scripted(
        name: &str,
        script: impl Fn(&Seen, &mut Wire) -> Next + Send + Sync + 'static,
    ) -> Self {
        Self::start(name, Some(Box::new(script)), LOOPBACK)
    }

    /// One that always sends these bytes and then closes, or keeps the connection.
    pub(crate) fn fixed(answer: impl Into<Vec<u8>>, next: Next) -> Self {
        let answer = answer.into();
        Self::scripted("fixed", move |_, wire| wire.try_send(&answer).map_or(Next::Close, |()| next))
    }

    fn start(name: &str, script: Option<Box<Script>>, address: SocketAddr) -> Self {
        let port = bind(address);
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let shared = Shared {
            name: name.to_owned(),
            address,
            script,
            alive: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            streams: Mutex::default(),
            seen: Mutex::default(),
            seen_more: Condvar::new(),
            mood: Mutex::new(Mood::Well),
            mood_changed: Condvar::new(),
        };
        let origin = Self { shared: Arc::new(shared), _port: port, acceptor: Mutex::new(None) };
        origin.revive();
        origin
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Every request so far, except those to `/health`.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Forgets the recorded requests.
    pub(crate) fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// Waits for that many requests.
    pub(crate) fn await_seen(&self, count: usize) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        let few = |seen: &mut Vec<Seen>| seen.len() < count;
        let (seen, time) = self.shared.seen_more.wait_timeout_while(seen, LIMIT, few).unwrap();
        assert!(!time.timed_out(), "{} saw {} requests, not {count}", self.shared.name, seen.len());
        seen.clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// WebSockets open now.
    pub(crate) fn sockets(&self) -> usize {
        self.shared.sockets.load(SeqCst)
    }

    /// Requests to `/health` so far.
    pub(crate) fn probes(&self) -> usize {
        self.shared.probes.load(SeqCst)
    }

    /// Responds to `/health` with 503 from now on.
    pub(crate) fn sicken(&self) {
        self.feel(Mood::Sick);
    }

    /// Responds to `/health` with 200, or to its WebSocket handshake with 101, from now on.
    pub(crate) fn recover(&self) {
        self.feel(Mood::Well);
    }

    /// Does not respond to `/health` from now on.
    pub(crate) fn fall_silent(&self) {
        self.feel(Mood::Mute);
    }

    fn feel(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
        self.shared.mood_changed.notify_all();
    }

    /// Ends every connection and refuses new ones, as a killed process does.
    pub(crate) fn die(&self) {
        if !self.shared.alive.swap(false, SeqCst) {
            return;
        }
        // Wakes the accepting thread, which then drops its listener.
        drop(TcpStream::connect(self.shared.address));
        if let Some(acceptor) = self.acceptor.lock().unwrap().take() {
            acceptor.join().unwrap();
        }
        self.shared.mood_changed.notify_all();
        for stream in self.shared.streams.lock().unwrap().values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub(crate) fn revive(&self) {
        assert!(!self.shared.alive.swap(true, SeqCst), "it lives");
        let socket = bind(self.shared.address);
        socket.listen(1024).unwrap();
        let (shared, listener) = (Arc::clone(&self.shared), TcpListener::from(socket));
        *self.acceptor.lock().unwrap() = Some(std::thread::spawn(move || shared.accept(&listener)));
    }

    /// Waits until that many WebSockets are open.
    pub(crate) fn await_sockets(&self, count: usize) {
        let what = format!("{} holds {count} WebSockets", self.shared.name);
        eventually(&what, || (self.sockets() == count).then_some(()));
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.address.fmt(f)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.die();
    }
}

/// Two sockets may be bound to the port (one that reserves it, one that listens), hence SO_REUSEADDR.
fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if !self.alive.load(SeqCst) {
                return;
            }
            let Ok((stream, _)) = accepted else { continue };
            let id = self.accepted.fetch_add(1, SeqCst);
            self.streams.lock().unwrap().insert(id, stream.try_clone().unwrap());
            let shared = Arc::clone(self);
            let small = std::thread::Builder::new().stack_size(256 << 10);
            small.spawn(move || shared.serve(id, stream)).unwrap();
        }
    }

    fn serve(&self, id: usize, stream: TcpStream) {
        // An error is the gateway's way to end a connection; the test asserts its meaning.
        let _ = self.requests(Wire::of(stream));
        if let Some(stream) = self.streams.lock().unwrap().remove(&id) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn requests(&self, mut wire: Wire) -> io::Result<()> {
        while let Some(seen) = read_request(&mut wire)? {
            let health = seen.target().starts_with("/health");
            if health {
                self.probes.fetch_add(1, SeqCst);
                self.wait_for_voice();
                if *self.mood.lock().unwrap() == Mood::Sick {
                    wire.try_send(answer(503, "X-Backend: sick\r\n", b"sick"))?;
                    continue;
                }
            } else {
                self.seen.lock().unwrap().push(seen.clone());
                self.seen_more.notify_all();
            }
            match &self.script {
                Some(script) if !health => {
                    if script(&seen, &mut wire) == Next::Close {
                        return Ok(());
                    }
                }
                _ if seen.field("upgrade").is_some() => return self.echo(&seen, wire),
                _ => wire.try_send(self.named_answer(&seen))?,
            }
        }
        Ok(())
    }

    fn named_answer(&self, seen: &Seen) -> Vec<u8> {
        let mut answer = answer(200, &format!("X-Backend: {}\r\n", self.name), self.name.as_bytes());
        if seen.line().starts_with("HEAD ") {
            answer.truncate(answer.len() - self.name.len());
        }
        answer
    }

    fn wait_for_voice(&self) {
        let mood = self.mood.lock().unwrap();
        let mute = |mood: &mut Mood| *mood == Mood::Mute && self.alive.load(SeqCst);
        drop(self.mood_changed.wait_timeout_while(mood, LIMIT, mute).unwrap());
    }

    fn echo(&self, seen: &Seen, mut wire: Wire) -> io::Result<()> {
        wire.try_send(ws::accepted(seen, &format!("X-Backend: {}\r\n", self.name)))?;
        self.sockets.fetch_add(1, SeqCst);
        let (stream, ahead) = wire.into_parts();
        let mut socket = WebSocket::from_partially_read(stream, ahead, Role::Server, None);
        while let Ok(message) = socket.read() {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).is_err() {
                break;
            }
        }
        self.sockets.fetch_sub(1, SeqCst);
        Ok(())
    }
}

/// A whole response with its length; `fields` each with their CRLF.
pub(crate) fn answer(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} As Asked\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn read_request(wire: &mut Wire) -> io::Result<Option<Seen>> {
    let Some(head) = wire.head()? else { return Ok(None) };
    let mut seen = Seen { head: lossy(&head), body: Vec::new(), wire_body: Vec::new() };
    if seen.field("expect").is_some() {
        wire.try_send("HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if seen.field("transfer-encoding").is_some() {
        (seen.wire_body, seen.body) = wire.chunks()?;
    } else if let Some(length) = seen.field("content-length") {
        seen.body = wire.exactly(length.parse().map_err(io::Error::other)?)?;
        seen.wire_body.clone_from(&seen.body);
    }
    Ok(Some(seen))
}
