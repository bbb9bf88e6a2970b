//! One ACME certificate: settings, slot for listeners, and state.

use super::certificate_state::{CertificateState, Validity, now};
use super::certified_key::KeyedCertificate;
use super::failure::{Failure, Reason};
use super::settings::Settings;
use super::storage;
use crate::tls::{Challenges, Slot};
use moongate_config::{Place, Problem};
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A certificate that the gateway requests and renews.
pub struct Job {
    pub(super) settings: Arc<Settings>,
    /// The place of its folder in the configuration.
    place: Place,
    slot: Arc<Slot>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) state: Mutex<CertificateState>,
    /// A key and its chain that could not be stored yet.
    pub(super) unsaved: Mutex<Option<String>>,
    issued: AtomicU64,
    failures: [AtomicU64; Reason::ALL.len()],
}

/// A loaded certificate, for use once its configuration is applied.
pub struct PreparedJob {
    job: Arc<Job>,
    /// The stored certificate, and whether it covers exactly the configured names.
    kept: Option<(KeyedCertificate, bool)>,
}

impl PreparedJob {
    /// Puts the stored certificate in use; to be called before listeners accept.
    pub fn commit(self) {
        let Self { job, kept } = self;
        if let Some((kept, own)) = kept
            && job.slot.get().is_none()
        {
            // Another name set's certificate is a substitute, to be replaced at once.
            let validity = own.then_some(kept.validity);
            job.serve(kept.key, validity, kept.validity.from);
        }
    }
}

impl Job {
    pub(super) fn new(settings: Settings, place: &Place, challenges: &Arc<Challenges>) -> Self {
        Self {
            slot: Arc::new(Slot::new(settings.names.iter().cloned())),
            settings: Arc::new(settings),
            place: place.clone(),
            challenges: Arc::clone(challenges),
            state: Mutex::default(),
            unsaved: Mutex::default(),
            issued: AtomicU64::default(),
            failures: Default::default(),
        }
    }

    /// The slot in which listeners find the certificate.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Loads the stored certificate and checks the folder, without side effects; see [`PreparedJob::commit`].
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The folder is not writable, or a stored certificate cannot be read; at the folder's place.
    pub fn prepare(self: &Arc<Self>) -> Result<PreparedJob, Problem> {
        if self.slot.get().is_some() {
            return Ok(PreparedJob { job: Arc::clone(self), kept: None });
        }
        storage::check(&self.settings).map_err(|error| {
            let folder = self.settings.storage.display();
            Problem::new(format!("certificates cannot be stored in `{folder}`: {error}"))
                .help("set `storage` to a folder that is writable for the gateway, for example /var/lib/moongate/acme")
                .at(&self.place)
        })?;
        let kept = storage::load(&self.settings).map_err(|error| {
            Problem::new(format!("a stored certificate cannot be used: {error}"))
                .help("make the file readable, or move it away to request a new certificate")
                .at(&self.place)
        })?;
        Ok(PreparedJob { job: Arc::clone(self), kept })
    }

    fn serve(&self, key: Arc<CertifiedKey>, validity: Option<Validity>, issued: u64) {
        let mut state = self.state.lock();
        state.validity = validity;
        state.issued = validity.map(|_| issued);
        self.slot.put(key);
    }

    /// Puts a new certificate in use.
    pub(super) fn renewed(&self, key: Arc<CertifiedKey>, validity: Validity) {
        self.serve(key, Some(validity), now());
        self.issued.fetch_add(1, Relaxed);
    }

    /// Records a failed attempt and the time of the next one; the previous certificate stays in use.
    pub(super) fn failed(&self, failure: Failure, next: u64) {
        if let Some(count) = self.failures.get(failure.reason as usize) {
            count.fetch_add(1, Relaxed);
        }
        let mut state = self.state.lock();
        (state.failure, state.next) = (Some((now(), failure)), Some(next));
    }

    /// Certificates issued to this process.
    pub fn issued(&self) -> u64 {
        self.issued.load(Relaxed)
    }

    /// Failed attempts by reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.failures.iter().map(|count| count.load(Relaxed));
        Reason::ALL.iter().map(|reason| reason.name()).zip(counts)
    }

    /// The last issuance and the expiry, in Unix seconds.
    pub fn times(&self) -> (Option<u64>, Option<u64>) {
        let state = self.state.lock();
        (state.issued, state.validity.map(|validity| validity.until))
    }

    /// The status for the admin API.
    pub fn status(&self) -> Value {
        let state = self.state.lock().clone();
        let failure = state.failure.map(
            |(at, failure)| json!({ "at": at, "reason": failure.reason.name(), "detail": failure.detail }),
        );
        json!({
            "certificate": self.settings.id(),
            "domains": self.settings.names,
            "directory": self.settings.directory,
            "issued": state.issued,
            "expires": state.validity.map(|validity| validity.until),
            "last_failure": failure,
            "next_attempt": state.next,
        })
    }
}
