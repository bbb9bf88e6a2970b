//! The balancers in front of a listener that tell of their clients by the PROXY protocol.

use super::cidr_set::Peers;
use super::listen_address::Address;
use crate::config;
use crate::telemetry::metrics::PreambleMetrics;
use moongate_config::{Placed, Problem, Problems};
use std::net::IpAddr;
use std::sync::Arc;

/// In the list: whoever reaches the listener's Unix socket.
const UNIX: &str = "unix";

/// Whose connections begin with a PROXY header.
#[derive(Debug)]
pub struct Balancers {
    known: Known,
    /// Counts the connections that are ended for their header.
    pub metrics: Arc<PreambleMetrics>,
}

#[derive(Debug)]
enum Known {
    /// Those of these addresses.
    At(Peers),
    /// All: the rights on the Unix socket's file say who that is.
    OnSocket,
}

impl Balancers {
    /// Compiles what was written for a listener of that name at that address.
    ///
    /// # Errors
    /// An empty list, what is no address, and what cannot be at that address. Warnings go into `warnings`.
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
            problems
                .push(problem.help("name the balancers, or leave `proxy_protocol` out").at(&written.place));
        }
        let known = match address {
            Address::Tcp { .. } => Known::At(addresses(from, &mut problems)),
            Address::Unix { .. } => {
                for wrong in from.iter().filter(|entry| entry.value != UNIX) {
                    let problem = Problem::new("whoever connects to a Unix socket has no address");
                    problems.push(problem.help("write `from: [unix]`").at(&wrong.place));
                }
                Known::OnSocket
            }
        };
        if matches!(&known, Known::At(peers) if peers.are_all()) {
            let problem = Problem::warning("everybody is a balancer: each client says by itself who it is");
            warnings
                .push(problem.help("name the balancers alone, as in `from: [10.0.0.5]`").at(&written.place));
        }
        let metrics = PreambleMetrics::of(name);
        if problems.refuse() { Err(problems) } else { Ok(Self { known, metrics }) }
    }

    /// Whether a connection from there begins with a header; `None` is the other end of a Unix socket.
    pub fn include(&self, peer: Option<IpAddr>) -> bool {
        match &self.known {
            Known::At(peers) => peer.is_some_and(|peer| peers.contain(peer)),
            Known::OnSocket => peer.is_none(),
        }
    }
}

fn addresses(from: &[Placed<String>], problems: &mut Problems) -> Peers {
    for wrong in from.iter().filter(|entry| entry.value == UNIX) {
        let problem = Problem::new("`unix` is for a listener at unix:/path");
        problems.push(problem.help("write the balancer's address").at(&wrong.place));
    }
    Peers::read(from.iter().filter(|entry| entry.value != UNIX), problems)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn compile(address: &str, from: &[&str]) -> Result<Balancers, Vec<String>> {
        compile_with(address, from, &mut Problems::default())
    }

    fn compile_with(address: &str, from: &[&str], warnings: &mut Problems) -> Result<Balancers, Vec<String>> {
        let placed = |text: &&str| Placed { value: (*text).to_owned(), place: Place::nowhere() };
        let from = from.iter().map(placed).collect();
        let written = Placed { value: config::ProxyProtocol { from }, place: Place::nowhere() };
        Balancers::compile(&written, "web", &Address::parse(address).unwrap(), warnings)
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
    fn a_list_of_everybody_is_taken_with_a_warning() {
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
