//! Addresses to listen on: TCP, or a Unix socket with its owner and mode, and which of them exclude each other.

use crate::config;
use moongate_config::{Placed, Problem, Problems};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `ip:port` or `[ip]:port`.
    Tcp {
        /// An IPv4 address is never written as an IPv6 one.
        address: SocketAddr,
        /// Whether an IPv6 address refuses IPv4 connections.
        ipv6_only: bool,
    },
    /// `unix:/path`.
    Unix {
        /// The file.
        path: PathBuf,
        /// The permissions of the socket.
        access: Access,
    },
}

/// Permissions of a Unix socket; `None`: by the umask and the user of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The permission bits.
    pub mode: Option<u32>,
    /// The owner's user ID.
    pub owner: Option<u32>,
    /// The group's ID.
    pub group: Option<u32>,
}

impl Address {
    /// Reads `ip:port`, `[ip]:port` or `unix:/path`.
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

    /// The address of a listener, with the settings that belong to its socket.
    ///
    /// # Errors
    /// Every problem of the settings, with its place.
    pub(super) fn compile(written: &config::Listener) -> Result<Self, Problems> {
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

    /// Whether a socket at `self` leaves none for `other`. Port 0 is another port each time.
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

/// Whether a socket can be made at a path: in a directory that exists, and in the place of nothing but a socket.
fn can_hold_a_socket(path: &Path) -> Result<(), Problem> {
    let shown = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match directory.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Problem::new(format!("`{}` is not a directory", directory.display()))),
        // A service manager may make it when the process starts.
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

/// Permission bits as `chmod` takes them: three octal digits, with or without a zero before them.
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

/// The number of a user or a group: the number itself, or that of the name in the file where the system keeps them.
fn id(written: &Placed<String>, what: &str, file: &str) -> Result<u32, Problems> {
    match written.parse() {
        // To chown(2) it means that nothing changes.
        Ok(u32::MAX) => {
            let problem = Problem::new(format!("{} is not a valid {what} ID", u32::MAX));
            return Err(problem.at(&written.place).into());
        }
        Ok(number) => return Ok(number),
        Err(_) => {}
    }
    let wrong = |message: String| Problems::from(Problem::new(message).at(&written.place));
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(format!("cannot read `{file}`: {error}")))?;
    let entries = || text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entries().find(|fields| fields.first() == Some(&written.as_str()));
    match found.and_then(|fields| fields.get(2)?.parse().ok()) {
        Some(number) => Ok(number),
        None => {
            let problem = Problem::new(format!("unknown {what} `{}` in {file}", written.value));
            let names: Vec<_> =
                entries().filter_map(|fields| fields.first().map(|name| (*name).to_owned())).collect();
            let problem = problem.suggest(written, names.iter().map(String::as_str));
            Err(problem.help("use a numeric ID if the name is not in this file").at(&written.place).into())
        }
    }
}

/// Whether only one of two addresses can be bound.
pub(super) fn are_rivals(one: &Address, other: &Address) -> bool {
    one.covers(other) || other.covers(one)
}

/// Two addresses of which only one can be bound.
pub(super) fn rivals(name: &str, known: &Address, address: &Address) -> Problem {
    if known == address {
        return Problem::new(format!("two listeners have the address {address}"));
    }
    let problem = Problem::new(format!("cannot listen on both {address} and {known} of `{name}`"));
    let (wide, narrow) = if known.covers(address) { (known, address) } else { (address, known) };
    problem.help(format!("{wide} accepts connections to {narrow} too; keep one of them"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Severity;

    #[test]
    fn an_address_covers_those_whose_connections_it_takes() {
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
