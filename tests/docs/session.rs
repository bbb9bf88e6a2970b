//! Execution of one page's commands against a gateway of its own.

use crate::page::{Block, Shown, root, shows};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

/// Far above the duration of any command; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);
/// Marks the end of a command's output, which never contains it.
const MARK: char = '\u{1}';

static SESSIONS: AtomicU32 = AtomicU32::new(1);

pub(crate) struct Session {
    /// The working directory of the commands: it has `conf/` and the files that the page shows.
    directory: tempfile::TempDir,
    /// The session's loopback address, which replaces 127.0.0.1 of the pages.
    address: String,
    /// The backends for `moongate run`; `moongate demo` has its own.
    backends: Option<tokio::runtime::Runtime>,
    gateway: Option<Gateway>,
}

struct Gateway {
    process: Child,
    log: Log,
    /// Opened when the gateway listened, to verify that the page does not disturb it.
    socket: Option<WebSocket<TcpStream>>,
}

/// The gateway's output, read by a thread.
struct Log {
    lines: Receiver<String>,
    seen: String,
}

impl Session {
    /// `None` on a machine without curl or bash.
    pub(crate) fn open() -> Option<Self> {
        let there = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there("curl") || !there("bash") {
            return None;
        }
        let pid = std::process::id();
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed) % 15;
        let last = (pid & 0xf) << 4 | session;
        let address = format!("127.{}.{}.{}", 16 + (pid >> 12 & 0x7f), pid >> 4 & 0xff, last.clamp(1, 254));
        let directory = tempfile::tempdir().unwrap();
        let session = Self { directory, address, backends: None, gateway: None };
        session.copy(&root().join("conf"), Path::new("conf"));
        session.tools();
        Some(session)
    }

    fn copy(&self, from: &Path, to: &Path) {
        std::fs::create_dir_all(self.directory.path().join(to)).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = to.join(entry.file_name());
            if entry.path().is_dir() {
                self.copy(&entry.path(), &name);
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                // A module is copied unchanged: it contains no addresses to replace.
                match std::str::from_utf8(&bytes) {
                    Ok(text) => self.write(&name, text),
                    Err(_) => std::fs::write(self.directory.path().join(&name), &bytes).unwrap(),
                }
            }
        }
    }

    fn write(&self, name: &Path, text: &str) {
        std::fs::write(self.directory.path().join(name), self.ours(text)).unwrap();
    }

    /// Replaces commands that must not reach beyond the session: other gateways may run on this machine.
    fn tools(&self) {
        let moongate = env!("CARGO_BIN_EXE_moongate");
        for (name, script) in [
            ("moongate", format!("exec '{moongate}' \"$@\"")),
            ("make", "[ \"$*\" = run ] || exit 2; exec moongate demo -c conf/moongate.yaml".to_owned()),
            ("pidof", "[ \"$*\" = moongate ] || exit 1; cat gateway.pid".to_owned()),
        ] {
            let path = self.directory.path().join("bin").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn ours(&self, text: &str) -> String {
        text.replace("127.0.0.1", &self.address)
    }

    fn theirs(&self, text: &str) -> String {
        text.replace(&self.address, "127.0.0.1")
    }

    fn bash(&self, script: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-c", &self.ours(script)])
            .current_dir(self.directory.path())
            .env("PATH", format!("{}/bin:{path}", self.directory.path().display()))
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Writes a block that is a file to where the commands expect it.
    pub(crate) fn keep(&self, block: &Block) {
        if let Some(name) = block.file() {
            self.write(Path::new(name), &block.text);
        }
    }

    /// Runs a console block.
    pub(crate) fn run(&mut self, page: &str, block: &Block) {
        for command in block.commands() {
            let place = format!("{page}:{}: `{}`", block.line, command.text);
            if ["make run", "moongate run", "moongate demo"]
                .iter()
                .any(|start| command.text.starts_with(start))
            {
                self.start(&place, &command);
                continue;
            }
            // Pages assume a running demo.
            if self.gateway.is_none() {
                self.start(&place, &Shown { text: "make run".to_owned(), output: String::new() });
            }
            self.execute(&place, &command);
        }
    }

    fn start(&mut self, place: &str, command: &Shown) {
        self.end();
        if command.text.starts_with("moongate run") {
            self.backends = Some(backends(&self.address));
        }
        let script = format!("echo $$ > gateway.pid; exec {} 2>&1", command.text);
        let mut process = self.bash(&script).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = Log::of(&mut process);
        for listener in self.listeners(&command.text) {
            log.wait(place, |seen| seen.contains(&format!("listening name={listener} ")));
        }
        let expected = self.ours(command.output.trim());
        log.wait(place, |seen| expected.is_empty() || shows(&format!("…{expected}…"), seen));
        let socket = websocket(&self.address);
        self.gateway = Some(Gateway { process, log, socket });
    }

    /// The listeners of the started configuration that commands may use at once.
    fn listeners(&self, command: &str) -> Vec<&'static str> {
        let file = command.split_once(" -c ").map_or("conf/moongate.yaml", |(_, file)| file.trim());
        let text = std::fs::read_to_string(self.directory.path().join(file)).unwrap();
        let admin = text.lines().any(|line| line.starts_with("admin:"));
        if admin { vec!["web", "admin"] } else { vec!["web"] }
    }

    fn execute(&mut self, place: &str, command: &Shown) {
        let gateway = self.gateway.as_mut().unwrap();
        let outcomes = gateway.log.outcomes();
        let script = format!("exec 2>&1\n{}\nprintf '{MARK}%s' $?", command.text);
        let (output, status) = finish(place, self.bash(&script));
        let output = self.theirs(&output);
        let expected = command.output.as_str();
        assert!(
            expected.is_empty() || shows(expected, &output),
            "{place} showed\n{output}\nand not\n{expected}"
        );
        // If a page shows an error, the command must fail.
        let fails = expected.lines().any(|line| line.starts_with("error"));
        assert_eq!(status != "0", fails, "{place} ended with {status}:\n{output}");

        let gateway = self.gateway.as_mut().unwrap();
        if command.text.contains("kill -HUP") {
            gateway.log.wait(place, |seen| count(seen) > outcomes);
        }
        if command.text.contains("kill -TERM") {
            gateway.socket = None;
            gateway.log.wait(place, |seen| seen.contains("stopped"));
            assert!(gateway.process.wait().unwrap().success(), "{place}");
            self.gateway = None;
        }
    }

    /// The first WebSocket must still echo; then the gateway is drained.
    pub(crate) fn end(&mut self) {
        let Some(mut gateway) = self.gateway.take() else { return };
        if let Some(mut socket) = gateway.socket.take() {
            socket.send(Message::text("still here?")).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text("still here?"));
            socket.close(None).unwrap();
        }
        let pid = gateway.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        gateway.log.wait("the end of the page", |seen| seen.contains("stopped"));
        assert!(gateway.process.wait().unwrap().success());
        self.backends = None;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            self.log.drain();
            eprintln!("the gateway said:\n{}", self.log.seen);
        }
    }
}

impl Log {
    fn of(process: &mut Child) -> Self {
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { lines, seen: String::new() }
    }

    /// Reads until the log satisfies `fact`.
    fn wait(&mut self, place: &str, fact: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !fact(&self.seen) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.add(&line),
                Err(RecvTimeoutError::Timeout) => panic!("{place}: waited in vain; the log:\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("{place}: the gateway ended:\n{}", self.seen),
            }
        }
    }

    fn add(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }

    fn drain(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.add(&line);
        }
    }

    fn outcomes(&mut self) -> usize {
        self.drain();
        count(&self.seen)
    }
}

/// The number of reloads so far, applied and rejected.
fn count(log: &str) -> usize {
    log.matches("configuration reloaded").count() + log.matches("configuration rejected").count()
}

/// Runs a command with a time limit: returns the output and the exit status after the mark.
fn finish(place: &str, mut command: Command) -> (String, String) {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let _ = stdout.read_to_end(&mut output);
        let _ = sender.send(output);
    });
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let _ = process.kill();
        panic!("{place} did not end");
    };
    process.wait().unwrap();
    let output = String::from_utf8_lossy(&output).into_owned();
    let (output, status) = output.rsplit_once(MARK).unwrap_or_else(|| panic!("{place} broke off:\n{output}"));
    (output.to_owned(), status.to_owned())
}

fn backends(address: &str) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let addresses = [8081, 8082].map(|port| format!("{address}:{port}").parse().unwrap());
    let backends = runtime.block_on(moongate::demo::Backends::bind(&addresses)).unwrap();
    runtime.spawn(backends.serve());
    runtime
}

/// A WebSocket through the gateway that has received its greeting, if the configuration routes one to the
/// backends.
fn websocket(address: &str) -> Option<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(format!("{address}:8080")).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}:8080/ws"), stream).ok()?;
    socket.read().ok()?;
    Some(socket)
}
