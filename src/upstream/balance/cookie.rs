//! The signed cookie of `sticky`: settings, tags and the `Set-Cookie` field.
//!
//! The value is a tag and a session, separated by a full stop. A tag is an HMAC over the upstream's name, the endpoint's
//! address and, where its source has one, its identifier. Only a holder of the secret can map it to an endpoint, so it reveals nothing to a
//! client. Gateways with the same secret agree without a shared store. A session is one of 4096 numbers,
//! drawn for each new cookie. It spreads the clients of a draining endpoint over the drain's window, and is
//! too short to identify a client.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::HeaderValue;
use moongate_config::{Period, Placed, Problem, Problems};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use subtle::ConstantTimeEq;

/// Separates tag and session; base64url, the encoding of a tag, does not contain it.
const SEPARATOR: char = '.';

/// The session in a cookie's value, as two digits of base64url.
pub(super) type Session = [u8; 2];

/// A session for a new cookie.
pub(super) fn new_session() -> Session {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    [DIGITS[fastrand::usize(..64)], DIGITS[fastrand::usize(..64)]]
}

/// The session that a client has sent back; `None` if it is none.
pub(super) fn read_session(text: &[u8]) -> Option<Session> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.try_into().ok().filter(|session: &Session| session.iter().all(is_digit))
}

/// Length of a tag: 32 bytes in base64url.
const TAG: usize = 43;

/// A tag, compared in constant time.
#[derive(Clone, Copy, Debug)]
pub(super) struct CookieTag([u8; TAG]);

impl CookieTag {
    /// Reads a possible tag; `None` if the length is wrong.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for CookieTag {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for CookieTag {}

impl Hash for CookieTag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The tag and the session in a cookie's value.
pub(super) fn split(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    match value.iter().position(|byte| *byte == SEPARATOR as u8) {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    }
}

/// When a browser sends the cookie with cross-site requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SameSite {
    /// The cookie is not sent with cross-site requests.
    Strict,
    /// The cookie is sent with top-level cross-site navigation.
    Lax,
    /// The cookie is always sent; needs `secure`.
    None,
}

/// The identity of a cookie within one host, to a browser (RFC 6265 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieScope {
    /// The name.
    pub name: Box<str>,
    /// The `Path` attribute.
    pub path: Box<str>,
}

/// The default cookie name, distinct per upstream: two upstreams under one host would otherwise overwrite
/// each other's cookie. A digest, since an upstream's name may contain any characters.
pub(super) fn default_name(upstream: &str) -> Box<str> {
    let digest = Sha256::digest(upstream.as_bytes());
    let mut name = String::from("moongate_");
    for byte in &digest[..4] {
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

/// The attributes of the cookie.
#[derive(Clone, Debug)]
pub(super) struct CookieShape {
    /// `None`: the upstream's default name.
    pub(super) name: Option<Box<str>>,
    pub(super) path: Box<str>,
    pub(super) http_only: bool,
    pub(super) secure: bool,
    pub(super) same_site: Option<SameSite>,
    pub(super) max_age: Option<Period>,
}

impl CookieShape {
    /// The cookie's scope at an upstream.
    pub(super) fn scope(&self, upstream: &str) -> CookieScope {
        let name = self.name.clone().unwrap_or_else(|| default_name(upstream));
        CookieScope { name, path: self.path.clone() }
    }

    /// The `Set-Cookie` line with a name and a value, RFC 6265 section 4.1.
    pub(super) fn line(&self, name: &str, tag: &CookieTag, session: Session) -> Option<HeaderValue> {
        let value = [tag.as_bytes(), &session].map(String::from_utf8_lossy);
        let mut line = format!("{name}={}{SEPARATOR}{}; Path={}", value[0], value[1], self.path);
        if let Some(age) = self.max_age {
            let _ = write!(line, "; Max-Age={}", age.0.as_secs());
        }
        if self.http_only {
            line.push_str("; HttpOnly");
        }
        if self.secure {
            line.push_str("; Secure");
        }
        match self.same_site {
            Some(SameSite::Strict) => line.push_str("; SameSite=Strict"),
            Some(SameSite::Lax) => line.push_str("; SameSite=Lax"),
            Some(SameSite::None) => line.push_str("; SameSite=None"),
            None => {}
        }
        HeaderValue::try_from(line).ok()
    }
}

/// Checks that a cookie's name is a token (RFC 6265 §4.1.1).
pub(super) fn check_name(name: &Placed<String>, problems: &mut Problems) {
    // A header field's name has the same grammar, except that it is case-insensitive.
    if http::HeaderName::try_from(name.value.as_str()).is_err() {
        let problem = Problem::new(format!("invalid cookie name `{}`", name.value));
        problems.push(problem.help("write letters, digits, `-` and `_`").at(&name.place));
    }
}

/// Checks the attributes that a name prefix requires; browsers drop the cookie otherwise (RFC 6265bis
/// §4.1.3).
pub(super) fn check_prefix(name: &Placed<String>, secure: bool, path: &str, problems: &mut Problems) {
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let (is_host, is_secure) = (begins("__Host-"), begins("__Secure-"));
    let missing = match (is_host || is_secure, is_host) {
        (true, _) if !secure => "`secure: true`",
        (_, true) if path != "/" => "`path: /`",
        _ => return,
    };
    let problem = Problem::new(format!("a cookie named `{}` needs {missing}", name.value));
    problems.push(problem.help("browsers reject the cookie otherwise").at(&name.place));
}

/// Checks that a cookie's path starts with `/` and has no `;` or control character.
pub(super) fn check_path(path: &Placed<String>, problems: &mut Problems) {
    let clean = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !path.starts_with('/') || !clean {
        problems.push(
            Problem::new(format!("invalid cookie path `{}`", path.value)).help("write /path").at(&path.place),
        );
    }
}

/// The key of the tags.
#[derive(Clone)]
pub(super) struct Secret(Hmac<Sha256>);

/// The key of cookies without a configured one.
static PROCESS_SECRET: OnceLock<Option<[u8; 32]>> = OnceLock::new();

/// The random key of this process; `None` if the system has no random numbers.
pub(crate) fn process_secret() -> Option<[u8; 32]> {
    *PROCESS_SECRET.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok().map(|()| key)
    })
}

/// Continues with the key of the process that handed over to this one. Call it before a configuration is compiled.
pub(crate) fn inherit_process_secret(key: [u8; 32]) {
    // A key in use stays.
    let _ = PROCESS_SECRET.set(Some(key));
}

impl Secret {
    /// Creates a key from configured text of any length.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(text).ok().map(Self)
    }

    /// A random key, fixed for the lifetime of this process, so that a reload keeps clients at their
    /// endpoints.
    pub(super) fn of_this_process() -> Option<Self> {
        Self::new(&process_secret()?)
    }

    /// The tag of an endpoint. One without an identifier has the tag of its address alone.
    pub(super) fn tag(&self, upstream: &str, address: &str, uid: Option<&str>) -> CookieTag {
        let mut mac = self.0.clone();
        mac.update(upstream.as_bytes());
        // A separator that neither part can contain; otherwise ("a", "b:80") and ("ab", ":80") would be
        // equal.
        mac.update(&[0]);
        mac.update(address.as_bytes());
        if let Some(uid) = uid {
            mac.update(&[0]);
            mac.update(uid.as_bytes());
        }
        let mut tag = [0; TAG];
        // 32 bytes are always 43 characters: the slice cannot be short.
        let written = URL_SAFE_NO_PAD.encode_slice(mac.finalize().into_bytes(), &mut tag);
        debug_assert_eq!(written.ok(), Some(TAG));
        CookieTag(tag)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_tag_is_that_of_address_and_identifier() {
        let secret = Secret::new(b"s3cret").unwrap();
        let tag =
            |uid| String::from_utf8(secret.tag("web", "127.0.0.1:81", uid).as_bytes().to_vec()).unwrap();
        // HMAC-SHA256 of "web\0127.0.0.1:81", without and with "\0pod-1". Cookies outlive versions of the gateway.
        assert_eq!(tag(None), "JI_tgZ7H81SiStxxSFFkOvwDboPcDC5gOZYOR2-fwss");
        assert_eq!(tag(Some("pod-1")), "0Df_AjvtFjuOfUGPTQz6MPaAXM2PDu33drFobBlMw4M");
    }
}
