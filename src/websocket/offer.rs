//! The offer of a WebSocket handshake to a backend, and the validation of its 101 against it.

use super::{accept, elements, has_token};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The negotiated extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extensions {
    /// No extension.
    #[default]
    None,
    /// permessage-deflate (RFC 7692) only.
    Deflate(ContextReset),
    /// An extension that is unknown to the gateway.
    Unknown,
}

/// The sides whose compression context begins anew with every message (RFC 7692 §7.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextReset {
    /// Messages of the client: `client_no_context_takeover`.
    pub client: bool,
    /// Messages of the backend: `server_no_context_takeover`.
    pub server: bool,
}

impl ContextReset {
    /// The parameters of an extension.
    fn of(element: &[u8]) -> Self {
        let has = |name: &str| {
            let mut parameters = element.split(|byte| *byte == b';').skip(1);
            parameters.any(|parameter| parameter.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        };
        Self { client: has("client_no_context_takeover"), server: has("server_no_context_takeover") }
    }
}

impl Extensions {
    /// The extensions in the fields of a 101.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        elements(headers, &SEC_WEBSOCKET_EXTENSIONS).fold(Self::None, |known, element| {
            let deflate = extension(element).eq_ignore_ascii_case(b"permessage-deflate");
            if deflate && known == Self::None {
                Self::Deflate(ContextReset::of(element))
            } else {
                Self::Unknown
            }
        })
    }
}

/// The offer to a backend.
#[derive(Clone, Debug)]
pub struct Offer {
    accept: [u8; 28],
    protocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

impl Offer {
    /// The offer of a request with this key and these fields. Cloning their values copies no bytes; without
    /// subprotocols and extensions, nothing is allocated.
    #[must_use]
    pub fn new(key: &[u8], headers: &HeaderMap) -> Self {
        let all = |name: &HeaderName| headers.get_all(name).iter().cloned().collect();
        Self {
            accept: accept(key),
            protocols: all(&SEC_WEBSOCKET_PROTOCOL),
            extensions: all(&SEC_WEBSOCKET_EXTENSIONS),
        }
    }

    /// The `Sec-WebSocket-Accept` for the key.
    #[must_use]
    pub fn accept(&self) -> &[u8; 28] {
        &self.accept
    }

    /// Validates the fields of a 101 by RFC 6455 §4.1.
    ///
    /// # Errors
    /// The reason for refusing the 101.
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

    /// At most one subprotocol, which must have been offered; case-sensitive (§4.1).
    fn has_protocol(&self, headers: &HeaderMap) -> bool {
        let mut chosen = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
        let Some(protocol) = chosen.next() else { return true };
        chosen.next().is_none() && offered(&self.protocols).any(|offer| offer == protocol)
    }

    /// Compares extension names only; parameters are negotiated between client and backend.
    fn has_extension(&self, element: &[u8]) -> bool {
        offered(&self.extensions).any(|offer| extension(offer).eq_ignore_ascii_case(extension(element)))
    }
}

fn offered(values: &[HeaderValue]) -> impl Iterator<Item = &[u8]> {
    values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The name of an extension, without parameters.
fn extension(element: &[u8]) -> &[u8] {
    element.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}
