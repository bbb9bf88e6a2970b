//! Renewal loop of one certificate: an attempt when due, backoff after failures, and a record of failed
//! attempts.

use super::backoff;
use super::certificate_state::now;
use super::failure::{Failure, Reason};
use super::issuance::issue;
use super::job::Job;
use super::renewal_info;
use super::settings::Settings;
use super::storage::{self, FailedAttempts};
use log::{info, warn};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// The time limit of an attempt, from the account to the stored file.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// The longest sleep: the clock may be set, and the machine may be suspended.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// The minimum interval between requests for renewal information.
const ASK: Duration = Duration::from_secs(6 * 60 * 60);

impl Job {
    /// Requests the certificate and renews it, for as long as it is polled. `turn` serializes the attempts of
    /// all certificates of the process.
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
                    let detail = format!("not finished within {LONGEST:?}");
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

    /// The time of the next attempt, without a failure since the last one.
    fn due(&self, tries: &mut FailedAttempts) -> u64 {
        let now = now();
        backoff::forget(&mut tries.failed, now);
        let validity = self.state.lock().validity;
        if let Some(validity) = validity {
            info!(
                certificate = self.settings.id().as_str(), expires = validity.until;
                "certificate activated"
            );
        }
        let due = validity.map_or(now, |validity| validity.renewal(fastrand::f64()));
        due.max(backoff::allowed(&tries.failed, now))
    }

    /// Records a failure and returns the time of the next attempt.
    fn put_off(&self, failure: Failure, in_a_row: u32, tries: &mut FailedAttempts) -> u64 {
        let now = now();
        let wait = backoff::wait(failure.reason, in_a_row, fastrand::f64());
        let (reason, detail) = (failure.reason.name(), failure.detail.as_str());
        warn!(
            certificate = self.settings.id().as_str(), reason, again_in_seconds = wait.as_secs(), detail;
            "certificate request failed"
        );
        backoff::forget(&mut tries.failed, now);
        if backoff::counts(failure.reason) {
            tries.failed.push(now);
        }
        let next = now + wait.as_secs();
        self.failed(failure, next);
        next
    }

    /// The recent failed attempts; none if the file system hangs.
    async fn tries(&self) -> FailedAttempts {
        let load = |settings: &Settings| Ok(storage::load_tries(settings));
        storage::run(&self.settings, load).await.unwrap_or_else(|error| {
            warn!(certificate = self.settings.id().as_str(), error:%; "record of failed orders not read");
            FailedAttempts::default()
        })
    }

    async fn remember(&self, tries: &FailedAttempts) {
        let tries = tries.clone();
        let keep = move |settings: &Settings| storage::keep_tries(settings, &tries);
        if let Err(error) = storage::run(&self.settings, keep).await {
            warn!(certificate = self.settings.id().as_str(), error:%; "record of failed orders not written");
        }
    }

    /// Waits until the attempt is due, or earlier if the CA's renewal information says so.
    async fn wait_until(&self, mut due: u64) {
        let mut ask = {
            let state = self.state.lock();
            // Not after a failure, and not right after an issuance.
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
