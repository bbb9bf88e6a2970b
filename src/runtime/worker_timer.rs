//! Timers of a worker thread that share one timer of its runtime.
//!
//! A timer of the runtime for each connection costs a registration, and a write to the runtime's eventfd
//! whenever it is due before the one that the runtime sleeps for. Here one task of each thread sleeps until
//! the earliest deadline, and the runtime learns of a new timer only if that is due earlier. Deadlines are
//! rounded up to 100 ms, so that timers that are due together share a wake-up.

use super::clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Deadlines are rounded up to a multiple of this many milliseconds. Tests compare times of a paused clock.
const GRAIN: u64 = if cfg!(test) { 1 } else { 100 };

thread_local! {
    // A lock that only this thread takes, but where a runtime moves tasks between threads.
    static TIMERS: Arc<Mutex<Timers>> = Arc::new(Mutex::new(Timers::new()));
}

/// A timer, registered at its first deadline. Dropping it removes it. Boxed, since a tunnel's task has no space for
/// more.
#[derive(Debug, Default)]
pub(crate) struct WorkerTimer(Option<Box<Registration>>);

#[derive(Debug)]
struct Registration {
    timers: Arc<Mutex<Timers>>,
    key: Key,
    deadline: Instant,
    has_fired: Arc<AtomicBool>,
}

/// The place of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    tick: u64,
    index: usize,
    /// The number of the timer: its place may belong to another one after it has fired.
    number: u64,
}

/// The timers of one thread, by deadline.
#[derive(Debug)]
struct Timers {
    start: Instant,
    ticks: BTreeMap<u64, Tick>,
    /// The task that waits for the earliest deadline, and the tick that it waits for.
    driver: Option<Waker>,
    is_driven: bool,
    armed: Option<u64>,
    /// The number of timers so far.
    inserted: u64,
}

/// The timers of one tick.
#[derive(Debug, Default)]
struct Tick {
    entries: Vec<Option<Entry>>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    waker: Waker,
    has_fired: Arc<AtomicBool>,
}

impl WorkerTimer {
    /// The deadline of the last [`WorkerTimer::set`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|registration| registration.deadline)
    }

    /// Returns whether the timer is set and has not fired.
    pub(crate) fn is_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|registration| !registration.has_fired.load(Relaxed))
    }

    /// Wakes `waker` at `deadline`, or up to 100 ms later. A passed deadline wakes it at once.
    pub(crate) fn set(&mut self, deadline: Instant, waker: &Waker) {
        let Some(registration) = &mut self.0 else {
            let (timers, has_fired) = (TIMERS.with(Arc::clone), Arc::default());
            let key = register(&timers, deadline, waker, &has_fired);
            self.0 = Some(Box::new(Registration { timers, key, deadline, has_fired }));
            return;
        };
        // Dropped outside of the lock: the waker may be the last reference to a task with a timer.
        let removed = registration.timers.lock().remove(registration.key);
        drop(removed);
        registration.has_fired.store(false, Relaxed);
        registration.key = register(&registration.timers, deadline, waker, &registration.has_fired);
        registration.deadline = deadline;
    }

    /// Ready when `deadline` has passed. Until then the task is woken at the deadline, at one that was set
    /// before and is earlier, or up to 100 ms later.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let is_early_enough = self.deadline().is_some_and(|set| set <= deadline);
        if self.is_pending() && is_early_enough {
            return Poll::Pending;
        }
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        self.set(deadline, cx.waker());
        Poll::Pending
    }
}

/// The time limit of [`timeout`] has passed.
#[derive(Debug)]
pub(crate) struct TimedOut;

/// The output of `work`, unless it takes longer than `limit`, or up to 100 ms more. No timer is set for work that
/// is done at once.
///
/// # Errors
/// [`TimedOut`].
pub(crate) async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, TimedOut> {
    let deadline = clock::now().checked_add(limit);
    let mut timer = WorkerTimer::default();
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let Some(deadline) = deadline else { return Poll::Pending };
        timer.poll(deadline, cx).map(|()| Err(TimedOut))
    })
    .await
}

impl Drop for WorkerTimer {
    fn drop(&mut self) {
        if let Some(registration) = self.0.take() {
            let removed = registration.timers.lock().remove(registration.key);
            drop(removed);
        }
    }
}

/// Adds a timer, and informs the task that waits.
fn register(
    timers: &Arc<Mutex<Timers>>,
    deadline: Instant,
    waker: &Waker,
    has_fired: &Arc<AtomicBool>,
) -> Key {
    let (key, driver) = timers.lock().insert(deadline, waker.clone(), Arc::clone(has_fired));
    match driver {
        Driver::Informed => {}
        Driver::Wake(waker) => waker.wake(),
        // It ends with the runtime.
        Driver::Start => drop(tokio::spawn(drive(DriverGuard(Arc::clone(timers))))),
    }
    key
}

/// What the task that waits must learn of a new timer.
enum Driver {
    /// Nothing: it wakes early enough.
    Informed,
    Wake(Waker),
    /// There is none.
    Start,
}

impl Timers {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            ticks: BTreeMap::new(),
            driver: None,
            is_driven: false,
            armed: None,
            inserted: 0,
        }
    }

    fn insert(&mut self, deadline: Instant, waker: Waker, has_fired: Arc<AtomicBool>) -> (Key, Driver) {
        self.inserted += 1;
        let number = self.inserted;
        let nanos = deadline.saturating_duration_since(self.start).as_nanos();
        let tick = u64::try_from(nanos.div_ceil(u128::from(GRAIN) * 1_000_000)).unwrap_or(u64::MAX);
        let slot = self.ticks.entry(tick).or_default();
        slot.entries.push(Some(Entry { number, waker, has_fired }));
        slot.count += 1;
        let key = Key { tick, index: slot.entries.len() - 1, number };
        let driver = match (&self.driver, self.armed) {
            _ if !std::mem::replace(&mut self.is_driven, true) => Driver::Start,
            (_, Some(armed)) if armed <= tick => Driver::Informed,
            (Some(waker), _) => Driver::Wake(waker.clone()),
            // It was started and looks at the timers when it is polled first.
            (None, _) => Driver::Informed,
        };
        (key, driver)
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let tick = self.ticks.get_mut(&key.tick)?;
        let entry = tick.entries.get_mut(key.index)?.take_if(|entry| entry.number == key.number)?;
        tick.count -= 1;
        while matches!(tick.entries.last(), Some(None)) {
            tick.entries.pop();
        }
        if tick.count == 0 {
            self.ticks.remove(&key.tick);
        }
        Some(entry)
    }

    fn at(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick.saturating_mul(GRAIN))
    }

    /// The time until which the driver sleeps, if there is a timer.
    fn arm(&mut self, now: Instant, driver: &Waker) -> Option<Instant> {
        if !self.driver.as_ref().is_some_and(|waker| waker.will_wake(driver)) {
            self.driver = Some(driver.clone());
        }
        let next = self.ticks.first_key_value().map(|(tick, _)| *tick);
        // A sleep that ends before the next deadline is kept: setting it anew costs more.
        let is_kept =
            self.armed.is_some_and(|armed| self.at(armed) > now && next.is_none_or(|next| next >= armed));
        if !is_kept {
            self.armed = next;
        }
        self.armed.map(|armed| self.at(armed))
    }

    /// Takes the timers that are due.
    fn take_due(&mut self, now: Instant) -> Vec<Entry> {
        let mut due = Vec::new();
        while let Some(first) = self.ticks.first_entry() {
            if self.start + Duration::from_millis(first.key().saturating_mul(GRAIN)) > now {
                break;
            }
            due.extend(first.remove().entries.into_iter().flatten());
        }
        due
    }
}

/// The driver's hold on the timers. When its runtime ends, another runtime on the thread starts its own.
struct DriverGuard(Arc<Mutex<Timers>>);

impl Drop for DriverGuard {
    fn drop(&mut self) {
        let mut timers = self.0.lock();
        (timers.is_driven, timers.armed) = (false, None);
        let waker = timers.driver.take();
        drop(timers);
        drop(waker);
    }
}

/// Wakes the timers of the thread, each at its deadline.
async fn drive(guard: DriverGuard) {
    let mut sleep = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        loop {
            let now = Instant::now();
            let due = guard.0.lock().take_due(now);
            for entry in due {
                entry.has_fired.store(true, Relaxed);
                entry.waker.wake();
            }
            let Some(next) = guard.0.lock().arm(now, cx.waker()) else { return Poll::<()>::Pending };
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn after(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    async fn pass(millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn pending() -> usize {
        TIMERS.with(|timers| timers.lock().ticks.values().map(|tick| tick.count).sum())
    }

    #[tokio::test(start_paused = true)]
    async fn timers_fire_in_the_order_of_their_deadlines() {
        let counters: [Arc<Counter>; 3] = Default::default();
        let wakers = counters.clone().map(Waker::from);
        let mut timers: [WorkerTimer; 3] = Default::default();
        for (timer, (waker, millis)) in timers.iter_mut().zip(wakers.iter().zip([300, 100, 200])) {
            timer.set(after(millis), waker);
        }
        let fired = || counters.each_ref().map(|counter| counter.0.load(Relaxed));
        for expected in [[0, 1, 0], [0, 1, 1], [1, 1, 1]] {
            pass(101).await;
            assert_eq!(fired(), expected);
        }
        assert!(timers.iter().all(|timer| !timer.is_pending()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_set_again_or_dropped_fires_no_more() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let (mut moved, mut dropped) = (WorkerTimer::default(), WorkerTimer::default());
        moved.set(after(100), &waker);
        moved.set(after(1000), &waker);
        dropped.set(after(100), &waker);
        drop(dropped);
        assert_eq!(pending(), 1);
        pass(500).await;
        assert_eq!(counter.0.load(Relaxed), 0);
        assert!(moved.is_pending());
        pass(501).await;
        assert_eq!((counter.0.load(Relaxed), pending()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_either_way() {
        let (mut timer, start) = (WorkerTimer::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(10), cx))).await.is_pending());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(60), cx))).await.is_pending());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(after(5), cx))).await.is_pending());
        poll_fn(|cx| timer.poll(after(20), cx)).await;
        assert!(Instant::now() - after(20) < Duration::from_millis(2));
        poll_fn(|cx| timer.poll(after(15), cx)).await;
        assert!(
            Instant::now() - after(20) < Duration::from_millis(2),
            "a deadline that has passed waits for nothing"
        );
    }

    #[test]
    fn another_runtime_on_the_thread_drives_its_own_timers() {
        for _ in 0..2 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let Ok(runtime) = runtime else { panic!("no runtime") };
            runtime.block_on(async {
                let mut timer = WorkerTimer::default();
                let deadline = after(50);
                poll_fn(|cx| timer.poll(deadline, cx)).await;
            });
        }
    }
}
