//! Timer of filters with a tick period: `proxy_on_tick` in each of their instances, beside the requests.

use crate::host::Phase;
use crate::http_calls::Calls;
use crate::instance::{CallbackContext, Instance};
use crate::worker_instances::Slots;
use moongate_sdk::{Background, Services, log_throttle};
use std::sync::{Arc, Weak};
use tokio::time::{Instant, timeout_at};

/// An instance and its next tick.
struct InstanceTimer {
    instance: Weak<Instance>,
    at: Instant,
}

/// Ticks until it is dropped.
pub(crate) fn keep(slots: Arc<Slots>, services: Arc<dyn Services>) -> Background {
    Box::pin(async move {
        let mut timers = Vec::new();
        loop {
            round(&slots, &services, &mut timers);
            let changed = slots.shared().ticks.notified();
            match timers.iter().map(|timer| timer.at).min() {
                // In both cases there is work to do.
                Some(next) => drop(timeout_at(next, changed).await),
                None => changed.await,
            }
        }
    })
}

/// Ticks every instance whose timer has expired, and updates `timers`.
fn round(slots: &Slots, services: &Arc<dyn Services>, timers: &mut Vec<InstanceTimer>) {
    let now = Instant::now();
    let open_instances = slots.open_instances();
    timers.retain(|timer| open_instances.iter().any(|instance| timer.is_of(instance)));
    for instance in &open_instances {
        let Some(period) = instance.tick_period() else {
            timers.retain(|timer| !timer.is_of(instance));
            continue;
        };
        match timers.iter_mut().find(|timer| timer.is_of(instance)) {
            None => timers.push(InstanceTimer { instance: Arc::downgrade(instance), at: now + period }),
            Some(timer) if timer.at <= now => {
                timer.at = now + period;
                tick(instance, services);
            }
            // The filter may have set a shorter period meanwhile.
            Some(timer) => timer.at = timer.at.min(now + period),
        }
    }
}

fn tick(instance: &Arc<Instance>, services: &Arc<dyn Services>) {
    let context = CallbackContext { services: Some(services), ..CallbackContext::default() };
    match instance.run(Phase::NoRequest, context, |core| core.tick()) {
        Ok(result) => Calls::new(result.outcome.calls).detach(instance, services),
        Err(fault) => {
            if log_throttle::admit(log::Level::Warn, "filter failed on a tick", &[]) {
                log::warn!(fault:%; "filter failed on a tick");
            }
        }
    }
}

impl InstanceTimer {
    fn is_of(&self, instance: &Arc<Instance>) -> bool {
        std::ptr::eq(self.instance.as_ptr(), Arc::as_ptr(instance))
    }
}
