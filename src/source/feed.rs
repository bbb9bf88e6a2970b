//! The end of a source that its kind reports documents to: their current versions, and those in use.

use super::documents::{DocumentState, RejectedDocument, Rejection, SourceStatus, Version};
use crate::config::Document;
use crate::telemetry::unix_millis;
use log::Level;
use moongate_sdk::log_throttle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The most rejected documents that the status has.
const MOST_REJECTIONS: usize = 20;

/// The documents of a source.
#[derive(Debug)]
pub struct DocumentFeed {
    origin: Arc<str>,
    state: Mutex<FeedState>,
    /// Whether the first read has ended.
    is_answered: watch::Sender<bool>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct FeedState {
    documents: BTreeMap<Arc<str>, Versions>,
    last_success: Option<u64>,
    error: Option<Arc<str>>,
    /// Failed reads and rejected documents, by reason.
    errors: Vec<(&'static str, u64)>,
}

/// The versions of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    /// The one that the source has; `None` if it has none any more.
    pub(super) current: Option<Version>,
    /// The one in use.
    pub(super) good: Option<Arc<Document>>,
    /// Why the current one is not in use.
    rejection: Option<Rejection>,
}

/// What became of a document: the version in use, and why it is not the current one.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) key: Arc<str>,
    pub(super) good: Option<Arc<Document>>,
    pub(super) rejection: Option<Rejection>,
}

impl DocumentFeed {
    pub(super) fn new(origin: &str, earlier: Option<&Self>) -> Self {
        Self {
            origin: origin.into(),
            state: Mutex::new(earlier.map(|earlier| earlier.state.lock().clone()).unwrap_or_default()),
            is_answered: watch::Sender::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    /// The documents that the source has now, all of them.
    pub(super) fn replace(&self, documents: BTreeMap<Arc<str>, Arc<[u8]>>) {
        let known: Vec<_> = self.state.lock().documents.keys().cloned().collect();
        let gone = known.into_iter().filter(|key| !documents.contains_key(key)).map(|key| (key, None));
        let gone: Vec<_> = gone.collect();
        self.change(gone.into_iter().chain(documents.into_iter().map(|(key, value)| (key, Some(value)))));
    }

    /// Documents that have changed, or that are gone.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = (Arc<str>, Option<Arc<[u8]>>)>) {
        let mut is_changed = false;
        for (key, value) in changes {
            // Reading may take long, and the status does not wait for it.
            let version = value.map(|bytes| Version::read(&self.origin, &key, &bytes));
            let mut state = self.state.lock();
            let versions = state.documents.entry(key).or_default();
            let is_same = match (&versions.current, &version) {
                (None, None) => true,
                (Some(one), Some(other)) => one.is_same(other),
                _ => false,
            };
            if !is_same {
                is_changed = true;
                versions.current = version;
            }
        }
        self.confirm();
        if is_changed {
            self.changed.notify_one();
        }
    }

    /// The source was read without an error.
    pub(super) fn confirm(&self) {
        let recovered = {
            let mut state = self.state.lock();
            state.last_success = Some(unix_millis());
            state.error.take()
        };
        if recovered.is_some() {
            log::info!(source = &*self.origin; "source works again");
        }
        self.is_answered.send_replace(true);
    }

    /// A read failed; the documents stay. `reason` is a label, `detail` is for the log.
    pub(super) fn fail(&self, reason: &'static str, detail: impl fmt::Display) {
        let detail: Arc<str> = detail.to_string().into();
        let message = "source failed; last documents kept";
        if log_throttle::admit(Level::Warn, message, &[&self.origin, reason]) {
            log::warn!(source = &*self.origin, reason = &*detail; "{message}");
        }
        {
            let mut state = self.state.lock();
            state.error = Some(detail);
            count(&mut state.errors, reason);
        }
        self.is_answered.send_replace(true);
    }

    /// Waits for a change of the documents.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the first read has ended, with documents or without.
    pub async fn first_answer(&self) {
        // The sender lives as long as this.
        let _ = self.is_answered.subscribe().wait_for(|is_answered| *is_answered).await;
    }

    pub(super) fn versions(&self) -> Vec<(Arc<str>, Versions)> {
        let state = self.state.lock();
        state.documents.iter().map(|(key, versions)| (Arc::clone(key), versions.clone())).collect()
    }

    /// Records which versions are in use.
    pub(super) fn settle(&self, settled: Vec<Settled>) {
        for Settled { key, good, rejection } in settled {
            let mut state = self.state.lock();
            let Some(versions) = state.documents.get_mut(&key) else { continue };
            let is_news = rejection.is_some() && versions.rejection != rejection;
            (versions.good, versions.rejection) = (good, rejection.clone());
            if versions.good.is_none() && versions.current.is_none() {
                state.documents.remove(&key);
            }
            if is_news {
                count(&mut state.errors, "invalid");
            }
            drop(state);
            if let Some(rejection) = rejection.filter(|_| is_news) {
                let place = &*rejection.place;
                log::warn!(source = &*self.origin, document = &*key, place, reason = &*rejection.error; "document rejected");
                log::warn!("document problems\n{}", rejection.report);
            }
        }
    }

    /// The documents in use, for another process.
    pub(super) fn in_use(&self) -> Vec<DocumentState> {
        let state = self.state.lock();
        let used = state.documents.iter().filter_map(|(key, versions)| {
            let text = versions.good.as_ref()?.text().to_string();
            Some(DocumentState { source: self.origin.to_string(), key: key.to_string(), text })
        });
        used.collect()
    }

    /// Begins with the documents of another process.
    pub(super) fn restore(&self, documents: &[DocumentState]) {
        let mut state = self.state.lock();
        for document in documents.iter().filter(|document| *document.source == *self.origin) {
            let version = Version::read(&self.origin, &document.key, document.text.as_bytes());
            state.documents.insert(
                Arc::from(&*document.key),
                Versions { current: Some(version), ..Versions::default() },
            );
        }
    }

    /// Failed reads and rejected documents, by reason.
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        self.state.lock().errors.clone()
    }

    /// The state for the status.
    pub fn status(&self) -> SourceStatus {
        let state = self.state.lock();
        let rejected = state.documents.iter().filter_map(|(key, versions)| {
            let Rejection { place, error, report } = versions.rejection.clone()?;
            let has_earlier_version = versions.good.is_some();
            Some(RejectedDocument { document: Arc::clone(key), place, error, report, has_earlier_version })
        });
        let rejected: Vec<_> = rejected.collect();
        SourceStatus {
            source: Arc::clone(&self.origin),
            last_success: state.last_success,
            error: state.error.clone(),
            documents: state.documents.values().filter(|versions| versions.good.is_some()).count(),
            rejected: rejected.len(),
            rejections: rejected.into_iter().take(MOST_REJECTIONS).collect(),
        }
    }
}

fn count(errors: &mut Vec<(&'static str, u64)>, reason: &'static str) {
    match errors.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => errors.push((reason, 1)),
    }
}
