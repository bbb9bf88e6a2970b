//! Service discovery: configured addresses, and the current addresses of host names.
//!
//! pingora-load-balancing asks [`EndpointSource`] for the membership and gets it from memory: a slow name
//! server delays no request. `names` does the lookups outside the request path.

mod names;

pub(super) use names::Lookups;

use super::address::{Address, Origin};
use super::balance::Tier;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// One entry of an upstream's list of endpoints.
#[derive(Clone, Debug)]
pub(super) struct EndpointSpec {
    pub(super) origin: Origin,
    pub(super) settings: MemberSettings,
}

/// The settings of an entry that apply to each of its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct MemberSettings {
    pub(super) weight: u16,
    /// Whether the entry has `drain: true`.
    pub(super) marked: bool,
    pub(super) tier: Tier,
    /// `max_connections`.
    pub(super) limit: Option<NonZeroU32>,
}

/// What an entry says of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BackendEntry {
    pub(super) settings: MemberSettings,
    /// The host name that resolved to the backend.
    pub(super) host: Option<Arc<str>>,
}

impl BackendEntry {
    fn of(entry: &EndpointSpec) -> Self {
        let host = match &entry.origin {
            Origin::Name { host, .. } => Some(Arc::from(&**host)),
            Origin::Fixed(_) => None,
        };
        Self { settings: entry.settings, host }
    }

    /// The backend at an address. pingora-load-balancing compares backends by address and weight alone, and
    /// installs a membership only if it differs. So its weight is a digest of the whole entry: the same address
    /// may be found through another name, in another tier.
    fn at(self, address: &Address) -> Option<Backend> {
        let mut digest = DefaultHasher::new();
        self.hash(&mut digest);
        let mut ext = http::Extensions::new();
        ext.insert(self);
        // Truncated on 32-bit machines, which makes equal digests less unlikely and nothing else.
        Some(Backend { addr: address.to_engine()?, weight: digest.finish() as usize, ext })
    }
}

/// The addresses of a host name, for the process that takes over in an upgrade.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct NameState {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<SocketAddr>,
}

/// An entry with its addresses.
#[derive(Debug)]
struct Slot {
    line: EndpointSpec,
    /// The current addresses; empty for a name that was never resolved.
    addresses: Vec<Address>,
}

/// The endpoints of one upstream, with the addresses of its names.
#[derive(Debug)]
pub(super) struct EndpointSource {
    slots: Mutex<Vec<Slot>>,
    has_names: bool,
}

impl EndpointSource {
    /// Creates the source; names start with their addresses in `prior`, or without any.
    pub(super) fn new(lines: Vec<EndpointSpec>, prior: Option<&Self>) -> Arc<Self> {
        let known = prior.map(Self::resolved).unwrap_or_default();
        let has_names = lines.iter().any(|line| matches!(line.origin, Origin::Name { .. }));
        let slot = |line: EndpointSpec| {
            let addresses = match &line.origin {
                Origin::Fixed(address) => vec![address.clone()],
                Origin::Name { .. } => known.get(&line.origin).cloned().unwrap_or_default(),
            };
            Slot { line, addresses }
        };
        Arc::new(Self { slots: Mutex::new(lines.into_iter().map(slot).collect()), has_names })
    }

    /// Whether a name has addresses.
    fn knows(&self, host: &str, port: u16) -> bool {
        let is_it = |origin: &Origin| matches!(origin, Origin::Name { host: known, port: at } if **known == *host && *at == port);
        self.slots.lock().iter().any(|slot| is_it(&slot.line.origin) && !slot.addresses.is_empty())
    }

    /// Whether there is a name to resolve.
    pub(super) fn has_names(&self) -> bool {
        self.has_names
    }

    /// All backends with their entries. If two entries have the same address, the first one applies.
    fn backends(&self) -> BTreeSet<Backend> {
        let slots = self.slots.lock();
        let mut seen = HashSet::new();
        let each = slots.iter().flat_map(|slot| slot.addresses.iter().map(|address| (address, &slot.line)));
        each.filter(|(address, _)| seen.insert(*address))
            .filter_map(|(address, entry)| BackendEntry::of(entry).at(address))
            .collect()
    }

    /// The addresses of the names that have any.
    pub(super) fn name_states(&self) -> Vec<NameState> {
        let slots = self.slots.lock();
        let resolved = slots.iter().filter_map(|slot| {
            let Origin::Name { host, port } = &slot.line.origin else { return None };
            let addresses = slot.addresses.iter().filter_map(|address| match address {
                Address::Tcp(address) => Some(*address),
                Address::Unix(_) => None,
            });
            Some(NameState { host: host.to_string(), port: *port, addresses: addresses.collect() })
        });
        resolved.filter(|name| !name.addresses.is_empty()).collect()
    }

    fn resolved(&self) -> HashMap<Origin, Vec<Address>> {
        let slots = self.slots.lock();
        slots.iter().map(|slot| (slot.line.origin.clone(), slot.addresses.clone())).collect()
    }
}

/// Adapter from [`EndpointSource`] to pingora-load-balancing's `ServiceDiscovery`.
pub(super) struct Discovery(pub(super) Arc<EndpointSource>);

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.backends(), HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::net::resolver::ResolverKind;
    use futures_util::StreamExt;
    use std::time::Duration;

    fn origins(lines: &[(&str, u16)]) -> Vec<EndpointSpec> {
        let line = |(text, weight): &(&str, u16)| EndpointSpec {
            origin: Origin::parse(text).unwrap(),
            settings: MemberSettings { weight: *weight, ..MemberSettings::default() },
        };
        lines.iter().map(line).collect()
    }

    fn weights(source: &EndpointSource) -> Vec<(String, u16)> {
        let weight = |backend: &Backend| backend.ext.get::<BackendEntry>().unwrap().settings.weight;
        source.backends().iter().map(|backend| (backend.addr.to_string(), weight(backend))).collect()
    }

    #[test]
    fn of_two_lines_for_one_address_the_first_counts() {
        let source = EndpointSource::new(origins(&[("127.0.0.1:80", 1), ("web.test:80", 5)]), None);
        let two = vec!["127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()];
        assert!(source.learn("web.test", 80, two));
        assert_eq!(weights(&source), [("127.0.0.1:80".to_owned(), 1), ("127.0.0.2:80".to_owned(), 5)]);
    }

    #[test]
    fn another_entry_for_the_same_address_is_another_backend() {
        let settings = MemberSettings { weight: 1, ..MemberSettings::default() };
        let backends = [
            (settings, None),
            (settings, Some("web.test".into())),
            (MemberSettings { weight: 2, ..settings }, None),
            (MemberSettings { marked: true, ..settings }, None),
            (MemberSettings { tier: Tier::BACKUP, ..settings }, None),
            (MemberSettings { limit: NonZeroU32::new(1), ..settings }, None),
        ]
        .map(|(settings, host)| BackendEntry { settings, host }.at(&Address::Unix("/a".into())).unwrap());
        for (index, backend) in backends.iter().enumerate() {
            assert!(!backends[..index].contains(backend), "{backend:?}");
        }
    }

    #[test]
    fn a_name_keeps_its_addresses_over_a_reload() {
        let before = EndpointSource::new(origins(&[("web.test:80", 1)]), None);
        assert!(weights(&before).is_empty());
        before.learn("web.test", 80, vec!["127.0.0.2:80".parse().unwrap()]);
        let after = EndpointSource::new(origins(&[("web.test:80", 3), ("web.test:81", 1)]), Some(&before));
        assert_eq!(weights(&after), [("127.0.0.2:80".to_owned(), 3)]);
    }

    #[test]
    fn records_in_another_order_are_no_change() {
        let source = EndpointSource::new(origins(&[("web.test:80", 1)]), None);
        let (a, b) = ("127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap());
        assert!(source.learn("web.test", 80, vec![a, b]));
        assert!(!source.learn("web.test", 80, vec![b, a]));
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_failure_keeps_what_was_known() {
        let source = EndpointSource::new(origins(&[("localhost:80", 1), ("nowhere.invalid:80", 1)]), None);
        source.learn("nowhere.invalid", 80, vec!["127.0.0.9:80".parse().unwrap()]);
        let lookups = Lookups { kind: Some(ResolverKind::Hickory), max_age: Duration::from_secs(30) };
        let mut failures = 0;
        let mut changes = 0;
        let mut looking = source.look_up(lookups);
        while let Some(looked_up) = looking.next().await {
            let learned = source.take("web", looked_up, lookups);
            changes += usize::from(learned.is_new);
            failures += usize::from(learned.has_failed);
        }
        assert_eq!(changes, 1);
        assert_eq!(failures, 1);
        let known = weights(&source);
        assert!(known.contains(&("127.0.0.9:80".to_owned(), 1)));
        assert!(known.iter().any(|(address, _)| address == "127.0.0.1:80" || address == "[::1]:80"));
    }
}
