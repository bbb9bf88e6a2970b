//! Construction of a cluster from its configuration. It uses no network, reads no files except those of TLS,
//! reads the clock only for join times, and reports every problem.

use super::{Cluster, RemovedUpstream};
use crate::config::{self, EndpointEntry, KindEntry, UpstreamProtocol};
use crate::telemetry::metrics::{LazyHandle, UpstreamMetrics};
use crate::upstream::address::Origin;
use crate::upstream::announced::{MemberSettings, Tier};
use crate::upstream::balance::{BALANCE, Balance, Member};
use crate::upstream::connector::Connector;
use crate::upstream::discovery::{
    DISCOVERY, Discovery, EndpointSource, EndpointSpec, EngineDiscovery, Feed, Lookups, NewFeed,
};
use crate::upstream::endpoint_set::{CarriedState, EndpointSet};
use crate::upstream::hash_key::KeySource;
use crate::upstream::health::{Check, PROBES, Probe, SharedCheck};
use crate::upstream::health_score::Health;
use crate::upstream::members::Plan;
use crate::upstream::monotonic_millis;
use moongate_config::{Kind, Period, Place, Problem, Problems, Settings, Value, ValueKind};
use pingora_load_balancing::{Backends, LoadBalancer};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The shortest interval of name lookups.
const SHORTEST_RESOLVE: Duration = Duration::from_secs(1);
/// A shorter window would cause a reconnect storm.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

impl Cluster {
    /// Builds an upstream configured at `place`.
    ///
    /// If `prior` has equal settings and unchanged files, it is returned. With other settings, endpoints
    /// whose address stays keep their counts, latencies and health. `removed` is an upstream of that name
    /// that an earlier reload removed.
    ///
    /// # Errors
    /// Every problem of the settings, with its place.
    pub fn build(
        name: &str,
        spec: &config::Upstream,
        place: &Place,
        prior: Option<&Arc<Self>>,
        removed: Option<&RemovedUpstream>,
    ) -> Result<Arc<Self>, Problems> {
        let prior = prior.filter(|prior| *prior.name == *name);
        if let Some(prior) = prior.filter(|prior| prior.spec == *spec && prior.is_current()) {
            return Ok(Arc::clone(prior));
        }
        let mut problems = Problems::default();
        let lines = lines(spec, place, &mut problems);
        let discovery = problems.keep(discovery(spec));
        check_resolve(spec, &mut problems);
        let balance = problems.keep(balance(spec.balance.as_ref(), place));
        let probe = problems.keep(probe(spec));
        let connector = problems.keep(Connector::compile(spec, prior.map(|prior| &*prior.connector)));
        let (Some(discovery), Some(balance), Some(probe), Some(connector)) =
            (discovery, balance, probe, connector)
        else {
            return Err(problems);
        };
        check_rebalance(spec, &*balance, &mut problems);
        if problems.refuse() {
            return Err(problems);
        }
        problems.0.extend(balance.advice());
        problems.0.extend(connector.advice().iter().cloned());
        problems.0.extend(unprobed(spec));
        Ok(assemble(
            name,
            spec,
            prior,
            removed,
            Parts { lines, discovery, balance, probe, connector, advice: problems.0 },
        ))
    }
}

impl Cluster {
    /// Whether the files of the settings are unchanged since they were read.
    fn is_current(&self) -> bool {
        self.connector.is_current() && self.source.feed().is_none_or(Feed::is_current)
    }
}

/// The validated settings.
struct Parts {
    lines: Vec<EndpointSpec>,
    discovery: Option<Box<dyn Discovery>>,
    balance: Box<dyn Balance>,
    probe: Option<Box<dyn Probe>>,
    connector: Arc<Connector>,
    advice: Vec<Problem>,
}

fn assemble(
    name: &str,
    spec: &config::Upstream,
    prior: Option<&Arc<Cluster>>,
    removed: Option<&RemovedUpstream>,
    parts: Parts,
) -> Arc<Cluster> {
    let name: Arc<str> = prior.map_or_else(|| name.into(), |prior| Arc::clone(&prior.name));
    let (key, cookie) = (parts.balance.key(), parts.balance.cookie(&name));
    let initial_health = if parts.probe.is_some() { Health::Unknown } else { Health::Healthy };
    let plan = Plan {
        upstream: Arc::clone(&name),
        balance: parts.balance,
        when_all_unhealthy: spec.when_all_unhealthy,
        initial_health,
        slow_start: spec.slow_start.map(millis).filter(|over| *over > 0),
    };
    let carried = match (prior, removed) {
        (Some(prior), _) => Some(CarriedState {
            members: carried_members(prior, spec, &parts.connector),
            departed: prior.endpoint_set.departed(),
            reconnects: Arc::clone(prior.endpoint_set.reconnects()),
            is_started: true,
        }),
        (None, Some(removed)) => {
            Some(CarriedState { departed: removed.departed().clone(), ..CarriedState::default() })
        }
        (None, None) => None,
    };
    let endpoint_set = Arc::new(EndpointSet::new(plan, carried));
    let of = Arc::clone(&name);
    let metrics = Arc::new(LazyHandle::new(move || UpstreamMetrics::of(&of)));
    let new_feed = |discovery| NewFeed {
        upstream: &name,
        discovery,
        metrics: Arc::clone(&metrics),
        lookups: Lookups { kind: spec.resolver, max_age: spec.resolve.0 },
    };
    let feed = parts.discovery.map(new_feed);
    let source = EndpointSource::new(parts.lines, feed, prior.map(|prior| &*prior.source));
    let schedule = parts.probe.as_ref().map(|probe| probe.schedule());
    let busy = schedule.is_some() || source.may_change();
    let check = parts
        .probe
        .map(|probe| Arc::new(Check::new(probe, Arc::clone(&parts.connector), Arc::clone(&endpoint_set))));
    Arc::new(Cluster {
        engine: engine(&source, &endpoint_set, check.as_ref()),
        check,
        key,
        cookie,
        connector: parts.connector,
        policy: (&spec.passive_health).into(),
        endpoint_set,
        source,
        schedule,
        advice: parts.advice,
        metrics,
        all_unhealthy_picks: AtomicU64::new(prior.map_or(0, |prior| prior.all_unhealthy_picks())),
        warned: AtomicU64::new(0),
        resolve_failures: AtomicU64::new(prior.map_or(0, |prior| prior.resolve_failures())),
        first_round: watch::Sender::new(!busy),
        new_endpoints: Notify::new(),
        members: AtomicU64::new(0),
        probed: watch::Sender::default(),
        spec: spec.clone(),
        name,
    })
}

pub(super) fn millis(period: Period) -> u64 {
    u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX)
}

fn engine(
    source: &Arc<EndpointSource>,
    endpoint_set: &Arc<EndpointSet>,
    check: Option<&Arc<Check>>,
) -> LoadBalancer<super::Selection> {
    let mut backends = Backends::new(Box::new(EngineDiscovery(Arc::clone(source))));
    if let Some(check) = check {
        backends.set_health_check(Box::new(SharedCheck(Arc::clone(check))));
    }
    // Discovery responds from memory, so that one poll completes it.
    let mut first = Context::from_waker(Waker::noop());
    let _ = pin!(backends.update(|_| {})).poll(&mut first);
    LoadBalancer::from_backends_with_config(backends, Some(Arc::clone(endpoint_set)))
}

/// The endpoints of the prior generation, as those of the next.
fn carried_members(prior: &Cluster, spec: &config::Upstream, connector: &Connector) -> Vec<Member> {
    let same_check = prior.spec.health_check == spec.health_check && prior.connector.is_like(connector);
    let successor = |member: &Member| {
        if same_check {
            return member.clone();
        }
        let endpoint = member.endpoint();
        // New probes start from the verdict of other ones; without probes every endpoint is healthy.
        let health = if spec.health_check.is_some() { endpoint.verdict() } else { Health::Healthy };
        let next = endpoint.with_health(health);
        next.set_host(endpoint.host());
        match (endpoint.verdict(), health) {
            // Without probes the endpoint recovers now.
            (Health::Unknown | Health::Unhealthy, Health::Healthy) => {
                next.join_time().begin(monotonic_millis::now());
            }
            _ => next.join_time().inherit(endpoint.join_time()),
        }
        member.with_endpoint(next)
    };
    prior.endpoint_set.current().as_slice().iter().map(successor).collect()
}

fn lines(spec: &config::Upstream, at: &Place, problems: &mut Problems) -> Vec<EndpointSpec> {
    let entries = &spec.endpoints;
    let is_written = entries.place != Place::nowhere();
    let place = if is_written { &entries.place } else { at };
    match &spec.discovery {
        None if entries.is_empty() => {
            let problem = Problem::new("an upstream needs at least one endpoint");
            let help = "write `endpoints: [127.0.0.1:8081]`, or `discovery` with a kind";
            problems.push(problem.help(help).at(place));
        }
        Some(discovery) if is_written => {
            let problem = Problem::new("an upstream has `endpoints` or `discovery`, not both");
            problems.push(problem.help("remove one of them").at(&discovery.kind.place));
        }
        _ => {}
    }
    let mut lines: Vec<EndpointSpec> = Vec::with_capacity(entries.len());
    let mut first: HashMap<Origin, &Place> = HashMap::new();
    for entry in &entries.value {
        let (text, at) = match &entry.value {
            EndpointEntry::Address(text) => (text, &entry.place),
            EndpointEntry::Full(full) => (&full.address.value, &full.address.place),
        };
        let origin = match Origin::parse(text) {
            Ok(origin) => origin,
            Err(problem) => {
                problems.push(problem.at(at));
                continue;
            }
        };
        if let Some(earlier) = first.get(&origin) {
            let problem = Problem::new(format!("endpoint `{text}` is listed twice"));
            problems.push(problem.help(format!("the first one is in line {}", earlier.line)).at(at));
            continue;
        }
        first.insert(origin.clone(), at);
        lines.push(EndpointSpec { origin, settings: settings(&entry.value) });
    }
    if !lines.is_empty() {
        problems.0.extend(unselectable(&lines).map(|problem| problem.at(place)));
    }
    lines
}

/// A warning about entries of which none is selected, or none before the others.
fn unselectable(lines: &[EndpointSpec]) -> Option<Problem> {
    let all = |is_it: fn(&MemberSettings) -> bool| lines.iter().all(|line| is_it(&line.settings));
    if all(|settings| settings.weight == 0 || settings.marked) {
        return Some(Problem::warning(without_endpoints(lines)));
    }
    all(|settings| settings.tier == Tier::BACKUP).then(|| {
        Problem::warning("every endpoint has `backup: true`: all are used at all times")
            .help("`backup` applies while an endpoint without it is available")
    })
}

fn without_endpoints(lines: &[EndpointSpec]) -> &'static str {
    match lines.iter().any(|line| line.settings.marked) {
        true => "every endpoint has weight 0 or `drain: true`: no request can be served",
        false => "every endpoint has weight 0: no request can be served",
    }
}

fn settings(entry: &EndpointEntry) -> MemberSettings {
    let EndpointEntry::Full(full) = entry else {
        return MemberSettings { weight: 1, ..MemberSettings::default() };
    };
    MemberSettings {
        weight: full.weight.as_ref().map_or(1, |weight| weight.value),
        marked: full.drain,
        tier: if full.backup { Tier::BACKUP } else { Tier::FIRST },
        limit: full.max_connections,
    }
}

fn check_resolve(spec: &config::Upstream, problems: &mut Problems) {
    if spec.resolve.0 < SHORTEST_RESOLVE {
        let problem = Problem::new("`resolve` must be at least 1s");
        problems
            .push(problem.help("addresses are never resolved; `30s` is the default").at(&spec.resolve.place));
    }
}

fn check_rebalance(spec: &config::Upstream, balance: &dyn Balance, problems: &mut Problems) {
    let Some(rebalance) = &spec.rebalance else { return };
    let threshold = &rebalance.threshold;
    if !(threshold.is_finite() && threshold.value > 1.0) {
        let problem = Problem::new("`threshold` must be more than 1");
        problems.push(problem.help("1.3 means 30 % above an endpoint's share").at(&threshold.place));
    }
    if rebalance.window.0 < SHORTEST_WINDOW {
        let problem = Problem::new("`window` must be at least 1s");
        problems.push(problem.help("omit `rebalance` to turn it off").at(&rebalance.window.place));
    }
    if !matches!(balance.key(), KeySource::Nothing) {
        let problem = Problem::new(
            "`rebalance` cannot move clients: their key or cookie selects the same endpoint again",
        );
        problems.push(
            problem
                .help("use least_connections, p2c, round_robin or random as `balance`, or omit `rebalance`")
                .at(&rebalance.place),
        );
    }
}

/// Warns of gRPC without probes: a call may be idle without limit, so only a probe detects a hung backend
/// soon.
fn unprobed(spec: &config::Upstream) -> Option<Problem> {
    let unnoticed =
        *spec.protocol != UpstreamProtocol::Http1 && spec.endpoints.len() > 1 && spec.health_check.is_none();
    unnoticed.then(|| {
        Problem::warning("HTTP/2 upstream without a `health_check`")
            .help(
                "a hung endpoint keeps its gRPC calls for minutes; `health_check: { kind: grpc }` detects it",
            )
            .at(&spec.protocol.place)
    })
}

fn discovery(spec: &config::Upstream) -> Result<Option<Box<dyn Discovery>>, Problems> {
    let Some(entry) = &spec.discovery else { return Ok(None) };
    build_kind(DISCOVERY, "discovery", &entry.kind, &entry.kind.place, &entry.settings).map(Some)
}

fn balance(entry: Option<&KindEntry>, place: &Place) -> Result<Box<dyn Balance>, Problems> {
    let Some(entry) = entry else {
        let nothing = Settings::new(Value { place: place.clone(), kind: ValueKind::Map(Vec::new()) });
        return build_kind(BALANCE, "balance kind", "round_robin", place, &nothing);
    };
    build_kind(BALANCE, "balance kind", &entry.kind, &entry.kind.place, &entry.settings)
}

fn probe(spec: &config::Upstream) -> Result<Option<Box<dyn Probe>>, Problems> {
    let Some(entry) = &spec.health_check else { return Ok(None) };
    let message = match (&**entry.kind, *spec.protocol) {
        ("grpc", UpstreamProtocol::Http1) => {
            Some(("gRPC needs HTTP/2", "write `protocol: h2c`, or `h2` with `tls`"))
        }
        ("websocket", UpstreamProtocol::H2c) => {
            Some(("WebSocket handshakes need HTTP/1.1", "use `http`, `grpc` or `tcp`"))
        }
        _ => None,
    };
    if let Some((message, help)) = message {
        return Err(Problem::new(message).help(help).at(&entry.kind.place).into());
    }
    build_kind(PROBES, "health check", &entry.kind, &entry.kind.place, &entry.settings).map(Some)
}

fn build_kind<T: ?Sized>(
    table: &[Kind<T>],
    what: &str,
    name: &str,
    place: &Place,
    settings: &Settings,
) -> Result<Box<T>, Problems> {
    let kind = Kind::find(table, what, name).map_err(|problem| problem.at(place))?;
    (kind.build)(settings).map_err(|problems| problems.at(place))
}
