//! Backend whose connections follow the script of the current case, and that records every request.

use super::corpus::{BackendStep, Case};
use super::transcript::{self, Kind, show};
use crate::support::{LIMIT, Wire};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The end of the path of a request after the case, and the response to it.
pub(super) const PROBE_PATH: &str = "/probe";
const PROBE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe";

/// The backend of one gateway.
pub(super) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What happens in the current case.
#[derive(Default)]
struct State {
    case: Option<Arc<Case>>,
    /// Connections accepted, and handles of those that are open.
    connections: usize,
    streams: HashMap<usize, TcpStream>,
    /// Requests received, and those of them whose script has ended.
    arrived: usize,
    ended: usize,
    /// What the backend saw, by the number of the request.
    seen: Vec<(usize, Vec<String>)>,
    /// Signals of the backend's script, and of the client's.
    marks: usize,
    permits: usize,
}

/// One connection.
struct Peer {
    wire: Wire,
    case: Arc<Case>,
    number: usize,
}

impl Backend {
    pub(super) fn start() -> Self {
        // Two addresses are two endpoints that follow one script.
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&accepting);
                if let Some(peer) = shared.accept(stream.unwrap()) {
                    std::thread::spawn(move || shared.serve(peer));
                }
            }
        });
        Self { address, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the connections of the previous case, and follows the script of this one.
    pub(super) fn begin(&self, case: &Arc<Case>) {
        let mut state = self.shared.lock();
        for stream in state.streams.values() {
            // The gateway may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
        *state = State { case: Some(Arc::clone(case)), ..State::default() };
    }

    /// Waits for a [`BackendStep::Mark`] that no earlier call has waited for.
    pub(super) fn await_mark(&self) {
        self.shared.wait_for("a mark of the backend", |state| take_one(&mut state.marks));
    }

    /// Waits for the first request.
    pub(super) fn await_request(&self) {
        self.shared.wait_for("a request", |state| state.arrived > 0);
    }

    /// Lets the script pass one [`BackendStep::AwaitClient`].
    pub(super) fn permit(&self) {
        self.shared.change(|state| state.permits += 1);
    }

    /// Waits for the end of all scripts. Returns what the backend saw, in the order of the requests.
    pub(super) fn finish(&self) -> Vec<String> {
        self.shared.wait_for("the end of the scripts", |state| state.arrived == state.ended);
        let mut seen = std::mem::take(&mut self.shared.lock().seen);
        seen.sort_unstable_by_key(|(number, _)| *number);
        seen.into_iter().flat_map(|(_, lines)| lines).collect()
    }
}

fn take_one(count: &mut usize) -> bool {
    let left = count.checked_sub(1);
    *count = left.unwrap_or(0);
    left.is_some()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    fn wait_for(&self, what: &str, mut is_found: impl FnMut(&mut State) -> bool) {
        let is_missing = |state: &mut State| !is_found(state);
        let (_state, time) = self.changed.wait_timeout_while(self.lock(), LIMIT, is_missing).unwrap();
        assert!(!time.timed_out(), "not within {LIMIT:?}: {what}");
    }

    fn accept(&self, mut stream: TcpStream) -> Option<Peer> {
        let mut state = self.lock();
        let case = state.case.clone()?;
        let number = state.connections;
        state.connections += 1;
        state.streams.insert(number, stream.try_clone().unwrap());
        if number == 0 {
            // The gateway may have closed it.
            let _ = stream.write_all(&case.greeting);
        }
        let wire = Wire::of(stream);
        wire.patience(2 * LIMIT);
        Some(Peer { wire, case, number })
    }

    fn serve(&self, mut peer: Peer) {
        while let Some(true) = self.serve_request(&mut peer) {}
        let is_current =
            |state: &State| state.case.as_ref().is_some_and(|case| Arc::ptr_eq(case, &peer.case));
        let handle = self.change(|state| is_current(state).then(|| state.streams.remove(&peer.number)));
        drop(handle);
    }

    /// Returns whether the connection goes on; `None` without a request.
    fn serve_request(&self, peer: &mut Peer) -> Option<bool> {
        transcript::receive(&mut peer.wire, Kind::Request, |message| message.has_head).ok()?;
        let head = transcript::peek(&peer.wire, Kind::Request);
        if !head.has_head {
            return None;
        }
        let is_probe = head.second_word().ends_with(PROBE_PATH);
        let case = Arc::clone(&peer.case);
        let request = self.change(|state| {
            // A connection of an earlier case is closed.
            state.case.as_ref().filter(|current| Arc::ptr_eq(current, &case))?;
            state.arrived += 1;
            Some(state.arrived - 1)
        })?;
        let probe = [BackendStep::Body, BackendStep::Send(PROBE.into())];
        let script = case.backend.get(request).or(case.backend.last());
        let steps = script.filter(|_| !is_probe).map_or(&probe[..], |script| &script[..]);
        let mut lines = vec![format!("request {request} on connection {}", peer.number)];
        let followed = self.follow(peer, steps);
        lines.extend(transcript::take(&mut peer.wire, Kind::Request).lines());
        match &followed {
            Ok(Next::Ended) => lines.push(format!("| then {}, and the end", show(peer.wire.buffered()))),
            Ok(_) => {}
            Err(error) => lines.push(format!("| then {:?}", error.kind())),
        }
        self.change(|state| {
            state.seen.push((request, lines));
            state.ended += 1;
        });
        Some(matches!(followed, Ok(Next::Continue)))
    }

    fn follow(&self, peer: &mut Peer, steps: &[BackendStep]) -> io::Result<Next> {
        for step in steps {
            let wire = &mut peer.wire;
            let sent = match step {
                BackendStep::Body => transcript::receive(wire, Kind::Request, |_| false),
                BackendStep::BodyBytes(count) => {
                    transcript::receive(wire, Kind::Request, |message| message.body.len() >= *count)
                }
                BackendStep::Send(bytes) => wire.try_send(bytes),
                BackendStep::Split(bytes, at) => wire.send_split(bytes, *at),
                BackendStep::Bytewise(bytes) => bytes.iter().try_for_each(|byte| {
                    wire.try_send([*byte])?;
                    wire.await_read();
                    Ok(())
                }),
                BackendStep::Mark => {
                    self.change(|state| state.marks += 1);
                    Ok(())
                }
                BackendStep::AwaitClient => {
                    self.wait_for("a permit of the client", |state| take_one(&mut state.permits));
                    Ok(())
                }
                BackendStep::ToEnd => return transcript::receive_all(wire).map(|()| Next::Ended),
                BackendStep::Close => {
                    wire.close();
                    return Ok(Next::Close);
                }
                BackendStep::CloseThenMark => {
                    wire.close();
                    self.change(|state| state.marks += 1);
                    return Ok(Next::Close);
                }
                BackendStep::Reset => {
                    drop(self.change(|state| state.streams.remove(&peer.number)));
                    wire.reset_on_drop();
                    return Ok(Next::Close);
                }
            };
            match sent {
                // The gateway closed the connection; its log and the client show why.
                Err(error) if is_closed(&error) => return Ok(Next::Close),
                sent => sent?,
            }
        }
        Ok(Next::Continue)
    }
}

/// The connection after a script.
enum Next {
    Continue,
    /// The gateway ended it.
    Ended,
    Close,
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
