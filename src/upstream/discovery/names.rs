//! Resolves host names by the system's resolver, which knows /etc/hosts, search lists and nsswitch.

use super::Source;
use crate::upstream::address::{Address, Origin};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// For one lookup. The system's own patience with two dead name servers is 20 s and more.
const LONGEST_LOOKUP: Duration = Duration::from_secs(5);

/// What came of one round of lookups.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::upstream) struct Round {
    /// Whether any name stands for other addresses than before.
    pub(in crate::upstream) changed: bool,
    /// Names that gave no address; they keep what they had.
    pub(in crate::upstream) failures: u64,
}

impl Source {
    /// Resolves every name once, all at the same time.
    pub(in crate::upstream) async fn resolve(&self, upstream: &str) -> Round {
        // A set that is dropped ends its lookups: nothing outlives a cancelled round.
        let mut lookups = JoinSet::new();
        for (host, port) in self.names() {
            lookups.spawn(async move {
                let answer = lookup(&host, port).await;
                (host, port, answer)
            });
        }
        let mut round = Round::default();
        while let Some(joined) = lookups.join_next().await {
            let Ok((host, port, answer)) = joined else { continue };
            match answer {
                Ok(addresses) => round.changed |= self.learn(&host, port, addresses),
                Err(error) => {
                    round.failures += 1;
                    log::warn!(upstream, name = &*host, reason:% = error; "host name not resolved; keeping what is known");
                }
            }
        }
        round
    }

    fn names(&self) -> Vec<(Box<str>, u16)> {
        let slots = self.slots.lock();
        let name = |origin: &Origin| match origin {
            Origin::Name { host, port } => Some((host.clone(), *port)),
            Origin::Fixed(_) => None,
        };
        slots.iter().filter_map(|slot| name(&slot.line.origin)).collect()
    }

    /// Notes what a name stands for now; whether that is something new.
    pub(in crate::upstream) fn learn(&self, name: &str, number: u16, mut addresses: Vec<SocketAddr>) -> bool {
        // Name servers rotate their answers: in one order, the same set is the same.
        addresses.sort_unstable();
        addresses.dedup();
        let addresses: Vec<_> = addresses.into_iter().map(Address::Tcp).collect();
        let mut slots = self.slots.lock();
        let mut changed = false;
        for slot in &mut *slots {
            let Origin::Name { host, port } = &slot.line.origin else { continue };
            if **host == *name && *port == number && slot.addresses != addresses {
                slot.addresses.clone_from(&addresses);
                changed = true;
            }
        }
        changed
    }
}

async fn lookup(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let answer = tokio::time::timeout(LONGEST_LOOKUP, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<_> = answer.map_err(|_| std::io::ErrorKind::TimedOut)??.collect();
    if addresses.is_empty() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}
