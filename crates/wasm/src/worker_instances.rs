//! Assignment of instances to workers.
//!
//! Every worker has its own instance, created with its first request, so that none waits for another. A worn-out
//! instance accepts no new streams and lives until its last one is over. A dead instance that had served before is
//! replaced at once. A module that cannot serve at all is retried at growing intervals.

use crate::host::Shared;
use crate::instance::Instance;
use crate::module::CompiledModule;
use moongate_sdk::{Fault, worker};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of workers with their own instance; beyond it two share one.
const SLOTS: usize = 64;

/// The first pause before a failed module is retried; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// New instances may use this fraction of all time, but all of a moment: a burst of requests that each kill an
/// instance must not fail the requests in between.
const SHARE: u32 = 10;
const BURST: Duration = Duration::from_secs(1);

pub(crate) struct Slots {
    program: Arc<CompiledModule>,
    shared: Arc<Shared>,
    slots: [Mutex<Slot>; SLOTS],
    /// The instance that proved that the module starts; the first worker takes it.
    spare: Mutex<Option<Arc<Instance>>>,
}

#[derive(Default)]
struct Slot {
    current: Option<Arc<Instance>>,
    /// The number of successive instances that failed before they served a stream.
    failures: u32,
    not_before: Option<Instant>,
    /// The time at which the instances created so far will have used only their share of the time.
    paid: Option<Instant>,
}

impl Slots {
    pub(crate) fn new(program: Arc<CompiledModule>, shared: Arc<Shared>) -> Result<Self, Fault> {
        let spare = Instance::start(&program, &shared)?;
        let keep = !shared.settings.per_request || spare.tick_period().is_some();
        Ok(Self {
            program,
            shared,
            slots: std::array::from_fn(|_| Mutex::default()),
            spare: Mutex::new(keep.then(|| Arc::new(spare))),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn program(&self) -> &CompiledModule {
        &self.program
    }

    /// The instance for a new stream of this worker.
    pub(crate) fn instance(&self) -> Result<Arc<Instance>, Fault> {
        if self.shared.settings.per_request {
            return Instance::start(&self.program, &self.shared).map(Arc::new);
        }
        let mut slot = self.slots[worker() % SLOTS].lock();
        match &slot.current {
            Some(current) if current.is_open() => Ok(current.clone()),
            _ => self.replace(&mut slot),
        }
    }

    fn replace(&self, slot: &mut Slot) -> Result<Arc<Instance>, Fault> {
        if let Some(old) = slot.current.take()
            && old.is_dead()
        {
            slot.failed(old.is_proven());
        }
        if let Some(spare) = self.spare.lock().take().filter(|spare| spare.is_open()) {
            slot.current = Some(spare.clone());
            return Ok(spare);
        }
        let now = Instant::now();
        if slot.not_before.is_some_and(|then| now < then) || slot.paid.is_some_and(|paid| paid > now + BURST)
        {
            return Err(Fault::fixed("the module failed and is not retried yet"));
        }
        let new = Instance::start(&self.program, &self.shared);
        slot.paid = Some(slot.paid.map_or(now, |paid| paid.max(now)) + now.elapsed() * SHARE);
        match new {
            Ok(new) => {
                let new = Arc::new(new);
                slot.current = Some(new.clone());
                Ok(new)
            }
            Err(fault) => {
                slot.failed(false);
                Err(fault)
            }
        }
    }

    /// The instances that accept new streams, for ticks.
    pub(crate) fn open_instances(&self) -> Vec<Arc<Instance>> {
        let current = self.slots.iter().filter_map(|slot| slot.lock().current.clone());
        current.chain(self.spare.lock().clone()).filter(|instance| instance.is_open()).collect()
    }
}

impl Slot {
    /// Records a failed instance; `proven` if it had served streams before.
    fn failed(&mut self, proven: bool) {
        self.failures = if proven { 0 } else { self.failures + 1 };
        self.not_before = Some(Instant::now() + pause(self.failures));
    }
}

/// The pause of a module after that many successive failures.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(6)).min(LAST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<_> = (0..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
