//! The WebAssembly engine, and the clock that interrupts long callbacks.
//!
//! wasmtime's epochs interrupt code. One thread advances the epoch every millisecond while a callback was started
//! recently, and sleeps otherwise, so that an idle gateway causes no wakeups. At each epoch a running callback is
//! checked for its thread's CPU time: a callback that was not scheduled on a busy machine is not interrupted.

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// The interval of epochs.
pub(crate) const EPOCH: Duration = Duration::from_millis(1);

/// The maximum CPU time limit of a callback.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// The number of epochs without a new callback after which the clock stops; longer than any callback may run.
const IDLE: u32 = 4_000;

/// The maximum number of instances with `isolation: request`.
const POOL: u32 = 1_000;

/// The maximum memory of an instance from the pool.
pub(crate) const POOLED_MEMORY: usize = 64 << 20;

/// The allocation of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Allocation {
    /// Rare: memory is mapped for each instance.
    OnDemand,
    /// Per request: from a pool that is mapped once.
    Pooled,
}

/// The engine for that allocation, created on first use.
///
/// # Errors
/// This machine cannot run one; the error is text.
pub(crate) fn engine(allocation: Allocation) -> Result<&'static Engine, String> {
    static ON_DEMAND: OnceLock<Result<Engine, String>> = OnceLock::new();
    static POOLED: OnceLock<Result<Engine, String>> = OnceLock::new();
    let place = match allocation {
        Allocation::OnDemand => &ON_DEMAND,
        Allocation::Pooled => &POOLED,
    };
    let made = place.get_or_init(|| {
        let engine = Engine::new(&config(allocation)).map_err(|error| format!("{error:#}"))?;
        start_clock(&engine).map_err(|error| format!("the clock thread cannot be started: {error}"))?;
        Ok(engine)
    });
    made.as_ref().map_err(Clone::clone)
}

fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).cranelift_opt_level(OptLevel::Speed);
    // Only the features that proxy-wasm's toolchains use.
    config.wasm_memory64(false).wasm_multi_memory(false).wasm_relaxed_simd(false);
    if allocation == Allocation::Pooled {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(POOL).total_memories(POOL).total_tables(POOL);
        pool.max_memory_size(POOLED_MEMORY).max_core_instance_size(1 << 20).table_elements(100_000);
        pool.linear_memory_keep_resident(64 << 10).table_keep_resident(16 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        // A small reservation fits a thousand memories into any virtual address space.
        config.memory_reservation(POOLED_MEMORY as u64);
    }
    config
}

static BUSY: AtomicBool = AtomicBool::new(false);
static ASLEEP: AtomicBool = AtomicBool::new(false);
static CLOCK: OnceLock<Thread> = OnceLock::new();
static ENGINES: Mutex<Vec<Engine>> = Mutex::new(Vec::new());

/// Announces a callback: epochs advance while one may run.
pub(crate) fn awake() {
    // Read first: the flag is set a thousand times a second at most, for any number of callbacks.
    if BUSY.load(Ordering::Relaxed) {
        return;
    }
    BUSY.store(true, Ordering::SeqCst);
    if ASLEEP.load(Ordering::SeqCst)
        && let Some(clock) = CLOCK.get()
    {
        clock.unpark();
    }
}

fn start_clock(engine: &Engine) -> io::Result<()> {
    let mut engines = ENGINES.lock();
    engines.push(engine.clone());
    if CLOCK.get().is_none() {
        let started = thread::Builder::new().name("wasm clock".to_owned()).spawn(tick)?;
        // No other thread gets here: the list of engines is locked.
        let _ = CLOCK.set(started.thread().clone());
    }
    Ok(())
}

fn tick() {
    let mut quiet = 0;
    loop {
        thread::sleep(EPOCH);
        ENGINES.lock().iter().for_each(Engine::increment_epoch);
        quiet = if BUSY.swap(false, Ordering::SeqCst) { 0 } else { quiet + 1 };
        if quiet >= IDLE {
            quiet = 0;
            ASLEEP.store(true, Ordering::SeqCst);
            if !BUSY.load(Ordering::SeqCst) {
                thread::park();
            }
            ASLEEP.store(false, Ordering::SeqCst);
        }
    }
}

/// The CPU time limit of one callback.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Duration,
    /// The thread's CPU time at the first epoch of the callback.
    began: Option<Duration>,
}

impl Budget {
    /// A limit for the next callback.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, began: None }
    }

    /// Whether the callback has used up its limit; checked at each epoch. Most callbacks end before the first.
    pub(crate) fn is_spent(&mut self) -> bool {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let used = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
        // The time before the first epoch is unknown, and at most one epoch.
        let began = *self.began.get_or_insert(used);
        used.saturating_sub(began) + EPOCH > self.limit
    }
}
