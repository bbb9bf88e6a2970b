//! What holds for every request, whatever its route.

use crate::route::PathRules;
use crate::spec::{Server, XForwarded};
use ipnet::IpNet;
use moongate_sdk::{Problem, Problems};
use std::net::IpAddr;
use std::time::Duration;

/// What holds for every request.
#[derive(Clone, Debug)]
pub struct Terms {
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
    /// The largest head in bytes.
    pub max_request_head: usize,
    /// What happens to X-Forwarded-*.
    pub x_forwarded: XForwarded,
    /// Whether `Via` is added.
    pub via: bool,
    /// How targets are read.
    pub target: PathRules,
    trusted: Vec<IpNet>,
}

impl Terms {
    /// Whether the word of this peer counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(&peer))
    }
}

pub(super) fn compile(server: &Server, problems: &mut Problems) -> Terms {
    let mut trusted = Vec::with_capacity(server.trusted_proxies.len());
    for written in &server.trusted_proxies {
        let block =
            written.value.parse::<IpNet>().or_else(|_| written.value.parse::<IpAddr>().map(IpNet::from));
        match block {
            Ok(block) => trusted.push(block),
            Err(_) => problems.push(
                Problem::new(format!("`{}` is neither an address nor a CIDR block", written.value))
                    .at(&written.place)
                    .help("write 10.0.0.1 or 10.0.0.0/8"),
            ),
        }
    }
    Terms {
        drain_delay: server.drain_delay.0,
        grace_period: server.grace_period.0,
        header_timeout: server.header_timeout.0,
        keepalive_timeout: server.keepalive_timeout.0,
        body_timeout: server.body_timeout.0,
        send_timeout: server.send_timeout.0,
        max_request_head: usize::try_from(server.max_request_head.0).unwrap_or(usize::MAX),
        x_forwarded: server.x_forwarded,
        via: server.via,
        target: PathRules { merge_slashes: server.merge_slashes, escaped_slashes: server.escaped_slashes },
        trusted,
    }
}
