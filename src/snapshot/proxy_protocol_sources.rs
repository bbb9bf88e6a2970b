//! PROXY protocol sources: the load balancers in front of a listener that send a PROXY header.

use super::cidr_set::CidrSet;
use super::listen_address::Address;
use crate::config;
use crate::telemetry::metrics::{LazyHandle, ProxyHeaderMetrics};
use moongate_config::{Placed, Problem, Problems};
use std::net::IpAddr;
use std::sync::Arc;

/// In the list: every peer of the listener's Unix socket.
const UNIX: &str = "unix";

/// The sources whose connections begin with a PROXY header.
#[derive(Debug)]
pub struct ProxyProtocolSources {
    known: SourceSet,
    /// Counts the connections closed because of their header.
    pub metrics: LazyHandle<Arc<ProxyHeaderMetrics>>,
}

#[derive(Debug)]
enum SourceSet {
    /// Peers with these addresses.
    At(CidrSet),
    /// All peers: the permissions of the socket file restrict them.
    OnSocket,
}

impl ProxyProtocolSources {
    /// Compiles the sources of a listener with that name and address.
    ///
    /// # Errors
    /// An empty list, an invalid address, and a source that cannot reach that address. Warnings are added to
    /// `warnings`.
    pub(super) fn compile(
        written: &Placed<config::ProxyProtocol>,
        name: &str,
        address: &Address,
        warnings: &mut Problems,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let from = &written.value.from;
        if from.is_empty() {
            let problem = Problem::new("`from` is empty: no connection would begin with a PROXY header");
            problems.push(problem.help("list the load balancers, or omit `proxy_protocol`").at(&from.place));
        }
        let known = match address {
            Address::Tcp { .. } => SourceSet::At(addresses(from, &mut problems)),
            Address::Unix { .. } => {
                for entry in from.iter().filter(|entry| entry.value != UNIX) {
                    let problem = Problem::new("peers of a Unix socket have no address");
                    problems.push(problem.help("write `from: [unix]`").at(&entry.place));
                }
                SourceSet::OnSocket
            }
        };
        if matches!(&known, SourceSet::At(peers) if peers.are_all()) {
            let problem =
                Problem::warning("every client is trusted as a load balancer: it can forge its address");
            warnings
                .push(problem.help("list only the load balancers, as in `from: [10.0.0.5]`").at(&from.place));
        }
        let listener = name.to_owned();
        let metrics = LazyHandle::new(move || ProxyHeaderMetrics::of(&listener));
        if problems.refuse() { Err(problems) } else { Ok(Self { known, metrics }) }
    }

    /// Returns whether a connection from this peer begins with a header; `None` is a peer of a Unix socket.
    pub fn include(&self, peer: Option<IpAddr>) -> bool {
        match &self.known {
            SourceSet::At(peers) => peer.is_some_and(|peer| peers.contain(peer)),
            SourceSet::OnSocket => peer.is_none(),
        }
    }
}

fn addresses(from: &[Placed<String>], problems: &mut Problems) -> CidrSet {
    for entry in from.iter().filter(|entry| entry.value == UNIX) {
        let problem = Problem::new("`unix` is for a listener at unix:/path");
        problems.push(problem.help("write the load balancer's address").at(&entry.place));
    }
    CidrSet::read(from.iter().filter(|entry| entry.value != UNIX), problems)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn compile(address: &str, from: &[&str]) -> Result<ProxyProtocolSources, Vec<String>> {
        compile_with(address, from, &mut Problems::default())
    }

    fn compile_with(
        address: &str,
        from: &[&str],
        warnings: &mut Problems,
    ) -> Result<ProxyProtocolSources, Vec<String>> {
        let placed = |text: &&str| Placed { value: (*text).to_owned(), place: Place::nowhere() };
        let from = Placed { value: from.iter().map(placed).collect(), place: Place::nowhere() };
        let written = Placed { value: config::ProxyProtocol { from }, place: Place::nowhere() };
        ProxyProtocolSources::compile(&written, "web", &Address::parse(address).unwrap(), warnings)
            .map_err(|problems| problems.0.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn listed_addresses_alone_are_balancers() {
        let balancers = compile("0.0.0.0:80", &["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]).unwrap();
        for (address, known) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::1", true),
            ("::1", false),
        ] {
            assert_eq!(balancers.include(Some(address.parse().unwrap())), known, "{address}");
        }
        assert!(!balancers.include(None));
        let unix = compile("unix:/a", &["unix"]).unwrap();
        assert!(unix.include(None) && !unix.include(Some("127.0.0.1".parse().unwrap())));
    }

    #[test]
    fn a_list_of_all_addresses_is_accepted_with_a_warning() {
        for (from, warned) in
            [(&["0.0.0.0/0"][..], true), (&["10.0.0.1", "::/0"], true), (&["10.0.0.0/8", "::1"], false)]
        {
            let mut warnings = Problems::default();
            compile_with("0.0.0.0:80", from, &mut warnings).unwrap();
            assert_eq!(warnings.0.len(), usize::from(warned), "{from:?}");
            assert!(!warnings.refuse());
        }
    }

    #[test]
    fn lists_that_cannot_work_are_refused() {
        assert!(compile("0.0.0.0:80", &[]).unwrap_err()[0].contains("`from` is empty"));
        assert!(compile("unix:/a", &[]).unwrap_err()[0].contains("`from` is empty"));
        assert!(compile("0.0.0.0:80", &["unix"]).unwrap_err()[0].contains("unix:/path"));
        assert!(compile("unix:/a", &["unix", "10.0.0.1"]).unwrap_err()[0].contains("no address"));
        assert_eq!(compile("0.0.0.0:80", &["10.0.0.0/33", "lb.internal", "::1"]).unwrap_err().len(), 2);
    }
}
