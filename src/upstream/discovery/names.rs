//! Concurrent lookups of an upstream's host names.

use super::{EndpointSource, Slot};
use crate::net::resolver::{self, LookupError, Resolution, ResolverKind};
use crate::upstream::monotonic_millis;
use futures_util::stream::FuturesUnordered;
use moongate_sdk::log_throttle;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// The interval of lookups after a name had no address.
const RETRY: Duration = Duration::from_secs(5);

/// The lookup settings.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Lookups {
    /// `None`: the resolver of the process.
    pub(in crate::upstream) kind: Option<ResolverKind>,
    /// The maximum time for which a result is used.
    pub(in crate::upstream) max_age: Duration,
}

/// A host name with its port.
type Name = (Box<str>, u16);

/// The outcome of one lookup.
pub(in crate::upstream) struct LookupOutcome {
    name: Name,
    /// Whether this is the first lookup of the name.
    pub(in crate::upstream) is_first: bool,
    answer: Result<Resolution, LookupError>,
}

/// A lookup in progress.
type LookupFuture = Pin<Box<dyn Future<Output = LookupOutcome> + Send>>;

/// The effect of a lookup.
#[derive(Debug)]
pub(in crate::upstream) struct LookupUpdate {
    name: Name,
    /// Whether the addresses of the name changed.
    pub(in crate::upstream) is_new: bool,
    /// Whether the lookup returned no address and the previous ones were kept.
    pub(in crate::upstream) has_failed: bool,
    /// When to look the name up again.
    pub(in crate::upstream) valid_for: Duration,
}

async fn look(name: Name, by: Lookups, is_first: bool) -> LookupOutcome {
    let answer = resolver::global().lookup(&name.0, by.kind, by.max_age).await;
    LookupOutcome { name, is_first, answer }
}

impl EndpointSource {
    /// Starts lookups of all names concurrently.
    pub(in crate::upstream) fn look_up(&self, by: Lookups) -> FuturesUnordered<LookupFuture> {
        let look = |name: Name| -> LookupFuture { Box::pin(look(name, by, true)) };
        self.names().into_iter().map(look).collect()
    }

    /// Looks a name up again after a delay, or at once when the resolver settings change.
    pub(in crate::upstream) fn look_up_later(
        &self,
        learned: LookupUpdate,
        by: Lookups,
        wait: Duration,
    ) -> LookupFuture {
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

    /// Records the result of a lookup.
    pub(in crate::upstream) fn take(
        &self,
        upstream: &str,
        looked_up: LookupOutcome,
        by: Lookups,
    ) -> LookupUpdate {
        let LookupOutcome { name, answer, .. } = looked_up;
        let (host, port) = (&name.0, name.1);
        let (mut is_new, mut valid_for) = (false, RETRY.min(by.max_age));
        let failure = match answer {
            Ok(answer) => {
                let addresses: Vec<_> =
                    answer.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                is_new = self.learn(host, port, &addresses);
                valid_for = answer.valid_for.min(by.max_age);
                answer.failure
            }
            Err(error) => Some(error),
        };
        let has_failed = failure.is_some();
        if let Some(error) = failure {
            let message = match self.knows(host, port) {
                true => "host name not resolved; last addresses kept",
                false => "host name not resolved; the upstream has no endpoint of that name",
            };
            if log_throttle::admit(log::Level::Warn, message, &[upstream, host]) {
                log::warn!(upstream, name = &**host, reason:% = error; "{message}");
            }
        }
        LookupUpdate { name, is_new, has_failed, valid_for }
    }

    fn names(&self) -> Vec<Name> {
        let slots = self.slots.lock();
        slots.iter().filter_map(Slot::name).map(|name| (Box::from(&*name.host), name.port)).collect()
    }

    /// Stores the addresses of a name; returns whether its members changed.
    pub(in crate::upstream) fn learn(&self, host: &str, port: u16, addresses: &[SocketAddr]) -> bool {
        let now = monotonic_millis::now();
        let mut slots = self.slots.lock();
        let mut is_changed = false;
        for slot in &mut *slots {
            if let Slot::Name(name) = slot
                && name.is(host, port)
            {
                is_changed |= name.learn(addresses.iter().copied(), now);
            }
        }
        is_changed
    }
}
