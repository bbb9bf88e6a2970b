//! etcd servers of the tests: one member, and a cluster of three. Each has free ports and a folder of its own.

use super::eventually::within;
use super::raw::Wire;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(20);
/// The most operations of a transaction, by etcd's default.
const MOST_OPERATIONS: usize = 128;

/// Returns whether etcd is there; without it `test` is skipped, with a message.
pub(crate) fn is_installed(test: &str) -> bool {
    let version = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_err() {
        // Not by a macro, whose output is hidden for a test that passes.
        let message = format!("skipped: {test}: there is no etcd here; `.ci/tools etcd` installs it\n");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
    }
    version.is_ok()
}

/// A running member.
pub(crate) struct Etcd {
    child: Child,
    address: SocketAddr,
    arguments: Vec<String>,
    /// Sent as `Authorization`.
    token: Mutex<Option<String>>,
    _folder: TempDir,
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    free_ports(1)[0]
}

/// `count` free ports, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn text(bytes: &str) -> String {
    STANDARD.encode(bytes)
}

impl Etcd {
    /// Starts one member.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one member with further arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        // Another process may take a port meanwhile.
        for _ in 0..5 {
            let ports = free_ports(2);
            let peers = format!("m0=http://127.0.0.1:{}", ports[1]);
            let mut member = Self::spawn("m0", ports[0], ports[1], &peers, arguments);
            if member.is_ready() {
                return member;
            }
        }
        panic!("no free port for etcd");
    }

    /// Starts one member at this port for clients.
    pub(crate) fn start_at(port: u16, arguments: &[&str]) -> Self {
        let peer = free_port();
        let mut member = Self::spawn("m0", port, peer, &format!("m0=http://127.0.0.1:{peer}"), arguments);
        assert!(member.is_ready(), "the port was taken");
        member
    }

    fn spawn(name: &str, port: u16, peer: u16, peers: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = format!("http://127.0.0.1:{port}");
        let has_urls = arguments.contains(&"--listen-client-urls");
        let peer = format!("http://127.0.0.1:{peer}");
        let data = folder.path().display().to_string();
        let mut all =
            ["--name", name, "--data-dir", &data, "--logger", "zap", "--log-level", "error"].to_vec();
        all.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        all.extend(["--initial-cluster", peers, "--advertise-client-urls", &client]);
        if !has_urls {
            all.extend(["--listen-client-urls", &client]);
        }
        all.extend(arguments);
        let arguments: Vec<_> = all.into_iter().map(str::to_owned).collect();
        let child = run(&arguments);
        Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
            arguments,
            token: Mutex::default(),
            _folder: folder,
        }
    }

    fn is_ready(&mut self) -> bool {
        within(START, "etcd responds", || match self.child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => self.try_post("/v3/kv/range", &json!({ "key": text("x") })).is_some().then_some(true),
        })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The response to a request, which succeeds at last: a cluster may have no leader for a moment.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        within(START, path, || self.try_post(path, body))
    }

    fn try_post(&self, path: &str, body: &Value) -> Option<Value> {
        let stream = TcpStream::connect(self.address).ok()?;
        let mut wire = Wire::of(stream);
        wire.patience(Duration::from_secs(10));
        let body = body.to_string();
        let token = self.token.lock().unwrap().as_ref().map(|token| format!("Authorization: {token}\r\n"));
        let token = token.unwrap_or_default();
        let length = body.len();
        wire.try_send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{token}\r\n{body}"
        ))
        .ok()?;
        let response = wire.try_response("POST").ok()?;
        (response.status == 200).then(|| response.json())
    }

    /// Sets a key.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.post("/v3/kv/put", &json!({ "key": text(key), "value": text(value) }));
    }

    /// Returns whether this put succeeds.
    pub(crate) fn try_put(&self, put: &Value) -> bool {
        self.try_post("/v3/kv/put", put).is_some()
    }

    /// Removes a key.
    pub(crate) fn delete(&self, key: &str) {
        self.post("/v3/kv/deleterange", &json!({ "key": text(key) }));
    }

    /// Sets keys, and removes those without a value: those of one transaction at the same revision.
    pub(crate) fn change(&self, keys: &[(String, Option<String>)]) {
        for part in keys.chunks(MOST_OPERATIONS) {
            let operation = |(key, value): &(String, Option<String>)| match value {
                Some(value) => json!({ "request_put": { "key": text(key), "value": text(value) } }),
                None => json!({ "request_delete_range": { "key": text(key) } }),
            };
            let operations: Vec<_> = part.iter().map(operation).collect();
            self.post("/v3/kv/txn", &json!({ "success": operations }));
        }
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> i64 {
        let read = self.post("/v3/kv/range", &json!({ "key": text("x") }));
        read["header"]["revision"].as_str().unwrap().parse().unwrap()
    }

    /// Forgets every revision before the current one.
    pub(crate) fn compact(&self) {
        let request = json!({ "revision": self.revision().to_string(), "physical": true });
        // It fails if nothing has changed since the last time.
        let _ = self.try_post("/v3/kv/compaction", &request);
    }

    /// Requires authentication. The user `moongate` with this password may read the prefix.
    pub(crate) fn require_password(&self, prefix: &str, password: &str) {
        let mut end = prefix.to_owned().into_bytes();
        *end.last_mut().unwrap() += 1;
        let end = STANDARD.encode(end);
        for (path, body) in [
            ("user/add", json!({ "name": "root", "password": "root" })),
            ("role/add", json!({ "name": "root" })),
            ("user/grant", json!({ "user": "root", "role": "root" })),
            ("user/add", json!({ "name": "moongate", "password": password })),
            ("role/add", json!({ "name": "reader" })),
            (
                "role/grant",
                json!({ "name": "reader", "perm": { "permType": "READ", "key": text(prefix), "range_end": end } }),
            ),
            ("user/grant", json!({ "user": "moongate", "role": "reader" })),
            ("enable", json!({})),
        ] {
            self.post(&format!("/v3/auth/{path}"), &body);
        }
        self.log_in();
    }

    /// Gets a token for the requests of the test.
    pub(crate) fn log_in(&self) {
        *self.token.lock().unwrap() = None;
        let response = self.post("/v3/auth/authenticate", &json!({ "name": "root", "password": "root" }));
        *self.token.lock().unwrap() = Some(response["token"].as_str().unwrap().to_owned());
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

    /// Starts it again with the same data at the same ports.
    pub(crate) fn restart(&mut self) {
        self.child = run(&self.arguments);
        *self.token.lock().unwrap() = None;
        within(START, "etcd responds", || TcpStream::connect(self.address).is_ok().then_some(()));
    }
}

fn run(arguments: &[String]) -> Child {
    Command::new("etcd")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of three members.
pub(crate) fn cluster() -> Vec<Etcd> {
    for _ in 0..5 {
        let ports = free_ports(6);
        let (clients, peers) = ports.split_at(3);
        let named: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(index, port)| format!("m{index}=http://127.0.0.1:{port}"))
            .collect();
        let all = named.join(",");
        let spawn = |index: usize| Etcd::spawn(&format!("m{index}"), clients[index], peers[index], &all, &[]);
        let mut members: Vec<_> = (0..3).map(spawn).collect();
        if members.iter_mut().all(Etcd::is_ready) {
            return members;
        }
    }
    panic!("no free ports for a cluster of etcd");
}

/// A proxy in front of a server whose connections can be cut.
pub(crate) struct EtcdLink {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl EtcdLink {
    /// A link to a server. It ends with the process.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let of_all = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                of_all.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || copy(client, to_server));
                std::thread::spawn(move || copy(server, to_client));
            }
        });
        Self { address, open }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // It may have ended.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either side may be gone.
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
