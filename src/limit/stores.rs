//! The stores of a configuration, and the limits that use them.

use super::handshake_limiter::HandshakeLimiter;
use super::shared_tokens::SharedTokens;
use super::store::{Store, StoreParts};
use crate::config::{HandshakeRate, KindEntry, SharedMessages};
use indexmap::IndexMap;
use moongate_config::{Files, Kind, Placed, Problem, Problems, Rate};
use moongate_sdk::{LimitStores, SharedLimit, SharedLimiter};
use parking_lot::Mutex;
use std::sync::Arc;

/// The most clients whose leased tokens for messages are kept.
const MOST_CLIENTS: usize = 100_000;

/// The kinds of `stores:`.
pub static STORES: &[Kind<StoreParts>] = &[
    #[cfg(feature = "redis")]
    super::redis::KIND,
];

/// The stores by name.
#[derive(Clone, Debug, Default)]
pub struct Stores(IndexMap<String, Arc<Store>>);

impl Stores {
    /// Builds the stores, or reuses those of the prior generation whose settings and files are unchanged. Connects to
    /// none.
    pub fn compile(
        written: &IndexMap<String, Placed<KindEntry>>,
        prior: Option<&Self>,
        problems: &mut Problems,
    ) -> Self {
        let mut stores = IndexMap::with_capacity(written.len());
        for (name, entry) in written {
            let kept = prior.and_then(|prior| prior.0.get(name));
            let store = match kept.filter(|kept| kept.is_of(&entry.value.kind, &entry.value.settings)) {
                Some(kept) => Some(Arc::clone(kept)),
                None => problems.keep(build(name, &entry.value)).map(|new| match kept {
                    Some(kept) => Arc::new(new.with_secrets_of(kept)),
                    None => Arc::new(new),
                }),
            };
            stores.extend(store.map(|store| (name.clone(), store)));
        }
        Self(stores)
    }

    /// Every store.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.0.values()
    }

    /// The store of this name.
    ///
    /// # Errors
    /// There is none; the caller adds the place.
    pub fn find(&self, name: &str) -> Result<&Arc<Store>, Problem> {
        self.0.get(name).ok_or_else(|| {
            let problem = Problem::new(format!("unknown store `{name}`"));
            if self.0.is_empty() {
                return problem
                    .help("define it: `stores: { fleet: { kind: redis, url: redis://127.0.0.1:6379 } }`");
            }
            problem.suggest(name, self.0.keys().map(String::as_str))
        })
    }

    /// The limit of `handshake_rate` for `owner`: that of the prior generation if its settings are the same, so that a
    /// reload does not reset it.
    ///
    /// # Errors
    /// The store does not exist, or the rate is too high for one.
    pub fn handshake_limiter(
        &self,
        written: Option<&HandshakeRate>,
        owner: &str,
        prior: Option<&Arc<HandshakeLimiter>>,
    ) -> Result<Option<Arc<HandshakeLimiter>>, Problem> {
        let Some((rate, store)) = written.and_then(HandshakeRate::parts) else { return Ok(None) };
        let store = store
            .map(|name| self.find(&name.value).map_err(|problem| problem.at(&name.place)))
            .transpose()?;
        if let Some(prior) = prior.filter(|prior| prior.is_of(rate.value, store)) {
            return Ok(Some(Arc::clone(prior)));
        }
        let Some(store) = store else { return Ok(Some(Arc::new(HandshakeLimiter::new(rate.value)))) };
        let scope = format!("{owner}/handshake_rate");
        let shared =
            SharedTokens::new(Arc::clone(store), scope, rate.value, HandshakeLimiter::burst(rate.value), 1)
                .map_err(|problem| problem.at(&rate.place))?;
        Ok(Some(Arc::new(HandshakeLimiter::shared(rate.value, shared))))
    }

    /// The limit of `messages_per_second` for `owner`: that of the prior generation if its settings are the same.
    ///
    /// # Errors
    /// The store does not exist, or the rate is too high for one.
    pub(crate) fn message_limit(
        &self,
        written: &SharedMessages,
        owner: &str,
        prior: Option<&Arc<SharedTokens>>,
    ) -> Result<Arc<SharedTokens>, Problem> {
        let at_place = |problem: Problem| problem.at(&written.store.place);
        let store = self.find(&written.store.value).map_err(at_place)?;
        let rate: Rate = format!("{}/s", written.limit).parse().map_err(at_place)?;
        let scope = format!("{owner}/messages_per_second");
        if let Some(prior) = prior.filter(|prior| prior.is_of(store, &scope, rate, written.limit)) {
            return Ok(Arc::clone(prior));
        }
        SharedTokens::new(Arc::clone(store), scope, rate, written.limit, MOST_CLIENTS).map_err(at_place)
    }
}

fn build(name: &str, entry: &KindEntry) -> Result<Store, Problems> {
    if STORES.is_empty() {
        let problem =
            Problem::new("this build has no stores").help("build it with the cargo feature `redis`");
        return Err(problem.at(&entry.kind.place).into());
    }
    let kind = Kind::find(STORES, "store", &entry.kind).map_err(|problem| problem.at(&entry.kind.place))?;
    let files = Files::default();
    let parts = (kind.build)(&entry.settings.noting(name, &files))
        .map_err(|problems| problems.at(&entry.kind.place))?;
    Ok(Store::new(name, *parts, (entry.kind.value.clone(), entry.settings.clone()), files))
}

/// The stores as one plugin entry sees them. It records those that the entry uses.
pub struct EntryStores<'a> {
    stores: &'a Stores,
    scope: String,
    used: Mutex<Vec<Arc<Store>>>,
}

impl<'a> EntryStores<'a> {
    /// For the entry with this scope: owner, kind and name.
    pub fn new(stores: &'a Stores, scope: String) -> Self {
        Self { stores, scope, used: Mutex::default() }
    }

    /// The stores that the entry uses.
    pub fn used(self) -> Vec<Arc<Store>> {
        self.used.into_inner()
    }
}

impl LimitStores for EntryStores<'_> {
    fn limiter(&self, store: &str, limit: SharedLimit<'_>) -> Result<Arc<dyn SharedLimiter>, Problem> {
        let store = self.stores.find(store)?;
        let scope = format!("{}/{}", self.scope, limit.name);
        let shared = SharedTokens::new(Arc::clone(store), scope, limit.rate, limit.burst, limit.max_keys)?;
        self.used.lock().push(Arc::clone(store));
        Ok(shared)
    }
}
