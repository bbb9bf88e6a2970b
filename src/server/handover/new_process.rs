//! The old process's side of a handover: it starts the new process with its own arguments, and passes its sockets.

use super::channel::{HandoverChannel, LONGEST_MESSAGE, MOST_DESCRIPTORS};
use super::counts;
use super::fault_point::{self, Step};
use super::message::{Message, ProcessState, SecretState, SocketEntry, Succession, json_length};
use super::moved_websockets::{LAST_PASSES, MoveCounts, Mover, PASSES};
use super::old_process::VARIABLE;
use crate::server::passed_socket::HeldSocket;
use crate::source::DocumentState;
use crate::tunnel::Registry;
use crate::upstream::FeedState;
use log::{info, warn};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt};

/// The time limit for the new process until it is ready: it reads files, and waits for its first probes.
const LONGEST_START: Duration = Duration::from_secs(120);

/// The maximum length of the members of a discovery in one message.
const LONGEST_MEMBERS: usize = LONGEST_MESSAGE / 4;

/// The maximum length of the text of a document in one message: JSON may make it six times as long.
const LONGEST_TEXT: usize = LONGEST_MESSAGE / 16;

/// The time limit for the new process to accept connections once it is ready.
const LONGEST_SWITCH: Duration = Duration::from_secs(10);

/// The time limit for the end of a new process whose channel failed.
const LONGEST_END: Duration = Duration::from_secs(1);

/// The interval at which a waiting process looks whether it should stop waiting.
const LOOK: Duration = Duration::from_millis(100);

/// A started process that does not serve yet. Dropping it ends it.
#[derive(Debug)]
pub(in crate::server) struct NewProcess {
    channel: HandoverChannel,
    child: Option<Child>,
    pid: u32,
    /// Its version.
    pub(in crate::server) binary: String,
}

/// Why a handover failed. The old process goes on.
#[derive(Debug)]
pub(in crate::server) struct UpgradeFailure(pub(in crate::server) String);

impl fmt::Display for UpgradeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed(what: impl fmt::Display) -> UpgradeFailure {
    UpgradeFailure(what.to_string())
}

impl NewProcess {
    /// Starts the program at `program` with the arguments of this process, passes `link` and the sockets, and waits until it
    /// is ready. `gives_up` ends the wait.
    ///
    /// # Errors
    /// Why it is not ready. It has ended then.
    pub(in crate::server) fn start(
        program: &PathBuf,
        mut state: ProcessState,
        link: Option<BorrowedFd<'_>>,
        sockets: &[HeldSocket],
        gives_up: impl Fn() -> bool,
    ) -> Result<Self, UpgradeFailure> {
        let (channel, other) =
            HandoverChannel::pair().map_err(|error| failed(format!("cannot make a socket pair: {error}")))?;
        let arguments: Vec<OsString> = env::args_os().skip(1).collect();
        let child = Command::new(program)
            .args(arguments)
            .env(VARIABLE, "stdin")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::from(other))
            .spawn()
            .map_err(|error| failed(format!("cannot start {}: {error}", program.display())))?;
        info!(pid = child.id(), program = program.display().to_string().as_str(); "new process started");
        fault_point::reach(Step::OldStarted);
        let pid = child.id();
        let mut started = Self { channel, child: Some(child), pid, binary: String::new() };
        let (succession, discovered) = (state.succession, std::mem::take(&mut state.discovered));
        let documents = std::mem::take(&mut state.documents);
        let passed = started
            .channel
            .send(Message::Process { state }, &[])
            .and_then(|()| started.pass_members(discovered))
            .and_then(|()| started.pass_documents(&documents))
            .and_then(|()| link.map_or(Ok(()), |link| started.channel.send(Message::Link, &[link])))
            .and_then(|()| started.pass(sockets));
        passed.map_err(|error| started.explain(&error))?;
        fault_point::reach(Step::OldPassed);
        started.wait_until_ready(succession, gives_up)?;
        fault_point::reach(Step::OldReady);
        Ok(started)
    }

    /// Its process ID.
    pub(in crate::server) fn pid(&self) -> u32 {
        self.pid
    }

    fn pass_members(&self, discovered: Vec<(String, FeedState)>) -> io::Result<()> {
        let mut waiting = discovered;
        while let Some((upstream, state)) = waiting.pop() {
            let state = match json_length(&state) > LONGEST_MEMBERS {
                true => match state.halves() {
                    Ok((first, second)) => {
                        waiting.extend([(upstream.clone(), second), (upstream, first)]);
                        continue;
                    }
                    Err(_) => {
                        warn!(upstream = upstream.as_str(); "endpoint not passed to the new process: too long");
                        continue;
                    }
                },
                false => state,
            };
            self.channel.send(Message::Discovered { upstream, state }, &[])?;
        }
        Ok(())
    }

    fn pass_documents(&self, documents: &[DocumentState]) -> io::Result<()> {
        for DocumentState { source, key, text } in documents {
            let mut rest = &**text;
            loop {
                let (part, after) = rest.split_at(rest.floor_char_boundary(LONGEST_TEXT));
                let (source, key, text) = (source.clone(), key.clone(), part.to_owned());
                self.channel.send(Message::Document { part: DocumentState { source, key, text } }, &[])?;
                if after.is_empty() {
                    break;
                }
                rest = after;
            }
        }
        Ok(())
    }

    fn pass(&self, sockets: &[HeldSocket]) -> io::Result<()> {
        let mut chunks = sockets.chunks(MOST_DESCRIPTORS).peekable();
        if sockets.is_empty() {
            return self.channel.send(Message::Sockets { sockets: Vec::new(), more: false }, &[]);
        }
        while let Some(some) = chunks.next() {
            let descriptors: Vec<_> = some.iter().map(|held| held.socket.as_fd()).collect();
            let sockets = some
                .iter()
                .map(|held| SocketEntry {
                    address: held.socket.local(),
                    configured: held.role.configured.clone(),
                    listener: held.role.listener.clone(),
                    owns_file: held.role.owns_file,
                })
                .collect();
            self.channel.send(Message::Sockets { sockets, more: chunks.peek().is_some() }, &descriptors)?;
        }
        Ok(())
    }

    fn wait_until_ready(
        &mut self,
        succession: Succession,
        gives_up: impl Fn() -> bool,
    ) -> Result<(), UpgradeFailure> {
        let until = Instant::now() + LONGEST_START;
        loop {
            match self.channel.receive(LOOK) {
                // A binary that does not have this succession would serve beside the restarted process for ever.
                Ok((Message::Ready { succession: understood, .. }, _)) if understood != succession => {
                    return Err(failed("the new binary cannot serve for the time of a restart"));
                }
                Ok((Message::Ready { binary, .. }, _)) => {
                    self.binary = binary;
                    return Ok(());
                }
                Ok((Message::Failed { report }, _)) => return Err(failed(report.trim_end())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    if gives_up() {
                        return Err(failed("the process is shutting down"));
                    }
                    if Instant::now() >= until {
                        return Err(failed(format!(
                            "the new process was not ready within {LONGEST_START:?}"
                        )));
                    }
                }
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    /// Passes it these parts of the state, lets it accept connections, and waits until it does.
    ///
    /// # Errors
    /// When it does not. It has ended then.
    pub(in crate::server) fn serve(&mut self, state: Vec<SecretState>) -> Result<(), UpgradeFailure> {
        let pass = |part| self.channel.send(Message::State { part }, &[]);
        let passed = state.into_iter().try_for_each(pass);
        let counted = passed.and_then(|()| counts::send(&self.channel));
        let ordered = counted.and_then(|()| self.channel.send(Message::Serve, &[]));
        ordered.map_err(|error| self.explain(&error))?;
        fault_point::reach(Step::OldOrdered);
        let until = Instant::now() + LONGEST_SWITCH;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.channel.receive(left) {
                Ok((Message::Serving, _)) => break,
                Ok((Message::Failed { report }, _)) => return Err(failed(report.trim_end())),
                Ok(_) => {}
                Err(error) => return Err(self.explain(&error)),
            }
        }
        fault_point::reach(Step::OldServing);
        Ok(())
    }

    /// Sends it a signal.
    pub(in crate::server) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Says that the service manager knows it as the main process.
    pub(in crate::server) fn is_main(&self) {
        // Without it the service manager gets no sockets from the new process.
        if let Err(error) = self.channel.send(Message::MainProcess, &[]) {
            warn!(error:%; "new process not reached");
        }
    }

    /// Moves the open WebSockets that can move, calls `commit`, and moves those that were opened meanwhile. From `commit`
    /// on the new process outlives this one.
    ///
    /// # Errors
    /// When the new process has ended, with the WebSockets that it had. The others stay.
    pub(in crate::server) fn take_websockets(
        &mut self,
        tunnels: &Registry,
        commit: impl FnOnce(&Self),
    ) -> Result<MoveCounts, UpgradeFailure> {
        let mut mover = Mover::new(&self.channel, tunnels);
        let outcome = mover.move_all(PASSES);
        let has_ended = match (&outcome, &mut self.child) {
            (_, None) => None,
            (Ok(()), Some(child)) => wait_within(child, Duration::ZERO),
            // One that lives has closed its channel, or hangs. It serves.
            (Err(_), Some(child)) => wait_within(child, LONGEST_END),
        };
        if let Some(status) = has_ended {
            let moved = mover.counts().moved;
            return Err(failed(format!(
                "the new process ended while it took over WebSockets ({status}); {moved} had moved"
            )));
        }
        commit(self);
        if outcome.is_ok() {
            // Its error is in the log.
            let _ = mover.move_all(LAST_PASSES);
        }
        let counts = mover.counts();
        // It is collected if it ends before this process.
        if let Some(mut child) = self.child.take() {
            let collect = move || drop(child.wait());
            // Without a thread it stays a zombie until this process ends.
            let _ = std::thread::Builder::new().name("new-process".to_owned()).spawn(collect);
        }
        Ok(counts)
    }

    /// Sends the counts of this process again, at its end.
    pub(in crate::server) fn send_last_counts(&self) {
        if let Err(error) = counts::send(&self.channel) {
            warn!(error:%; "last counts not sent to the new process");
        }
    }

    /// Why the channel failed: the process may have ended.
    fn explain(&mut self, error: &io::Error) -> UpgradeFailure {
        if error.kind() == ErrorKind::TimedOut {
            return failed("the new process did not respond");
        }
        // It may have said why before it ended.
        while let Ok((message, _)) = self.channel.receive(LOOK) {
            if let Message::Failed { report } = message {
                return failed(report.trim_end());
            }
        }
        let Some(child) = &mut self.child else { return failed(error) };
        // It is about to end, if it has not ended yet.
        match wait_within(child, LONGEST_SWITCH) {
            Some(status) => failed(format!("the new process ended before it served ({status})")),
            None => failed(format!("the new process closed its socket: {error}")),
        }
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_within(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return None,
        }
    }
}
