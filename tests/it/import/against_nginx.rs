//! Real nginx and the gateway on the imported file, before the same recording backends: statuses, fields of responses,
//! forwarded requests, WebSockets and shares of endpoints are compared. Skipped without nginx.
//!
//! Not compared: `sticky`, which nginx's free edition does not have.

mod location_trees;
mod observation;

use super::{fixtures, import, stderr};
use crate::support::certs::Authority;
use crate::support::origin::answer;
use crate::support::raw::Wire;
use crate::support::{Gateway, Next, Origin, Seen, eventually};
use observation::{Kind, observe, request};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The configuration; `@…@` are addresses and folders.
const CONFIGURATION: &str = "differential.conf.in";

/// A user `ada` with the password `secret`.
const USERS: &str = "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

const HOSTS: [&str; 4] =
    ["chat.example.com", "room.chat.example.com", "www.other.example", "unknown.example"];

const PATHS: [&str; 34] = [
    "/",
    "/ws/",
    "/ws",
    "/ws/a/b?room=7",
    "/plain/x",
    "/plain/",
    "/plain",
    "/strip/x?y=2",
    "/strip/",
    "/strip",
    "/add/x",
    "/add/a/b/",
    "/exact",
    "/exact/",
    "/exact/x",
    "/img/a.png",
    "/a.PNG",
    "/static/a.png",
    "/static/b",
    "/static",
    "/closed/x",
    "/text",
    "/gone",
    "/moved/x?z=1",
    "/old/a/b",
    "/bots",
    "/nested/x",
    "/nested/deep/y",
    "/rewrite/x/y?q=1",
    "/map/x?shard=b",
    "/map/x",
    "/nothing",
    "/ws/%C3%A9/%20x",
    "/default-host",
];

/// The host with one block for each directive.
const RULES: &str = "rules.example.com";

const RULE_PATHS: [&str; 56] = [
    "/",
    "/twice/x",
    "/set-twice/x",
    "/geo/x",
    "/hidden/x",
    "/mapped/x",
    "/mapped",
    "/stripped/x",
    "/password/x",
    "/asked/x",
    "/service",
    "/allowed/x",
    "/denied/x",
    "/denied/",
    "/methods/x",
    "/any/x",
    "/any-far/x",
    "/role/x",
    "/set-if/x",
    "/slow/x",
    "/small/x",
    "/files/x",
    "/open-files/x",
    "/private/",
    "/private/x",
    "/outer/a",
    "/outer/a.json",
    "/outer/a.x",
    "/outer/raw/a.json",
    "/outer/raw/a.x",
    "/outer/own/a.json",
    "/outer/own/a",
    "/other/a.json",
    "/other/a.x",
    "/a.json",
    "/stop/a.x",
    "/stop/a",
    "/stop/inner/a",
    "/stop/inner/a.x",
    "/stop/closed/a",
    "/stop/closed/a.x",
    "/stop",
    "/one/a.x",
    "/two/a.x",
    "/two/a",
    "/.git/config",
    "/.well-known/x",
    "/a/.git.x",
    "/rewritten/x/y",
    "/rewritten/y/z",
    "/rewritten/z",
    "/only/x?only=one",
    "/only/x?only=two",
    "/only/x",
    "/spare/x",
    "/packed/x",
];

/// Fields of clients to the host of the rules.
const CLIENTS: [&str; 7] = [
    "",
    "Authorization: Basic YWRhOnNlY3JldA==\r\n",
    "Authorization: Basic YWRhOndyb25n\r\n",
    "X-Token: good\r\n",
    "X-Role: ADMIN\r\n",
    "X-Bad: 1\r\n",
    "X-Site: WWW.Example.com\r\nX-Near: forged\r\n",
];

/// Paths whose backend is selected by a balancer.
const BALANCED: [&str; 2] = ["/ws", "/spare"];

/// Intended differences: the kind, the beginning of a path, and the reason.
const INTENDED: &[(Kind, &str, &str)] = &[
    (Kind::Post, "/strip", "only GET and HEAD are redirected to the stripped prefix with its slash"),
    (Kind::Handshake, "/strip", "only GET and HEAD are redirected to the stripped prefix with its slash"),
    (Kind::Handshake, "/plain/", "nginx forwards no handshake without the Upgrade pair, the gateway does"),
];

/// nginx on sockets created by the test, so that its ports are known.
struct Nginx {
    child: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it only after SIGTERM. It may have ended already.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn program() -> Option<&'static str> {
    // Debian installs it outside of a user's PATH.
    let runs = |program: &&str| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok();
    ["nginx", "/usr/sbin/nginx"].into_iter().find(runs)
}

fn start(program: &str, folder: &TempDir, listeners: &[TcpListener]) -> Nginx {
    let mut inherited = String::new();
    for listener in listeners {
        rustix::io::fcntl_setfd(listener.as_fd(), rustix::io::FdFlags::empty()).unwrap();
        inherited.push_str(&format!("{};", listener.as_raw_fd()));
    }
    let child = Command::new(program)
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("nginx.conf"))
        .args(["-e", "stderr"])
        // nginx takes over the listening sockets that this variable names, as in its own upgrades.
        .env("NGINX", inherited)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("nginx.log")).unwrap())
        .spawn()
        .unwrap();
    Nginx { child }
}

/// A backend whose responses have what nginx changes on their way.
fn responding() -> Origin {
    Origin::scripted("d", |seen, wire| {
        let response = if seen.target().starts_with("/packed/") {
            answer(200, "Content-Type: text/plain\r\n", "text ".repeat(100).as_bytes())
        } else {
            let host = seen.field("host").unwrap_or_default();
            let location = match seen.target().starts_with("/mapped/") {
                true => "http://backend.internal/there".to_owned(),
                false => format!("http://{host}/there"),
            };
            let fields = format!(
                "Location: {location}\r\nX-Hidden: 1\r\nX-Shown: 2\r\nCache-Control: no-store\r\n\
                 Set-Cookie: s=1; Path=/one/two; Domain=backend.internal; HttpOnly\r\n"
            );
            answer(302, &fields, b"")
        };
        wire.try_send(response).map_or(Next::Close, |()| Next::Keep)
    })
}

/// A service that accepts one token.
fn deciding() -> Origin {
    Origin::scripted("e", |seen: &Seen, wire: &mut Wire| {
        let status = if seen.field("x-token") == Some("good") { 200 } else { 401 };
        wire.try_send(answer(status, "", b"")).map_or(Next::Close, |()| Next::Keep)
    })
}

/// nginx and the gateway on the same configuration.
struct Pair {
    backends: Vec<Origin>,
    _service: Origin,
    gateway: Gateway,
    _nginx: Nginx,
    /// The addresses of nginx: plain and with TLS.
    plain: SocketAddr,
    secure: SocketAddr,
    authority: Authority,
    yaml: String,
    _folder: TempDir,
}

impl Pair {
    /// Starts both, if there is an nginx.
    fn start() -> Option<Self> {
        let Some(program) = program() else {
            // Not by a macro, whose output is hidden for a test that passes.
            std::io::stderr().write_all(b"skipped: there is no nginx here (make nginx)\n").unwrap();
            return None;
        };
        let backends = vec![Origin::named("a"), Origin::named("b"), Origin::named("c"), responding()];
        let service = deciding();
        let listeners =
            [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let [plain, secure] = [0, 1].map(|number: usize| listeners[number].local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pair = authority.issue("site", &["required.example.com", "optional.example.com"]);
        fs::copy(pair.cert, folder.path().join("site.pem")).unwrap();
        fs::copy(pair.key, folder.path().join("site.key")).unwrap();
        fs::copy(authority.file(), folder.path().join("ca.pem")).unwrap();
        fs::write(folder.path().join("htpasswd"), USERS).unwrap();
        let mut text = fs::read_to_string(fixtures().join(CONFIGURATION)).unwrap();
        text = text.replace("@LISTEN@", &plain.to_string()).replace("@SECURE@", &secure.to_string());
        text = text.replace("@FOLDER@", &folder.path().display().to_string());
        let names = ["@A@", "@B@", "@C@", "@D@", "@E@"];
        for (name, backend) in names.iter().zip(backends.iter().chain([&service])) {
            text = text.replace(name, &backend.to_string());
        }
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let (output, file) = import(&folder, "nginx.conf", &[]);
        let yaml = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        let mut served = yaml.replace("127.0.0.1:9901", "127.0.0.1:0");
        for (kind, address, name) in [("http", plain, "web"), ("https", secure, "secure")] {
            served = served.replace(&format!("{kind}-{}", address.port()), name);
            served = served.replace(&address.to_string(), "127.0.0.1:0");
        }
        let gateway = Gateway::start_whole(&served);
        let nginx = start(program, &folder, &listeners);
        drop(listeners);
        let is_served = || {
            let mut wire = TcpStream::connect(plain).ok().map(Wire::of)?;
            wire.try_send(request(Kind::Get, "unknown.example", "/text", "")).ok()?;
            wire.head().ok().flatten().map(|_| ())
        };
        eventually("nginx serves", is_served);
        Some(Self {
            backends,
            _service: service,
            gateway,
            _nginx: nginx,
            plain,
            secure,
            authority,
            yaml,
            _folder: folder,
        })
    }

    /// What differs for a request.
    fn difference(&self, kind: Kind, host: &str, path: &str, more: &str) -> Option<String> {
        let request = request(kind, host, path, more);
        let mut theirs = observe(self.plain, host, &request, &self.backends);
        let mut ours = observe(self.gateway.web(), host, &request, &self.backends);
        ours.forget_added(&theirs);
        if BALANCED.iter().any(|balanced| path.starts_with(balanced)) {
            ours.forget_backend();
            theirs.forget_backend();
        }
        let is_intended = INTENDED.iter().any(|(of, start, _)| path.starts_with(start) && *of == kind);
        (theirs != ours && !is_intended)
            .then(|| format!("{kind:?} {host}{path} {more:?}\n  nginx: {theirs:?}\n  ours:  {ours:?}"))
    }

    /// The number of requests of each backend.
    fn shares(&self, address: SocketAddr, host: &str, paths: &[String]) -> BTreeMap<usize, usize> {
        for backend in &self.backends {
            backend.forget();
        }
        for path in paths {
            let mut wire = Wire::connect(address);
            wire.send(request(Kind::Get, host, path, ""));
            wire.response();
        }
        self.backends.iter().map(Origin::count).enumerate().collect()
    }
}

#[test]
fn nginx_and_the_gateway_forward_alike() {
    let Some(pair) = Pair::start() else { return };
    let mut differences = Vec::new();
    let mut count = 0;
    let mut compare = |kind, host, path, more| {
        count += 1;
        differences.extend(pair.difference(kind, host, path, more));
    };
    for kind in [Kind::Get, Kind::Post, Kind::Handshake] {
        for path in PATHS {
            for host in HOSTS {
                compare(kind, host, path, "");
            }
        }
        for path in RULE_PATHS {
            for client in CLIENTS {
                compare(kind, RULES, path, client);
            }
        }
    }
    assert!(count > 1500);
    assert!(
        differences.is_empty(),
        "{} of {count}:\n{}\n{}",
        differences.len(),
        differences.join("\n"),
        pair.yaml
    );

    let paths = vec!["/ws/share".to_owned(); 120];
    let theirs = pair.shares(pair.plain, "chat.example.com", &paths);
    let ours = pair.shares(pair.gateway.web(), "chat.example.com", &paths);
    // Each worker of the gateway has its own turn, so that a share may differ by one for each.
    for (number, share) in &theirs {
        assert!(ours[number].abs_diff(*share) <= 8, "nginx: {theirs:?}, ours: {ours:?}");
    }
    // Equal keys have one backend, and several keys all of them.
    let keys: Vec<String> = (0..60).map(|key| format!("/hashed/x?key={key}")).collect();
    for address in [pair.plain, pair.gateway.web()] {
        let used: BTreeSet<usize> = pair
            .shares(address, RULES, &keys)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(used, BTreeSet::from([0, 1, 2]));
        let one = pair.shares(address, RULES, &vec![keys[7].clone(); 20]);
        assert_eq!(one.values().filter(|count| **count > 0).count(), 1, "{one:?}");
    }
}

#[test]
fn nginx_and_the_gateway_require_certificates_alike() {
    let Some(pair) = Pair::start() else { return };
    let stranger = Authority::new();
    let known = pair.authority.issue("client", &["client"]);
    let unknown = stranger.issue("client", &["client"]);
    let versions = [&rustls::version::TLS12];
    for (name, shown, path) in [
        ("required.example.com", None, "/"),
        ("required.example.com", Some(&known), "/"),
        ("required.example.com", Some(&unknown), "/"),
        ("optional.example.com", None, "/"),
        ("optional.example.com", Some(&known), "/"),
        ("optional.example.com", None, "/members/"),
        ("optional.example.com", Some(&known), "/members/"),
        ("optional.example.com", Some(&unknown), "/members/"),
    ] {
        let statuses = [pair.secure, pair.gateway.listener("secure")].map(|address| {
            let client = pair.authority.client_with(&versions, shown);
            client.get(address, name, path).map(|response| response.status).ok()
        });
        // An invalid certificate is a failed handshake here and a 400 in nginx, a missing one 403 and 400.
        let accepted = statuses.map(|status| status.is_some_and(|status| status < 400));
        assert_eq!(accepted[0], accepted[1], "{name}{path} {}: {statuses:?}", shown.is_some());
    }
}
