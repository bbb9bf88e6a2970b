//! Control plane: the current snapshot, reloads and long-lived tasks. Only this module swaps generations.
//!
//! A reload reads, compiles, probes new endpoints, and then swaps. A failure before the swap leaves the old
//! generation unchanged.

mod access_log_file;
mod acme_tasks;
mod cert_watcher;
mod drain_progress;
mod drain_reconciler;
mod endpoint_and_certificate_gauges;
mod plugin_background;
mod plugin_services;
mod preparation;
mod rebalance;
mod reload_history;
mod reload_outcome;
mod socket_binder;
#[cfg(test)]
mod socketless_harness;
mod source_tasks;
mod store_tasks;
#[cfg(test)]
mod tests;
mod trace_exports;
mod upstream_tasks;

pub use drain_progress::{DrainProgress, EndpointDrain};
pub use reload_history::{ReloadCause, ReloadEntry, ReloadHistory};
pub use reload_outcome::{Outcome, ReloadRefusal, Reloaded};
pub use socket_binder::{PreparedSockets, SocketBinder, SocketError, SocketOwner};

use crate::acme::PreparedJob;
use crate::config::{self, LogLevel, ProcessLogFormat};
use crate::diagnostics::{self, Color};
use crate::net::resolver;
use crate::runtime::blocking_pool;
use crate::runtime::supervision;
use crate::snapshot::{Kinds, Snapshot};
use crate::source::DocumentState;
use crate::telemetry::process_log::{self, LogLineFormat, LogSettings};
use crate::telemetry::{metrics, unix_millis};
use crate::tunnel::Registry;
use crate::upstream::Order;
use access_log_file::{KeptFile, OpenedLog, open_log};
use acme_tasks::Certificates;
use arc_swap::{ArcSwap, Guard};
use log::{LevelFilter, error, info, warn};
use moongate_config::Problems;
use moongate_sdk::log_throttle;
use moongate_sdk::{CaughtFuture, Services};
use parking_lot::Mutex;
use plugin_background::Background;
use preparation::{Compiled, PreparedConfig, RefusedConfig, SourceBasis};
use reload_history::difference;
use source_tasks::SourceTasks;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};
use store_tasks::StoreTasks;
use tokio::sync::{Notify, OwnedMutexGuard};
use trace_exports::TraceExports;
use upstream_tasks::Supervisor;

/// The time limit for the first probes of new endpoints before a generation serves: a slow backend must not
/// delay changes of other routes.
const FIRST_PROBES: Duration = Duration::from_secs(5);

/// The time limit for the first connections to new stores of limits.
const FIRST_CONNECTIONS: Duration = Duration::from_secs(1);

/// The time limit for reading, compiling and checking a configuration, whose files may be on a hung file
/// system. The reload is rejected after it.
const LONGEST_PREPARATION: Duration = Duration::from_secs(45);

/// The time limit for opening a log file.
const LONGEST_REOPEN: Duration = Duration::from_secs(10);

/// The current generation and its replacement.
pub struct Live {
    path: PathBuf,
    kinds: Kinds,
    /// What changes of documents start from; `None` without sources.
    basis: Mutex<Option<SourceBasis>>,
    sources: Mutex<SourceTasks>,
    /// Notified when a document of a source has changed.
    source_changes: Arc<Notify>,
    current: ArcSwap<Snapshot>,
    supervisor: Mutex<Supervisor>,
    background: Mutex<Background>,
    certificates: Mutex<Certificates>,
    stores: Mutex<StoreTasks>,
    trace_exports: Mutex<TraceExports>,
    services: OnceLock<Arc<dyn Services>>,
    /// The sockets of the process; none in a test without them.
    sockets: OnceLock<Arc<dyn SocketBinder>>,
    /// Serialises reloads: each starts from the result of the previous one.
    turn: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<LastReload>,
    history: ReloadHistory,
    /// The effective configuration as YAML, without secrets; `None` without an admin address, where it has no reader.
    effective: Mutex<Option<Arc<str>>>,
    drains: DrainProgress,
    generation: AtomicU64,
    tunnels: Arc<Registry>,
    /// Notified of changes that may drain WebSockets.
    changed: Arc<Notify>,
    /// Makes the next reload panic.
    #[cfg(test)]
    panics_at_commit: std::sync::atomic::AtomicBool,
}

/// The result of the last reload.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// Whether it was applied.
    pub ok: bool,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The report of a rejected reload, or the warnings of an applied one.
    pub report: Option<String>,
}

/// Reads a file and compiles it without side effects: everything that `moongate check` does.
///
/// # Errors
/// The rendered report, if the file cannot be read or has an error.
pub fn check(
    path: &Path,
    kinds: Kinds,
    color: Color,
) -> Result<(Snapshot, Arc<config::Loaded>, Option<String>), ReloadRefusal> {
    let compiled = preparation::of_file(path, kinds, None).map_err(|refused| refused.render(color))?;
    let report = compiled.report(color);
    Ok((compiled.snapshot, compiled.loaded, report))
}

impl Live {
    /// Builds the first generation.
    ///
    /// # Errors
    /// The rendered report.
    pub fn start(path: &Path, kinds: Kinds, color: Color) -> Result<Self, ReloadRefusal> {
        Self::start_at(path, kinds, color, 1, &[])
    }

    /// Builds the first generation of a process that another one hands over to: its number is `generation`, and its sources
    /// begin with these documents.
    ///
    /// # Errors
    /// The rendered report.
    pub fn start_at(
        path: &Path,
        kinds: Kinds,
        color: Color,
        generation: u64,
        documents: &[DocumentState],
    ) -> Result<Self, ReloadRefusal> {
        let began = Instant::now();
        let alone = preparation::of_file(path, kinds, None).map_err(|refused| refused.render(color))?;
        let file = Arc::clone(&alone.loaded);
        alone.snapshot.sources.restore(documents);
        let (compiled, selected) =
            preparation::with_sources(alone, kinds, None).map_err(|refused| refused.render(color))?;
        let report = compiled.report(color);
        let basis = SourceBasis::of(&compiled, file);
        let Compiled { snapshot: mut first, loaded, .. } = compiled;
        let refuse = |problems| RefusedConfig { problems, sources: loaded.sources.clone() }.render(color);
        let certificates = acme_tasks::prepare(first.certificates.all()).map_err(refuse)?;
        let log = open_log(&loaded.spec.access_log, first.log_lines.clone(), None, KeptFile::Reopened)
            .map_err(|problem| refuse(problem.into()))?;
        first.log = log.map(OpenedLog::commit);
        first.generation = generation;
        certificates.into_iter().for_each(PreparedJob::commit);
        process_log::configure(log_settings(loaded.spec.log));
        resolver::global().configure(first.globals.resolver, &first.globals.name_servers);
        if let Some(report) = &report {
            warn!("configuration has warnings\n{report}");
        }
        if let Some(selected) = selected {
            selected.settle(&first.sources);
        }
        first.register_metrics();
        metrics::global().config_taken(generation);
        let history = ReloadHistory::default();
        history.add(ReloadEntry {
            number: 1,
            at: unix_millis(),
            cause: ReloadCause::Start,
            ok: true,
            generation: Some(generation),
            took: began.elapsed().as_secs_f64(),
            warnings: report.clone(),
            report: None,
            diff: None,
        });
        let effective = Mutex::new(effective(&first, &loaded));
        Ok(Self {
            basis: Mutex::new(basis),
            sources: Mutex::default(),
            source_changes: Arc::default(),
            path: path.to_owned(),
            kinds,
            current: ArcSwap::from_pointee(first),
            supervisor: Mutex::default(),
            background: Mutex::default(),
            certificates: Mutex::default(),
            stores: Mutex::default(),
            trace_exports: Mutex::default(),
            services: OnceLock::new(),
            sockets: OnceLock::new(),
            turn: Arc::default(),
            last: Mutex::new(LastReload { ok: true, at: now(), report }),
            history,
            effective,
            drains: DrainProgress::default(),
            generation: AtomicU64::new(generation),
            tunnels: Arc::default(),
            changed: Arc::default(),
            #[cfg(test)]
            panics_at_commit: false.into(),
        })
    }

    /// Starts the first generation's tasks and waits for the first probes, within a bound. Call it once.
    pub async fn wait_until_ready(self: &Arc<Self>) {
        let live = Arc::downgrade(self);
        supervision::spawn("drains", "", move || drain_reconciler::keep(Weak::clone(&live)));
        let live = Arc::downgrade(self);
        supervision::spawn("cert_watcher", "", move || cert_watcher::keep(Weak::clone(&live)));
        supervision::spawn("log_counts", "", count_repeated_lines);
        self.begin_sources().await;
        let snapshot = self.current.load_full();
        // The documents of sources may have begun some.
        self.supervisor.lock().begin(&snapshot);
        self.stores.lock().begin(&snapshot);
        upstream_tasks::first_rounds(snapshot.clusters().cloned().collect(), FIRST_PROBES).await;
        let stores: Vec<_> = snapshot.stores.all().cloned().collect();
        store_tasks::first_connections(&stores, FIRST_CONNECTIONS).await;
        self.background.lock().follow(&snapshot, self.services());
        self.certificates.lock().follow(&snapshot);
        self.trace_exports.lock().follow(&snapshot, self.services());
    }

    /// Starts the sources, and applies the documents that they give at first. Other reloads wait until the process serves.
    async fn begin_sources(self: &Arc<Self>) {
        let live = Arc::downgrade(self);
        supervision::spawn("source_changes", "", move || source_tasks::keep(Weak::clone(&live)));
        let snapshot = self.current.load_full();
        if snapshot.sources.is_empty() {
            return;
        }
        let fresh = self.sources.lock().begin(&snapshot.sources, &self.source_changes);
        source_tasks::first_answers(&fresh, FIRST_PROBES).await;
        // The log has the outcome. The process serves what the file and the documents before it have.
        let _ = self.reload_in_turn(ReloadCause::Source).await;
    }

    /// The services of the gateway for plugins.
    pub fn services(self: &Arc<Self>) -> &Arc<dyn Services> {
        self.services.get_or_init(|| Arc::new(plugin_services::Gateway::new(self)))
    }

    /// Binds the sockets of every later generation with `binder`.
    pub fn bind_sockets_with(&self, binder: Arc<dyn SocketBinder>) {
        // Only the first call counts; there is one.
        let _ = self.sockets.set(binder);
    }

    /// The current generation, for a short access. Do not keep the guard.
    pub fn look(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The configuration file, as an absolute path.
    pub fn file(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// The current generation, pinned for one request.
    pub fn pin(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The open WebSockets.
    pub fn tunnels(&self) -> &Arc<Registry> {
        &self.tunnels
    }

    /// Applies an operator's order to an endpoint; `None` if the upstream or endpoint does not exist.
    pub fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()> {
        self.pin().cluster(upstream)?.order(endpoint, order)?;
        self.changed.notify_one();
        Some(())
    }

    /// The number of the current generation, from 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The last reloads.
    pub fn reloads(&self) -> &ReloadHistory {
        &self.history
    }

    /// The effective configuration as YAML, without secrets.
    pub fn effective(&self) -> Arc<str> {
        self.effective.lock().clone().unwrap_or_default()
    }

    /// The drains in progress.
    pub fn drains(&self) -> &DrainProgress {
        &self.drains
    }

    /// The result of the last reload.
    pub fn last_reload(&self) -> LastReload {
        self.last.lock().clone()
    }

    /// Exports the finished spans of traces within a time limit, and ends the exporters: at the end of the process.
    pub async fn finish_traces(&self, within: Duration) {
        let exports = self.trace_exports.lock().take();
        exports.finish(within).await;
    }

    /// Removes this process from the gateways of each store: at the end of the process.
    pub async fn leave_stores(&self) {
        for store in self.pin().stores.all() {
            store.leave().await;
        }
    }

    /// Waits for a reload in progress. Further ones wait until the guard is dropped.
    pub async fn hold_reloads(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Reopens the access log's file after it was moved (logrotate). The configuration is unchanged.
    ///
    /// # Errors
    /// When it cannot be opened; the open file stays in use.
    pub async fn reopen_logs(&self) -> io::Result<()> {
        let Some(log) = self.look().log.clone() else { return Ok(()) };
        // The file system may hang.
        blocking_pool::LOGS.run_within(LONGEST_REOPEN, move || log.reopen()).await?
    }

    /// Reads the file again, or for a change of a source its documents, and swaps to the new generation if it is valid.
    pub async fn reload(&self, cause: ReloadCause) -> Outcome {
        let _turn = self.turn.lock().await;
        self.reload_in_turn(cause).await
    }

    async fn reload_in_turn(&self, cause: ReloadCause) -> Outcome {
        let began = Instant::now();
        // A panic rejects the reload and has no other effect.
        let outcome: Result<Option<AppliedReload>, _> =
            CaughtFuture::new(Box::pin(self.next_generation(cause)))
                .await
                .unwrap_or_else(|| Err(halted(&"the compilation panicked")));
        let generation = self.generation();
        let outcome = match outcome {
            Ok(Some(applied)) => Ok(applied),
            // Documents have changed, and the configuration has not.
            Ok(None) => return Ok(Reloaded { generation, report: None }),
            Err(refusal) => {
                // Tasks started for the rejected generation are aborted.
                let snapshot = self.pin();
                self.supervisor.lock().end_all_but(&snapshot);
                self.stores.lock().end_all_but(&snapshot);
                self.sources.lock().end_all_but(&snapshot.sources);
                Err(refusal)
            }
        };
        match &outcome {
            Ok(AppliedReload { warnings, .. }) => {
                info!(generation; "configuration reloaded");
                if let Some(report) = warnings {
                    warn!("configuration has warnings\n{report}");
                }
            }
            Err(refusal) => {
                error!(generation; "configuration rejected; previous one kept");
                error!("configuration problems\n{}", refusal.report);
            }
        }
        // A file that was rejected stays so after a change of documents.
        let is_of_file = cause != ReloadCause::Source;
        match &outcome {
            Ok(_) if is_of_file => metrics::global().config_taken(generation),
            Ok(_) => metrics::global().config_changed(generation),
            Err(_) if is_of_file => metrics::global().config_refused(),
            Err(_) => {}
        }
        let ok = outcome.is_ok();
        let (warnings, refusal, diff) = match &outcome {
            Ok(applied) => (applied.warnings.clone(), None, applied.diff.clone()),
            Err(refusal) => (None, Some(refusal.report.clone()), None),
        };
        let report = warnings.clone().or_else(|| refusal.clone());
        if is_of_file {
            *self.last.lock() = LastReload { ok, at: now(), report };
        }
        self.history.add(ReloadEntry {
            number: 0,
            at: unix_millis(),
            cause,
            ok,
            generation: ok.then_some(generation),
            took: began.elapsed().as_secs_f64(),
            warnings,
            report: refusal,
            diff,
        });
        outcome.map(|applied| Reloaded { generation, report: applied.warnings })
    }

    /// The file with the documents of its sources; `None` if they have changed, and the configuration has not.
    async fn prepare(&self, cause: ReloadCause) -> Result<Option<PreparedConfig>, ReloadRefusal> {
        let (path, kinds, prior) = (self.path.clone(), self.kinds, self.pin());
        if cause == ReloadCause::Source {
            let Some(basis) = self.basis.lock().clone() else { return Ok(None) };
            let work = move || preparation::after_change(&basis, kinds, &prior);
            return self.run(work).await?.map_err(|refused| refused.render(Color::Never));
        }
        let from = Arc::clone(&prior);
        let work = move || {
            preparation::of_file(&path, kinds, Some(&from)).map_err(|refused| refused.render(Color::Never))
        };
        let alone = self.run(work).await??;
        // Documents of new sources come with the generation that names them.
        let fresh = self.sources.lock().begin(&alone.snapshot.sources, &self.source_changes);
        source_tasks::first_answers(&fresh, FIRST_PROBES).await;
        let file = Arc::clone(&alone.loaded);
        let work = move || {
            preparation::with_sources(alone, kinds, Some(&prior))
                .map_err(|refused| refused.render(Color::Never))
        };
        let (compiled, selected) = self.run(work).await??;
        let basis = SourceBasis::of(&compiled, file);
        Ok(Some(PreparedConfig { basis, compiled, selected }))
    }

    /// Runs work on a detached thread: compiling ten thousand routes takes milliseconds, and file systems may hang.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReloadRefusal> {
        blocking_pool::RELOAD.run_within(LONGEST_PREPARATION, work).await.map_err(|error| halted(&error))
    }

    async fn next_generation(&self, cause: ReloadCause) -> Result<Option<AppliedReload>, ReloadRefusal> {
        let prior = self.pin();
        let Some(PreparedConfig { basis, compiled, selected }) = self.prepare(cause).await? else {
            return Ok(None);
        };
        let before = self.effective.lock().clone();
        let binder = self.sockets.get().cloned();
        let work = move || {
            let Compiled { snapshot: next, loaded, warnings } = compiled;
            let effective = effective(&next, &loaded);
            let diff = before.zip(effective.as_ref()).and_then(|(before, after)| difference(&before, after));
            let refuse =
                |problems| RefusedConfig { problems, sources: loaded.sources.clone() }.render(Color::Never);
            let certificates = acme_tasks::prepare(next.certificates.all()).map_err(refuse)?;
            let sockets = binder.map(|binder| binder.prepare(&next)).transpose().map_err(|errors| {
                refuse(Problems(errors.iter().map(|error| error.problem(&loaded)).collect()))
            })?;
            Ok(PreparedGeneration { next, loaded, warnings, certificates, sockets, effective, diff })
        };
        let ready = self.run(work).await??;
        let PreparedGeneration { mut next, loaded, warnings, certificates, sockets, effective, diff } = ready;
        // The log is opened last and in a separate step, since opening creates a file. A timeout above
        // rejects the reload without side effects. Nothing is rejected from here on.
        let (settings, kept) = (loaded.spec.access_log.clone(), Arc::clone(&prior));
        let lines = next.log_lines.clone();
        let kept_file = if cause == ReloadCause::Source { KeptFile::Kept } else { KeptFile::Reopened };
        let opened = self.run(move || open_log(&settings, lines, Some(&kept), kept_file)).await?;
        let log = opened.map_err(|problem| {
            RefusedConfig { problems: problem.into(), sources: loaded.sources.clone() }.render(Color::Never)
        })?;
        next.log = log.map(OpenedLog::commit);
        next.generation = self.generation() + 1;
        certificates.into_iter().for_each(PreparedJob::commit);
        process_log::configure(log_settings(loaded.spec.log));
        resolver::global().configure(next.globals.resolver, &next.globals.name_servers);
        #[cfg(test)]
        assert!(!self.panics_at_commit.swap(false, Ordering::Relaxed), "as the test wants");
        let next = Arc::new(next);
        next.register_metrics();
        let fresh = self.supervisor.lock().begin(&next);
        let stores = self.stores.lock().begin(&next);
        // A new upstream of one owner delays no change of another one: it serves 503 until its probes, or requests wait.
        if cause != ReloadCause::Source {
            upstream_tasks::first_rounds(fresh, FIRST_PROBES).await;
            store_tasks::first_connections(&stores, FIRST_CONNECTIONS).await;
        }
        self.current.store(Arc::clone(&next));
        let rejected = selected.map(|selected| {
            // The log has those of a change already.
            let rejected = selected.report().filter(|_| cause != ReloadCause::Source);
            selected.settle(&next.sources);
            rejected
        });
        *self.basis.lock() = basis;
        self.generation.fetch_add(1, Ordering::Relaxed);
        if let Some(sockets) = sockets {
            // The file of a Unix socket is removed, and its file system may hang.
            let committed = blocking_pool::RELOAD.run_within(LONGEST_REOPEN, move || sockets.commit()).await;
            if let Err(error) = committed {
                error!(error:%; "sockets not closed in time");
            }
        }
        self.supervisor.lock().end_all_but(&next);
        self.stores.lock().end_all_but(&next);
        self.sources.lock().end_all_but(&next.sources);
        if let Some(services) = self.services.get() {
            self.background.lock().follow(&next, services);
            self.trace_exports.lock().follow(&next, services);
        }
        self.certificates.lock().follow(&next);
        *self.effective.lock() = effective;
        self.changed.notify_one();
        let report =
            (!warnings.0.is_empty()).then(|| diagnostics::render(&warnings, &loaded.sources, Color::Never));
        let reports: Vec<_> = report.into_iter().chain(rejected.flatten()).collect();
        Ok(Some(AppliedReload { warnings: (!reports.is_empty()).then(|| reports.join("\n")), diff }))
    }
}

/// A generation that can no longer be rejected.
struct PreparedGeneration {
    next: Snapshot,
    loaded: Arc<config::Loaded>,
    warnings: Problems,
    certificates: Vec<PreparedJob>,
    /// Bound, and closed again if the generation is dropped.
    sockets: Option<Box<dyn PreparedSockets>>,
    /// Its YAML without secrets, and the difference to the prior one.
    effective: Option<Arc<str>>,
    diff: Option<String>,
}

/// The result of an applied reload.
struct AppliedReload {
    /// The rendered warnings, if any.
    warnings: Option<String>,
    diff: Option<String>,
}

/// The text of [`Live::effective`].
fn effective(snapshot: &Snapshot, loaded: &config::Loaded) -> Option<Arc<str>> {
    snapshot.admin.is_some().then(|| config::print_masked(loaded).into())
}

/// The refusal of a reload that timed out or panicked.
fn halted(error: &dyn fmt::Display) -> ReloadRefusal {
    ReloadRefusal { report: format!("error: reload aborted: {error}\n") }
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

/// Counts suppressed log lines and logs the counts.
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
