//! Where keys come from: given once, or fetched beside the requests, rotated, and kept when a fetch fails.

use super::keys::{Claims, Demands, Keys, TokenError};
use crate::common::url;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use moongate_sdk::{Call, CallTarget, Fault, Services};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(5);
/// The longest set that is read.
const LONGEST: usize = 1 << 20;
/// The most redirects that are followed, each to the same origin: who may answer for the keys was written by the
/// operator.
const MOST_REDIRECTS: usize = 5;
/// Between two fetches, whatever tokens come in: who sends made-up key ids must not set the pace.
const LEAST_PAUSE: Duration = Duration::from_secs(10);
/// The first wait after a fetch that failed; it doubles up to `refresh`.
const AGAIN: Duration = Duration::from_secs(1);

/// Where keys come from.
pub(super) enum KeySource {
    /// From the settings or a file.
    Given(Keys),
    /// From a URL.
    Fetched(Arc<Remote>),
}

/// A set of keys behind a URL.
pub(super) struct Remote {
    url: String,
    refresh: Duration,
    demands: Demands,
    state: watch::Sender<FetchState>,
    /// A token asks for a key that nobody has.
    wanted: Notify,
}

/// What the fetches brought so far.
#[derive(Clone, Default)]
struct FetchState {
    /// The last good set.
    keys: Option<Arc<Keys>>,
    /// The last fetch, whatever it brought.
    at: Option<Instant>,
    fetches: u64,
}

/// Why a token was not passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not good.
    Refused(TokenError),
    /// There is nothing to check it with.
    Fault(Fault),
}

impl KeySource {
    /// Checks a token without waiting, when that is possible: `None` says that a fetch should be waited for.
    pub(super) fn check(&self, token: &[u8], demands: &Demands) -> Option<Result<Claims, Stop>> {
        match self {
            Self::Given(keys) => Some(keys.check(token, demands, now()).map_err(Stop::Refused)),
            Self::Fetched(remote) => {
                let (keys, asked_lately) = remote.look();
                match keys?.check(token, demands, now()) {
                    Err(TokenError::NoKey) if !asked_lately => None,
                    checked => Some(checked.map_err(Stop::Refused)),
                }
            }
        }
    }

    /// Checks a token after the next fetch.
    pub(super) async fn check_later(&self, token: &[u8], demands: &Demands) -> Result<Claims, Stop> {
        if let Self::Fetched(remote) = self {
            remote.next_fetch().await;
        }
        let keys = match self {
            Self::Given(keys) => return keys.check(token, demands, now()).map_err(Stop::Refused),
            Self::Fetched(remote) => remote.look().0,
        };
        let none = || Stop::Fault(Fault::fixed("the set of keys could not be fetched yet"));
        keys.ok_or_else(none)?.check(token, demands, now()).map_err(Stop::Refused)
    }
}

impl Remote {
    pub(super) fn new(url: String, refresh: Duration, demands: Demands) -> Self {
        Self {
            url,
            refresh,
            demands,
            state: watch::Sender::new(FetchState::default()),
            wanted: Notify::new(),
        }
    }

    fn look(&self) -> (Option<Arc<Keys>>, bool) {
        let state = self.state.borrow();
        (state.keys.clone(), state.at.is_some_and(|at| at.elapsed() < LEAST_PAUSE))
    }

    /// Waits for the end of the next fetch, which it asks for; never much longer than a fetch may take.
    async fn next_fetch(&self) {
        let mut state = self.state.subscribe();
        let before = state.borrow().fetches;
        self.wanted.notify_one();
        // Without a set the last fetch failed: the next one is asked for, and not waited for.
        if state.borrow().keys.is_none() && before > 0 {
            return;
        }
        // Beyond the bound the token is checked with what is there.
        let _ = timeout(FETCH + AGAIN, state.wait_for(|state| state.fetches > before)).await;
    }

    /// Fetches again and again.
    pub(super) async fn keep(self: Arc<Self>, services: Arc<dyn Services>) {
        let mut again = AGAIN;
        let mut left_out = Vec::new();
        loop {
            let fetched = self.fetch(&*services).await;
            // What stays wrong is told once.
            if let Some(now) = fetched.as_ref().ok().map(Keys::left_out).filter(|now| **now != left_out) {
                for key in now {
                    log::warn!(url = self.url.as_str(), key = key.as_str(); "a key of a set is left out");
                }
                left_out = now.to_vec();
            }
            let failed = fetched.as_ref().err().cloned();
            self.state.send_modify(|state| {
                state.fetches += 1;
                state.at = Some(Instant::now());
                if let Ok(keys) = fetched {
                    state.keys = Some(Arc::new(keys));
                }
            });
            // Who asked until now was served by this one; nobody asks again so soon.
            let _ = timeout(Duration::ZERO, self.wanted.notified()).await;
            let pause = match failed {
                None => {
                    again = AGAIN;
                    self.refresh
                }
                Some(reason) => {
                    log::warn!(url = self.url.as_str(), reason = reason.as_str(); "a set of keys cannot be fetched; the last good one is kept");
                    let pause = again;
                    again = (again * 2).min(self.refresh);
                    pause
                }
            };
            tokio::time::sleep(LEAST_PAUSE.min(pause)).await;
            // The end of the pause and a token whose key nobody has lead to the same.
            let _ = timeout(pause.saturating_sub(LEAST_PAUSE), self.wanted.notified()).await;
        }
    }

    async fn fetch(&self, services: &dyn Services) -> Result<Keys, String> {
        let mut url = self.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let call = Call {
                to: CallTarget::Url(url.clone()),
                method: Method::GET,
                target: String::new(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                timeout: FETCH,
                limit: LONGEST,
            };
            let called = services.call(call).await.map_err(|error| error.to_string())?;
            match called.status.as_u16() {
                200 => return Keys::set(&called.body, true, &self.demands),
                301 | 302 | 303 | 307 | 308 => {
                    let location = called.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
                    let location = location.ok_or("it is a redirect without a Location")?;
                    url = url::redirect(&url, location)
                        .ok_or_else(|| format!("it is a redirect to another origin, `{location}`"))?;
                }
                status => return Err(format!("it was answered with {status}")),
            }
        }
        Err(format!("it is redirected more than {MOST_REDIRECTS} times"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
