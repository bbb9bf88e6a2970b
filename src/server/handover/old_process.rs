//! The new process's side of a handover: it takes the sockets of the process that started it, and says when it is ready.

use super::channel::HandoverChannel;
use super::counts::ReceivedCounts;
use super::fault_point::{self, Step};
use super::message::{Message, ProcessState, Refusal, SecretState, SocketEntry, Succession};
use super::moved_websockets;
use crate::server::passed_socket::{PassedSocket, SocketRole};
use crate::server::worker::Adoption;
use log::warn;
use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The variable that marks a new process; its standard input is the channel.
pub(super) const VARIABLE: &str = "MOONGATE_HANDOVER";

/// The time limit for the sockets, which are sent at once.
const LONGEST_PASS: Duration = Duration::from_secs(10);

/// The time limit for the order to serve, which follows at once too.
const LONGEST_ORDER: Duration = Duration::from_secs(30);

/// The time limit for the end of the old process, whatever its `grace_period`.
const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 3600);

/// The time limit for the workers to continue a batch of WebSockets.
const LONGEST_ADOPTION: Duration = Duration::from_secs(10);

/// The process that started this one.
#[derive(Debug)]
pub(in crate::server) struct OldProcess(HandoverChannel);

impl OldProcess {
    /// The process that started this one for a handover; `None` in any other process. Takes standard input.
    ///
    /// # Errors
    /// When the channel is not one.
    pub(in crate::server) fn find() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none_or(|value| value != "stdin") {
            return Ok(None);
        }
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        // Plugins and libraries must not read from the channel.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let old = HandoverChannel::inherited(socket).map(Self)?;
        fault_point::reach(Step::NewStarted);
        Ok(Some(old))
    }

    /// Ends the handover of a command that cannot take over, if there is one; returns whether there was.
    pub(in crate::server) fn refuse(reason: &str) -> bool {
        let Ok(Some(old)) = Self::find() else { return false };
        old.report_failure(reason);
        true
    }

    /// Receives the state, the sockets, and the end of a link to the service manager if there is one.
    ///
    /// # Errors
    /// When the old process does not send them.
    pub(in crate::server) fn receive(
        &self,
    ) -> io::Result<(ProcessState, Vec<PassedSocket>, Option<OwnedFd>)> {
        let (mut state, mut passed, mut link) = (ProcessState::default(), Vec::new(), None);
        loop {
            let (message, descriptors) = self.0.receive(LONGEST_PASS)?;
            let (sockets, more) = match message {
                Message::Sockets { sockets, more } => (sockets, more),
                Message::Process { state: received } => {
                    state = received;
                    continue;
                }
                Message::Discovered { upstream, state: part } => {
                    match state.discovered.iter_mut().find(|(known, _)| *known == upstream) {
                        Some((_, known)) => known.append(part),
                        None => state.discovered.push((upstream, part)),
                    }
                    continue;
                }
                Message::Document { part } => {
                    let last = state.documents.last_mut();
                    match last.filter(|last| last.source == part.source && last.key == part.key) {
                        Some(last) => last.text.push_str(&part.text),
                        None => state.documents.push(part),
                    }
                    continue;
                }
                Message::Link => {
                    link = descriptors.into_iter().next();
                    continue;
                }
                _ => continue,
            };
            if sockets.len() != descriptors.len() {
                return Err(io::Error::new(ErrorKind::InvalidData, "a passed socket has no descriptor"));
            }
            let entries = sockets.into_iter().zip(descriptors);
            passed.extend(entries.map(|(SocketEntry { configured, listener, owns_file, .. }, socket)| {
                PassedSocket { socket, role: SocketRole { configured, listener, owns_file } }
            }));
            if !more {
                fault_point::reach(Step::NewPassed);
                return Ok((state, passed, link));
            }
        }
    }

    /// Says that this process would serve, and waits for the order to do so. A process that has ended meanwhile gives
    /// no order, and is replaced too. Returns the parts of the state.
    pub(in crate::server) fn await_order(&self, succession: Succession) -> Vec<SecretState> {
        let mut parts = Vec::new();
        let ready = Message::Ready { binary: env!("CARGO_PKG_VERSION").to_owned(), succession };
        let order = self.0.send(ready, &[]).and_then(|()| {
            fault_point::reach(Step::NewReady);
            let mut counts = ReceivedCounts::default();
            loop {
                match self.0.receive(LONGEST_ORDER)?.0 {
                    Message::Serve => return Ok(()),
                    Message::State { part } => parts.push(part),
                    Message::Counts { series, more } => counts.add(series, more),
                    _ => {}
                }
            }
        });
        if let Err(error) = order {
            warn!(error:%; "no order from the old process; serving without it");
        }
        fault_point::reach(Step::NewOrdered);
        parts
    }

    /// Says that this process serves.
    pub(in crate::server) fn confirm(&self) {
        if let Err(error) = self.0.send(Message::Serving, &[]) {
            warn!(error:%; "old process not reached");
        }
        fault_point::reach(Step::NewServing);
    }

    /// Receives WebSockets until the old process has no more, or ends. `adopt` gives them to the workers. Returns whether
    /// this process is the main one of the service by then, which `become_main` was called for.
    pub(in crate::server) fn adopt_websockets(
        &self,
        adopt: impl Fn(Vec<Adoption>),
        become_main: impl Fn(),
    ) -> bool {
        let (mut counts, mut is_main) = (ReceivedCounts::default(), false);
        // The end of the old process is the end of the channel.
        while let Ok((message, descriptors)) = self.0.receive(LONGEST_DRAIN) {
            let websockets = match message {
                Message::Websockets { websockets } => websockets,
                Message::Counts { series, more } => {
                    counts.add(series, more);
                    continue;
                }
                Message::MainProcess => {
                    become_main();
                    is_main = true;
                    continue;
                }
                _ => continue,
            };
            fault_point::reach(Step::NewReceived);
            let (read, mut refused) = moved_websockets::read(websockets, descriptors);
            let (reply, replies) = channel();
            let adoption = |(websocket, sockets)| Adoption { websocket, sockets, reply: reply.clone() };
            let adoptions: Vec<_> = read.into_iter().map(adoption).collect();
            let mut waiting: HashSet<u64> = adoptions.iter().map(|adoption| adoption.websocket.id).collect();
            drop(reply);
            adopt(adoptions);
            let (until, mut ids) = (Instant::now() + LONGEST_ADOPTION, Vec::new());
            let end = loop {
                match replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok((id, Ok(()))) => {
                        waiting.remove(&id);
                        ids.push(id);
                    }
                    Ok((id, Err(reason))) => {
                        waiting.remove(&id);
                        refused.push(Refusal { id, reason });
                    }
                    Err(end) => break end,
                }
            };
            match end {
                // A worker that hangs may continue them later.
                RecvTimeoutError::Timeout => ids.extend(waiting),
                // Their worker has ended.
                RecvTimeoutError::Disconnected => refused.extend(
                    waiting.into_iter().map(|id| Refusal { id, reason: "its worker has ended".to_owned() }),
                ),
            }
            fault_point::reach(Step::NewAdopted);
            if let Err(error) = self.0.send(Message::Adopted { ids, refused }, &[]) {
                warn!(error:%; "old process not reached");
                break;
            }
            fault_point::reach(Step::NewConfirmed);
        }
        self.close();
        is_main
    }

    /// Ends the channel, so that the old process does not wait for this one.
    pub(in crate::server) fn close(&self) {
        self.0.close();
    }

    /// Says why this process cannot serve.
    pub(in crate::server) fn report_failure(&self, report: &str) {
        const LONGEST_REPORT: usize = 64 << 10;
        let report = report[..report.floor_char_boundary(LONGEST_REPORT)].to_owned();
        // The old process sees the end of this one anyway.
        let _ = self.0.send(Message::Failed { report }, &[]);
    }
}
