//! The listeners for clients and the admin listener.

use super::ListenerProtocols;
use crate::acme;
use crate::config;
use crate::tunnel::HandshakeLimiter;
use moongate_config::{Placed, Problem, Problems};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The listen address without a `listeners` section.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `ip:port` or `[ip]:port`.
    Tcp {
        /// Never an IPv4-mapped IPv6 address.
        address: SocketAddr,
        /// Whether an IPv6 address refuses IPv4 connections.
        ipv6_only: bool,
    },
    /// `unix:/path`.
    Unix {
        /// The file.
        path: PathBuf,
        /// The permissions of the socket file.
        access: Access,
    },
}

/// The permissions of a Unix socket file; `None`: the process's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The permission bits.
    pub mode: Option<u32>,
    /// The owner's user ID.
    pub owner: Option<u32>,
    /// The group's ID.
    pub group: Option<u32>,
}

/// A listener for clients.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name.
    pub name: Arc<str>,
    /// The address.
    pub address: Address,
    /// The maximum number of concurrent connections.
    pub max_connections: Option<usize>,
    /// The protocols; `None` for plain HTTP/1.
    pub greeting: Option<Arc<ListenerProtocols>>,
    /// Limits WebSocket handshakes; `None` without a limit.
    pub handshakes: Option<Arc<HandshakeLimiter>>,
}

impl Listener {
    /// Returns whether a process that serves one can serve the other without opening a new socket.
    pub fn same_socket(&self, other: &Self) -> bool {
        (&self.name, &self.address, self.max_connections)
            == (&other.name, &other.address, other.max_connections)
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress {
    /// The address.
    pub address: SocketAddr,
    /// The required token; always set for a public address.
    pub token: Option<String>,
}

impl Address {
    /// Parses `ip:port`, `[ip]:port` or `unix:/path`.
    ///
    /// # Errors
    /// A problem without a place.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(Problem::new("`unix:` needs a path").help("as in unix:/run/moongate.sock"));
            }
            if let Err(error) = std::os::unix::net::SocketAddr::from_pathname(path) {
                let length = path.len();
                return Err(Problem::new(format!("invalid socket path of {length} bytes: {error}"))
                    .help("the kernel takes at most 107 bytes"));
            }
            return Ok(Self::Unix { path: PathBuf::from(path), access: Access::default() });
        }
        let tcp = |address: SocketAddr| {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            Self::Tcp { address, ipv6_only: true }
        };
        text.parse().map(tcp).map_err(|_| {
            let problem = Problem::new(format!("`{text}` is not an address to listen on"));
            match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
                Ok(port) => problem
                    .help(format!("a port needs an address before it: 127.0.0.1:{port} or 0.0.0.0:{port}")),
                Err(_) => problem.help("write ip:port, [ip]:port or unix:/path"),
            }
        })
    }

    /// The address of a listener, with its socket settings.
    ///
    /// # Errors
    /// Every problem of the settings, with its place.
    fn compile(written: &config::Listener) -> Result<Self, Problems> {
        let at = &written.address.place;
        let mut problems = Problems::default();
        let parsed =
            problems.keep(Self::parse(&written.address.value).map_err(|problem| problem.at(at).into()));
        let mode = written.mode.as_ref().and_then(|mode| problems.keep(permissions(mode)));
        let owner = written.owner.as_ref().and_then(|name| problems.keep(id(name, "user", "/etc/passwd")));
        let group = written.group.as_ref().and_then(|name| problems.keep(id(name, "group", "/etc/group")));
        let Some(mut address) = parsed else { return Err(problems) };
        match &mut address {
            Self::Tcp { address, ipv6_only } => {
                let named = [("mode", &written.mode), ("owner", &written.owner), ("group", &written.group)];
                for (key, value) in named.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
                    let problem = Problem::new(format!("`{key}` is for a listener at `unix:/path`"));
                    problems.push(problem.at(&value.place));
                }
                if let Some(only) = &written.ipv6_only {
                    *ipv6_only = only.value;
                    if !address.is_ipv6() {
                        let problem = Problem::new("`ipv6_only` is for an IPv6 address");
                        problems.push(problem.at(&only.place));
                    }
                }
            }
            Self::Unix { access, path } => {
                *access = Access { mode, owner, group };
                if let Err(problem) = can_hold_a_socket(path) {
                    problems.push(problem.at(at));
                }
                if let Some(only) = &written.ipv6_only {
                    problems.push(Problem::new("`ipv6_only` is for an IPv6 address").at(&only.place));
                }
            }
        }
        if problems.refuse() { Err(problems) } else { Ok(address) }
    }

    /// Returns whether a socket at `self` prevents one at `other`. Port 0 is another port each time.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { address, ipv6_only }, Self::Tcp { address: other, .. }) => {
                let takes = address.is_ipv4() == other.is_ipv4() || !ipv6_only;
                address.port() != 0
                    && address.port() == other.port()
                    && (address == other || address.ip().is_unspecified() && takes)
            }
            (Self::Unix { path, .. }, Self::Unix { path: other, .. }) => path == other,
            _ => false,
        }
    }
}

impl std::fmt::Display for Address {
    /// Formats as in the configuration.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { address, .. } => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Checks that a socket can be created at a path: its directory exists, and the path is free or a socket.
fn can_hold_a_socket(path: &Path) -> Result<(), Problem> {
    let shown = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match directory.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Problem::new(format!("`{}` is not a directory", directory.display()))),
        // A service manager may create the directory when the process starts.
        Err(error) if error.kind() == ErrorKind::NotFound && !directory.is_symlink() => {
            let problem = Problem::warning(format!("directory `{}` does not exist", directory.display()));
            return Err(problem.help("it must exist when the process starts"));
        }
        Err(error) => return Err(Problem::new(format!("cannot create a socket at `{shown}`: {error}"))),
    }
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            Err(Problem::new(format!("`{shown}` exists and is not a socket"))
                .help("remove it, or use another path"))
        }
        _ => Ok(()),
    }
}

/// Permission bits as for `chmod`: three octal digits, with or without a leading zero.
fn permissions(written: &Placed<String>) -> Result<u32, Problems> {
    let digits = written.strip_prefix("0o").unwrap_or(written);
    let good = matches!(digits.len(), 3 | 4) && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if good && mode <= 0o777 => Ok(mode),
        _ => Err(Problem::new(format!("invalid mode `{}`", written.value))
            .help("write octal digits, 0660 for instance: read and write for owner and group")
            .at(&written.place)
            .into()),
    }
}

/// The ID of a user or group: the number, or that of the name in the system's file.
fn id(written: &Placed<String>, what: &str, file: &str) -> Result<u32, Problems> {
    match written.parse() {
        // chown(2) interprets this value as "unchanged".
        Ok(u32::MAX) => {
            let problem = Problem::new(format!("{} is not a valid {what} ID", u32::MAX));
            return Err(problem.at(&written.place).into());
        }
        Ok(number) => return Ok(number),
        Err(_) => {}
    }
    let at_place = |message: String| Problems::from(Problem::new(message).at(&written.place));
    let text =
        std::fs::read_to_string(file).map_err(|error| at_place(format!("cannot read `{file}`: {error}")))?;
    let entries = || text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entries().find(|fields| fields.first() == Some(&written.as_str()));
    match found.and_then(|fields| fields.get(2)?.parse().ok()) {
        Some(number) => Ok(number),
        None => {
            let problem = Problem::new(format!("unknown {what} `{}` in {file}", written.value));
            let names: Vec<_> =
                entries().filter_map(|fields| fields.first().map(|name| (*name).to_owned())).collect();
            let problem = problem.suggest(written, names.iter().map(String::as_str));
            Err(problem
                .help("write the number of one that is not in this file")
                .at(&written.place)
                .into())
        }
    }
}

/// `prior` are the listeners before a reload, whose handshake queues are kept.
pub(super) fn compile(
    written: Option<&[Placed<config::Listener>]>,
    prior: &[Listener],
    certificates: &mut acme::JobSetBuilder<'_>,
    problems: &mut Problems,
) -> Vec<Listener> {
    let Some(written) = written else {
        return vec![Listener {
            name: "default".into(),
            address: Address::Tcp { address: DEFAULT, ipv6_only: true },
            max_connections: None,
            greeting: None,
            handshakes: None,
        }];
    };
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.len());
    for listener in written {
        let Some(address) = problems.keep(Address::compile(listener)) else { continue };
        let name = listener.name.as_ref().unwrap_or(&listener.address);
        if listeners.iter().any(|known| *known.name == *name.value) {
            problems.push(Problem::new(format!("two listeners are named `{}`", name.value)).at(&name.place));
        }
        if let Some(known) = listeners.iter().find(|known| are_rivals(&known.address, &address)) {
            problems.push(rivals(&known.name, &known.address, &address).at(&listener.address.place));
        }
        let max_connections = listener.max_connections.map(|most| most.get() as usize);
        let prior = prior.iter().find(|known| *known.name == *name.value);
        let handshakes = HandshakeLimiter::carry(
            listener.handshake_rate,
            prior.and_then(|prior| prior.handshakes.as_ref()),
        );
        let before = prior.and_then(|prior| prior.greeting.as_deref());
        let greeting =
            ListenerProtocols::compile(listener, &name.value, &address, before, certificates, problems);
        let greeting = problems.keep(greeting).flatten();
        let name = name.value.as_str().into();
        listeners.push(Listener { name, address, max_connections, greeting, handshakes });
    }
    warn_of_ipv6_alone(written, &listeners, problems);
    warn_of_unseen_proofs(written, problems);
    if written.is_empty() {
        problems.push(
            Problem::new("`listeners` is empty: no client could connect")
                .help("omit it to listen on 127.0.0.1:8080"),
        );
    }
    listeners
}

fn are_rivals(one: &Address, other: &Address) -> bool {
    one.covers(other) || other.covers(one)
}

/// Reports two addresses of which only one can be bound.
fn rivals(name: &str, known: &Address, address: &Address) -> Problem {
    if known == address {
        return Problem::new(format!("two listeners have the address {address}"));
    }
    let problem = Problem::new(format!("cannot listen on both {address} and {known} of `{name}`"));
    let (wide, narrow) = if known.covers(address) { (known, address) } else { (address, known) };
    problem.help(format!("{wide} accepts connections to {narrow} too; keep one of them"))
}

/// Warns of `[::]:80` alone: whether it accepts IPv4 connections differs between servers.
fn warn_of_ipv6_alone(written: &[Placed<config::Listener>], listeners: &[Listener], problems: &mut Problems) {
    for listener in written.iter().filter(|listener| listener.ipv6_only.is_none()) {
        let Ok(Address::Tcp { address, .. }) = Address::parse(&listener.address.value) else { continue };
        let ipv4 = |known: &Listener| matches!(known.address, Address::Tcp { address: other, .. } if other.is_ipv4() && other.port() == address.port());
        if address.is_ipv6() && address.ip().is_unspecified() && !listeners.iter().any(ipv4) {
            let problem = Problem::warning(format!("{address} accepts only IPv6 connections"));
            let help =
                "`ipv6_only: false` accepts IPv4 connections too; `ipv6_only: true` confirms IPv6 only";
            problems.push(problem.help(help).at(&listener.address.place));
        }
    }
}

/// Warns if http-01 validation cannot reach the gateway: it connects to port 80 without TLS, or follows a
/// redirect from there.
fn warn_of_unseen_proofs(written: &[Placed<config::Listener>], problems: &mut Problems) {
    if written.iter().any(|listener| listener.tls.is_none()) {
        return;
    }
    let acme = written.iter().filter_map(|listener| listener.tls.as_ref()?.acme.as_ref());
    for acme in acme.filter(|acme| acme.challenge == config::Challenge::Http01) {
        problems.push(
            Problem::warning("`http-01` without a listener for HTTP without TLS")
                .help("the CA connects to port 80: add a listener, or use `tls-alpn-01`")
                .at(&acme.place),
        );
    }
}

pub(super) fn compile_admin(
    written: Option<&Placed<config::Admin>>,
    listeners: &[Listener],
    problems: &mut Problems,
) -> Option<AdminAddress> {
    let admin = written?;
    match bind_address(&admin.address.value, admin.token.as_deref()) {
        Ok(address) => {
            let bound = Address::Tcp { address, ipv6_only: true };
            if let Some(known) = listeners.iter().find(|known| are_rivals(&known.address, &bound)) {
                problems.push(rivals(&known.name, &known.address, &bound).at(&admin.address.place));
            }
            Some(AdminAddress { address, token: admin.token.clone() })
        }
        Err(problem) => {
            problems.push(problem.at(&admin.address.place));
            None
        }
    }
}

/// The address to bind: an `ip:port` on the loopback, or any with a token.
///
/// # Errors
/// When it is no `ip:port`, when the token cannot be sent in a header field, or when a public address has no
/// token. The unspecified addresses `0.0.0.0` and `[::]` are public.
fn bind_address(address: &str, token: Option<&str>) -> Result<SocketAddr, Problem> {
    let Ok(parsed) = address.parse::<SocketAddr>() else {
        return Err(Problem::new(format!("the admin address `{address}` is not ip:port"))
            .help("write for instance 127.0.0.1:9901 or [::1]:9901"));
    };
    let sendable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if token.is_some_and(|token| token.trim_ascii().is_empty() || !token.bytes().all(sendable)) {
        return Err(Problem::new(
            "the admin token is empty or has characters that cannot be sent in a header field",
        )
        .help("use letters, digits and punctuation, for instance from `openssl rand -hex 32`"));
    }
    if token.is_none() && !parsed.ip().to_canonical().is_loopback() {
        return Err(Problem::new(format!("the admin address `{address}` is public and has no token"))
            .label("any client that reaches it could read the status and reload")
            .help("bind it to 127.0.0.1, or set `admin.token`"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Severity;

    #[test]
    fn a_public_address_wants_a_token() {
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert!(bind_address(address, None).unwrap_err().message.contains("public"), "{address}");
            assert!(bind_address(address, Some("secret")).is_ok(), "{address}");
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(bind_address(address, None).is_ok(), "{address}");
        }
    }

    #[test]
    fn addresses_and_tokens_that_cannot_work_are_refused() {
        for address in ["", "9901", "localhost:9901", "127.0.0.1", "127.0.0.1:99999", "unix:/a"] {
            assert!(bind_address(address, Some("secret")).is_err(), "{address}");
        }
        for token in ["", " ", "č", "a\n"] {
            assert!(bind_address("127.0.0.1:1", Some(token)).is_err(), "{token}");
        }
    }

    #[test]
    fn an_address_covers_those_whose_connections_it_accepts() {
        let address = |text: &str| match text.strip_suffix('+') {
            Some(text) => match Address::parse(text).unwrap() {
                Address::Tcp { address, .. } => Address::Tcp { address, ipv6_only: false },
                unix @ Address::Unix { .. } => unix,
            },
            None => Address::parse(text).unwrap(),
        };
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80+", "127.0.0.1:80"),
            ("[::]:80+", "0.0.0.0:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("unix:/a", "unix:/a"),
        ] {
            assert!(are_rivals(&address(one), &address(other)), "{one} {other}");
            assert!(are_rivals(&address(other), &address(one)), "{other} {one}");
        }
        for (one, other) in [
            ("0.0.0.0:80", "127.0.0.1:81"),
            ("0.0.0.0:0", "127.0.0.1:0"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::1]:80+", "127.0.0.1:80"),
            ("127.0.0.2:80", "127.0.0.1:80"),
            ("unix:/a", "unix:/b"),
            ("unix:/a", "127.0.0.1:80"),
        ] {
            assert!(!are_rivals(&address(one), &address(other)), "{one} {other}");
            assert!(!are_rivals(&address(other), &address(one)), "{other} {one}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_names_are_those_of_the_system() {
        let placed = |text: &str| Placed { value: text.to_owned(), place: moongate_config::Place::nowhere() };
        for (text, mode) in [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("777", 0o777)] {
            assert_eq!(permissions(&placed(text)).unwrap(), mode, "{text}");
        }
        for text in ["", "6", "66", "0888", "1777", "rw-rw----", "-660", "+660", "00660"] {
            assert!(permissions(&placed(text)).is_err(), "{text}");
        }
        assert_eq!(id(&placed("root"), "user", "/etc/passwd").unwrap(), 0);
        assert_eq!(id(&placed("4711"), "user", "/etc/passwd").unwrap(), 4711);
        assert!(id(&placed("nobody-of-that-name"), "group", "/etc/group").is_err());
        assert!(id(&placed("4294967295"), "user", "/etc/passwd").is_err());
    }

    #[test]
    fn a_socket_needs_a_directory_and_a_free_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for free in ["free", "socket", "dir/free"] {
            assert!(can_hold_a_socket(&at(free)).is_ok(), "{free}");
        }
        for taken in ["file", "dir", "dangling", "file/x", "dangling/x"] {
            assert_eq!(can_hold_a_socket(&at(taken)).unwrap_err().severity, Severity::Error, "{taken}");
        }
        assert_eq!(can_hold_a_socket(&at("none/x")).unwrap_err().severity, Severity::Warning);
    }
}
