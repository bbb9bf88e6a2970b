//! The listeners for clients and the admin listener.

use super::ListenerProtocols;
use super::listen_address::{Address, are_rivals, rivals};
use crate::acme;
use crate::config;
use crate::limit::{HandshakeLimiter, Stores};
use moongate_config::{Placed, Problem, Problems};
use std::net::SocketAddr;
use std::sync::Arc;

/// The listen address without a `listeners` section.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

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
    pub protocols: Option<Arc<ListenerProtocols>>,
    /// Limits WebSocket handshakes; `None` without a limit.
    pub handshake_limiter: Option<Arc<HandshakeLimiter>>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress {
    /// The address.
    pub address: SocketAddr,
    /// The required token; always set for a public address.
    pub token: Option<String>,
    /// Whether an operator may tap WebSockets.
    pub tap: bool,
}

/// `prior` are the listeners before a reload: waiting handshakes keep their position.
pub(super) fn compile(
    written: Option<&[Placed<config::Listener>]>,
    prior: &[Listener],
    stores: &Stores,
    certificates: &mut acme::JobSetBuilder<'_>,
    problems: &mut Problems,
) -> Vec<Listener> {
    let Some(written) = written else {
        return vec![Listener {
            name: "default".into(),
            address: Address::Tcp { address: DEFAULT, ipv6_only: true },
            max_connections: None,
            protocols: None,
            handshake_limiter: None,
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
        let handshake_limiter = stores.handshake_limiter(
            listener.handshake_rate.as_ref(),
            &format!("listener/{}", name.value),
            prior.and_then(|prior| prior.handshake_limiter.as_ref()),
        );
        let handshake_limiter = problems.keep(handshake_limiter.map_err(Problems::from)).flatten();
        let before = prior.and_then(|prior| prior.protocols.as_deref());
        let protocols = ListenerProtocols::compile(
            listener,
            &name.value,
            &address,
            before,
            stores,
            certificates,
            problems,
        );
        let protocols = problems.keep(protocols).flatten();
        let name = name.value.as_str().into();
        listeners.push(Listener { name, address, max_connections, protocols, handshake_limiter });
    }
    warn_of_ipv6_alone(written, &listeners, problems);
    warn_of_unseen_proofs(written, problems);
    if written.is_empty() {
        problems.push(
            Problem::new("`listeners` is empty: no client can connect")
                .help("omit it to listen on 127.0.0.1:8080"),
        );
    }
    listeners
}

/// Warns of `[::]`, which accepts IPv4 in some servers and not in others.
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
            Problem::warning("`http-01` needs a listener without TLS, and none is configured")
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
    let token = admin.token.as_ref().map(|token| token.value.as_str());
    if let Some(written) = admin.token.as_ref().filter(|token| !is_sendable(token)) {
        let problem =
            Problem::new("the admin token is empty or has characters that cannot be sent in a header field");
        let help = "use letters, digits and punctuation, for instance from `openssl rand -hex 32`";
        problems.push(problem.help(help).at(&written.place));
    }
    if let Some(tap) = admin.tap.as_ref().filter(|tap| tap.value && token.is_none()) {
        let problem = Problem::new("`tap: true` needs `token`, also on a loopback address");
        let help =
            "a tap shows the messages of clients; add `token:`, for instance from `openssl rand -hex 32`";
        problems.push(problem.help(help).at(&tap.place));
    }
    let tap = admin.tap.as_ref().is_some_and(|tap| tap.value);
    match bind_address(&admin.address.value, token) {
        Ok(address) => {
            let bound = Address::Tcp { address, ipv6_only: true };
            if let Some(known) = listeners.iter().find(|known| are_rivals(&known.address, &bound)) {
                problems.push(rivals(&known.name, &known.address, &bound).at(&admin.address.place));
            }
            Some(AdminAddress { address, token: token.map(str::to_owned), tap })
        }
        Err(problem) => {
            problems.push(problem.at(&admin.address.place));
            None
        }
    }
}

/// Returns whether a token can be sent in a header field.
fn is_sendable(token: &str) -> bool {
    let fits = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    !token.trim_ascii().is_empty() && token.bytes().all(fits)
}

/// The address to bind: an `ip:port` on the loopback, or any with a token.
///
/// # Errors
/// When it is no `ip:port`, or when a public address has no token. The unspecified addresses `0.0.0.0` and `[::]`
/// are public.
fn bind_address(address: &str, token: Option<&str>) -> Result<SocketAddr, Problem> {
    let Ok(parsed) = address.parse::<SocketAddr>() else {
        return Err(Problem::new(format!("the admin address `{address}` is not ip:port"))
            .help("write for instance 127.0.0.1:9901 or [::1]:9901"));
    };
    if token.is_none() && !parsed.ip().to_canonical().is_loopback() {
        return Err(Problem::new(format!("the admin address `{address}` is public and has no token"))
            .label("any client could read the status and reload the configuration")
            .help("bind it to 127.0.0.1, or set `admin.token`"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

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
            assert!(!is_sendable(token), "{token}");
        }
    }
}
