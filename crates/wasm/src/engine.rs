//! Compiling, and the clock that ends what takes too long. What a module may import stays out.
//!
//! Code is interrupted by wasmtime's epochs: one thread moves the epoch every millisecond while any
//! callback was begun lately, and sleeps otherwise, so that an idle gateway wakes nobody. At each
//! epoch a running callback is asked for the processor time its thread has used: a callback that was
//! merely not scheduled on a busy machine is not to blame.

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// How far apart the epochs are.
pub(crate) const EPOCH: Duration = Duration::from_millis(1);

/// The longest a callback may be allowed to run.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// Epochs without a new callback after which the clock stops; longer than any callback may run.
const IDLE: u32 = 4_000;

/// Instances that may live at once when each request has its own.
const POOL: u32 = 1_000;

/// The largest memory of an instance from the pool.
pub(crate) const POOLED_MEMORY: usize = 64 << 20;

/// How instances come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Allocation {
    /// Seldom: memory is mapped when one is made.
    OnDemand,
    /// For each request: from a pool that is mapped once.
    Pooled,
}

/// The engine for instances of that sort; made when first asked for.
///
/// # Errors
/// When this machine cannot run one, in words.
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
    // What proxy-wasm's toolchains emit and no more.
    config.wasm_memory64(false).wasm_multi_memory(false).wasm_relaxed_simd(false);
    if allocation == Allocation::Pooled {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(POOL).total_memories(POOL).total_tables(POOL);
        pool.max_memory_size(POOLED_MEMORY).max_core_instance_size(1 << 20).table_elements(100_000);
        pool.linear_memory_keep_resident(64 << 10).table_keep_resident(16 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        // A small reservation keeps a thousand memories within a virtual address space of any size.
        config.memory_reservation(POOLED_MEMORY as u64);
    }
    config
}

static BUSY: AtomicBool = AtomicBool::new(false);
static ASLEEP: AtomicBool = AtomicBool::new(false);
static CLOCK: OnceLock<Thread> = OnceLock::new();
static ENGINES: Mutex<Vec<Engine>> = Mutex::new(Vec::new());

/// Says that a callback begins: while one may run, epochs pass.
pub(crate) fn awake() {
    // Read first: the flag is set a thousand times a second at most, whatever the number of callbacks.
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
        // Nobody else gets here: the list of engines is locked.
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

/// The processor time that one callback may use.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Duration,
    /// What this thread had used at the first epoch of the callback.
    began: Option<Duration>,
}

impl Budget {
    /// For the next callback.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, began: None }
    }

    /// Asked at each epoch of a callback: whether it has used up its time. Most callbacks end before the first.
    pub(crate) fn is_spent(&mut self) -> bool {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let used = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
        // What it used before the first epoch is not known, and at most an epoch.
        let began = *self.began.get_or_insert(used);
        used.saturating_sub(began) + EPOCH > self.limit
    }
}
