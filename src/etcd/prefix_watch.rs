//! The keys below a prefix, kept current: a list, then a watch from its revision.
//!
//! A watch that ends continues at the next server from the last revision. One whose revision was compacted, or whose cluster
//! is another one now, begins with a list again, of which the differences alone are news. A stream that is silent is verified
//! by a small read at the same server, and renewed from time to time: progress notifications are minutes apart.

use super::connection::{LARGEST_RESPONSE, LONGEST_STEP, ResponseBody};
use super::error::{ErrorKind, EtcdError};
use super::json_objects::{FramingError, JsonObjects};
use super::messages::{Header, KeyRange, KeyValue, RangeResponse, WatchEvent, WatchMessage, WatchResponse};
use super::servers::EtcdServers;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// A stream without a message for this long is verified.
const SILENCE: Duration = Duration::from_secs(3);
/// A stream without events for this long is replaced.
const RENEWAL: Duration = Duration::from_secs(60);
/// The keys of one page. Values are 1.5 MiB at most by etcd's default, so that a page may have to be smaller.
const PAGE: usize = 500;
/// The most keys below the prefix.
const MOST_KEYS: usize = 100_000;
/// The most bytes of keys and values below the prefix.
const MOST_BYTES: usize = 64 << 20;
/// The limits of the pause after a failure.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// A watch of this length shows that the server works.
const LASTING: Duration = Duration::from_secs(1);
/// The pause before a second list after one that was suddenly empty.
const DOUBT: Duration = Duration::from_millis(250);

/// A change of a key: its value now, or `None` for one that is gone.
pub type Change = Option<Arc<[u8]>>;

/// The result of the last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was read yet.
    #[default]
    Pending,
    /// The keys are current.
    Current,
    /// The last read failed; the keys are those of the last success.
    Failed(EtcdError),
}

/// What happened since the last call of [`PrefixWatch::take`].
#[derive(Clone, Debug, Default)]
pub struct PrefixNews {
    /// The keys that have changed.
    pub changes: BTreeMap<Arc<str>, Change>,
    /// The result of the last read; `None` without one.
    pub outcome: Option<Outcome>,
    /// Whether all keys were read once.
    pub is_complete: bool,
}

/// The keys below a prefix.
#[derive(Debug)]
pub struct PrefixWatch {
    servers: Arc<EtcdServers>,
    range: KeyRange,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Arc<str>, Arc<[u8]>>,
    /// The bytes of all keys and values.
    bytes: usize,
    news: PrefixNews,
    is_complete: bool,
}

impl State {
    fn set(&mut self, key: Arc<str>, value: Change) {
        let before = match &value {
            Some(value) => self.entries.insert(Arc::clone(&key), Arc::clone(value)),
            None => self.entries.remove(&key),
        };
        let size = |value: &Change| value.as_ref().map_or(0, |value| key.len() + value.len());
        self.bytes = (self.bytes + size(&value)).saturating_sub(size(&before));
        if before != value {
            self.news.changes.insert(key, value);
        }
    }

    /// Records a success.
    fn succeed(&mut self) {
        self.is_complete = true;
        self.news.outcome = Some(Outcome::Current);
    }
}

/// Where a watch continues.
#[derive(Clone, Copy, Debug)]
struct Position {
    cluster: u64,
    /// The last revision that was applied.
    revision: i64,
}

/// Why a watch ended without an error of the server.
enum WatchEnd {
    /// Silent for long; the same server continues at once.
    Renewal,
    /// The revision is not available any more, or the token has expired; the same server continues.
    Again,
    /// The list is suddenly empty; the next server confirms it, if there is one.
    Doubt,
}

/// The state of one run.
#[derive(Default)]
struct Run {
    position: Option<Position>,
    /// Whether the last list was empty, which the next one confirms.
    is_doubtful: bool,
    /// Whether the current server has responded with a list or a watch.
    is_established: bool,
    /// Whether the token was dropped since the last success: another one is refused for another reason.
    has_renewed_token: bool,
}

impl PrefixWatch {
    /// The keys that begin with `prefix`. Nothing is read before [`PrefixWatch::run`].
    pub fn new(servers: Arc<EtcdServers>, prefix: &str) -> Self {
        let range = KeyRange::of_prefix(prefix);
        Self { servers, range, state: Mutex::default(), news: Notify::new() }
    }

    /// Waits for news. Call [`PrefixWatch::take`] then.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What happened since the last call.
    pub fn take(&self) -> PrefixNews {
        let mut state = self.state.lock();
        let is_complete = state.is_complete;
        PrefixNews { is_complete, ..std::mem::take(&mut state.news) }
    }

    /// Lists and watches until dropped. One call at a time.
    pub async fn run(&self) -> Infallible {
        let mut run = Run::default();
        let [shortest, longest] = PAUSES;
        let mut pause = shortest;
        loop {
            let mut failure = None;
            for server in self.servers.in_order() {
                let begun = Instant::now();
                run.is_established = false;
                let ended = self.follow(server, &mut run).await;
                if begun.elapsed() >= LASTING {
                    pause = shortest;
                }
                match ended {
                    Ok(WatchEnd::Renewal) => {
                        self.servers.prefer(server);
                        (failure, pause) = (None, Duration::ZERO);
                        break;
                    }
                    Ok(end) => {
                        let is_doubt = matches!(end, WatchEnd::Doubt);
                        self.servers.prefer(server + usize::from(is_doubt));
                        failure = None;
                        break;
                    }
                    Err(error) => {
                        self.servers.prefer(server + 1);
                        log::debug!(server = &*self.servers.all[server].url, reason:% = error; "etcd watch ended");
                        let is_over = run.is_established;
                        failure = (!is_over).then_some(error);
                        if is_over {
                            break;
                        }
                    }
                }
            }
            if let Some(error) = failure {
                self.fail(error);
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).clamp(shortest, longest);
        }
    }

    /// Records that every server failed.
    fn fail(&self, error: EtcdError) {
        self.state.lock().news.outcome = Some(Outcome::Failed(error));
        self.news.notify_one();
    }

    /// Lists if there is no position, and watches one server.
    async fn follow(&self, server: usize, run: &mut Run) -> Result<WatchEnd, EtcdError> {
        let position = match run.position {
            Some(position) => position,
            None => {
                let (listed, position) = match self.list(server).await {
                    Err(error) if error.kind() == ErrorKind::Compacted => return Ok(WatchEnd::Again),
                    listed => listed?,
                };
                (run.is_established, run.has_renewed_token) = (true, false);
                let is_suspect = listed.is_empty() && !self.state.lock().entries.is_empty();
                if is_suspect && !run.is_doubtful {
                    run.is_doubtful = true;
                    sleep(DOUBT).await;
                    return Ok(WatchEnd::Doubt);
                }
                run.is_doubtful = false;
                run.position = Some(position);
                self.replace(listed);
                position
            }
        };
        self.watch(server, position, run).await
    }

    /// The keys, and their revision.
    async fn list(&self, server: usize) -> Result<(Vec<KeyValue>, Position), EtcdError> {
        let mut found: Vec<KeyValue> = Vec::new();
        let (mut bytes, mut page, mut position) = (0, PAGE, None);
        loop {
            let range = match found.last() {
                None => self.range.clone(),
                Some(last) => self.range.after(&last.key),
            };
            let revision = position.map_or(0, |position: Position| position.revision);
            let request = range.page(page, revision);
            let read = self.servers.post::<RangeResponse>(server, "/v3/kv/range", &request).await;
            let response = match read {
                Err(error) if error.kind() == ErrorKind::LargeResponse && page > 1 => {
                    page = (page / 8).max(1);
                    continue;
                }
                read => read?,
            };
            let Header { cluster_id, revision } = response.header;
            let position = *position.get_or_insert(Position { cluster: cluster_id, revision });
            let has_more = response.more && !response.kvs.is_empty();
            bytes += response.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
            found.extend(response.kvs);
            within_limits(found.len(), bytes)?;
            if !has_more {
                return Ok((found, position));
            }
        }
    }

    /// Takes a list: its differences are news.
    fn replace(&self, listed: Vec<KeyValue>) {
        let mut state = self.state.lock();
        let listed: BTreeMap<_, Arc<[u8]>> =
            listed.into_iter().map(|kv| (kv.name(), kv.value.into())).collect();
        let gone: Vec<_> = state.entries.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        gone.into_iter().for_each(|key| state.set(key, None));
        listed.into_iter().for_each(|(key, value)| state.set(key, Some(value)));
        state.succeed();
        drop(state);
        self.news.notify_one();
    }

    async fn watch(&self, server: usize, position: Position, run: &mut Run) -> Result<WatchEnd, EtcdError> {
        let request = self.range.watch_from(position.revision.saturating_add(1));
        let body = self.servers.stream(server, "/v3/watch", &request).await?;
        let mut stream = WatchStream { body, objects: JsonObjects::new(LARGEST_RESPONSE) };
        let mut last_event = Instant::now();
        // The events of a revision whose rest follows.
        let mut partial: Vec<WatchEvent> = Vec::new();
        loop {
            let Ok(message) = timeout(SILENCE, stream.next()).await else {
                if !run.is_established {
                    return Err(EtcdError::new("timeout", "the watch did not begin in time"));
                }
                if last_event.elapsed() >= RENEWAL {
                    return Ok(WatchEnd::Renewal);
                }
                let header = self.probe(server).await?;
                let revision = run.position.map_or(0, |position| position.revision);
                // A cluster that was restored from a backup begins at an earlier revision: the watch would wait for ever.
                if header.cluster_id != position.cluster || header.revision < revision {
                    run.position = None;
                    return Ok(WatchEnd::Again);
                }
                self.confirm();
                continue;
            };
            let message = message?;
            let response = match message.error() {
                Some(error) => return self.refused(error, run),
                None => message.result,
            };
            if response.canceled && response.compact_revision == 0 {
                return self.refused(EtcdError::of_status(0, canceled(&response)), run);
            }
            if response.header.cluster_id != position.cluster || response.canceled {
                run.position = None;
                return Ok(WatchEnd::Again);
            }
            if response.created {
                (run.is_established, run.has_renewed_token) = (true, false);
                self.confirm();
            }
            let Some(next) = progress(&response) else { continue };
            if !response.events.is_empty() {
                last_event = Instant::now();
            }
            let (is_partial, events) = (response.fragment, response.events);
            partial.extend(events);
            let bytes = partial.iter().map(|event| event.kv.key.len() + event.kv.value.len()).sum();
            within_limits(partial.len(), bytes)?;
            if !is_partial {
                if let Err(error) = self.apply(std::mem::take(&mut partial)) {
                    run.position = None;
                    return Err(error);
                }
                let before = run.position.map_or(0, |position| position.revision);
                run.position = Some(Position { revision: next.max(before), ..position });
            }
        }
    }

    /// The end of a watch that the server refuses: with another token it may not.
    fn refused(&self, error: EtcdError, run: &mut Run) -> Result<WatchEnd, EtcdError> {
        if self.servers.may_renew(&error) && !run.has_renewed_token {
            run.has_renewed_token = true;
            return Ok(WatchEnd::Again);
        }
        Err(error)
    }

    /// Applies the events of one or several revisions.
    fn apply(&self, events: Vec<WatchEvent>) -> Result<(), EtcdError> {
        let mut state = self.state.lock();
        for event in events {
            let (key, is_removal) = (event.kv.name(), event.is_removal());
            state.set(key, (!is_removal).then(|| event.kv.value.into()));
        }
        state.succeed();
        let (keys, bytes) = (state.entries.len(), state.bytes);
        drop(state);
        self.news.notify_one();
        within_limits(keys, bytes)
    }

    /// The watch works, and nothing has changed.
    fn confirm(&self) {
        self.state.lock().succeed();
        self.news.notify_one();
    }

    /// A read that needs a leader.
    async fn probe(&self, server: usize) -> Result<Header, EtcdError> {
        let request = self.range.probe();
        let read = self.servers.post::<RangeResponse>(server, "/v3/kv/range", &request);
        let response = timeout(LONGEST_STEP, read)
            .await
            .unwrap_or_else(|_| Err(EtcdError::new("timeout", "the server of the watch does not respond")))?;
        Ok(response.header)
    }
}

/// The revision that a message completes; `None` if it completes none.
fn progress(response: &WatchResponse) -> Option<i64> {
    match response.events.iter().map(|event| event.kv.mod_revision).max() {
        Some(last) => Some(last),
        // That of a progress request (-1) and that of the beginning may be ahead of events that follow.
        None if response.watch_id < 0 || response.created => None,
        None => Some(response.header.revision),
    }
}

fn canceled(response: &WatchResponse) -> &str {
    match &*response.cancel_reason {
        "" => "the server canceled the watch",
        reason => reason,
    }
}

fn within_limits(keys: usize, bytes: usize) -> Result<(), EtcdError> {
    if keys > MOST_KEYS {
        return Err(EtcdError::new(
            "too_large",
            format!("there are more than {MOST_KEYS} keys below the prefix"),
        ));
    }
    if bytes > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(EtcdError::new(
            "too_large",
            format!("the keys below the prefix have more than {most} MiB"),
        ));
    }
    Ok(())
}

/// The messages of a watch.
struct WatchStream {
    body: ResponseBody,
    objects: JsonObjects,
}

impl WatchStream {
    /// The next message. A call that is dropped loses nothing.
    async fn next(&mut self) -> Result<WatchMessage, EtcdError> {
        loop {
            let next = self.objects.next_object().map_err(|error| match error {
                FramingError::NotAnObject => {
                    EtcdError::new("invalid", "the watch has something other than JSON objects")
                }
                FramingError::TooLong => EtcdError::new("too_large", "a message of the watch is too long"),
            })?;
            if let Some(object) = next {
                return serde_json::from_slice(&object).map_err(|error| {
                    EtcdError::new("invalid", format!("a message of the watch cannot be read: {error}"))
                });
            }
            match self.body.next().await? {
                Some(bytes) => self.objects.push(&bytes),
                None => return Err(EtcdError::new("unreachable", "the server ended the watch")),
            }
        }
    }
}
