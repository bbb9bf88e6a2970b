//! Looks the host names of an upstream up, all at a time.

use super::Source;
use crate::resolver::{self, Answer, LookupError, ResolverKind};
use crate::upstream::address::{Address, Origin};
use futures_util::stream::FuturesUnordered;
use moongate_sdk::repeated;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// How soon names are looked up again when one has no address.
const RETRY: Duration = Duration::from_secs(5);

/// How names are looked up.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Lookups {
    pub(in crate::upstream) kind: ResolverKind,
    /// The longest time for which an answer is used.
    pub(in crate::upstream) max_age: Duration,
}

/// The outcome of one lookup.
pub(in crate::upstream) struct LookedUp {
    host: Box<str>,
    port: u16,
    answer: Result<Answer, LookupError>,
}

/// One lookup.
type Looking = Pin<Box<dyn Future<Output = LookedUp> + Send>>;

/// What came of one round of lookups.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Round {
    /// When the first of the answers is to be asked for again.
    pub(in crate::upstream) valid_for: Duration,
    /// Names that gave no address; they keep what they had.
    pub(in crate::upstream) failures: u64,
}

impl Source {
    /// Begins to look every name up, all at the same time.
    pub(in crate::upstream) fn look_up(&self, by: Lookups) -> FuturesUnordered<Looking> {
        let look = |(host, port): (Box<str>, u16)| -> Looking {
            Box::pin(async move {
                let answer = resolver::global().lookup(&host, by.kind, by.max_age).await;
                LookedUp { host, port, answer }
            })
        };
        self.names().into_iter().map(look).collect()
    }

    /// Takes what a name stands for now. Returns whether that is something new.
    pub(in crate::upstream) fn take(&self, upstream: &str, looked_up: LookedUp, round: &mut Round) -> bool {
        let LookedUp { host, port, answer } = looked_up;
        let mut changed = false;
        let failure = match answer {
            Ok(answer) => {
                let addresses = answer.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                changed = self.learn(&host, port, addresses);
                round.valid_for = round.valid_for.min(answer.valid_for);
                answer.failure
            }
            Err(error) => {
                round.valid_for = round.valid_for.min(RETRY);
                Some(error)
            }
        };
        if let Some(error) = failure {
            const MESSAGE: &str = "host name not resolved; keeping what is known";
            round.failures += 1;
            if repeated::admit(log::Level::Warn, MESSAGE, &[upstream, &host]) {
                log::warn!(upstream, name = &*host, reason:% = error; "{MESSAGE}");
            }
        }
        changed
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
