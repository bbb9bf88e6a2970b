//! The real binary under test: started on a file of its own, observed through its log and its admin address,
//! ended by its process ID.

use super::discovered;
use super::eventually::within;
use super::log::{Log, field};
use super::metrics::Metrics;
use super::raw::{Wire, get};
use super::{Response, eventually};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_moongate");

const HEAD: &str = "admin: { address: 127.0.0.1:0 }\n\
                    listeners: [{ name: web, address: 127.0.0.1:0 }]\n";

const RELOADED: &str = "configuration reloaded";
const REFUSED: &str = "configuration rejected";

/// A running gateway.
pub(crate) struct Gateway {
    child: Mutex<Child>,
    /// The current process: the child, or one that it has handed over to.
    pid: AtomicU32,
    /// Those that were handed over to.
    successors: Mutex<Vec<u32>>,
    log: Arc<Log>,
    folder: TempDir,
}

/// Returns whether there is no such process, or only its exit status is left.
fn has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    status.map_or(true, |status| status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Runs a command of the binary to its end.
pub(crate) fn moongate(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

impl Gateway {
    /// Starts one with a listener `web` and an admin address, and waits until it serves.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_whole(&format!("{HEAD}{yaml}"))
    }

    /// Starts one with that whole file, which has a listener `web`, and waits until it serves.
    pub(crate) fn start_whole(yaml: &str) -> Self {
        let gateway = Self::spawn(yaml);
        gateway.web();
        gateway
    }

    /// Starts one with plugins of its own, that of `examples/own_gateway`, like [`Gateway::start`].
    pub(crate) fn start_own(yaml: &str) -> Self {
        Self::start_own_whole(&format!("{HEAD}{yaml}"))
    }

    /// The same with that whole file.
    pub(crate) fn start_own_whole(yaml: &str) -> Self {
        Self::start_own_whole_with(&[], yaml)
    }

    /// The same with more environment variables.
    pub(crate) fn start_own_whole_with(variables: &[(&str, &str)], yaml: &str) -> Self {
        let built = Path::new(BINARY).with_file_name("examples").join("own_gateway");
        assert!(built.exists(), "cargo build --example own_gateway makes {}", built.display());
        let gateway = Self::spawn_with(&built, yaml, |command| {
            command.envs(variables.iter().copied());
        });
        gateway.web();
        gateway
    }

    /// As [`Gateway::start`], with one more environment variable.
    pub(crate) fn start_with(variable: &str, value: &std::ffi::OsStr, yaml: &str) -> Self {
        Self::start_whole_with(variable, value, &format!("{HEAD}{yaml}"))
    }

    /// As [`Gateway::start_whole`], with one more environment variable.
    pub(crate) fn start_whole_with(variable: &str, value: &std::ffi::OsStr, yaml: &str) -> Self {
        let gateway = Self::spawn_with(Path::new(BINARY), yaml, |command| {
            command.env(variable, value);
        });
        gateway.web();
        gateway
    }

    /// As [`Gateway::start_whole`], with more environment variables.
    pub(crate) fn start_whole_with_all(variables: &[(&str, &str)], yaml: &str) -> Self {
        let gateway = Self::spawn_with(Path::new(BINARY), yaml, |command| {
            command.envs(variables.iter().copied());
        });
        gateway.web();
        gateway
    }

    /// As [`Gateway::start_whole_with_all`], with a socket that is passed as by socket activation: it is descriptor 3.
    pub(crate) fn start_with_socket(socket: OwnedFd, variables: &[(&str, &str)], yaml: &str) -> Self {
        // The variable names the process that the socket is for, whose ID only the shell before it knows.
        let before = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$";
        Self::start_by_shell(before, yaml, |command| {
            command.stdin(socket).envs(variables.iter().copied());
        })
    }

    /// The same with two sockets that have names.
    pub(crate) fn start_with_sockets(
        [(first_name, first), (second_name, second)]: [(&str, OwnedFd); 2],
        variables: &[(&str, &str)],
        yaml: &str,
    ) -> Self {
        let before = format!(
            "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES={first_name}:{second_name}"
        );
        Self::start_by_shell(&before, yaml, |command| {
            command.stdin(first).stdout(second).envs(variables.iter().copied());
        })
    }

    /// The same with a stored socket, and the link to a process that serves until this one does.
    pub(crate) fn start_with_link(
        socket: OwnedFd,
        link: OwnedFd,
        variables: &[(&str, &str)],
        yaml: &str,
    ) -> Self {
        let sockets = [("moongate", socket), ("moongate-handover", link)];
        Self::start_with_sockets(sockets, variables, yaml)
    }

    /// As [`Gateway::start_whole`], with that many descriptors at most.
    pub(crate) fn start_limited(descriptors: usize, yaml: &str) -> Self {
        Self::start_by_shell(&format!("ulimit -n {descriptors}"), yaml, |_| ())
    }

    /// Starts one in the place of a shell that has executed commands.
    fn start_by_shell(commands: &str, yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("start");
        fs::write(&script, format!("#!/bin/sh\n{commands}\nexec '{BINARY}' \"$@\"\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let gateway = Self::spawn_in(folder, &script, yaml, prepare);
        gateway.web();
        gateway
    }

    /// Starts one with that whole file without waiting.
    pub(crate) fn spawn(yaml: &str) -> Self {
        Self::spawn_with(Path::new(BINARY), yaml, |_| ())
    }

    /// Starts one with a whole file in `folder`, beside its other files, and waits until it serves.
    pub(crate) fn start_in(folder: TempDir, yaml: impl FnOnce(&Path) -> String) -> Self {
        let yaml = yaml(folder.path());
        let gateway = Self::spawn_in(folder, Path::new(BINARY), &yaml, |_| ());
        gateway.web();
        gateway
    }

    fn spawn_with(binary: &Path, yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        Self::spawn_in(tempfile::tempdir().unwrap(), binary, yaml, prepare)
    }

    fn spawn_in(folder: TempDir, binary: &Path, yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let file = folder.path().join("moongate.yaml");
        fs::write(&file, discovered::configuration(folder.path(), yaml)).unwrap();
        let mut command = Command::new(binary);
        command
            .args(["run", "-c"])
            .arg(&file)
            .env_remove("RUST_LOG")
            // Its certificates would be trusted besides those of SSL_CERT_FILE.
            .env_remove("SSL_CERT_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let pid = AtomicU32::new(child.id());
        Self { pid, child: Mutex::new(child), successors: Mutex::default(), log, folder }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(SeqCst)
    }

    /// The process has handed over to this one.
    pub(crate) fn succeeded_by(&self, pid: u32) {
        self.pid.store(pid, SeqCst);
        self.successors.lock().unwrap().push(pid);
    }

    /// Returns whether a process that served has ended.
    pub(crate) fn has_process_ended(&self, pid: u32) -> bool {
        self.ended().is_some() && has_ended(pid)
    }

    /// As [`Gateway::start`], with another binary.
    pub(crate) fn start_binary(binary: &Path, yaml: &str) -> Self {
        Self::start_binary_whole(binary, &format!("{HEAD}{yaml}"))
    }

    /// As [`Gateway::start_whole`], with another binary.
    pub(crate) fn start_binary_whole(binary: &Path, yaml: &str) -> Self {
        Self::start_binary_with_all(binary, &[], yaml)
    }

    /// The same with more environment variables.
    pub(crate) fn start_binary_with_all(binary: &Path, variables: &[(&str, &str)], yaml: &str) -> Self {
        let gateway = Self::spawn_with(binary, yaml, |command| {
            command.envs(variables.iter().copied());
        });
        gateway.web();
        gateway
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("moongate.yaml")
    }

    /// The actual address of the listener with that name.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let line = self.log.wait(0, &[&format!("listening name={name} ")]);
        field(&line, "address").parse().unwrap()
    }

    /// The actual address of the listener `web`.
    pub(crate) fn web(&self) -> SocketAddr {
        self.listener("web")
    }

    /// The actual admin address.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// A GET at the listener `web`, on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        get(self.web(), path)
    }

    /// A connection to the listener `web`.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.web())
    }

    /// The names in the bodies of `count` GETs, on one connection.
    pub(crate) fn names(&self, path: &str, count: usize) -> Vec<String> {
        let mut wire = self.wire();
        (0..count)
            .map(|_| {
                wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                let response = wire.response();
                assert_eq!(response.status, 200, "{}{}", response.head, response.text());
                response.text()
            })
            .collect()
    }

    /// `/api/v1/status`.
    pub(crate) fn status(&self) -> Value {
        let response = get(self.admin(), "/api/v1/status");
        assert_eq!(response.status, 200, "{}", response.head);
        response.json()
    }

    /// `/metrics`.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::new(get(self.admin(), "/metrics").text())
    }

    /// The number of the current generation.
    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    /// An endpoint's `health` in the status.
    pub(crate) fn health(&self, upstream: &str, address: SocketAddr) -> Option<String> {
        Some(self.endpoint(upstream, address)?["health"].as_str()?.to_owned())
    }

    /// An endpoint's `active` in the status.
    pub(crate) fn active(&self, upstream: &str, address: SocketAddr) -> Option<u64> {
        self.endpoint(upstream, address)?["active"].as_u64()
    }

    /// An endpoint of the status.
    pub(crate) fn endpoint(&self, upstream: &str, address: SocketAddr) -> Option<Value> {
        let status = self.status();
        let endpoints = status["upstreams"][upstream]["endpoints"].as_array()?;
        endpoints.iter().find(|endpoint| endpoint["address"] == address.to_string()).cloned()
    }

    /// Waits until the status shows this health of an endpoint.
    pub(crate) fn await_health(&self, upstream: &str, address: SocketAddr, health: &str) {
        eventually(&format!("{address} of {upstream} is {health}"), || {
            (self.health(upstream, address).as_deref() == Some(health)).then_some(())
        });
    }

    /// Replaces the configuration, with the same listener and admin address as [`Gateway::start`].
    pub(crate) fn write(&self, yaml: &str) {
        self.write_whole(&format!("{HEAD}{yaml}"));
    }

    /// Replaces the configuration file, as an editor does.
    pub(crate) fn write_whole(&self, yaml: &str) {
        let draft = self.folder.path().join("moongate.yaml.new");
        fs::write(&draft, discovered::configuration(self.folder.path(), yaml)).unwrap();
        fs::rename(draft, self.file()).unwrap();
    }

    /// Replaces the configuration, sends SIGHUP and waits: the new generation, or the report.
    pub(crate) fn reload(&self, yaml: &str) -> Result<u64, String> {
        self.reload_whole(&format!("{HEAD}{yaml}"))
    }

    /// As [`Gateway::reload`], with a whole file.
    pub(crate) fn reload_whole(&self, yaml: &str) -> Result<u64, String> {
        self.write_whole(yaml);
        let mark = self.log.mark();
        self.signal("HUP");
        let line = self.log.wait(mark, &[RELOADED, REFUSED]);
        if line.contains(RELOADED) {
            discovered::await_endpoints(self, self.folder.path());
            return Ok(field(&line, "generation").parse().unwrap());
        }
        Err(eventually("the refusal in the status", || {
            let last = &self.status()["last_reload"];
            last["report"].as_str().filter(|_| last["ok"] == false).map(str::to_owned)
        }))
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        self.signals(name, 1);
    }

    /// Sends a signal this many times in a row.
    pub(crate) fn signals(&self, name: &str, count: usize) {
        let pids = vec![self.pid().to_string(); count];
        let sent = Command::new("kill").arg(format!("-{name}")).args(pids).status().unwrap();
        assert!(sent.success(), "kill -{name}: {sent}");
    }

    /// Its exit status, if it ended.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for its end, at most `limit`.
    pub(crate) fn exit_within(&self, limit: Duration) -> ExitStatus {
        within(limit, "the process ends", || self.ended())
    }

    /// Its private anonymous memory in KiB: heap and stacks. The proportional share would change with every
    /// other gateway that runs in parallel.
    pub(crate) fn memory(&self) -> i64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
        let successors = self.successors.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for pid in successors.drain(..).filter(|pid| !has_ended(*pid)) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "the log of a failed test belongs to its report")]
            {
                eprintln!("--- the gateway's log\n{}\n---", self.log.text());
            }
        }
    }
}
