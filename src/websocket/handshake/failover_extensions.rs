//! Extensions under failover: only extensions that another backend can continue (RFC 7692 §7.1.1).
//!
//! A compression context cannot move to another backend. With `on_endpoint_loss: reconnect`,
//! permessage-deflate is offered without context takeover, and other extensions, whose state is unknown, are
//! not offered.

use super::elements;
use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

const DEFLATE: &[u8] = b"permessage-deflate";
const SERVER_FORGETS: &str = "server_no_context_takeover";
const CLIENT_FORGETS: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// Rewrites the offered extensions: each offer of permessage-deflate gets no_context_takeover for both sides.
/// Offers with parameters unknown to RFC 7692, and other extensions, are removed.
pub fn offer_portable(headers: &mut HeaderMap) {
    let offers: Vec<_> = elements(headers, &SEC_WEBSOCKET_EXTENSIONS).filter_map(Deflate::read).collect();
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    for mut offer in offers {
        offer.forget(SERVER_FORGETS);
        offer.forget(CLIENT_FORGETS);
        // Made of tokens and digits, so it is a valid field value.
        if let Ok(value) = HeaderValue::from_str(&offer.write()) {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, value);
        }
    }
}

/// Adds client_no_context_takeover to a 101 with permessage-deflate, which is allowed for any offer and any
/// response (RFC 7692 §7.1.1.2).
pub fn forget_context(headers: &mut HeaderMap) {
    let Some(mut deflate) = sole(headers).and_then(Deflate::read) else { return };
    deflate.forget(CLIENT_FORGETS);
    if let Ok(value) = HeaderValue::from_str(&deflate.write()) {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
    }
}

/// The extensions of the first backend's 101, with which every later one must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    protocol: Option<HeaderValue>,
    deflate: Option<Deflate>,
}

impl Agreement {
    /// The extensions of a 101; `None` if another backend could not continue them.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).cloned();
        if elements(headers, &SEC_WEBSOCKET_EXTENSIONS).next().is_none() {
            return Some(Self { protocol, deflate: None });
        }
        let mut deflate = Deflate::read(sole(headers)?)?;
        let forgets = deflate.has(SERVER_FORGETS);
        // The client was asked for it in any case.
        deflate.forget(CLIENT_FORGETS);
        deflate.0.sort_unstable();
        forgets.then_some(Self { protocol, deflate: Some(deflate) })
    }

    /// The fields of a 101 with this agreement, for another process.
    pub(crate) fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        if let Some(protocol) = &self.protocol {
            fields.insert(SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        // Made of tokens and digits, so it is a valid field value.
        let deflate = self.deflate.as_ref().and_then(|deflate| HeaderValue::try_from(deflate.write()).ok());
        if let Some(deflate) = deflate {
            fields.insert(SEC_WEBSOCKET_EXTENSIONS, deflate);
        }
        fields
    }
}

/// The only element of the extensions.
fn sole(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = elements(headers, &SEC_WEBSOCKET_EXTENSIONS);
    all.next().filter(|_| all.next().is_none())
}

/// The parameters of a permessage-deflate element, each with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Deflate(Vec<(&'static str, Option<u8>)>);

impl Deflate {
    /// `None` for another extension, and for parameters that RFC 7692 §7.1 does not allow.
    fn read(element: &[u8]) -> Option<Self> {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        if !parts.next()?.eq_ignore_ascii_case(DEFLATE) {
            return None;
        }
        let mut read = Self(Vec::new());
        for part in parts {
            let (name, value) = parameter(part)?;
            if read.has(name) {
                return None;
            }
            read.0.push((name, value));
        }
        Some(read)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    fn forget(&mut self, name: &'static str) {
        if !self.has(name) {
            self.0.push((name, None));
        }
    }

    fn write(&self) -> String {
        let mut text = String::from("permessage-deflate");
        for (name, value) in &self.0 {
            text.push_str("; ");
            text.push_str(name);
            if let Some(value) = value {
                text.push('=');
                text.push_str(&value.to_string());
            }
        }
        text
    }
}

fn parameter(part: &[u8]) -> Option<(&'static str, Option<u8>)> {
    let mut sides = part.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
    let written = sides.next()?;
    let value = sides.next();
    let known = [SERVER_FORGETS, CLIENT_FORGETS, SERVER_BITS, CLIENT_BITS];
    let name = known.into_iter().find(|name| written.eq_ignore_ascii_case(name.as_bytes()))?;
    let Some(value) = value else {
        // Only client_max_window_bits may have no value in an offer.
        return (name != SERVER_BITS).then_some((name, None));
    };
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let bits: u8 = std::str::from_utf8(bare).ok()?.parse().ok()?;
    let sized = name == SERVER_BITS || name == CLIENT_BITS;
    (sized && (8..=15).contains(&bits)).then_some((name, Some(bits)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn fields(extensions: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for each in extensions {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(each));
        }
        headers
    }

    fn offered(extensions: &[&'static str]) -> Vec<String> {
        let mut headers = fields(extensions);
        offer_portable(&mut headers);
        let all = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn deflate_is_offered_without_context_takeover() {
        assert_eq!(
            offered(&["permessage-deflate; client_max_window_bits"]),
            [
                "permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover"
            ]
        );
        assert_eq!(
            offered(&[
                "Permessage-Deflate; Server_No_Context_Takeover; server_max_window_bits=\"10\", permessage-deflate"
            ]),
            [
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            ]
        );
    }

    #[test]
    fn extensions_that_cannot_move_are_not_offered() {
        for offer in [
            "x-webkit-deflate-frame",
            "permessage-deflate; mystery",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
        ] {
            assert_eq!(offered(&[offer]), <[&str; 0]>::default(), "{offer}");
        }
        assert_eq!(offered(&["bbf-usp-protocol", "permessage-deflate"]).len(), 1);
    }

    #[test]
    fn the_client_gets_no_context_takeover_too() {
        let mut headers = fields(&["permessage-deflate; server_no_context_takeover"]);
        forget_context(&mut headers);
        assert_eq!(
            headers[SEC_WEBSOCKET_EXTENSIONS],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        );
        let mut none = HeaderMap::new();
        forget_context(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn two_responses_agree_if_a_client_cannot_distinguish_them() {
        let of = |extension| Agreement::of(&fields(&[extension]));
        let first = of("permessage-deflate; server_no_context_takeover").unwrap();
        let other = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
        assert_eq!(Some(first.clone()), of(other));
        let smaller = "permessage-deflate; server_no_context_takeover; client_max_window_bits=9";
        assert_ne!(Some(first.clone()), of(smaller));
        assert_ne!(Some(first), Agreement::of(&HeaderMap::new()));
        assert_eq!(of("permessage-deflate"), None, "its context cannot move");
        let mut spoken = HeaderMap::new();
        spoken.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat"));
        assert_ne!(Agreement::of(&spoken), Agreement::of(&HeaderMap::new()));
    }
}
