//! Lets only those in who bring a signed token (JWT, RFC 7519), and tells the backend who they are.
//!
//! Checking signatures is jsonwebtoken's work, by the algorithms of `ring`. Keys behind a URL are fetched
//! beside the requests; a request waits for a fetch only when it brings a key that nobody knows yet.

mod crypto;
mod key_source;
mod keys;
mod settings;
#[cfg(test)]
mod tests;

use crate::common::request_selector::Part;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use key_source::{KeySource, Stop};
use keys::{Claims, Demands};
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{Background, Exchange, Flow, Phases, Plugin, Reply, Services, Verdict};
use schemars::JsonSchema;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The longest token that is looked at.
const LONGEST_TOKEN: usize = 16 << 10;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "jwt",
    about: "Requires a valid JSON Web Token",
    schema: <settings::Written as JsonSchema>::json_schema,
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    Ok(Box::new(settings::read(settings)?))
}

struct Jwt {
    source: KeySource,
    demands: Demands,
    from: Vec<From>,
    /// Fields and the claims that they say.
    claims: Vec<(HeaderName, Box<str>)>,
    /// The challenge of a 401.
    challenge: String,
    forward: Forward,
    optional: bool,
    recheck: Option<Duration>,
}

/// Where a token may be.
#[derive(Debug)]
enum From {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// Elsewhere.
    Part(Part),
}

/// What the backend gets to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forward {
    Token,
    Nothing,
}

/// The token of a WebSocket's handshake, to be checked again.
#[derive(Default)]
struct Brought(Option<Arc<[u8]>>);

/// What a request brings.
enum Found {
    Token(Arc<[u8]>),
    Nothing,
    /// More than one, or one that cannot be meant: RFC 6750 §3.1, `invalid_request`.
    Doubtful,
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
            KeySource::Given(_) => None,
            KeySource::Fetched(remote) => Some(Box::pin(Arc::clone(remote).keep(Arc::clone(services)))),
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let found = self.find(exchange);
        let token = match found {
            Found::Token(token) => token,
            Found::Nothing if self.optional => {
                self.tell(exchange, None);
                return Flow::Continue;
            }
            Found::Nothing => {
                let reply = exchange.refuse(StatusCode::UNAUTHORIZED, "no_token");
                return self.challenge(reply, None).into();
            }
            Found::Doubtful => {
                let error = "error=\"invalid_request\", error_description=\"there is more than one token\"";
                let reply = exchange.refuse(StatusCode::BAD_REQUEST, "bad_token");
                return self.challenge(reply, Some(error)).into();
            }
        };
        if self.recheck.is_some() {
            exchange.state::<Brought>().0 = Some(Arc::clone(&token));
        }
        match self.source.check(&token, &self.demands) {
            Some(checked) => self.decide(exchange, checked).into(),
            None => Flow::wait(async move {
                let checked = self.source.check_later(&token, &self.demands).await;
                self.decide(exchange, checked)
            }),
        }
    }
}

impl Jwt {
    fn find(&self, exchange: &mut Exchange<'_>) -> Found {
        // Behind the handshake the fields may no longer have it.
        if self.recheck.is_some()
            && let Some(token) = &exchange.state::<Brought>().0
        {
            return Found::Token(Arc::clone(token));
        }
        for from in &self.from {
            let found = match from {
                From::Bearer => bearer(exchange),
                From::Part(part) => part
                    .read_credential(exchange)
                    .map_or(Found::Nothing, |token| Found::Token((*token).into())),
            };
            match found {
                Found::Nothing => {}
                Found::Token(token) if token.len() > LONGEST_TOKEN => return Found::Doubtful,
                found => return found,
            }
        }
        Found::Nothing
    }

    fn decide(&self, exchange: &mut Exchange<'_>, checked: Result<Claims, Stop>) -> Verdict {
        match checked {
            Ok(claims) => {
                self.tell(exchange, Some(&claims));
                Verdict::Continue
            }
            Err(Stop::Refused(refusal)) => {
                let why = refusal.as_str();
                exchange.note("reason", why);
                let error = format!("error=\"invalid_token\", error_description=\"{why}\"");
                let reply = exchange.refuse(StatusCode::UNAUTHORIZED, "bad_token");
                self.challenge(reply, Some(&error)).into()
            }
            Err(Stop::Fault(fault)) => fault.into(),
        }
    }

    /// Tells the backend and the access log who it is. What the client says in these fields has been withdrawn.
    fn tell(&self, exchange: &mut Exchange<'_>, claims: Option<&Claims>) {
        for (field, claim) in &self.claims {
            if let Some(value) = claims.and_then(|claims| value(claims, claim)) {
                exchange.headers.set(field, value);
            }
        }
        if self.forward == Forward::Nothing {
            for from in &self.from {
                match from {
                    From::Bearer => exchange.headers.remove(&AUTHORIZATION),
                    From::Part(Part::Header(name)) => exchange.headers.remove(name),
                    From::Part(_) => {}
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
            // Between the scheme and its first parameter stands a space, between parameters a comma.
            Some(error) if self.challenge.contains(' ') => format!("{}, {error}", self.challenge),
            Some(error) => format!("{} {error}", self.challenge),
        };
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => reply.header(WWW_AUTHENTICATE, challenge),
            Err(_) => reply,
        }
    }
}

fn bearer(exchange: &Exchange<'_>) -> Found {
    let mut fields = exchange.credentials(&AUTHORIZATION);
    let Some(field) = fields.next() else { return Found::Nothing };
    if fields.next().is_some() {
        return Found::Doubtful;
    }
    // Another scheme is another plugin's.
    match field.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            Found::Token(token.trim_ascii().into())
        }
        _ => Found::Nothing,
    }
}

/// A claim as a field's value: texts as they are, numbers and truths in JSON, lists of these with commas.
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
            // A comma within one would make two of it.
            let words =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            let words: Vec<_> = words.collect();
            if words.iter().any(|word| word.contains(',')) { found.to_string() } else { words.join(",") }
        }
        other => other.to_string(),
    };
    HeaderValue::try_from(text).ok()
}
