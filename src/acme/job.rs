//! One certificate that the gateway gets by itself.

use super::certificate_state::{CertificateState, Validity, now};
use super::certified_key::Keyed;
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

/// A certificate: as it is wanted, where listeners find it, how it stands with it.
pub struct Job {
    pub(super) settings: Arc<Settings>,
    /// Where its folder is written.
    place: Place,
    slot: Arc<Slot>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) state: Mutex<CertificateState>,
    /// A key and its chain that could not be kept yet.
    pub(super) unsaved: Mutex<Option<String>>,
    issued: AtomicU64,
    failures: [AtomicU64; Reason::ALL.len()],
}

/// A certificate that is ready to be served by a generation that is taken.
pub struct Prepared {
    job: Arc<Job>,
    /// What is kept, and whether it is its own.
    kept: Option<(Keyed, bool)>,
}

impl Prepared {
    /// Serves what was kept; to be called before anybody connects.
    pub fn commit(self) {
        let Self { job, kept } = self;
        if let Some((kept, own)) = kept
            && job.slot.get().is_none()
        {
            // Another one's stands in until this one's is there, and is to be replaced at once.
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

    /// Where listeners find it.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// As it is wanted.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Loads what is kept, and sees whether its folder can be made or written to. Nothing is changed: see
    /// [`Prepared::commit`]. It waits for disks.
    ///
    /// # Errors
    /// When the folder cannot be written to, or a certificate in it cannot be read; at the folder's place.
    pub fn prepare(self: &Arc<Self>) -> Result<Prepared, Problem> {
        if self.slot.get().is_some() {
            return Ok(Prepared { job: Arc::clone(self), kept: None });
        }
        storage::check(&self.settings).map_err(|error| {
            let folder = self.settings.storage.display();
            Problem::new(format!("certificates cannot be kept in `{folder}`: {error}"))
                .help("name a folder in `storage` that the gateway may write to, as /var/lib/moongate/acme")
                .at(&self.place)
        })?;
        let kept = storage::load(&self.settings).map_err(|error| {
            Problem::new(format!("a kept certificate cannot be used: {error}"))
                .help("make the file readable; or move it away, and the gateway orders another one")
                .at(&self.place)
        })?;
        Ok(Prepared { job: Arc::clone(self), kept })
    }

    fn serve(&self, key: Arc<CertifiedKey>, validity: Option<Validity>, issued: u64) {
        let mut state = self.state.lock();
        state.validity = validity;
        state.issued = validity.map(|_| issued);
        self.slot.put(key);
    }

    /// A new one is there.
    pub(super) fn renewed(&self, key: Arc<CertifiedKey>, validity: Validity) {
        self.serve(key, Some(validity), now());
        self.issued.fetch_add(1, Relaxed);
    }

    /// A try failed, and the next one is at that time; what was served before serves on.
    pub(super) fn failed(&self, failure: Failure, next: u64) {
        if let Some(count) = self.failures.get(failure.reason as usize) {
            count.fetch_add(1, Relaxed);
        }
        let mut state = self.state.lock();
        (state.failure, state.next) = (Some((now(), failure)), Some(next));
    }

    /// How often a certificate was issued to this process.
    pub fn issued(&self) -> u64 {
        self.issued.load(Relaxed)
    }

    /// How often a try failed, for each reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.failures.iter().map(|count| count.load(Relaxed));
        Reason::ALL.iter().map(|reason| reason.name()).zip(counts)
    }

    /// When one was last issued and until when it holds, in seconds since 1970.
    pub fn times(&self) -> (Option<u64>, Option<u64>) {
        let state = self.state.lock();
        (state.issued, state.validity.map(|validity| validity.until))
    }

    /// For the administrator.
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
