//! Redis servers of the tests: alone, with Sentinel, and as a cluster. Each has a free port and a folder of its own.

use super::eventually::within;
use super::raw::lossy;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(20);

/// Returns whether the programs are there; without them `test` is skipped, with a message.
pub(crate) fn is_installed(test: &str) -> bool {
    let there = ["redis-server", "redis-cli"].iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if !there {
        // Not by a macro, whose output is hidden for a test that passes.
        let message =
            format!("skipped: {test}: there is no redis-server here; `.ci/tools redis` installs it\n");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
    }
    there
}

/// A running server.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    /// Starts one without persistence.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// Starts one with further arguments, which may depend on its port. Another process may take the port meanwhile.
    pub(crate) fn start_with(arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            let port = free_port();
            let arguments = arguments(port);
            let child = spawn(port, &arguments, &folder);
            let mut server = Self { child, port, arguments, folder: tempfile::tempdir().unwrap() };
            if server.is_ready() {
                server.folder = folder;
                return server;
            }
        }
        panic!("no free port for redis-server");
    }

    fn is_ready(&mut self) -> bool {
        within(START, "redis-server responds", || match self.child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => self.try_command(&["PING"]).filter(|reply| reply.contains("PONG")).map(|_| true),
        })
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command and returns its reply as redis-cli prints it.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("{words:?} has no reply"))
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.success().then(|| lossy(&output.stdout).trim().to_owned())
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments, &self.folder);
        assert!(self.is_ready(), "the port was taken");
    }
}

fn spawn(port: u16, arguments: &[String], folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Sentinel that watches `master` under the name `main`, and fails over after half a second.
pub(crate) fn sentinel(master: &Redis) -> Redis {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
        master.port()
    );
    for _ in 0..5 {
        let port = free_port();
        std::fs::write(
            &file,
            format!("port {port}\nbind 127.0.0.1\ndir {}\n{text}", folder.path().display()),
        )
        .unwrap();
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Redis { child, port, arguments: Vec::new(), folder: tempfile::tempdir().unwrap() };
        if server.is_ready() {
            server.folder = folder;
            return server;
        }
    }
    panic!("no free port for a Sentinel");
}

/// A cluster of three masters.
pub(crate) fn cluster() -> Vec<Redis> {
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            Redis::start_with(|_| {
                let bus = free_port().to_string();
                ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"]
                    .map(str::to_owned)
                    .to_vec()
            })
        })
        .collect();
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(nodes.iter().map(Redis::address))
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{}{}", lossy(&created.stdout), lossy(&created.stderr));
    within(START, "every node sees all slots", || {
        nodes.iter().all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")).then_some(())
    });
    nodes
}

/// A proxy that delays the replies of a server.
pub(crate) struct SlowLink {
    address: SocketAddr,
    delay: Arc<AtomicU64>,
}

impl SlowLink {
    /// A link to a server, without a delay. It ends with the process.
    pub(crate) fn to(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, port) = (listener.local_addr().unwrap(), server.port());
        let delay = Arc::new(AtomicU64::new(0));
        let of_all = Arc::clone(&delay);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let delay = Arc::clone(&of_all);
                std::thread::spawn(move || copy(client, to_server, |_| ()));
                std::thread::spawn(move || {
                    copy(server, to_client, |read: Instant| {
                        let wait = Duration::from_millis(delay.load(SeqCst));
                        std::thread::sleep(wait.saturating_sub(read.elapsed()));
                    });
                });
            }
        });
        Self { address, delay }
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Delays every reply by so many milliseconds.
    pub(crate) fn delay(&self, milliseconds: u64) {
        self.delay.store(milliseconds, SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, before: impl Fn(Instant)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        before(Instant::now());
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either side may be gone.
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
