//! Timer of filters with a tick period: `proxy_on_tick` in each of their instances, beside the requests.

use crate::host::Phase;
use crate::http_calls::Calls;
use crate::instance::{Instance, Scene};
use crate::worker_instances::Slots;
use moongate_sdk::{Background, Services, log_throttle};
use std::sync::{Arc, Weak};
use tokio::time::{Instant, timeout_at};

/// An instance and its next tick.
struct Due {
    instance: Weak<Instance>,
    at: Instant,
}

/// Ticks until it is dropped.
pub(crate) fn keep(slots: Arc<Slots>, services: Arc<dyn Services>) -> Background {
    Box::pin(async move {
        let mut dues = Vec::new();
        loop {
            round(&slots, &services, &mut dues);
            let changed = slots.shared().ticks.notified();
            match dues.iter().map(|due| due.at).min() {
                // In both cases there is work to do.
                Some(next) => drop(timeout_at(next, changed).await),
                None => changed.await,
            }
        }
    })
}

/// Ticks every instance that is due, and returns the time of the next tick.
fn round(slots: &Slots, services: &Arc<dyn Services>, dues: &mut Vec<Due>) {
    let now = Instant::now();
    let living = slots.living();
    dues.retain(|due| living.iter().any(|instance| due.is_of(instance)));
    for instance in &living {
        let Some(period) = instance.tick_period() else {
            dues.retain(|due| !due.is_of(instance));
            continue;
        };
        match dues.iter_mut().find(|due| due.is_of(instance)) {
            None => dues.push(Due { instance: Arc::downgrade(instance), at: now + period }),
            Some(due) if due.at <= now => {
                due.at = now + period;
                tick(instance, services);
            }
            // The filter may have set a shorter period meanwhile.
            Some(due) => due.at = due.at.min(now + period),
        }
    }
}

fn tick(instance: &Arc<Instance>, services: &Arc<dyn Services>) {
    let scene = Scene { services: Some(services), ..Scene::default() };
    match instance.run(Phase::Aside, scene, |core| core.tick()) {
        Ok(came) => Calls::new(came.outcome.calls).detach(instance, services),
        Err(fault) => {
            if log_throttle::admit(log::Level::Warn, "filter failed on a tick", &[]) {
                log::warn!(fault:%; "filter failed on a tick");
            }
        }
    }
}

impl Due {
    fn is_of(&self, instance: &Arc<Instance>) -> bool {
        std::ptr::eq(self.instance.as_ptr(), Arc::as_ptr(instance))
    }
}
