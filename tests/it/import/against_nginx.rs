//! Real nginx and the gateway on the imported file, before the same recording backends: statuses, forwarded requests and
//! shares of endpoints are compared. Skipped without nginx.

use super::{fixtures, import, stderr};
use crate::support::raw::Wire;
use crate::support::{Gateway, Origin, Seen, eventually, ws};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The configuration; `@…@` are addresses and folders.
const CONFIGURATION: &str = "differential.conf.in";

/// Fields of forwarded requests that are compared.
const FIELDS: [&str; 12] = [
    "host",
    "x-real-ip",
    "x-forwarded-for",
    "x-scheme",
    "x-room",
    "x-constant",
    "x-secret",
    "upgrade",
    "cookie",
    "origin",
    "x-own",
    "content-length",
];

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

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Get,
    Post,
    Handshake,
}

/// Intended differences: the kind, a path, and the reason.
const INTENDED: [(Kind, &str, &str); 4] = [
    (Kind::Post, "/strip", "only GET and HEAD are redirected to the stripped prefix with its slash"),
    (Kind::Handshake, "/strip", "only GET and HEAD are redirected to the stripped prefix with its slash"),
    (Kind::Handshake, "/plain/x", "nginx forwards no handshake without the Upgrade pair, the gateway does"),
    (Kind::Handshake, "/plain/", "nginx forwards no handshake without the Upgrade pair, the gateway does"),
];

/// What became of a request: the status, the location, and what a backend saw.
#[derive(Debug, PartialEq)]
struct Observed {
    status: u16,
    location: String,
    forwarded: Option<(String, Vec<String>)>,
}

/// nginx on a socket created by the test, so that its port is known.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it only if it is asked to. It may have ended already.
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

fn start(program: &str, folder: &TempDir, listener: &TcpListener) -> Nginx {
    rustix::io::fcntl_setfd(listener.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let child = Command::new(program)
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("nginx.conf"))
        .args(["-e", "stderr"])
        // nginx takes over the listening sockets that this variable names, as in its own upgrades.
        .env("NGINX", format!("{};", listener.as_raw_fd()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("nginx.log")).unwrap())
        .spawn()
        .unwrap();
    Nginx { child, address: listener.local_addr().unwrap() }
}

fn request(kind: Kind, host: &str, path: &str) -> String {
    let common = "User-Agent: test\r\nCookie: a=b; c=d\r\nX-Secret: client\r\nX-Own: 1\r\n";
    match kind {
        Kind::Get => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{common}Connection: close\r\n\r\n"),
        Kind::Post => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{common}Content-Length: 3\r\nConnection: close\r\n\r\na=1"
        ),
        Kind::Handshake => format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{common}Origin: http://{host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            ws::KEY
        ),
    }
}

/// The head of a response: its status and the value of `Location` without scheme and host.
fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    let mut wire = Wire::connect(address);
    wire.send(request);
    let head = wire.head().unwrap().unwrap_or_default();
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let location = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    let location = location.unwrap_or_default();
    // nginx writes whole URLs, with its port where it is not the scheme's.
    let port = format!(":{}", address.port());
    let location = location.replace(&port, "");
    let hosts = HOSTS.iter().find_map(|host| location.strip_prefix(&format!("http://{host}")));
    (status, hosts.unwrap_or(&location).to_owned())
}

fn forwarded(seen: &Seen) -> (String, Vec<String>) {
    let line = seen.line().rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
    let fields = FIELDS.iter().flat_map(|name| {
        seen.fields(name).into_iter().map(move |value| format!("{name}: {}", value.to_ascii_lowercase()))
    });
    (line, fields.collect())
}

/// Removes what the gateway adds by design: X-Forwarded-For, and fields of an empty value, which nginx omits.
fn forget_added(theirs: &Observed, ours: &mut Observed) {
    let has_chain = |observed: &Observed| {
        let fields = observed.forwarded.iter().flat_map(|(_, fields)| fields);
        fields.into_iter().any(|field| field.starts_with("x-forwarded-for:"))
    };
    let keeps_chain = has_chain(theirs);
    if let Some((_, fields)) = &mut ours.forwarded {
        fields.retain(|field| {
            !field.ends_with(": ") && (keeps_chain || !field.starts_with("x-forwarded-for:"))
        });
    }
}

fn observe(address: SocketAddr, request: &str, backends: &[Origin]) -> Observed {
    for backend in backends {
        backend.forget();
    }
    let (status, location) = exchange(address, request);
    let seen: Vec<Seen> = backends.iter().flat_map(Origin::seen).collect();
    assert!(seen.len() < 2, "one request became {seen:?}");
    Observed { status, location, forwarded: seen.first().map(forwarded) }
}

#[test]
fn nginx_and_the_gateway_forward_alike() {
    let Some(program) = program() else {
        // Not by a macro, whose output is hidden for a test that passes.
        writeln!(std::io::stderr(), "skipped: there is no nginx here (make nginx)").unwrap();
        return;
    };
    let backends = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut text = fs::read_to_string(fixtures().join(CONFIGURATION)).unwrap();
    text = text.replace("@LISTEN@", &listener.local_addr().unwrap().to_string());
    text = text.replace("@FOLDER@", &folder.path().display().to_string());
    for (name, backend) in ["@A@", "@B@", "@C@"].iter().zip(&backends) {
        text = text.replace(name, &backend.to_string());
    }
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let (output, file) = import(&folder, "nginx.conf", &[]);
    let yaml = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let address = listener.local_addr().unwrap();
    let served = yaml.replace(
        &format!("name: http-{}, address: {address}", address.port()),
        "name: web, address: 127.0.0.1:0",
    );
    let gateway = Gateway::start_whole(&format!("admin: {{ address: 127.0.0.1:0 }}\n{served}"));
    let nginx = start(program, &folder, &listener);
    drop(listener);
    eventually("nginx serves", || {
        let mut wire = TcpStream::connect(nginx.address).ok().map(Wire::of)?;
        wire.try_send(request(Kind::Get, "unknown.example", "/text")).ok()?;
        wire.head().ok().flatten().map(|_| ())
    });

    let mut differences = Vec::new();
    let mut count = 0;
    for host in HOSTS {
        for path in PATHS {
            for kind in [Kind::Get, Kind::Post, Kind::Handshake] {
                count += 1;
                let request = request(kind, host, path);
                let theirs = observe(nginx.address, &request, &backends);
                let mut ours = observe(gateway.web(), &request, &backends);
                forget_added(&theirs, &mut ours);
                let is_intended =
                    host == HOSTS[0] && INTENDED.iter().any(|(of, at, _)| *at == path && *of == kind);
                if theirs != ours && !is_intended {
                    differences
                        .push(format!("{kind:?} {host}{path}\n  nginx: {theirs:?}\n  ours:  {ours:?}"));
                }
            }
        }
    }
    assert!(count > 300);
    assert!(differences.is_empty(), "{} of {count}:\n{}\n{yaml}", differences.len(), differences.join("\n"));

    let shares = |address: SocketAddr| -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        for backend in &backends {
            backend.forget();
        }
        for _ in 0..120 {
            exchange(address, &request(Kind::Get, "chat.example.com", "/ws/share"));
        }
        for (number, backend) in backends.iter().enumerate() {
            shares.insert(number, backend.count());
        }
        shares
    };
    let (theirs, ours) = (shares(nginx.address), shares(gateway.web()));
    // Each worker of the gateway has its own turn, so that a share may differ by one for each.
    for (number, share) in &theirs {
        assert!(ours[number].abs_diff(*share) <= 8, "nginx: {theirs:?}, ours: {ours:?}");
    }
}
