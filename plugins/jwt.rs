//! Authentication by JSON Web Token (RFC 7519), with claims forwarded to the backend.
//!
//! jsonwebtoken verifies signatures with `ring`'s algorithms. Keys from a URL are fetched in the background; a
//! request waits for a fetch only if its token has an unknown key ID.

mod crypto;
mod key_source;
mod keys;
mod settings;
#[cfg(test)]
mod tests;

use crate::common::request_selector::Part;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use key_source::{JwksSource, TokenRejection};
use keys::{Claims, TokenRequirements};
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{Background, Exchange, Flow, Phases, Plugin, Reply, Services, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The longest token that is checked.
const LONGEST_TOKEN: usize = 16 << 10;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "jwt",
    about: "Requires a valid JSON Web Token",
    schema: <settings::JwtSettings as JsonSchema>::json_schema,
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    Ok(Box::new(settings::read(settings)?))
}

struct Jwt {
    source: JwksSource,
    requirements: TokenRequirements,
    from: Vec<TokenLocation>,
    /// Fields with the claims that they forward.
    claims: Vec<(HeaderName, Box<str>)>,
    /// The challenge of a 401.
    challenge: String,
    forward: Forward,
    optional: bool,
    recheck: Option<Duration>,
}

/// The location of a token.
#[derive(Debug)]
enum TokenLocation {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// Another part of the request.
    Part(Part),
}

/// The token in the forwarded request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forward {
    Token,
    Nothing,
}

/// The token of a WebSocket handshake, for later checks.
#[derive(Default, Deserialize, Serialize)]
struct HandshakeToken(Option<Arc<[u8]>>);

/// The token of a request.
enum TokenLookup {
    Token(Arc<[u8]>),
    Nothing,
    /// More than one, or an ambiguous one: RFC 6750 §3.1, `invalid_request`.
    Ambiguous,
}

impl Plugin for Jwt {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, recheck: self.recheck, waits: true, ..Phases::default() }
    }

    fn owned_headers(&self) -> Vec<HeaderName> {
        self.claims.iter().map(|(field, _)| field.clone()).collect()
    }

    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        match &self.source {
            JwksSource::Given(_) => None,
            JwksSource::Fetched(remote) => Some(Box::pin(Arc::clone(remote).keep(Arc::clone(services)))),
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let found = self.find(exchange);
        let token = match found {
            TokenLookup::Token(token) => token,
            TokenLookup::Nothing if self.optional => {
                self.forward_claims(exchange, None);
                return Flow::Continue;
            }
            TokenLookup::Nothing => {
                let reply = exchange.refuse(StatusCode::UNAUTHORIZED, "no_token");
                return self.challenge(reply, None).into();
            }
            TokenLookup::Ambiguous => {
                let error = "error=\"invalid_request\", error_description=\"there is more than one token\"";
                let reply = exchange.refuse(StatusCode::BAD_REQUEST, "bad_token");
                return self.challenge(reply, Some(error)).into();
            }
        };
        if self.recheck.is_some() {
            exchange.movable_state::<HandshakeToken>().0 = Some(Arc::clone(&token));
        }
        match self.source.check(&token, &self.requirements) {
            Some(checked) => self.decide(exchange, checked).into(),
            None => Flow::wait(async move {
                let checked = self.source.check_later(&token, &self.requirements).await;
                self.decide(exchange, checked)
            }),
        }
    }
}

impl Jwt {
    fn find(&self, exchange: &mut Exchange<'_>) -> TokenLookup {
        // After the handshake the fields may no longer have the token.
        if self.recheck.is_some()
            && let Some(token) = &exchange.movable_state::<HandshakeToken>().0
        {
            return TokenLookup::Token(Arc::clone(token));
        }
        for from in &self.from {
            let found = match from {
                TokenLocation::Bearer => bearer(exchange),
                TokenLocation::Part(part) => part
                    .read_credential(exchange)
                    .map_or(TokenLookup::Nothing, |token| TokenLookup::Token((*token).into())),
            };
            match found {
                TokenLookup::Nothing => {}
                TokenLookup::Token(token) if token.len() > LONGEST_TOKEN => return TokenLookup::Ambiguous,
                found => return found,
            }
        }
        TokenLookup::Nothing
    }

    fn decide(&self, exchange: &mut Exchange<'_>, checked: Result<Claims, TokenRejection>) -> Verdict {
        match checked {
            Ok(claims) => {
                self.forward_claims(exchange, Some(&claims));
                Verdict::Continue
            }
            Err(TokenRejection::Refused(refusal)) => {
                let why = refusal.as_str();
                exchange.note("reason", why);
                let error = format!("error=\"invalid_token\", error_description=\"{why}\"");
                let reply = exchange.refuse(StatusCode::UNAUTHORIZED, "bad_token");
                self.challenge(reply, Some(&error)).into()
            }
            Err(TokenRejection::Fault(fault)) => fault.into(),
        }
    }

    /// Forwards the identity to the backend and the access log. The client's own values of these fields were
    /// withdrawn.
    fn forward_claims(&self, exchange: &mut Exchange<'_>, claims: Option<&Claims>) {
        for (field, claim) in &self.claims {
            if let Some(value) = claims.and_then(|claims| value(claims, claim)) {
                exchange.headers.set(field, value);
            }
        }
        if self.forward == Forward::Nothing {
            for from in &self.from {
                match from {
                    TokenLocation::Bearer => exchange.headers.remove(&AUTHORIZATION),
                    TokenLocation::Part(Part::Header(name)) => exchange.headers.remove(name),
                    TokenLocation::Part(_) => {}
                }
            }
        }
        if let Some(subject) = claims.and_then(|claims| claims.get("sub")?.as_str()) {
            exchange.note("sub", subject);
        }
    }

    /// RFC 6750 §3.
    fn challenge(&self, reply: Reply, error: Option<&str>) -> Reply {
        let challenge = match error {
            None => self.challenge.clone(),
            // A space separates the scheme from its first parameter, a comma the parameters.
            Some(error) if self.challenge.contains(' ') => format!("{}, {error}", self.challenge),
            Some(error) => format!("{} {error}", self.challenge),
        };
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => reply.header(WWW_AUTHENTICATE, challenge),
            Err(_) => reply,
        }
    }
}

fn bearer(exchange: &Exchange<'_>) -> TokenLookup {
    let mut fields = exchange.credentials(&AUTHORIZATION);
    let Some(field) = fields.next() else { return TokenLookup::Nothing };
    if fields.next().is_some() {
        return TokenLookup::Ambiguous;
    }
    // Another scheme belongs to another plugin.
    match field.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            TokenLookup::Token(token.trim_ascii().into())
        }
        _ => TokenLookup::Nothing,
    }
}

/// A claim as a field value: text as it is, numbers and booleans in JSON, lists of these separated by commas.
fn value(claims: &Claims, name: &str) -> Option<HeaderValue> {
    let found = claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |inner, step| inner.get(step))
    })?;
    let text = match found {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            // A comma within an element would split it.
            let words =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            let words: Vec<_> = words.collect();
            if words.iter().any(|word| word.contains(',')) { found.to_string() } else { words.join(",") }
        }
        other => other.to_string(),
    };
    HeaderValue::try_from(text).ok()
}
