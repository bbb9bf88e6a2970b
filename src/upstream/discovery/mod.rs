//! Service discovery: configured addresses, the current addresses of host names, and the members that a discovery kind
//! announces.
//!
//! pingora-load-balancing asks [`EndpointSource`] for the membership and gets it from memory: a slow name
//! server delays no request. `names` does the lookups outside the request path.

mod dns;
mod etcd;
mod feed;
mod file;
mod host_addresses;
mod member_table;
mod name_settings;
mod names;
mod srv;
mod srv_targets;
mod srv_weights;

pub use feed::{Discovery, FeedState, FeedStatus};
pub(super) use feed::{Feed, NewFeed};
pub(super) use names::Lookups;

use super::address::{Address, Origin};
use super::announced::{Announced, Identity, MemberSettings};
use super::monotonic_millis;
use async_trait::async_trait;
use member_table::MemberTable;
use moongate_config::Kind;
use parking_lot::Mutex;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The kinds of `discovery:`, in the order of `moongate kinds`.
pub static DISCOVERY: &[Kind<dyn Discovery>] = &[dns::KIND, srv::KIND, etcd::KIND, file::KIND];

/// How long an address that a name does not resolve to any more is kept.
const HOLD_OF_NAMES: Duration = Duration::from_secs(30);

/// One entry of an upstream's list of endpoints.
#[derive(Clone, Debug)]
pub(super) struct EndpointSpec {
    pub(super) origin: Origin,
    pub(super) settings: MemberSettings,
}

impl Announced {
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

/// An entry of the list with its members.
#[derive(Debug)]
enum Slot {
    Fixed(Address, Announced),
    /// The addresses of a name; empty for one that was never resolved.
    Name(NameSlot),
}

#[derive(Debug)]
struct NameSlot {
    line: EndpointSpec,
    host: Arc<str>,
    port: u16,
    table: MemberTable,
}

impl Slot {
    fn new(line: EndpointSpec, prior: Option<&EndpointSource>) -> Self {
        match &line.origin {
            Origin::Fixed(address) => {
                Self::Fixed(address.clone(), Announced::ready(line.settings, "list".into()))
            }
            Origin::Name { host, port } => {
                let (host, port): (Arc<str>, u16) = (Arc::from(&**host), *port);
                let mut slot = NameSlot { line, host, port, table: MemberTable::new(HOLD_OF_NAMES) };
                let known = prior.map(|prior| prior.resolved(&slot.host, port)).unwrap_or_default();
                slot.learn(known, monotonic_millis::now());
                Self::Name(slot)
            }
        }
    }

    fn name(&self) -> Option<&NameSlot> {
        match self {
            Self::Fixed(..) => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl NameSlot {
    fn is(&self, host: &str, port: u16) -> bool {
        *self.host == *host && self.port == port
    }

    fn learn(&mut self, addresses: impl IntoIterator<Item = SocketAddr>, now: u64) -> bool {
        let announced = Announced {
            host: Some(Arc::clone(&self.host)),
            ..Announced::ready(self.line.settings, format!("dns {}", self.host).into())
        };
        let member = |address| (Identity { address: Address::Tcp(address), uid: None }, announced.clone());
        self.table.replace(addresses.into_iter().map(member).collect(), now)
    }

    /// The addresses that the name has, or had until a moment ago.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.table.iter().filter_map(|(address, _)| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        })
    }
}

/// The endpoints of one upstream: those of its list, with the addresses of its names, or those of its discovery.
#[derive(Debug)]
pub(super) struct EndpointSource {
    slots: Mutex<Vec<Slot>>,
    has_names: bool,
    feed: Option<Feed>,
    /// Notified when the members may have changed.
    changed: Arc<Notify>,
}

impl EndpointSource {
    /// Creates the source; names and the feed start with their members in `prior`, or without any.
    pub(super) fn new(
        lines: Vec<EndpointSpec>,
        feed: Option<NewFeed<'_>>,
        prior: Option<&Self>,
    ) -> Arc<Self> {
        let slots: Vec<_> = lines.into_iter().map(|line| Slot::new(line, prior)).collect();
        let has_names = slots.iter().any(|slot| slot.name().is_some());
        let earlier = prior.and_then(|prior| prior.feed.as_ref());
        let changed = Arc::default();
        let feed = feed.map(|new| Feed::new(new, earlier, Arc::clone(&changed)));
        Arc::new(Self { slots: Mutex::new(slots), has_names, feed, changed })
    }

    /// Whether a name has addresses.
    fn knows(&self, host: &str, port: u16) -> bool {
        let slots = self.slots.lock();
        slots.iter().filter_map(Slot::name).any(|name| name.is(host, port) && !name.table.is_empty())
    }

    /// Whether members may come and go.
    pub(super) fn may_change(&self) -> bool {
        self.has_names || self.feed.is_some()
    }

    /// The members that are discovered, if they are.
    pub(super) fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// The members may have changed.
    pub(super) fn announce_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until the members may have changed, or one that is absent has been held for long enough.
    pub(super) async fn changed(&self) {
        let changed = self.changed.notified();
        match self.next_expiry() {
            Some(moment) => {
                let left = moment.saturating_sub(monotonic_millis::now());
                let _ = tokio::time::timeout(Duration::from_millis(left), changed).await;
            }
            None => changed.await,
        }
    }

    fn next_expiry(&self) -> Option<u64> {
        let slots = self.slots.lock();
        let names = slots.iter().filter_map(Slot::name).filter_map(|name| name.table.next_expiry());
        names.chain(self.feed.as_ref().and_then(Feed::next_expiry)).min()
    }

    /// All backends with their entries. If two entries have the same address, the first one applies that its source
    /// announces now; of the members of a discovery one that serves.
    fn backends(&self) -> BTreeSet<Backend> {
        let now = monotonic_millis::now();
        let mut slots = self.slots.lock();
        let mut backends = BTreeSet::new();
        let (mut seen, mut absent) = (HashSet::new(), Vec::new());
        let mut take = |address: &Address, announced: &Announced| {
            if announced.is_absent {
                absent.push((address.clone(), announced.clone()));
            } else if seen.insert(address.clone()) {
                backends.extend(announced.clone().at(address));
            }
        };
        for slot in &mut *slots {
            match slot {
                Slot::Fixed(address, announced) => take(address, announced),
                Slot::Name(name) => {
                    name.table.expire(now);
                    name.table.iter().for_each(|(address, announced)| take(address, announced));
                }
            }
        }
        if let Some(feed) = &self.feed {
            feed.each(now, take);
        }
        let absent = absent.into_iter().filter(|(address, _)| seen.insert(address.clone()));
        backends.extend(absent.filter_map(|(address, announced)| announced.at(&address)));
        backends
    }

    /// Removes what is held.
    #[cfg(test)]
    pub(super) fn end_hold(&self) {
        for slot in &mut *self.slots.lock() {
            if let Slot::Name(name) = slot {
                name.table.expire(u64::MAX);
            }
        }
    }

    /// The addresses of the names that have any.
    pub(super) fn name_states(&self) -> Vec<NameState> {
        let slots = self.slots.lock();
        let state = |name: &NameSlot| NameState {
            host: name.host.to_string(),
            port: name.port,
            addresses: name.addresses().collect(),
        };
        let states = slots.iter().filter_map(Slot::name).map(state);
        states.filter(|name| !name.addresses.is_empty()).collect()
    }

    fn resolved(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        let slots = self.slots.lock();
        let name = slots.iter().filter_map(Slot::name).find(|name| name.is(host, port));
        name.map(|name| name.addresses().collect()).unwrap_or_default()
    }
}

/// Adapter from [`EndpointSource`] to pingora-load-balancing's `ServiceDiscovery`.
pub(super) struct EngineDiscovery(pub(super) Arc<EndpointSource>);

#[async_trait]
impl ServiceDiscovery for EngineDiscovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.backends(), HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::net::resolver::ResolverKind;
    use crate::upstream::announced::Tier;
    use futures_util::StreamExt;
    use std::num::NonZeroU32;

    fn origins(lines: &[(&str, u16)]) -> Vec<EndpointSpec> {
        let line = |(text, weight): &(&str, u16)| EndpointSpec {
            origin: Origin::parse(text).unwrap(),
            settings: MemberSettings { weight: *weight, ..MemberSettings::default() },
        };
        lines.iter().map(line).collect()
    }

    fn weights(source: &EndpointSource) -> Vec<(String, u16)> {
        let weight = |backend: &Backend| backend.ext.get::<Announced>().unwrap().settings.weight;
        source.backends().iter().map(|backend| (backend.addr.to_string(), weight(backend))).collect()
    }

    #[test]
    fn of_two_lines_for_one_address_the_first_counts() {
        let source = EndpointSource::new(origins(&[("127.0.0.1:80", 1), ("web.test:80", 5)]), None, None);
        let two = ["127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()];
        assert!(source.learn("web.test", 80, &two));
        assert_eq!(weights(&source), [("127.0.0.1:80".to_owned(), 1), ("127.0.0.2:80".to_owned(), 5)]);
    }

    #[test]
    fn another_entry_for_the_same_address_is_another_backend() {
        let settings = MemberSettings { weight: 1, ..MemberSettings::default() };
        let backends = [
            Announced::ready(settings, "list".into()),
            Announced { host: Some("web.test".into()), ..Announced::ready(settings, "list".into()) },
            Announced { uid: Some("a".into()), ..Announced::ready(settings, "list".into()) },
            Announced { zone: Some("a".into()), ..Announced::ready(settings, "list".into()) },
            Announced { is_absent: true, ..Announced::ready(settings, "list".into()) },
            Announced::ready(MemberSettings { weight: 2, ..settings }, "list".into()),
            Announced::ready(MemberSettings { marked: true, ..settings }, "list".into()),
            Announced::ready(MemberSettings { tier: Tier::BACKUP, ..settings }, "list".into()),
            Announced::ready(MemberSettings { limit: NonZeroU32::new(1), ..settings }, "list".into()),
        ]
        .map(|announced| announced.at(&Address::Unix("/a".into())).unwrap());
        for (index, backend) in backends.iter().enumerate() {
            assert!(!backends[..index].contains(backend), "{backend:?}");
        }
    }

    #[test]
    fn a_name_keeps_its_addresses_over_a_reload() {
        let before = EndpointSource::new(origins(&[("web.test:80", 1)]), None, None);
        assert!(weights(&before).is_empty());
        before.learn("web.test", 80, &["127.0.0.2:80".parse().unwrap()]);
        let after =
            EndpointSource::new(origins(&[("web.test:80", 3), ("web.test:81", 1)]), None, Some(&before));
        assert_eq!(weights(&after), [("127.0.0.2:80".to_owned(), 3)]);
    }

    #[test]
    fn records_in_another_order_are_no_change() {
        let source = EndpointSource::new(origins(&[("web.test:80", 1)]), None, None);
        let (a, b) = ("127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap());
        assert!(source.learn("web.test", 80, &[a, b]));
        assert!(!source.learn("web.test", 80, &[b, a]));
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_failure_keeps_what_was_known() {
        let source =
            EndpointSource::new(origins(&[("localhost:80", 1), ("nowhere.invalid:80", 1)]), None, None);
        source.learn("nowhere.invalid", 80, &["127.0.0.9:80".parse().unwrap()]);
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
