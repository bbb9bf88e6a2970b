//! Sockets of the process: those of the listeners and of the admin address, with the workers that serve them. A reload
//! binds new ones before anything changes, and exchanges all of them in one step.

use super::admin::live::History;
use super::admin::{AdminListener, AdminState};
use super::bind::BoundListener;
use super::handover::Succession;
use super::inherited_sockets::{InheritedSockets, TakenSocket};
use super::open_admin::{OpenAdmin, PausedAdmin, ViewHistory};
use super::open_listener::OpenListener;
use super::passed_socket::{HeldSocket, SocketRole};
use super::service_manager::{self, SocketKeeper};
use super::socket_file::{AccessChange, SocketFile};
use super::worker::Adoption;
use super::worker_pool::{Worker, WorkerPool};
use crate::control::{PreparedSockets, SocketBinder, SocketError, SocketOwner};
use crate::net::connection_permit::ConnectionCount;
use crate::snapshot::{Address, AdminAddress, Listener, Snapshot};
use log::{error, info, warn};
use parking_lot::Mutex;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The time limit for streams of the admin address, which end at their next event.
const LAST_STREAMS: Duration = Duration::from_secs(2);

/// The time limit for a process that this one replaces to close its sockets.
const LONGEST_CLOSE: Duration = Duration::from_secs(10);

/// Why a reload or an upgrade is refused.
pub(super) const TEMPORARY: &str = "this process serves only until the next process of the service does";

/// The sockets and the workers of the process.
pub(super) struct ProcessSockets {
    workers: WorkerPool,
    current: Mutex<CurrentSockets>,
    /// Sockets that the process was started with.
    inherited: Mutex<InheritedSockets>,
    /// What the admin address shows; set before the first sockets are prepared.
    state: OnceLock<Weak<dyn AdminState>>,
    /// The runtime of reloads.
    control: Handle,
    /// Ends with the last connection to an admin address that was left to a new process.
    last_admin: Mutex<Option<oneshot::Receiver<()>>>,
    /// Whether the service has another main process, or will have: this one changes nothing any more.
    is_temporary: AtomicBool,
    /// Held while the sockets are exchanged, closed or left.
    exchange: Mutex<()>,
    own: Weak<Self>,
}

#[derive(Default)]
struct CurrentSockets {
    listeners: Arc<[Arc<OpenListener>]>,
    admin: Option<OpenAdmin>,
    paused_admin: Option<PausedAdmin>,
    history: Option<ViewHistory>,
    /// Whether the process ends: nothing is bound any more.
    is_closed: bool,
}

/// The bound sockets of the first generation.
pub(super) struct StartingSockets(Box<PreparedSet>);

/// Sockets of a generation that is not used yet.
struct PreparedSet {
    sockets: Arc<ProcessSockets>,
    listeners: Vec<Arc<OpenListener>>,
    limits: Vec<(Arc<ConnectionCount>, Option<usize>)>,
    access: Vec<AccessChange>,
    passed_files: Vec<Arc<SocketFile>>,
    admin: PreparedAdmin,
    workers: Vec<Worker>,
    threads: usize,
}

enum PreparedAdmin {
    /// There is none.
    None,
    /// The address in service, with these settings.
    Kept(AdminAddress),
    /// A new one, and its history if there was no address before.
    New(OpenAdmin, Option<ViewHistory>),
}

/// Binds the listeners of a generation, one after another.
struct Binding<'a> {
    sockets: &'a ProcessSockets,
    current: Arc<[Arc<OpenListener>]>,
    admin_socket: Option<Arc<BoundListener>>,
    access: Vec<AccessChange>,
    /// Files of Unix sockets that this process takes over.
    passed_files: Vec<Arc<SocketFile>>,
}

impl ProcessSockets {
    /// No sockets and no workers. Call it on the runtime of reloads.
    pub(super) fn new(workers: WorkerPool, inherited: InheritedSockets, succession: Succession) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            workers,
            current: Mutex::default(),
            inherited: Mutex::new(inherited),
            state: OnceLock::new(),
            control: Handle::current(),
            last_admin: Mutex::default(),
            is_temporary: AtomicBool::new(succession == Succession::UntilRestart),
            exchange: Mutex::default(),
            own: Weak::clone(own),
        })
    }

    /// Sets what the admin address shows.
    pub(super) fn show(&self, state: Weak<dyn AdminState>) {
        // Only the first call counts; there is one.
        let _ = self.state.set(state);
    }

    /// The names and addresses of the listeners.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        let listeners = Arc::clone(&self.current.lock().listeners);
        listeners.iter().map(|open| (open.name.to_string(), open.socket.local())).collect()
    }

    /// Prepares the sockets of the first generation, without workers.
    ///
    /// # Errors
    /// Every address that cannot be bound.
    pub(super) fn start(&self, first: &Snapshot) -> Result<StartingSockets, Vec<SocketError>> {
        self.prepare_set(first).map(|prepared| StartingSockets(Box::new(prepared)))
    }

    /// The sockets for a new process.
    pub(super) fn held(&self) -> Vec<HeldSocket> {
        let current = self.current.lock();
        let listeners = current.listeners.iter().map(|open| HeldSocket {
            socket: Arc::clone(&open.socket),
            role: SocketRole {
                configured: open.address.to_string(),
                listener: Some(open.name.to_string()),
                owns_file: matches!(&*open.socket, BoundListener::Unix(_, file) if file.is_own()),
            },
        });
        let admin = current.admin.iter().map(|open| HeldSocket {
            socket: Arc::clone(&open.socket),
            role: SocketRole {
                configured: open.settings.address.to_string(),
                listener: None,
                owns_file: false,
            },
        });
        listeners.chain(admin).collect()
    }

    /// Accepts no further connection while the new process does: until [`ProcessSockets::leave`], or until
    /// [`ProcessSockets::resume`] if the new process ends.
    pub(super) fn pause(&self) {
        let _exchange = self.exchange.lock();
        self.pause_admin();
        self.workers.pause();
    }

    /// Accepts connections again.
    pub(super) fn resume(&self) {
        let _exchange = self.exchange.lock();
        let (listeners, paused) = {
            let mut current = self.current.lock();
            (Arc::clone(&current.listeners), current.paused_admin.take())
        };
        self.workers.resume(&listeners);
        let Some(PausedAdmin { settings, socket }) = paused else { return };
        match socket.share().and_then(|socket| self.open_admin(socket, &settings)) {
            Ok((open, _)) => {
                open.listener.serve();
                self.current.lock().admin = Some(open);
            }
            Err(error) => error!(error:%; "admin address not served any more"),
        }
    }

    /// Leaves the sockets to the new process: this one accepts no further connection.
    pub(super) fn leave(&self) {
        let _exchange = self.exchange.lock();
        self.pause_admin();
        let listeners = {
            let mut current = self.current.lock();
            current.is_closed = true;
            current.paused_admin = None;
            std::mem::take(&mut current.listeners)
        };
        for open in listeners.iter() {
            open.close_file(SocketKeeper::NextProcess);
        }
        self.workers.hand_over();
    }

    /// Refuses reloads and upgrades from now on: the service has another main process, or will have.
    pub(super) fn become_temporary(&self) {
        self.is_temporary.store(true, Relaxed);
    }

    /// Returns whether the process refuses reloads and upgrades.
    pub(super) fn is_temporary(&self) -> bool {
        self.is_temporary.load(Relaxed)
    }

    /// Closes the admin address: another process serves it from now on.
    pub(super) fn leave_admin(&self) {
        let _exchange = self.exchange.lock();
        self.pause_admin();
        self.current.lock().paused_admin = None;
    }

    fn pause_admin(&self) {
        let mut current = self.current.lock();
        if let Some(OpenAdmin { settings, socket, listener }) = current.admin.take() {
            current.paused_admin = Some(PausedAdmin { settings, socket });
            *self.last_admin.lock() = Some(listener.retire());
        }
    }

    /// Gives WebSockets of the old process to the workers.
    pub(super) fn adopt(&self, adoptions: impl IntoIterator<Item = Adoption>) {
        self.workers.adopt(adoptions);
    }

    /// Closes the listeners for the end of the process; what waits in their accept queues is served.
    pub(super) fn close(&self) {
        let _exchange = self.exchange.lock();
        let listeners = {
            let mut current = self.current.lock();
            current.is_closed = true;
            std::mem::take(&mut current.listeners)
        };
        for open in listeners.iter() {
            open.close_file(service_manager::keeps_sockets());
        }
        self.workers.drain();
    }

    /// Ends the workers, and what the admin address still sends after a handover.
    pub(super) async fn finish(&self) {
        self.workers.finish().await;
        let last = self.last_admin.lock().take();
        if let Some(last) = last {
            let _ = tokio::time::timeout(LAST_STREAMS, last).await;
        }
    }

    fn prepare_set(&self, next: &Snapshot) -> Result<PreparedSet, Vec<SocketError>> {
        let (current, admin_socket, is_closed) = {
            let current = self.current.lock();
            let admin = current.admin.as_ref().map(|admin| Arc::clone(&admin.socket));
            (Arc::clone(&current.listeners), admin, current.is_closed)
        };
        let Some(sockets) = self.own.upgrade().filter(|_| !is_closed) else {
            let error = io::Error::other("the process is shutting down");
            let action = "reload".to_owned();
            return Err(vec![SocketError { owner: SocketOwner::Workers, action, error }]);
        };
        let mut errors = Vec::new();
        let mut binding =
            Binding { sockets: self, current, admin_socket, access: Vec::new(), passed_files: Vec::new() };
        let kept = binding.kept(&next.listeners);
        let mut listeners = Vec::with_capacity(next.listeners.len());
        let mut limits = Vec::with_capacity(next.listeners.len());
        for (index, (listener, kept)) in next.listeners.iter().zip(kept).enumerate() {
            match binding.open(listener, kept) {
                Ok(Some(open)) => {
                    limits.push((Arc::clone(&open.count), listener.max_connections));
                    listeners.push(open);
                }
                Ok(None) => {
                    let (name, address) = (&*listener.name, listener.address.to_string());
                    warn!(name, address = address.as_str(); "listener left to the next process");
                }
                Err(error) => errors.push(SocketError {
                    owner: SocketOwner::Listener(index),
                    action: format!("listen on {}", listener.address),
                    error,
                }),
            }
        }
        let admin = binding.admin(next.admin.as_ref()).unwrap_or_else(|error| {
            errors.push(error);
            PreparedAdmin::None
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        let Binding { access, passed_files, .. } = binding;
        let (workers, threads) = (Vec::new(), next.threads);
        Ok(PreparedSet { sockets, listeners, limits, access, passed_files, admin, workers, threads })
    }

    fn commit_admin(&self, admin: &mut PreparedAdmin) {
        let mut current = self.current.lock();
        let retire = |current: &mut CurrentSockets| {
            if let Some(old) = current.admin.take() {
                info!(name = "admin", address = old.socket.local().as_str(); "listener closed");
                // Its connections have their own time limit.
                drop(old.listener.retire());
            }
        };
        match admin {
            PreparedAdmin::None => {
                retire(&mut current);
                current.history = None;
            }
            PreparedAdmin::Kept(settings) => {
                if let Some(open) = &mut current.admin {
                    if open.settings.token != settings.token {
                        open.listener.set_token(settings.token.as_deref());
                    }
                    open.settings = settings.clone();
                }
            }
            PreparedAdmin::New(..) => {
                let PreparedAdmin::New(open, history) = std::mem::replace(admin, PreparedAdmin::None) else {
                    return;
                };
                *admin = PreparedAdmin::Kept(open.settings.clone());
                retire(&mut current);
                info!(name = "admin", address = open.socket.local().as_str(); "listening");
                open.listener.serve();
                current.admin = Some(open);
                if history.is_some() {
                    current.history = history;
                }
            }
        }
    }

    /// The history of the live page, if there is an admin address.
    pub(super) fn history(&self) -> Option<Arc<History>> {
        self.current.lock().history.as_ref().map(|kept| Arc::clone(&kept.history))
    }

    /// Prepares an admin address with the history of the one before.
    fn open_admin(
        &self,
        socket: BoundListener,
        settings: &AdminAddress,
    ) -> io::Result<(OpenAdmin, Option<ViewHistory>)> {
        let (BoundListener::Tcp(listener), Some(state)) =
            (socket.share()?, self.state.get().and_then(Weak::upgrade))
        else {
            return Err(io::Error::other("the admin address is ip:port"));
        };
        let kept = self.current.lock().history.as_ref().map(|kept| Arc::clone(&kept.history));
        let history = kept.clone().unwrap_or_default();
        let listener =
            AdminListener::prepare(listener, settings.token.as_deref(), state, Arc::clone(&history))?;
        let history = kept.is_none().then(|| ViewHistory::begin(history, &self.control));
        Ok((OpenAdmin { settings: settings.clone(), socket: Arc::new(socket), listener }, history))
    }
}

impl SocketBinder for ProcessSockets {
    fn prepare(&self, next: &Snapshot) -> Result<Box<dyn PreparedSockets>, Vec<SocketError>> {
        if self.is_temporary() {
            let error = io::Error::other(TEMPORARY);
            let action = "reload".to_owned();
            return Err(vec![SocketError { owner: SocketOwner::Workers, action, error }]);
        }
        let mut prepared = self.prepare_set(next)?;
        prepared.start_workers().map_err(|error| vec![error])?;
        Ok(Box::new(prepared))
    }
}

impl Binding<'_> {
    /// For each listener the one in service with its socket, if it has a socket already: with its name and address, or
    /// else with its address.
    fn kept(&self, next: &[Listener]) -> Vec<Option<Arc<OpenListener>>> {
        let mut free: Vec<_> = self.current.iter().map(Some).collect();
        let mut take = |fits: &dyn Fn(&OpenListener) -> bool| {
            let place = free.iter_mut().find(|place| place.is_some_and(|open| fits(open)))?;
            place.take().map(Arc::clone)
        };
        let mut kept: Vec<_> = next
            .iter()
            .map(|listener| take(&|open| open.name == listener.name && open.address == listener.address))
            .collect();
        for (listener, kept) in next.iter().zip(&mut kept) {
            if kept.is_none() {
                *kept = take(&|open| has_same_socket(&open.address, &listener.address));
            }
        }
        kept
    }

    /// The listener with its socket: `kept`, an inherited or a new one. `None` if it is left to the next process.
    fn open(
        &mut self,
        listener: &Listener,
        kept: Option<Arc<OpenListener>>,
    ) -> io::Result<Option<Arc<OpenListener>>> {
        let named = self.current.iter().find(|open| open.name == listener.name).cloned();
        if let Some(open) = kept {
            if open.name == listener.name && open.address == listener.address {
                return Ok(Some(open));
            }
            self.change_access(&open, &listener.address)?;
            let count = Arc::clone(&named.as_ref().unwrap_or(&open).count);
            return Ok(Some(Arc::new(OpenListener {
                name: Arc::clone(&listener.name),
                address: listener.address.clone(),
                socket: Arc::clone(&open.socket),
                count,
            })));
        }
        // Connections to the former address of a listener count too.
        let count = named
            .map_or_else(|| ConnectionCount::new(listener.max_connections), |open| Arc::clone(&open.count));
        let Some(socket) = self.bind(Some(&listener.name), &listener.address)? else { return Ok(None) };
        Ok(Some(Arc::new(OpenListener {
            name: Arc::clone(&listener.name),
            address: listener.address.clone(),
            socket,
            count,
        })))
    }

    /// Changes owner, group and permissions of a Unix socket in service.
    fn change_access(&mut self, open: &OpenListener, to: &Address) -> io::Result<()> {
        if let (
            BoundListener::Unix(_, file),
            Address::Unix { access: before, .. },
            Address::Unix { access, .. },
        ) = (&*open.socket, &open.address, to)
            && before != access
        {
            self.access.push(file.change_access(*before, *access)?);
        }
        Ok(())
    }

    /// An inherited socket, or a new one. A process that serves only during a restart binds none: the next one will.
    fn bind(&mut self, name: Option<&str>, address: &Address) -> io::Result<Option<Arc<BoundListener>>> {
        let inherited = self.sockets.inherited.lock().take_for(name, address)?;
        if let Some(TakenSocket { socket, access, owns_file }) = inherited {
            self.access.extend(access);
            if let (BoundListener::Unix(_, file), true) = (&socket, owns_file) {
                self.passed_files.push(Arc::clone(file));
            }
            return Ok(Some(Arc::new(socket)));
        }
        if self.sockets.is_temporary() {
            return Ok(None);
        }
        let mut error = match BoundListener::bind(address) {
            Ok(bound) => return Ok(Some(Arc::new(bound))),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::AddrInUse && self.sockets.inherited.lock().end_links() {
            // A process that this one replaces may have it, and closes it now.
            match BoundListener::bind_within(LONGEST_CLOSE, address) {
                Ok(bound) => return Ok(Some(Arc::new(bound))),
                Err(last) => error = last,
            }
        }
        let Address::Tcp { address, ipv6_only } = address else { return Err(error) };
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        // A socket of this process may be in the way, which the generation does not have.
        let own = self.own_at(address.port());
        let is_shared = self.sockets.inherited.lock().share_port(address.port())?;
        if own.is_empty() && !is_shared {
            return Err(error);
        }
        BoundListener::bind_beside(*address, *ipv6_only, &own).map(|bound| Some(Arc::new(bound)))
    }

    /// The sockets of this process at a port.
    fn own_at(&self, port: u16) -> Vec<Arc<BoundListener>> {
        let listeners = self.current.iter().map(|open| &open.socket);
        let all = listeners.chain(&self.admin_socket);
        all.filter(|socket| socket.port() == Some(port)).map(Arc::clone).collect()
    }

    fn admin(&mut self, next: Option<&AdminAddress>) -> Result<PreparedAdmin, SocketError> {
        let Some(next) = next else { return Ok(PreparedAdmin::None) };
        let is_open = |open: &OpenAdmin| open.settings.address == next.address;
        if self.sockets.current.lock().admin.as_ref().is_some_and(is_open) {
            return Ok(PreparedAdmin::Kept(next.clone()));
        }
        let failed = |action: String, error| SocketError { owner: SocketOwner::Admin, action, error };
        let address = Address::Tcp { address: next.address, ipv6_only: true };
        let socket = self.bind(None, &address).and_then(|socket| socket.map(|one| one.share()).transpose());
        let Some(socket) = socket.map_err(|error| failed(format!("listen on {address}"), error))? else {
            return Ok(PreparedAdmin::None);
        };
        let (open, history) = self
            .sockets
            .open_admin(socket, next)
            .map_err(|error| failed("serve the admin address".to_owned(), error))?;
        Ok(PreparedAdmin::New(open, history))
    }
}

impl StartingSockets {
    /// The history of the live page, if there is an admin address.
    pub(super) fn history(&self) -> Option<Arc<History>> {
        match &self.0.admin {
            PreparedAdmin::New(_, Some(kept)) => Some(Arc::clone(&kept.history)),
            _ => self.0.sockets.history(),
        }
    }

    /// Serves the admin address: readiness can be asked before there is any.
    pub(super) fn serve_admin(&mut self) {
        self.0.sockets.commit_admin(&mut self.0.admin);
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(super) fn start_workers(&mut self) -> Result<(), SocketError> {
        self.0.start_workers()
    }

    /// Accepts connections.
    pub(super) fn serve(self) {
        self.0.commit();
    }
}

impl PreparedSet {
    fn start_workers(&mut self) -> Result<(), SocketError> {
        let failed = |error| {
            let action = "start a worker".to_owned();
            SocketError { owner: SocketOwner::Workers, action, error }
        };
        self.workers = self.sockets.workers.prepare(self.threads).map_err(failed)?;
        Ok(())
    }
}

impl PreparedSockets for PreparedSet {
    fn commit(mut self: Box<Self>) {
        let sockets = Arc::clone(&self.sockets);
        // A shutdown during the exchange closes what this generation has opened.
        let _exchange = sockets.exchange.lock();
        if sockets.current.lock().is_closed {
            return;
        }
        let listeners: Arc<[_]> = std::mem::take(&mut self.listeners).into();
        for (count, limit) in &self.limits {
            count.set_limit(*limit);
        }
        std::mem::take(&mut self.access).into_iter().for_each(AccessChange::keep);
        self.passed_files.iter().for_each(|file| file.take_over());
        sockets.commit_admin(&mut self.admin);
        let before = std::mem::replace(&mut sockets.current.lock().listeners, Arc::clone(&listeners));
        let is_in =
            |all: &[Arc<OpenListener>], one: &OpenListener| all.iter().any(|open| open.has_socket_of(one));
        for open in before.iter().filter(|open| !is_in(&listeners, open)) {
            info!(name = &*open.name, address = open.socket.local().as_str(); "listener closed");
            open.close_file(SocketKeeper::None);
        }
        for open in listeners.iter().filter(|open| !is_in(&before, open)) {
            info!(name = &*open.name, address = open.socket.local().as_str(); "listening");
        }
        sockets.workers.commit(std::mem::take(&mut self.workers), self.threads, &listeners);
        sockets.inherited.lock().close_unused();
        sockets.store();
    }
}

impl ProcessSockets {
    /// Gives the sockets to the service manager, which keeps them while the process restarts. It has them already then.
    pub(super) fn store(&self) {
        if self.is_temporary() {
            return;
        }
        service_manager::store_sockets(&self.stored());
    }

    fn stored(&self) -> Vec<Arc<BoundListener>> {
        let current = self.current.lock();
        let listeners = current.listeners.iter().map(|open| Arc::clone(&open.socket));
        listeners.chain(current.admin.iter().map(|open| Arc::clone(&open.socket))).collect()
    }
}

/// Returns whether a socket at one address can serve the other: they differ at most in the permissions of its file.
fn has_same_socket(open: &Address, next: &Address) -> bool {
    match (open, next) {
        (Address::Unix { path: open, .. }, Address::Unix { path: next, .. }) => open == next,
        (open, next) => open == next,
    }
}
