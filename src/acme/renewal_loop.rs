//! The years of a certificate: a try when one is due, waits between them, and what is noted of each.

use super::backoff;
use super::certificate_state::now;
use super::failure::{Failure, Reason};
use super::issuance::issue;
use super::job::Job;
use super::renewal_info;
use super::settings::Settings;
use super::storage::{self, Tries};
use log::{info, warn};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long a try may take from the account to the file.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// The clock is looked at again at least so often: it may have been set, and a machine sleeps.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// How often an authority is asked at most when it wants a certificate renewed.
const ASK: Duration = Duration::from_secs(6 * 60 * 60);

impl Job {
    /// Gets the certificate and renews it, for as long as it is polled. Who holds `turn` is at work: the
    /// certificates of a process are got one behind another.
    pub async fn run(&self, turn: &Mutex<()>) {
        let mut tries = self.tries().await;
        let mut in_a_row: u32 = 0;
        let mut due = self.due(&mut tries);
        loop {
            self.state.lock().next = Some(due);
            self.wait_until(due).await;
            let outcome = {
                let _turn = turn.lock().await;
                timeout(LONGEST, issue(self)).await.unwrap_or_else(|_| {
                    let detail = format!("it was not done within {LONGEST:?}");
                    Err(Failure { reason: Reason::Timeout, detail })
                })
            };
            due = match outcome {
                Ok(()) => {
                    in_a_row = 0;
                    tries.failed.clear();
                    let due = self.due(&mut tries);
                    let mut state = self.state.lock();
                    (state.failure, state.next) = (None, Some(due));
                    due
                }
                Err(failure) => {
                    in_a_row = in_a_row.saturating_add(1);
                    self.put_off(failure, in_a_row, &mut tries)
                }
            };
            self.remember(&tries).await;
        }
    }

    /// When the next try is, when nothing failed since the last one.
    fn due(&self, tries: &mut Tries) -> u64 {
        let now = now();
        backoff::forget(&mut tries.failed, now);
        let validity = self.state.lock().validity;
        if let Some(validity) = validity {
            info!(
                certificate = self.settings.id().as_str(), expires = validity.until;
                "a certificate is served"
            );
        }
        let due = validity.map_or(now, |validity| validity.renewal(fastrand::f64()));
        due.max(backoff::allowed(&tries.failed, now))
    }

    /// Notes a failure. Returns when to try again.
    fn put_off(&self, failure: Failure, in_a_row: u32, tries: &mut Tries) -> u64 {
        let now = now();
        let wait = backoff::wait(failure.reason, in_a_row, fastrand::f64());
        let (reason, detail) = (failure.reason.name(), failure.detail.as_str());
        warn!(
            certificate = self.settings.id().as_str(), reason, again_in_seconds = wait.as_secs(), detail;
            "a certificate could not be got"
        );
        backoff::forget(&mut tries.failed, now);
        if backoff::counts(failure.reason) {
            tries.failed.push(now);
        }
        let next = now + wait.as_secs();
        self.failed(failure, next);
        next
    }

    /// The tries of late that failed. A file system that hangs has none to tell.
    async fn tries(&self) -> Tries {
        let load = |settings: &Settings| Ok(storage::load_tries(settings));
        storage::run(&self.settings, load).await.unwrap_or_else(|error| {
            warn!(certificate = self.settings.id().as_str(), error:%; "the record of failed orders cannot be read");
            Tries::default()
        })
    }

    async fn remember(&self, tries: &Tries) {
        let tries = tries.clone();
        let keep = move |settings: &Settings| storage::keep_tries(settings, &tries);
        if let Err(error) = storage::run(&self.settings, keep).await {
            warn!(certificate = self.settings.id().as_str(), error:%; "failed tries cannot be noted");
        }
    }

    /// Waits until the try is due, or earlier where the authority wants a certificate renewed that is served.
    async fn wait_until(&self, mut due: u64) {
        let mut ask = {
            let state = self.state.lock();
            // Not while it refuses, and not of one that was just issued: who asks for that is mistaken.
            let served = state.validity.and(state.issued).filter(|_| state.failure.is_none());
            served.map(|issued| (issued + ASK.as_secs()).max(now()))
        };
        while let Some(left) = due.checked_sub(now()).filter(|left| *left > 0) {
            if ask.is_some_and(|ask| ask <= now()) {
                let (wanted, again) = renewal_info::wanted(self).await.unwrap_or((due, ASK));
                due = due.min(wanted);
                self.state.lock().next = Some(due);
                ask = Some(now() + again.max(ASK).as_secs());
                continue;
            }
            sleep(Duration::from_secs(left).min(LOOK)).await;
        }
    }
}
