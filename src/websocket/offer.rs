//! What was asked of a backend, against which its 101 is checked.

use super::{accept, elements, has_token};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What the two ends agreed to do with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extensions {
    /// Nothing.
    #[default]
    None,
    /// permessage-deflate (RFC 7692) and nothing else.
    Deflate,
    /// Something that the gateway does not know.
    Unknown,
}

impl Extensions {
    /// What the fields of a 101 agree to.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        elements(headers, &SEC_WEBSOCKET_EXTENSIONS).fold(Self::None, |known, element| {
            let deflate = extension(element).eq_ignore_ascii_case(b"permessage-deflate");
            if deflate && known != Self::Unknown { Self::Deflate } else { Self::Unknown }
        })
    }
}

/// What was offered to a backend.
#[derive(Clone, Debug)]
pub struct Offer {
    accept: [u8; 28],
    protocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

impl Offer {
    /// The offer of a request with this key and these fields. Cloning their values copies no bytes,
    /// and a request without subprotocols and extensions allocates nothing.
    #[must_use]
    pub fn new(key: &[u8], headers: &HeaderMap) -> Self {
        let all = |name: &HeaderName| headers.get_all(name).iter().cloned().collect();
        Self {
            accept: accept(key),
            protocols: all(&SEC_WEBSOCKET_PROTOCOL),
            extensions: all(&SEC_WEBSOCKET_EXTENSIONS),
        }
    }

    /// The `Sec-WebSocket-Accept` that answers the key.
    #[must_use]
    pub fn accept(&self) -> &[u8; 28] {
        &self.accept
    }

    /// Checks the fields of a 101 by RFC 6455 §4.1.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        if !has_token(headers, &UPGRADE, "websocket") {
            return Err("101 without Upgrade: websocket");
        }
        if !has_token(headers, &CONNECTION, "upgrade") {
            return Err("101 without Connection: upgrade");
        }
        let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let accepted = accepts.next().is_some_and(|value| value.as_bytes().trim_ascii() == self.accept);
        if !accepted || accepts.next().is_some() {
            return Err("101 with a wrong Sec-WebSocket-Accept");
        }
        if !self.has_protocol(headers) {
            return Err("101 with a subprotocol that was not offered");
        }
        if !elements(headers, &SEC_WEBSOCKET_EXTENSIONS).all(|element| self.has_extension(element)) {
            return Err("101 with an extension that was not offered");
        }
        Ok(())
    }

    /// At most one subprotocol, one of those offered; their letters' case counts (§4.1).
    fn has_protocol(&self, headers: &HeaderMap) -> bool {
        let mut chosen = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
        let Some(protocol) = chosen.next() else { return true };
        chosen.next().is_none() && offered(&self.protocols).any(|offer| offer == protocol)
    }

    /// Names are compared; parameters are between the client and the backend.
    fn has_extension(&self, element: &[u8]) -> bool {
        offered(&self.extensions).any(|offer| extension(offer).eq_ignore_ascii_case(extension(element)))
    }
}

fn offered(values: &[HeaderValue]) -> impl Iterator<Item = &[u8]> {
    values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The name of an extension, without its parameters.
fn extension(element: &[u8]) -> &[u8] {
    element.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}
