//! Warnings about endpoints that are listeners of this process, which would loop requests.

use super::listen_address::Address;
use super::listeners::Listener;
use crate::config::{Config, EndpointEntry, UpstreamRef};
use crate::net::is_own_address;
use moongate_config::{Place, Placed, Problem};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Warns of each such endpoint.
pub(super) fn warnings(spec: &Config, listeners: &[Listener]) -> Vec<Problem> {
    let of_upstreams = spec.upstreams.values().flat_map(|upstream| &upstream.endpoints.value);
    let of_routes = spec.routes.iter().flat_map(|route| match route.upstream.as_deref() {
        Some(UpstreamRef::Inline(endpoints)) => &endpoints[..],
        Some(UpstreamRef::Name(_) | UpstreamRef::Weighted(_)) | None => &[],
    });
    of_upstreams.chain(of_routes).filter_map(|endpoint| warning(endpoint, listeners)).collect()
}

fn warning(endpoint: &Placed<EndpointEntry>, listeners: &[Listener]) -> Option<Problem> {
    let text = endpoint.address();
    let place: &Place = &endpoint.place;
    let listener = listeners.iter().find(|listener| leads_to(text, &listener.address))?;
    Some(
        Problem::warning(format!("`{text}` is the listener `{}` of this gateway", listener.name))
            .label("requests would loop")
            .help("use the address of the backend; a loop ends with 508 at the fifth pass")
            .at(place),
    )
}

/// Returns whether connections to an endpoint reach a listener with this address, as far as known without a
/// resolver.
fn leads_to(endpoint: &str, listener: &Address) -> bool {
    match listener {
        Address::Unix { path, .. } => {
            endpoint.strip_prefix("unix:").is_some_and(|own| Path::new(own) == path)
        }
        Address::Tcp { address, ipv6_only } => {
            targets(endpoint).iter().any(|target| takes(*address, *ipv6_only, *target))
        }
    }
}

/// The addresses of an endpoint: that of `ip:port`, and the loopback ones of `localhost:port` (RFC 6761
/// §6.3).
fn targets(endpoint: &str) -> Vec<SocketAddr> {
    if let Ok(address) = endpoint.parse::<SocketAddr>() {
        return vec![SocketAddr::new(address.ip().to_canonical(), address.port())];
    }
    let Some((name, port)) = endpoint.rsplit_once(':') else { return Vec::new() };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let Ok(port) = port.parse() else { return Vec::new() };
    if name != "localhost" && !name.ends_with(".localhost") {
        return Vec::new();
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    loopback.map(|ip| SocketAddr::new(ip, port)).into()
}

fn takes(listener: SocketAddr, ipv6_only: bool, target: SocketAddr) -> bool {
    // Port 0 is any free one.
    if listener.port() != target.port() || target.port() == 0 {
        return false;
    }
    // Connecting to the unspecified address connects to this machine.
    let ip = match target.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let same_family = listener.is_ipv4() == ip.is_ipv4() || (listener.is_ipv6() && !ipv6_only);
    listener.ip() == ip
        || (listener.ip().is_unspecified() && same_family && (ip.is_loopback() || is_own_address(ip)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn an_endpoint_that_is_a_listener_is_found() {
        for (endpoint, listener, is_own) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.2:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("localhost:80", "127.0.0.1:80", true),
            ("LOCALHOST.:80", "[::]:80", true),
            ("app.localhost:80", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("unix:/run/a", "unix:/run/a", true),
            ("127.0.0.1:81", "127.0.0.1:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "[::]:80", false),
            ("192.0.2.1:80", "0.0.0.0:80", false),
            ("example.com:80", "0.0.0.0:80", false),
            ("unix:/run/b", "unix:/run/a", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(
                leads_to(endpoint, &Address::parse(listener).unwrap()),
                is_own,
                "{endpoint} {listener}"
            );
        }
    }
}
