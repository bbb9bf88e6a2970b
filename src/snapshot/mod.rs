//! Compiled configuration: one generation in the form that requests use.
//!
//! Compiling is pure. It reads only the files that settings name (certificates, keys, modules), opens no
//! socket and starts no task, so that `moongate check` is the first half of a reload. An instance with the
//! same settings in the prior generation is reused, so that its health and counts survive.

mod access_log_lines;
mod cidr_set;
mod connection_protocols;
mod destination;
mod globals;
mod listen_address;
mod listeners;
mod loop_warnings;
mod min_rate;
mod plugin_upstreams;
mod proxy_protocol_sources;
mod request_limits;
mod route;
mod route_metrics;
mod route_version;
mod session_warnings;
mod tracing;
mod upgrade_protocols;

pub use connection_protocols::ListenerProtocols;
pub use destination::Destination;
pub use globals::GlobalSettings;
pub use listen_address::{Access, Address};
pub use listeners::{AdminAddress, Listener};
pub use min_rate::MinRate;
pub use proxy_protocol_sources::ProxyProtocolSources;
pub use request_limits::RequestLimits;
pub use route::Route;
pub use upgrade_protocols::{UpgradeOffer, UpgradeProtocols};

use crate::acme;
use crate::config::{self, Config, KindTable};
use crate::limit::{self, Stores};
use crate::plugin::{Builder, Entry, Instance, Instances};
use crate::route::{self as routing, Rule, Table};
use crate::source::{self, SourceSet};
use crate::telemetry::AccessLog;
use crate::telemetry::access_log::LineSettings;
use crate::telemetry::metrics::{LazyHandle, NONE, ResponseMetrics, RouteMetrics};
use crate::telemetry::traces::Tracer;
use crate::tls::Acceptor;
use crate::tunnel::Policy;
use crate::upstream::{self, Cluster, RemovedUpstream};
use indexmap::IndexMap;
use moongate_config::{Kind, Place, Problem, Problems};
use moongate_sdk::Plugin;
use std::collections::HashMap;
use std::sync::Arc;

/// The owner of global plugins; no route can have this name, since names are not empty.
const EVERY_ROUTE: &str = "";

/// The tables of kinds. Plugins are a parameter, since a build may add its own.
#[derive(Clone, Copy)]
pub struct Kinds {
    /// Plugins.
    pub plugins: &'static [Kind<dyn Plugin>],
}

/// Every table of kinds with the keys that use it, for the schema.
pub fn tables(plugins: &[Kind<dyn Plugin>]) -> Vec<KindTable> {
    let mut tables = vec![
        KindTable::new("balance", upstream::BALANCE),
        KindTable::new("health_check", upstream::PROBES),
        KindTable::new("discovery", upstream::DISCOVERY),
        KindTable::new("sources", source::SOURCES),
        KindTable::new("plugins", plugins),
    ];
    // A build may have none.
    if !limit::STORES.is_empty() {
        tables.push(KindTable::new("stores", limit::STORES));
    }
    tables
}

/// One generation.
pub struct Snapshot {
    /// The route table.
    pub table: Table<Arc<Route>>,
    /// Settings that apply to every request.
    pub globals: GlobalSettings,
    /// The listeners, in configured order.
    pub listeners: Vec<Listener>,
    /// The automatic certificates.
    pub certificates: acme::Jobs,
    /// The admin listener.
    pub admin: Option<AdminAddress>,
    /// The number of worker threads.
    pub threads: usize,
    /// The number of this generation; `control` sets it at the commit.
    pub generation: u64,
    /// The access log; `control` opens it, since compiling opens nothing.
    pub log: Option<Arc<AccessLog>>,
    /// Its settings, for comparison with those of the next generation.
    pub log_settings: config::AccessLog,
    /// The lines of the access log; `None` without one.
    pub(crate) log_lines: Option<LineSettings>,
    /// Samples and collects spans; `None` without `tracing`.
    pub(crate) tracer: Option<Tracer>,
    /// Counts the responses to requests without a route.
    pub unrouted: LazyHandle<Arc<ResponseMetrics>>,
    /// The stores of shared limits.
    pub stores: Stores,
    /// The sources of further documents.
    pub sources: SourceSet,
    clusters: IndexMap<String, Arc<Cluster>>,
    /// Upstreams of earlier generations that are still in use.
    removed: Vec<RemovedUpstream>,
    by_name: HashMap<Arc<str>, Arc<Route>>,
    plugins: Instances,
}

impl Snapshot {
    /// Registers the series of this generation: `control` calls it before the generation serves, and while the
    /// prior one still holds the series that both have.
    pub fn register_metrics(&self) {
        self.unrouted.register();
        for route in self.table.targets() {
            route.metrics.register();
        }
        for cluster in self.clusters() {
            cluster.register_metrics();
        }
        for plugin in self.plugins() {
            plugin.metrics().register();
        }
        self.stores.all().for_each(|store| store.register_metrics());
        for protocols in self.listeners.iter().filter_map(|listener| listener.protocols.as_ref()) {
            if let Some(acceptor) = &protocols.tls {
                acceptor.metrics.register();
            }
            if let Some(sources) = &protocols.proxy_protocol_sources {
                sources.metrics.register();
            }
        }
    }

    /// Every cluster, those of a route's inline endpoints included.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// The removed upstreams that are still in use.
    pub fn removed(&self) -> &[RemovedUpstream] {
        &self.removed
    }

    /// The cluster with this name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The route with this name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.by_name.get(name)
    }

    /// The listener with this name; `None` also for connections of one that a reload removed.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| *listener.name == *name)
    }

    /// The listeners with TLS, by name.
    pub fn secure(&self) -> impl Iterator<Item = (&str, &Arc<Acceptor>)> {
        self.listeners
            .iter()
            .filter_map(|listener| Some((&*listener.name, listener.protocols.as_ref()?.tls.as_ref()?)))
    }

    /// Every plugin instance, in arbitrary order.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.plugins.entries()
    }

    /// Every plugin instance with its identity, in arbitrary order.
    pub fn plugin_instances(&self) -> impl Iterator<Item = Instance<'_>> {
        self.plugins.instances()
    }

    /// The plugin instance with this identity.
    pub fn plugin_instance(&self, owner: &str, kind: &str, name: &str, index: usize) -> Option<&Arc<Entry>> {
        self.plugins.instance(owner, kind, name, index)
    }

    /// The number of routes.
    pub fn routes(&self) -> usize {
        self.table.targets().count()
    }
}

/// Compiles a configuration. `prior` is the serving generation, if any.
///
/// # Errors
/// Every problem of the file. On success the returned problems are warnings.
pub fn compile(
    spec: &Config,
    prior: Option<&Snapshot>,
    kinds: Kinds,
) -> Result<(Snapshot, Problems), Problems> {
    let mut problems = Problems::default();
    let sources = SourceSet::compile(&spec.sources, prior.map(|prior| &prior.sources), &mut problems);
    compile_all(spec, prior, kinds, sources, problems)
}

/// As [`compile`], with sources that were compiled before.
///
/// # Errors
/// As [`compile`].
pub fn compile_with_sources(
    spec: &Config,
    prior: Option<&Snapshot>,
    kinds: Kinds,
    sources: &SourceSet,
) -> Result<(Snapshot, Problems), Problems> {
    compile_all(spec, prior, kinds, sources.clone(), Problems::default())
}

fn compile_all(
    spec: &Config,
    prior: Option<&Snapshot>,
    kinds: Kinds,
    sources: SourceSet,
    mut problems: Problems,
) -> Result<(Snapshot, Problems), Problems> {
    let none = Instances::default();
    let stores = Stores::compile(&spec.stores, prior.map(|prior| &prior.stores), &mut problems);
    let plugins =
        Builder::new(kinds.plugins, prior.map_or(&none, |prior| &prior.plugins)).with_stores(stores.clone());
    let mut compiler = Compiler { prior, problems, plugins, stores, called: Vec::new() };
    let terms = globals::compile(&spec.server, &mut compiler.problems);
    let before = prior.map_or(&[][..], |prior| &prior.listeners);
    let mut certificates = acme::JobSetBuilder::after(prior.map(|prior| &prior.certificates));
    let listeners = listeners::compile(
        spec.listeners.as_deref(),
        before,
        &compiler.stores,
        &mut certificates,
        &mut compiler.problems,
    );
    let admin = listeners::compile_admin(spec.admin.as_ref(), &listeners, &mut compiler.problems);
    let prior_tracer = prior.and_then(|prior| prior.tracer.as_ref());
    let tracer = tracing::compile(spec.tracing.as_ref(), prior_tracer, &mut compiler.problems);
    let mut clusters = compiler.clusters(spec);
    let table = compiler.routes(spec, &listeners, &mut clusters);
    check_log(&spec.access_log, &mut compiler.problems);
    let log_lines = access_log_lines::compile(&spec.access_log, &spec.routes, &mut compiler.problems);
    if spec.routes.is_empty() && spec.sources.is_empty() {
        compiler.problems.push(
            Problem::warning("no routes: every request gets 404")
                .help("the shortest route is `routes: [{ upstream: [127.0.0.1:8081] }]`"),
        );
    }
    compiler.problems.0.extend(loop_warnings::warnings(spec, &listeners));
    let Compiler { mut problems, plugins, stores, .. } = compiler;
    if !problems.0.is_empty() {
        config::advise(&mut problems, &tables(kinds.plugins), Some(spec));
    }
    if problems.refuse() {
        return Err(problems);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let by_name = table.targets().map(|route| (Arc::clone(&route.name), Arc::clone(route))).collect();
    let snapshot = Snapshot {
        table,
        by_name,
        globals: terms,
        listeners,
        certificates: certificates.finish(),
        admin,
        threads: spec.server.threads.map_or(cores, |threads| usize::from(threads.get())),
        generation: 0,
        log: None,
        log_settings: spec.access_log.clone(),
        log_lines,
        tracer,
        unrouted: LazyHandle::new(|| RouteMetrics::of(NONE).responses(NONE)),
        removed: prior.map(|prior| removed(prior, &clusters)).unwrap_or_default(),
        stores,
        sources,
        clusters,
        plugins: plugins.finish(),
    };
    Ok((snapshot, problems))
}

fn without_upstream() -> Problem {
    Problem::new("the route has no `upstream`, and no plugin responds to all of its requests").help(
        "write `upstream`, as in `upstream: [127.0.0.1:8081]`, or a plugin that always responds: `respond`, `redirect` \
         with `to` (`https: true` lets requests over HTTPS pass), or `maintenance` without `when_file` and `except`; \
         without `when`",
    )
}

fn check_log(written: &config::AccessLog, problems: &mut Problems) {
    if written.format == config::LogFormat::Off {
        return;
    }
    if let Err(error) = AccessLog::check(&written.path) {
        let mut problem =
            Problem::new(format!("cannot open the access log `{}`: {error}", written.path.value));
        if error.kind() == std::io::ErrorKind::NotFound {
            problem = problem.help("create its directory; the packages create /var/log/moongate");
        }
        problems.push(problem.at(&written.path.place));
    }
}

/// The upstreams of the prior generation that no longer exist.
fn removed(prior: &Snapshot, clusters: &IndexMap<String, Arc<Cluster>>) -> Vec<RemovedUpstream> {
    let removed = prior.clusters.values().map(|cluster| RemovedUpstream::of(cluster));
    let all = removed.chain(prior.removed.iter().cloned());
    all.filter(|removed| !clusters.contains_key(&**removed.name()) && !removed.is_unused()).collect()
}

struct Compiler<'a> {
    prior: Option<&'a Snapshot>,
    problems: Problems,
    plugins: Builder<'a>,
    stores: Stores,
    /// The upstreams that plugins call, with their places.
    called: Vec<(String, Place)>,
}

impl Compiler<'_> {
    fn clusters(&mut self, spec: &Config) -> IndexMap<String, Arc<Cluster>> {
        let mut clusters = IndexMap::with_capacity(spec.upstreams.len());
        for (name, upstream) in &spec.upstreams {
            if let Some(cluster) = self.cluster(name, &upstream.value, &upstream.place) {
                clusters.insert(name.clone(), cluster);
            }
        }
        clusters
    }

    fn cluster(&mut self, name: &str, upstream: &config::Upstream, place: &Place) -> Option<Arc<Cluster>> {
        let prior = self.prior.and_then(|prior| prior.clusters.get(name));
        let earlier = self.prior.map_or(&[][..], |prior| &prior.removed);
        let removed = earlier.iter().find(|removed| **removed.name() == *name);
        let cluster = self.problems.keep(Cluster::build(name, upstream, place, prior, removed))?;
        if let Some(name) = cluster.secret_store() {
            let secrets = self.stores.find(&name.value).and_then(|store| store.secrets());
            let secrets = secrets.map_err(|problem| Problems::from(problem.at(&name.place)));
            cluster.use_secrets(self.problems.keep(secrets)?);
        }
        self.problems.0.extend(cluster.advice().iter().cloned());
        Some(cluster)
    }

    fn routes(
        &mut self,
        spec: &Config,
        listeners: &[Listener],
        clusters: &mut IndexMap<String, Arc<Cluster>>,
    ) -> Table<Arc<Route>> {
        let shared: Vec<_> =
            spec.plugins.iter().filter_map(|entry| self.plugin(EVERY_ROUTE, entry)).collect();
        let mut names: HashMap<String, usize> = HashMap::with_capacity(spec.routes.len());
        let mut rules = Vec::with_capacity(spec.routes.len());
        let mut places = Vec::with_capacity(spec.routes.len());
        for (index, written) in spec.routes.iter().enumerate() {
            let name =
                written.name.as_ref().map_or_else(|| format!("routes[{index}]"), |name| name.value.clone());
            if let (Some(first), Some(second)) = (names.insert(name.clone(), index), &written.name) {
                self.problems.push(
                    Problem::new(format!("two routes are named `{name}`"))
                        .at(&second.place)
                        .help(format!("the other is routes[{first}]")),
                );
            }
            self.listeners_of(written, listeners);
            let destination = match &written.upstream {
                Some(upstream) => self.destination(spec, &name, upstream, clusters),
                None => Some(Destination::None),
            };
            let own: Vec<_> = written.plugins.iter().filter_map(|entry| self.plugin(&name, entry)).collect();
            // A plugin that could not be built may be the one that responds.
            let all_built = shared.len() == spec.plugins.len() && own.len() == written.plugins.len();
            if written.upstream.is_none()
                && all_built
                && !shared.iter().chain(&own).any(|plugin| plugin.always_responds())
            {
                self.problems.push(without_upstream().at(&written.place));
            }
            let Some(destination) = destination else {
                // Other problems of the route are reported in the same run.
                self.problems.keep(Rule::read(&*name, &written.value, ()).map(drop));
                self.problems.keep(Policy::compile(&written.websocket, None, &self.stores, &name).map(drop));
                self.problems.keep(UpgradeProtocols::compile(&written.upgrades).map(drop));
                continue;
            };
            self.warn_of_h2c(written, &destination);
            let prior = self.prior.and_then(|prior| prior.route(&name)).map(|prior| &**prior);
            let built =
                Route::new(&name, written, destination, prior, &self.stores, shared.iter().chain(&own));
            let Some(route) = self.problems.keep(built) else { continue };
            let rule = Rule::read(name, &written.value, Arc::new(route));
            if let Some(rule) = self.problems.keep(rule) {
                rules.push(rule);
                places.push(&written.place);
            }
        }
        self.warn_of_shadows(&rules, &places);
        self.problems.0.extend(session_warnings::warnings(&rules, &places));
        self.find_called(spec, clusters);
        Table::build(rules)
    }

    fn warn_of_shadows(&mut self, rules: &[Rule<Arc<Route>>], places: &[&Place]) {
        for shadow in routing::shadowed(rules) {
            let by = shadow.by;
            self.problems.push(shadow.problem(&rules[by].name, Some(places[by])).at(places[shadow.rule]));
        }
    }

    fn listeners_of(&mut self, route: &config::Route, listeners: &[Listener]) {
        for wanted in &route.listeners {
            if !listeners.iter().any(|known| *known.name == *wanted.value) {
                self.problems.push(
                    Problem::new(format!("unknown listener `{}`", wanted.value))
                        .at(&wanted.place)
                        .suggest(&wanted.value, listeners.iter().map(|known| &*known.name)),
                );
            }
        }
    }
}
