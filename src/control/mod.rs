//! The living configuration: the one place that swaps generations, and what a reload does.
//!
//! A reload reads, compiles, probes what is new, and only then swaps. Whatever fails before the swap
//! leaves the old generation serving, whole.

mod acme_tasks;
mod cert_watcher;
mod drains;
mod plugin_background;
mod plugin_services;
mod rebalance;
mod reload_outcome;
mod snapshot_gauges;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upstream_tasks;

pub use reload_outcome::{Outcome, ReloadRefusal, Reloaded};

use crate::acme::Prepared;
use crate::config::{self, LogLevel, ProcessLogFormat};
use crate::diagnostics::{self, Color, Sources};
use crate::net::resolver;
use crate::runtime::blocking_pool;
use crate::runtime::supervision;
use crate::snapshot::{self, Kinds, Snapshot};
use crate::telemetry::access_log::Format;
use crate::telemetry::process_log::{self, LogLineFormat, LogSettings};
use crate::telemetry::{AccessLog, metrics};
use crate::tunnel::Registry;
use crate::upstream::Order;
use acme_tasks::Certificates;
use arc_swap::{ArcSwap, Guard};
use log::{LevelFilter, error, info, warn};
use moongate_config::{Problem, Problems};
use moongate_sdk::log_throttle;
use moongate_sdk::{Guarded, Services};
use parking_lot::Mutex;
use plugin_background::Background;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use upstream_tasks::Supervisor;

/// How long a generation may wait for its new endpoints' first probes before it serves all the same:
/// a slow backend must not hold back the change of another's route.
const FIRST_PROBES: Duration = Duration::from_secs(5);

/// How long reading, compiling and checking a configuration may take before the reload is refused: its files may be on a
/// file system that does not answer.
const LONGEST_PREPARATION: Duration = Duration::from_secs(45);

/// How long opening a log file may take.
const LONGEST_REOPEN: Duration = Duration::from_secs(10);

/// The current generation and the way to the next.
pub struct Live {
    path: PathBuf,
    kinds: Kinds,
    current: ArcSwap<Snapshot>,
    supervisor: Mutex<Supervisor>,
    background: Mutex<Background>,
    certificates: Mutex<Certificates>,
    services: OnceLock<Arc<dyn Services>>,
    /// Reloads take turns: each starts from what the one before it left.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<LastReload>,
    generation: AtomicU64,
    tunnels: Arc<Registry>,
    /// Something changed that may ask WebSockets to come again.
    changed: Arc<Notify>,
    /// The next reload panics.
    #[cfg(test)]
    panics_at_commit: std::sync::atomic::AtomicBool,
}

/// How the last reload ended.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// Whether it was taken.
    pub ok: bool,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The report of a refusal, or the warnings of a reload that was taken.
    pub report: Option<String>,
}

/// Reads a file and compiles it without touching anything else: all that `moongate check` does.
///
/// # Errors
/// The rendered report, when the file cannot be read or one of its problems refuses it.
pub fn check(
    path: &Path,
    kinds: Kinds,
    color: Color,
) -> Result<(Snapshot, config::Loaded, Option<String>), ReloadRefusal> {
    let (snapshot, loaded, warnings) = prepare(path, kinds, None).map_err(|refused| refused.render(color))?;
    let report = (!warnings.0.is_empty()).then(|| diagnostics::render(&warnings, &loaded.sources, color));
    Ok((snapshot, loaded, report))
}

struct Refused {
    problems: Problems,
    sources: Sources,
}

impl Refused {
    fn render(&self, color: Color) -> ReloadRefusal {
        ReloadRefusal { report: diagnostics::render(&self.problems, &self.sources, color) }
    }
}

fn prepare(
    path: &Path,
    kinds: Kinds,
    prior: Option<&Snapshot>,
) -> Result<(Snapshot, config::Loaded, Problems), Refused> {
    let loaded = config::load(path).map_err(|mut refused| {
        // Names that do not exist are told in the same go as keys that do not.
        let rest = refused.rest.take();
        if let Some(Err(more)) = rest.map(|rest| snapshot::compile(&rest, prior, kinds)) {
            refused.also(more);
        }
        Refused { problems: refused.problems, sources: refused.sources }
    })?;
    match snapshot::compile(&loaded.spec, prior, kinds) {
        Ok((snapshot, mut warnings)) => {
            warnings.extend(loaded.warnings.clone());
            Ok((snapshot, loaded, warnings))
        }
        Err(mut problems) => {
            problems.extend(loaded.warnings);
            Err(Refused { problems, sources: loaded.sources })
        }
    }
}

impl Live {
    /// The first generation.
    ///
    /// # Errors
    /// The rendered report.
    pub fn start(path: &Path, kinds: Kinds, color: Color) -> Result<Self, ReloadRefusal> {
        let (mut first, loaded, warnings) =
            prepare(path, kinds, None).map_err(|refused| refused.render(color))?;
        let refuse = |problems| Refused { problems, sources: loaded.sources.clone() }.render(color);
        let certificates = acme_tasks::prepare(first.certificates.all()).map_err(refuse)?;
        let log = open_log(&loaded.spec.access_log, None).map_err(|problem| refuse(problem.into()))?;
        first.log = log.map(OpenedLog::commit);
        certificates.into_iter().for_each(Prepared::commit);
        process_log::configure(log_settings(loaded.spec.log));
        resolver::global().configure(first.terms.resolver, &first.terms.name_servers);
        let report = (!warnings.0.is_empty()).then(|| diagnostics::render(&warnings, &loaded.sources, color));
        if let Some(report) = &report {
            warn!("the configuration has warnings\n{report}");
        }
        metrics::global().config_taken(1);
        Ok(Self {
            path: path.to_owned(),
            kinds,
            current: ArcSwap::from_pointee(first),
            supervisor: Mutex::default(),
            background: Mutex::default(),
            certificates: Mutex::default(),
            services: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
            last: Mutex::new(LastReload { ok: true, at: now(), report }),
            generation: AtomicU64::new(1),
            tunnels: Arc::default(),
            changed: Arc::default(),
            #[cfg(test)]
            panics_at_commit: false.into(),
        })
    }

    /// Starts the first generation's tasks and waits for the first probes, within a bound. To be called once.
    pub async fn wait_until_ready(self: &Arc<Self>) {
        let live = Arc::downgrade(self);
        supervision::spawn("drains", "", move || drains::keep(Weak::clone(&live)));
        let live = Arc::downgrade(self);
        supervision::spawn("rotation", "", move || cert_watcher::keep(Weak::clone(&live)));
        supervision::spawn("log_counts", "", count_repeated_lines);
        let snapshot = self.current.load_full();
        let fresh = self.supervisor.lock().begin(&snapshot);
        upstream_tasks::first_rounds(fresh, FIRST_PROBES).await;
        self.background.lock().follow(&snapshot, self.services());
        self.certificates.lock().follow(&snapshot);
    }

    /// What plugins may ask of the gateway.
    pub fn services(self: &Arc<Self>) -> &Arc<dyn Services> {
        self.services.get_or_init(|| Arc::new(plugin_services::Gateway::new(self)))
    }

    /// The current generation, for a look. Keep it no longer than a few lines.
    pub fn look(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current generation, to keep for one request.
    pub fn pin(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The living WebSockets.
    pub fn tunnels(&self) -> &Arc<Registry> {
        &self.tunnels
    }

    /// Takes an operator's order for an endpoint; `None` when there is no such upstream or endpoint.
    pub fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()> {
        self.pin().cluster(upstream)?.order(endpoint, order)?;
        self.changed.notify_one();
        Some(())
    }

    /// The number of the current generation, from 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// How the last reload ended.
    pub fn last_reload(&self) -> LastReload {
        self.last.lock().clone()
    }

    /// Opens the file of the access log again, after it was moved away (logrotate). The configuration stays.
    ///
    /// # Errors
    /// When it cannot be opened; the one open so far stays in use.
    pub async fn reopen_logs(&self) -> io::Result<()> {
        let Some(log) = self.look().log.clone() else { return Ok(()) };
        // A file system may hang.
        blocking_pool::LOGS.run_within(LONGEST_REOPEN, move || log.reopen()).await?
    }

    /// Reads the file again and, when nothing is wrong with it, serves by it.
    pub async fn reload(&self) -> Outcome {
        let _turn = self.turn.lock().await;
        // A panic refuses the reload, and ends nothing else.
        let outcome = Guarded::new(Box::pin(self.next_generation())).await.unwrap_or_else(|| {
            // What was begun for the next generation ends with it.
            self.supervisor.lock().end_all_but(&self.pin());
            Err(halted(&"it panicked"))
        });
        let generation = self.generation();
        match &outcome {
            Ok(report) => {
                info!(generation; "configuration reloaded");
                if let Some(report) = report {
                    warn!("the configuration has warnings\n{report}");
                }
            }
            Err(refusal) => {
                error!(generation; "configuration refused; the old one serves on");
                error!("why it was refused\n{}", refusal.report);
            }
        }
        match &outcome {
            Ok(_) => metrics::global().config_taken(generation),
            Err(_) => metrics::global().config_refused(),
        }
        let report = match &outcome {
            Ok(report) => report.clone(),
            Err(refusal) => Some(refusal.report.clone()),
        };
        *self.last.lock() = LastReload { ok: outcome.is_ok(), at: now(), report };
        outcome.map(|report| Reloaded { generation, report })
    }

    async fn next_generation(&self) -> Result<Option<String>, ReloadRefusal> {
        let prior = self.pin();
        let (path, kinds) = (self.path.clone(), self.kinds);
        let from = Arc::clone(&prior);
        // Compiling ten thousand routes takes its milliseconds, and files may hang: on threads that nobody joins.
        let work = move || {
            let (next, loaded, warnings) =
                prepare(&path, kinds, Some(&from)).map_err(|refused| refused.render(Color::Never))?;
            let problems = snapshot::cannot_change(&from, &next, &loaded.spec);
            if !problems.0.is_empty() {
                return Err(Refused { problems, sources: loaded.sources }.render(Color::Never));
            }
            match acme_tasks::prepare(next.certificates.all()) {
                Ok(certificates) => Ok(Ready { next, loaded, warnings, certificates }),
                Err(problems) => Err(Refused { problems, sources: loaded.sources }.render(Color::Never)),
            }
        };
        let ready = blocking_pool::RELOAD
            .run_within(LONGEST_PREPARATION, work)
            .await
            .map_err(|error| halted(&error))??;
        let Ready { mut next, loaded, warnings, certificates } = ready;
        // The log last, for opening it makes a file, and in a step of its own: what takes too long above is refused, and
        // goes on in its thread without a trace outside. Nothing is refused from then on.
        let (settings, kept) = (loaded.spec.access_log.clone(), Arc::clone(&prior));
        let opened = blocking_pool::RELOAD
            .run_within(LONGEST_PREPARATION, move || open_log(&settings, Some(&kept)))
            .await;
        let log = opened.map_err(|error| halted(&error))?.map_err(|problem| {
            Refused { problems: problem.into(), sources: loaded.sources.clone() }.render(Color::Never)
        })?;
        next.log = log.map(OpenedLog::commit);
        certificates.into_iter().for_each(Prepared::commit);
        process_log::configure(log_settings(loaded.spec.log));
        resolver::global().configure(next.terms.resolver, &next.terms.name_servers);
        #[cfg(test)]
        assert!(!self.panics_at_commit.swap(false, Ordering::Relaxed), "as the test wants");
        let next = Arc::new(next);
        let fresh = self.supervisor.lock().begin(&next);
        upstream_tasks::first_rounds(fresh, FIRST_PROBES).await;
        self.current.store(Arc::clone(&next));
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.supervisor.lock().end_all_but(&next);
        if let Some(services) = self.services.get() {
            self.background.lock().follow(&next, services);
        }
        self.certificates.lock().follow(&next);
        self.changed.notify_one();
        Ok((!warnings.0.is_empty()).then(|| diagnostics::render(&warnings, &loaded.sources, Color::Never)))
    }
}

/// A generation that nothing can refuse any more.
struct Ready {
    next: Snapshot,
    loaded: config::Loaded,
    warnings: Problems,
    certificates: Vec<Prepared>,
}

/// What a reload that has no outcome is called.
fn halted(error: &dyn fmt::Display) -> ReloadRefusal {
    ReloadRefusal { report: format!("error: the reload came to a halt: {error}\n") }
}

/// The settings of the process log.
fn log_settings(written: config::ProcessLog) -> LogSettings {
    let level = match written.level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    };
    let format = match written.format {
        ProcessLogFormat::Text => LogLineFormat::Text,
        ProcessLogFormat::Json => LogLineFormat::Json,
    };
    LogSettings { level, format }
}

/// The access log of a generation, open and not written to yet.
enum OpenedLog {
    New(Arc<AccessLog>),
    /// That of the generation before, with its file opened again: the operator may have moved it away (logrotate).
    Kept(Arc<AccessLog>, Option<File>),
}

impl OpenedLog {
    fn commit(self) -> Arc<AccessLog> {
        match self {
            Self::New(log) => log,
            Self::Kept(log, file) => {
                log.exchange(file);
                log
            }
        }
    }
}

/// Opens the access log, or the file of the prior generation's when its settings are the same.
fn open_log(settings: &config::AccessLog, prior: Option<&Snapshot>) -> Result<Option<OpenedLog>, Problem> {
    let problem = |error: io::Error| {
        Problem::new(format!("the access log `{}` cannot be opened: {error}", settings.path.value))
            .at(&settings.path.place)
    };
    let kept = prior.filter(|prior| prior.log_settings == *settings).and_then(|prior| prior.log.clone());
    let format = match settings.format {
        config::LogFormat::Json => Format::Json,
        config::LogFormat::Combined => Format::Combined,
        config::LogFormat::Off => return Ok(None),
    };
    Ok(Some(match kept {
        Some(log) => {
            let file = log.open_again().map_err(problem)?;
            OpenedLog::Kept(log, file)
        }
        None => OpenedLog::New(AccessLog::open(format, &settings.path, settings.buffer.0).map_err(problem)?),
    }))
}

/// Counts the log lines that are held back, and writes the counts.
async fn count_repeated_lines() {
    let mut rounds = tokio::time::interval(log_throttle::EVERY);
    loop {
        rounds.tick().await;
        log_throttle::count();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
