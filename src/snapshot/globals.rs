//! What holds for every request, whatever its route.

use super::cidr_set::Peers;
use super::min_rate::MinRate;
use crate::config::{EscapedSlashes, MergeSlashes, ResolverKind, Server, Via, XForwarded};
use moongate_config::{Placed, Problem, Problems};
use moongate_sdk::ClientPrefix;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What holds for every request.
#[derive(Clone, Debug)]
pub struct GlobalSettings {
    /// How long connections are taken although the process is ending.
    pub drain_delay: Duration,
    /// How long the process may take to end from then on.
    pub grace_period: Duration,
    /// How long a client may take to send a head.
    pub header_timeout: Duration,
    /// How long an idle connection of a client is kept.
    pub keepalive_timeout: Duration,
    /// The longest silence inside a request's body.
    pub body_timeout: Duration,
    /// How long a client may take to read.
    pub send_timeout: Duration,
    /// The lowest rate of a request's body.
    pub body_rate: Option<MinRate>,
    /// The lowest rate at which a client takes a response.
    pub send_rate: Option<MinRate>,
    /// The largest head in bytes.
    pub max_header_size: usize,
    /// What identifies a client in limits and keys.
    pub client_prefix: ClientPrefix,
    /// What happens to X-Forwarded-*.
    pub x_forwarded: XForwarded,
    /// Which messages `Via` is added to.
    pub via: Via,
    /// What happens to escaped slashes, where a route says nothing else.
    pub escaped_slashes: EscapedSlashes,
    /// What happens to several slashes in a row, likewise.
    pub merge_slashes: MergeSlashes,
    /// The name servers to ask; none are those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// What looks them up where an upstream does not say.
    pub resolver: ResolverKind,
    trusted: Peers,
}

impl GlobalSettings {
    /// Whether the word of this peer counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contain(peer)
    }
}

pub(super) fn compile(server: &Server, problems: &mut Problems) -> GlobalSettings {
    GlobalSettings {
        drain_delay: server.drain_delay.0,
        grace_period: server.grace_period.0,
        header_timeout: server.header_timeout.0,
        keepalive_timeout: server.keepalive_timeout.0,
        body_timeout: server.body_timeout.0,
        send_timeout: server.send_timeout.0,
        body_rate: MinRate::of(server.body_min_rate),
        send_rate: MinRate::of(server.send_min_rate),
        max_header_size: usize::try_from(server.max_header_size.0).unwrap_or(usize::MAX),
        client_prefix: server.client_ipv6_prefix,
        x_forwarded: server.x_forwarded,
        via: server.via,
        escaped_slashes: server.escaped_slashes,
        merge_slashes: server.merge_slashes,
        resolver: server.resolver,
        name_servers: name_servers(&server.name_servers, problems),
        trusted: Peers::read(&server.trusted_proxies, problems),
    }
}

/// The port of a name server that none is written for (RFC 1035 §4.2).
const DNS: u16 = 53;

fn name_servers(written: &[Placed<String>], problems: &mut Problems) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = Vec::with_capacity(written.len());
    for one in written {
        let address = one.value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
        let wrong = match address.or_else(|_| one.value.parse::<SocketAddr>()) {
            Ok(server) if server.port() == 0 => format!("no name server listens on port 0: `{}`", one.value),
            Ok(server) if servers.contains(&server) => format!("name server `{}` is listed twice", one.value),
            Ok(server) => {
                servers.push(server);
                continue;
            }
            Err(_) => format!("bad address `{}` of a name server", one.value),
        };
        problems.push(
            Problem::new(wrong)
                .help("write ip or ip:port, as 10.0.0.2 or [2001:db8::53]:5353")
                .at(&one.place),
        );
    }
    servers
}
