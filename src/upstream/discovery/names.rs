//! Looks the host names of an upstream up, all at a time.

use super::EndpointSource;
use crate::net::resolver::{self, LookupError, Resolution, ResolverKind};
use crate::upstream::address::{Address, Origin};
use futures_util::stream::FuturesUnordered;
use moongate_sdk::log_throttle;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// How soon names are looked up again when one has no address.
const RETRY: Duration = Duration::from_secs(5);

/// How names are looked up.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Lookups {
    /// None: as the server says.
    pub(in crate::upstream) kind: Option<ResolverKind>,
    /// The longest time for which an answer is used.
    pub(in crate::upstream) max_age: Duration,
}

/// A host name with its port.
type Name = (Box<str>, u16);

/// The outcome of one lookup.
pub(in crate::upstream) struct LookedUp {
    name: Name,
    /// It is the first one of this name.
    pub(in crate::upstream) is_first: bool,
    answer: Result<Resolution, LookupError>,
}

/// One lookup.
type Looking = Pin<Box<dyn Future<Output = LookedUp> + Send>>;

/// What came of a lookup.
#[derive(Debug)]
pub(in crate::upstream) struct Learned {
    name: Name,
    /// Whether the name stands for other addresses than before.
    pub(in crate::upstream) is_new: bool,
    /// Whether it gave no address, and keeps what it had.
    pub(in crate::upstream) has_failed: bool,
    /// When it is to be looked up again.
    pub(in crate::upstream) valid_for: Duration,
}

async fn look(name: Name, by: Lookups, is_first: bool) -> LookedUp {
    let answer = resolver::global().lookup(&name.0, by.kind, by.max_age).await;
    LookedUp { name, is_first, answer }
}

impl EndpointSource {
    /// Begins to look every name up, all at the same time.
    pub(in crate::upstream) fn look_up(&self, by: Lookups) -> FuturesUnordered<Looking> {
        let look = |name: Name| -> Looking { Box::pin(look(name, by, true)) };
        self.names().into_iter().map(look).collect()
    }

    /// Looks a name up again after a while, or at once when names are to be looked up in another way.
    pub(in crate::upstream) fn look_up_later(
        &self,
        learned: Learned,
        by: Lookups,
        wait: Duration,
    ) -> Looking {
        let mut changes = resolver::global().changes();
        Box::pin(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The resolver lives as long as the process.
                _ = changes.changed() => {}
            }
            look(learned.name, by, false).await
        })
    }

    /// Takes what a name stands for now.
    pub(in crate::upstream) fn take(&self, upstream: &str, looked_up: LookedUp, by: Lookups) -> Learned {
        let LookedUp { name, answer, .. } = looked_up;
        let (host, port) = (&name.0, name.1);
        let (mut is_new, mut valid_for) = (false, RETRY.min(by.max_age));
        let failure = match answer {
            Ok(answer) => {
                let addresses = answer.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                is_new = self.learn(host, port, addresses);
                valid_for = answer.valid_for.min(by.max_age);
                answer.failure
            }
            Err(error) => Some(error),
        };
        let has_failed = failure.is_some();
        if let Some(error) = failure {
            let message = match self.knows(host, port) {
                true => "host name not resolved; its last addresses are kept",
                false => "host name not resolved; it has no address, and gives the upstream no endpoint",
            };
            if log_throttle::admit(log::Level::Warn, message, &[upstream, host]) {
                log::warn!(upstream, name = &**host, reason:% = error; "{message}");
            }
        }
        Learned { name, is_new, has_failed, valid_for }
    }

    fn names(&self) -> Vec<Name> {
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
