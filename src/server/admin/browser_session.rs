//! Sign-in of browsers with the admin token: a session is a cookie and a key.
//!
//! A browser sends a cookie to every port of its host, so the backends behind the gateway get the cookie too. A call
//! therefore needs the key as well, in a field that only the page of this origin can set: other origins neither know
//! the key nor may send the field.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{COOKIE, HeaderName};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long a session lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Open sessions; the oldest ends for a new one.
const SESSIONS: usize = 64;

/// The field that has the key.
pub(super) const KEY: HeaderName = HeaderName::from_static("x-moongate-key");

/// The sessions of an admin address.
pub(super) struct BrowserSessions {
    /// Contains the port, so that gateways on one host do not replace each other's cookies.
    cookie: String,
    open: Mutex<VecDeque<Session>>,
}

struct Session {
    /// Digests, so that a comparison takes the same time for values of any length.
    cookie: [u8; 32],
    key: [u8; 32],
    ends: Instant,
}

/// A new session.
pub(super) struct NewSession {
    /// The value of `Set-Cookie`.
    pub(super) set_cookie: String,
    /// The key for the page.
    pub(super) key: String,
}

impl BrowserSessions {
    /// The sessions of the address with this port.
    pub(super) fn new(port: u16) -> Self {
        Self { cookie: format!("moongate_session_{port}"), open: Mutex::default() }
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(super) fn begin(&self) -> Result<NewSession, getrandom::Error> {
        let (cookie, key) = (secret()?, secret()?);
        let mut open = self.open.lock();
        let now = Instant::now();
        open.retain(|session| session.ends > now);
        if open.len() == SESSIONS {
            open.pop_front();
        }
        let ends = now + LIFETIME;
        open.push_back(Session { cookie: digest(cookie.as_bytes()), key: digest(key.as_bytes()), ends });
        let set_cookie = format!(
            "{}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}",
            self.cookie,
            LIFETIME.as_secs()
        );
        Ok(NewSession { set_cookie, key })
    }

    /// Ends the session of a request. Returns the `Set-Cookie` that removes its cookie.
    pub(super) fn end(&self, fields: &HeaderMap) -> String {
        if let Some(shown) = self.shown(fields) {
            self.open.lock().retain(|session| !session.is(&shown));
        }
        format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", self.cookie)
    }

    /// Returns whether a request belongs to an open session.
    pub(super) fn admits(&self, fields: &HeaderMap) -> bool {
        let now = Instant::now();
        self.shown(fields).is_some_and(|shown| {
            self.open.lock().iter().any(|session| session.ends > now && session.is(&shown))
        })
    }

    /// The digests of the cookie and of the key that a request has.
    fn shown(&self, fields: &HeaderMap) -> Option<([u8; 32], [u8; 32])> {
        let cookies = fields.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, cookie) = pairs.find(|(name, _)| *name == self.cookie)?;
        let key = fields.get(KEY)?;
        Some((digest(cookie.as_bytes()), digest(key.as_bytes())))
    }
}

impl Session {
    fn is(&self, (cookie, key): &([u8; 32], [u8; 32])) -> bool {
        (self.cookie.ct_eq(cookie) & self.key.ct_eq(key)).into()
    }
}

/// The digest of a secret.
pub(super) fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn fields(cookie: &str, key: &str) -> HeaderMap {
        let cookie = cookie.split(';').next().unwrap();
        [(COOKIE, cookie), (KEY, key)]
            .map(|(name, value)| (name, value.parse().unwrap()))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_session_needs_cookie_and_key_and_ends() {
        let sessions = BrowserSessions::new(9901);
        let [one, other] = [(); 2].map(|()| sessions.begin().unwrap());
        assert!(one.set_cookie.starts_with("moongate_session_9901="), "{}", one.set_cookie);
        assert!(sessions.admits(&fields(&one.set_cookie, &one.key)));
        assert!(!sessions.admits(&fields(&one.set_cookie, &other.key)), "the key of another session");
        assert!(!sessions.admits(&fields("moongate_session_9902=x", &one.key)));
        let mut without_key = fields(&one.set_cookie, &one.key);
        without_key.remove(KEY);
        assert!(!sessions.admits(&without_key));
        sessions.end(&fields(&one.set_cookie, &one.key));
        assert!(!sessions.admits(&fields(&one.set_cookie, &one.key)));
        assert!(sessions.admits(&fields(&other.set_cookie, &other.key)));
    }

    #[test]
    fn the_oldest_session_ends_for_a_new_one() {
        let sessions = BrowserSessions::new(1);
        let all: Vec<_> = (0..=SESSIONS).map(|_| sessions.begin().unwrap()).collect();
        let admitted = |session: &NewSession| sessions.admits(&fields(&session.set_cookie, &session.key));
        assert!(!admitted(&all[0]) && admitted(&all[1]) && admitted(&all[SESSIONS]));
    }
}
