//! Sources of keys: fixed, or a URL that is fetched in the background; a failed fetch keeps the last set.

use super::keys::{Claims, Keys, TokenError, TokenRequirements};
use crate::common::outbound_url;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use moongate_sdk::{Call, CallTarget, Fault, Services};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// The timeout of a fetch.
const FETCH: Duration = Duration::from_secs(5);
/// The longest key set that is read.
const LONGEST: usize = 1 << 20;
/// The maximum number of redirects, each to the same origin: the operator chose the origin of the keys.
const MOST_REDIRECTS: usize = 5;
/// The minimum time between two fetches: tokens with invented key IDs must not cause more.
const LEAST_PAUSE: Duration = Duration::from_secs(10);
/// The first pause after a failed fetch; it doubles up to `refresh`.
const AGAIN: Duration = Duration::from_secs(1);

/// The source of keys.
pub(super) enum JwksSource {
    /// The settings or a file.
    Given(Keys),
    /// A URL.
    Fetched(Arc<RemoteJwks>),
}

/// A key set at a URL.
pub(super) struct RemoteJwks {
    url: String,
    refresh: Duration,
    requirements: TokenRequirements,
    state: watch::Sender<FetchState>,
    /// Requests a fetch for a token with an unknown key.
    wanted: Notify,
}

/// The results of the fetches so far.
#[derive(Clone, Default)]
struct FetchState {
    /// The last valid set.
    keys: Option<Arc<Keys>>,
    /// The time of the last fetch, failed or not.
    at: Option<Instant>,
    fetches: u64,
}

/// The reason why a token was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenRejection {
    /// The token is invalid.
    Refused(TokenError),
    /// There is no key set.
    Fault(Fault),
}

impl JwksSource {
    /// Checks a token without waiting, if possible; `None` if the caller should wait for a fetch.
    pub(super) fn check(
        &self,
        token: &[u8],
        requirements: &TokenRequirements,
    ) -> Option<Result<Claims, TokenRejection>> {
        match self {
            Self::Given(keys) => {
                Some(keys.check(token, requirements, now()).map_err(TokenRejection::Refused))
            }
            Self::Fetched(remote) => {
                let (keys, asked_lately) = remote.snapshot();
                match keys?.check(token, requirements, now()) {
                    Err(TokenError::NoKey) if !asked_lately => None,
                    checked => Some(checked.map_err(TokenRejection::Refused)),
                }
            }
        }
    }

    /// Checks a token after the next fetch.
    pub(super) async fn check_later(
        &self,
        token: &[u8],
        requirements: &TokenRequirements,
    ) -> Result<Claims, TokenRejection> {
        if let Self::Fetched(remote) = self {
            remote.next_fetch().await;
        }
        let keys = match self {
            Self::Given(keys) => {
                return keys.check(token, requirements, now()).map_err(TokenRejection::Refused);
            }
            Self::Fetched(remote) => remote.snapshot().0,
        };
        let none = || TokenRejection::Fault(Fault::fixed("the key set has not been fetched yet"));
        keys.ok_or_else(none)?.check(token, requirements, now()).map_err(TokenRejection::Refused)
    }
}

impl RemoteJwks {
    pub(super) fn new(url: String, refresh: Duration, requirements: TokenRequirements) -> Self {
        Self {
            url,
            refresh,
            requirements,
            state: watch::Sender::new(FetchState::default()),
            wanted: Notify::new(),
        }
    }

    fn snapshot(&self) -> (Option<Arc<Keys>>, bool) {
        let state = self.state.borrow();
        (state.keys.clone(), state.at.is_some_and(|at| at.elapsed() < LEAST_PAUSE))
    }

    /// Requests the next fetch and waits for its end, not much longer than the timeout of a fetch.
    async fn next_fetch(&self) {
        let mut state = self.state.subscribe();
        let before = state.borrow().fetches;
        self.wanted.notify_one();
        // Without a set the last fetch failed: the next one is requested, but not awaited.
        if state.borrow().keys.is_none() && before > 0 {
            return;
        }
        // After the timeout the token is checked with the current set.
        let _ = timeout(FETCH + AGAIN, state.wait_for(|state| state.fetches > before)).await;
    }

    /// Fetches the set repeatedly.
    pub(super) async fn keep(self: Arc<Self>, services: Arc<dyn Services>) {
        let mut again = AGAIN;
        let mut left_out = Vec::new();
        loop {
            let fetched = self.fetch(&*services).await;
            // A persistent problem is logged once.
            if let Some(now) = fetched.as_ref().ok().map(Keys::left_out).filter(|now| **now != left_out) {
                for key in now {
                    log::warn!(url = self.url.as_str(), key = key.as_str(); "unusable key of a key set skipped");
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
            // Requests up to now are served by this fetch; the next one is not due immediately.
            let _ = timeout(Duration::ZERO, self.wanted.notified()).await;
            let pause = match failed {
                None => {
                    again = AGAIN;
                    self.refresh
                }
                Some(reason) => {
                    log::warn!(url = self.url.as_str(), reason = reason.as_str(); "key set fetch failed; last good set kept");
                    let pause = again;
                    again = (again * 2).min(self.refresh);
                    pause
                }
            };
            tokio::time::sleep(LEAST_PAUSE.min(pause)).await;
            // The end of the pause and a token with an unknown key both start a fetch.
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
            let response = services.call(call).await.map_err(|error| error.to_string())?;
            match response.status.as_u16() {
                200 => return Keys::set(&response.body, true, &self.requirements),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
                    let location = location.ok_or("the redirect has no Location")?;
                    url = outbound_url::redirect(&url, location)
                        .ok_or_else(|| format!("the redirect leads to another origin, `{location}`"))?;
                }
                status => return Err(format!("the response status was {status}")),
            }
        }
        Err(format!("there were more than {MOST_REDIRECTS} redirects"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
