//! Settings that apply to every request, regardless of its route.

use super::cidr_set::CidrSet;
use super::min_rate::MinRate;
use super::request_limits::RequestLimits;
use crate::config::{EscapedSlashes, MergeSlashes, ResolverKind, Server, Via, XForwarded};
use moongate_config::{Period, Placed, Problem, Problems};
use moongate_sdk::ClientPrefix;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A time that no connection reaches; clocks and timers can add it.
const FOREVER: Duration = Duration::from_secs(3650 * 86_400);

/// Settings that apply to every request.
#[derive(Clone, Debug)]
pub struct GlobalSettings {
    /// How long connections are accepted after shutdown began.
    pub drain_delay: Duration,
    /// The time limit of the shutdown from then on.
    pub grace_period: Duration,
    /// How long an idle downstream connection is kept; zero means no keep-alive.
    pub keepalive_timeout: Duration,
    /// The maximum time without data inside a request body; `FOREVER` without a limit.
    pub body_timeout: Duration,
    /// The maximum time without progress while a response is sent; `FOREVER` without a limit.
    pub send_timeout: Duration,
    /// The limits of a request. The time for its header is `FOREVER` without a limit.
    pub request_limits: Arc<RequestLimits>,
    /// The prefix lengths that identify a client in limits and keys.
    pub client_prefix: ClientPrefix,
    /// The policy for X-Forwarded-*.
    pub x_forwarded: XForwarded,
    /// The messages that `Via` is added to.
    pub via: Via,
    /// The policy for escaped slashes, unless the route has its own.
    pub escaped_slashes: EscapedSlashes,
    /// The policy for repeated slashes, unless the route has its own.
    pub merge_slashes: MergeSlashes,
    /// The name servers; empty for those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// The resolver, unless the upstream has its own.
    pub resolver: ResolverKind,
    trusted: CidrSet,
}

impl GlobalSettings {
    /// Returns whether the forwarding fields of this peer are trusted.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contain(peer)
    }
}

pub(super) fn compile(server: &Server, problems: &mut Problems) -> GlobalSettings {
    GlobalSettings {
        drain_delay: server.drain_delay.0,
        grace_period: server.grace_period.0,
        keepalive_timeout: server.keepalive_timeout.0,
        body_timeout: limit(server.body_timeout),
        send_timeout: limit(server.send_timeout),
        request_limits: Arc::new(RequestLimits {
            time: limit(server.header_timeout),
            size: usize::try_from(server.max_header_size.0).unwrap_or(usize::MAX),
            body_rate: MinRate::of(server.body_min_rate),
            send_rate: MinRate::of(server.send_min_rate),
        }),
        client_prefix: server.client_ipv6_prefix,
        x_forwarded: server.x_forwarded,
        via: server.via,
        escaped_slashes: server.escaped_slashes,
        merge_slashes: server.merge_slashes,
        resolver: server.resolver,
        name_servers: name_servers(&server.name_servers, problems),
        trusted: CidrSet::read(&server.trusted_proxies, problems),
    }
}

/// A time limit, which `0s` turns off.
fn limit(written: Period) -> Duration {
    if written.0.is_zero() { FOREVER } else { written.0 }
}

/// The default port of a name server (RFC 1035 §4.2).
const DNS: u16 = 53;

fn name_servers(written: &[Placed<String>], problems: &mut Problems) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = Vec::with_capacity(written.len());
    for one in written {
        let address = one.value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
        let message = match address.or_else(|_| one.value.parse::<SocketAddr>()) {
            Ok(server) if server.port() == 0 => format!("name server `{}` has port 0", one.value),
            Ok(server) if servers.contains(&server) => format!("name server `{}` is listed twice", one.value),
            Ok(server) => {
                servers.push(server);
                continue;
            }
            Err(_) => format!("invalid name server address `{}`", one.value),
        };
        problems.push(
            Problem::new(message)
                .help("write ip or ip:port, as 10.0.0.2 or [2001:db8::53]:5353")
                .at(&one.place),
        );
    }
    servers
}
