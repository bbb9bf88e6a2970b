//! Reuse of plugin instances over reloads: a plugin is kept while its owner, kind, name, `on_error`, `when`,
//! settings and the files that they name are unchanged.

use super::PluginFailure;
use super::condition::Condition;
use super::panic_guard::guard;
use crate::config::{OnError, PluginEntry};
use crate::limit::{EntryStores, Store, Stores};
use crate::telemetry::metrics::{LazyHandle, PluginMetrics};
use http::HeaderName;
use log::Level;
use moongate_config::{Files, Kind, Placed, Problem, Problems, Settings};
use moongate_sdk::{CaughtDrop, Fault, Phases, Plugin, is_reserved_header, log_throttle};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A configured plugin: its configuration and its instance.
pub struct Entry {
    name: Arc<str>,
    kind: &'static str,
    on_error: OnError,
    metrics: LazyHandle<Arc<PluginMetrics>>,
    settings: Settings,
    /// The files that its settings name.
    files: Files,
    phases: Phases,
    always_responds: bool,
    /// The fields that only the plugin may fill: its own, and those that the operator names.
    owned: Box<[HeaderName]>,
    written_owned: Vec<Placed<String>>,
    /// The configured condition, and its compiled form for these phases.
    written_when: Option<Placed<String>>,
    when: Option<Condition>,
    /// The stores that its limits use.
    stores: Vec<Arc<Store>>,
    plugin: CaughtDrop<Box<dyn Plugin>>,
}

/// All entries of one generation, by owner, kind and name.
#[derive(Debug, Default)]
pub struct Instances(HashMap<Key, Vec<Arc<Entry>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Box<str>,
    kind: Box<str>,
    name: Box<str>,
}

/// Builds the entries of a generation, or reuses those of the prior one.
pub struct Builder<'a> {
    kinds: &'a [Kind<dyn Plugin>],
    prior: &'a Instances,
    made: Instances,
    stores: Stores,
}

impl<'a> Builder<'a> {
    /// Creates a builder with these kinds, after the generation `prior`.
    pub fn new(kinds: &'a [Kind<dyn Plugin>], prior: &'a Instances) -> Self {
        Self { kinds, prior, made: Instances::default(), stores: Stores::default() }
    }

    /// Builds entries with the limits of these stores.
    #[must_use]
    pub fn with_stores(self, stores: Stores) -> Self {
        Self { stores, ..self }
    }

    /// The entry of `owner` (a route's name, or a constant for the plugins of every route). Owners never
    /// share an instance: two routes with the same rate limit have a bucket each.
    ///
    /// # Errors
    /// An unknown kind, and every problem of the settings.
    pub fn entry(&mut self, owner: &str, written: &PluginEntry) -> Result<Arc<Entry>, Problems> {
        let name = written.name.as_ref().unwrap_or(&written.kind);
        let key = Key { owner: owner.into(), kind: written.kind.as_str().into(), name: name.as_str().into() };
        let entry = match self.carried(&key, written) {
            Some(entry) => entry,
            None => Arc::new(self.build(&key, written, name.as_str())?),
        };
        self.made.0.entry(key).or_default().push(entry.clone());
        Ok(entry)
    }

    /// The instances of this generation, for reuse by the next one.
    pub fn finish(self) -> Instances {
        self.made
    }

    /// An entry of the prior generation that was not reused yet: the configuration may contain equal entries.
    fn carried(&self, key: &Key, written: &PluginEntry) -> Option<Arc<Entry>> {
        let taken = self.made.0.get(key).map_or(&[][..], Vec::as_slice);
        let free = |entry: &&Arc<Entry>| !taken.iter().any(|other| Arc::ptr_eq(entry, other));
        let same = |entry: &&Arc<Entry>| {
            entry.settings == written.settings
                && entry.on_error == written.on_error
                && entry.written_when == written.when
                && entry.written_owned == written.owned_headers
                && entry.files.unchanged()
                && entry.stores.iter().all(|used| self.stores.all().any(|store| Arc::ptr_eq(used, store)))
        };
        self.prior.0.get(key)?.iter().filter(same).find(free).cloned()
    }

    fn build(&self, key: &Key, written: &PluginEntry, name: &str) -> Result<Entry, Problems> {
        let kind = Kind::find(self.kinds, "plugin", &written.kind)
            .map_err(|problem| problem.at(&written.kind.place))?;
        let files = Files::default();
        let panicked = || {
            Problem::new(format!("plugin `{}` panicked while it was built", kind.name))
                .help("this is a bug in the plugin; the process log has the panic")
                .at(&written.kind.place)
        };
        let built = guard(|| (kind.build)(&written.settings.noting(name, &files))).ok_or_else(panicked)?;
        let mut plugin = built.map_err(|problems| problems.at(&written.kind.place))?;
        let stores = EntryStores::new(&self.stores, self.scope(key));
        guard(|| plugin.use_stores(&stores)).ok_or_else(panicked)??;
        let plugin = CaughtDrop::new(plugin);
        let phases = guard(|| plugin.phases()).ok_or_else(panicked)?;
        let responds = guard(|| plugin.always_responds()).ok_or_else(panicked)?;
        let mut owned = guard(|| plugin.owned_headers()).ok_or_else(panicked)?;
        let mut problems = Problems::default();
        for name in &owned {
            problems.keep(
                may_be_owned(name, name.as_str()).map_err(|problem| problem.at(&written.kind.place).into()),
            );
        }
        for written in &written.owned_headers {
            owned.extend(problems.keep(field(written).map_err(|problem| problem.at(&written.place).into())));
        }
        if problems.refuse() {
            return Err(problems);
        }
        let (name, kind) = (Arc::<str>::from(name), kind.name);
        let of = Arc::clone(&name);
        Ok(Entry {
            name,
            kind,
            on_error: written.on_error,
            metrics: LazyHandle::new(move || PluginMetrics::of(&of, kind)),
            settings: written.settings.clone(),
            files,
            phases,
            always_responds: responds && phases.request_headers && written.when.is_none(),
            owned: owned.into(),
            written_owned: written.owned_headers.clone(),
            written_when: written.when.clone(),
            when: Condition::read(written, phases)?,
            stores: stores.used(),
            plugin,
        })
    }
}

/// The owner of limits of plugins that every route has, in a store.
const ALL_ROUTES: &str = "all";

impl Builder<'_> {
    /// The scope of the limits of an entry in a store: owner, kind and name, and a number for a further entry with the same.
    fn scope(&self, key: &Key) -> String {
        let owner = if key.owner.is_empty() { ALL_ROUTES.to_owned() } else { format!("route/{}", key.owner) };
        let scope = format!("{owner}/{}/{}", key.kind, key.name);
        match self.made.0.get(key).map_or(0, Vec::len) {
            0 => scope,
            index => format!("{scope}/{index}"),
        }
    }
}

/// Fields that the gateway itself sets before the first plugin runs.
const SETTLED: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"];

/// Rejects a field that a plugin may not own, because the gateway itself decides about a client's value.
fn may_be_owned(name: &HeaderName, written: &str) -> Result<(), Problem> {
    let help = if *name == http::header::HOST {
        "routes and backends need the requested host"
    } else if is_reserved_header(name) {
        "such fields frame messages or belong to one connection"
    } else if *name == http::header::VIA {
        "the gateway sets it"
    } else if SETTLED.contains(&name.as_str()) {
        "the gateway sets it; a client's value counts only from `trusted_proxies`"
    } else {
        return Ok(());
    };
    Err(Problem::new(format!("no plugin can own `{written}`")).help(help))
}

/// Parses the name of a field that an entry may own.
fn field(written: &str) -> Result<HeaderName, Problem> {
    match HeaderName::from_bytes(written.as_bytes()) {
        Ok(name) => may_be_owned(&name, written).map(|()| name),
        Err(_) => Err(Problem::new(format!("`{written}` is not a field name"))
            .help("a name has letters, digits and `-`, as in `X-User`")),
    }
}

/// An entry with what tells it apart from the others of its generation.
#[derive(Clone, Copy)]
pub struct Instance<'a> {
    /// The route, or a constant for the plugins of every route.
    pub owner: &'a str,
    /// The name of the kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its number among entries of the same owner, kind and name.
    pub index: usize,
    /// The entry.
    pub entry: &'a Arc<Entry>,
}

impl Instances {
    /// All entries with their identities, in arbitrary order.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        self.0.iter().flat_map(|(Key { owner, kind, name }, entries)| {
            entries.iter().enumerate().map(|(index, entry)| Instance { owner, kind, name, index, entry })
        })
    }

    /// The entry with this identity.
    pub fn instance(&self, owner: &str, kind: &str, name: &str, index: usize) -> Option<&Arc<Entry>> {
        let key = Key { owner: owner.into(), kind: kind.into(), name: name.into() };
        self.0.get(&key)?.get(index)
    }

    /// All entries, in arbitrary order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.values().flatten()
    }
}

impl Entry {
    /// What the plugin has counted, for another process; nothing if it panics.
    pub fn counts(&self) -> Vec<serde_json::Value> {
        guard(|| self.plugin.counts()).unwrap_or_default()
    }

    /// Passes the plugin what another process has counted.
    pub fn restore_counts(&self, counts: serde_json::Value) {
        // The panic hook has logged a panic; the plugin begins anew.
        let _ = guard(|| self.plugin.restore_counts(counts));
    }

    /// The name, for logs and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name of the kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The phases of the plugin.
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// Whether it responds to every request of its route.
    pub fn always_responds(&self) -> bool {
        self.always_responds
    }

    pub(super) fn owned(&self) -> &[HeaderName] {
        &self.owned
    }

    pub(super) fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    pub(super) fn plugin(&self) -> &dyn Plugin {
        &**self.plugin
    }

    /// The metrics of the plugin.
    pub fn metrics(&self) -> &LazyHandle<Arc<PluginMetrics>> {
        &self.metrics
    }

    /// Returns whether requests continue without the plugin when it fails.
    pub(super) fn is_dispensable(&self) -> bool {
        self.on_error == OnError::Open
    }

    /// Logs that the plugin panicked or failed. Returns `None` if requests continue without it.
    pub(super) fn failed(&self, fault: Option<&Fault>) -> Option<PluginFailure> {
        match fault {
            None if !log_throttle::admit(Level::Error, "plugin panicked", &[&self.name]) => {}
            None => log::error!(plugin = &*self.name, kind = self.kind; "plugin panicked"),
            // Causes that a request cannot choose are logged apart: a plugin may fail in several ways at once.
            Some(fault)
                if !log_throttle::admit(
                    Level::Warn,
                    "plugin failed",
                    &[&self.name, fault.fixed_message().unwrap_or_default()],
                ) => {}
            Some(fault) => {
                log::warn!(plugin = &*self.name, kind = self.kind, fault:% = fault; "plugin failed");
            }
        }
        match self.on_error {
            OnError::Closed => Some(PluginFailure { plugin: self.name.clone() }),
            OnError::Open => None,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}
