//! Asks an authentication service about every request: as nginx's auth_request and Traefik's forwardAuth.
//!
//! The service gets the request's head, never its body. Reaching it is the gateway's work.

mod settings;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{
    Call, CallError, CallResponse, CallTarget, Exchange, Fault, Flow, Phases, Plugin, Reply, Response,
    Verdict,
};
use schemars::JsonSchema;
use std::time::Duration;

/// The longest body of a refusal.
const LONGEST: usize = 1 << 20;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "forward_auth",
    about: "Delegates authentication to a service",
    schema: <settings::Written as JsonSchema>::json_schema,
    build,
};

/// What of the client's fields is never sent: those that speak of a body, ask for an answer that is no yes
/// or no (RFC 9110 §13, §14), or belong to the handshake of a WebSocket.
const NOT_SENT: [HeaderName; 13] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::EXPECT,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a refusal's fields is the service's connection's and not the client's.
const NOT_ANSWERED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::UPGRADE,
    header::VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What of the client's fields goes to the service though its response fills it anew.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

const X_FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-method"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-uri"),
];

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    Ok(Box::new(settings::read(settings)?))
}

struct ForwardAuth {
    to: CallTarget,
    /// Path and query at an upstream; a URL has its own.
    target: String,
    method: Method,
    /// The fields that are sent.
    sent: ForwardedFields,
    /// Fields of the service's yes for the request to the backend.
    to_backend: Vec<HeaderName>,
    /// Fields of the service's yes for the answer to the client.
    to_client: Vec<HeaderName>,
    timeout: Duration,
    recheck: Option<Duration>,
}

enum ForwardedFields {
    All,
    These(Vec<HeaderName>),
}

/// What is kept of one exchange.
#[derive(Default)]
struct AuthResponse {
    /// The fields that the service was asked with, when it is to be asked again.
    asked: Option<HeaderMap>,
    /// What the client's answer gets.
    answer: Vec<(HeaderName, HeaderValue)>,
}

impl Plugin for ForwardAuth {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            response_headers: !self.to_client.is_empty(),
            recheck: self.recheck,
            waits: true,
            ..Phases::default()
        }
    }

    fn owned_headers(&self) -> Vec<HeaderName> {
        self.to_backend.clone()
    }

    fn upstreams(&self) -> Vec<&str> {
        match &self.to {
            CallTarget::Upstream(name) => vec![name],
            CallTarget::Url(_) => Vec::new(),
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let call = self.call(exchange);
        let calling = exchange.services.call(call);
        Flow::wait(async move {
            match calling.await {
                Ok(called) if called.status.is_success() => self.welcome(exchange, &called),
                Ok(called) => {
                    exchange.note("refused", called.status.as_str());
                    refusal(called).into()
                }
                // Its status is its word, whatever became of the body.
                Err(CallError::Cut(status)) if !status.is_success() => {
                    exchange.note("refused", status.as_str());
                    Reply::new(status).into()
                }
                Err(error) => fault(error).into(),
            }
        })
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        for (name, value) in std::mem::take(&mut exchange.state::<AuthResponse>().answer) {
            answer.headers.append(&name, value);
        }
        Flow::Continue
    }
}

impl ForwardAuth {
    fn call(&self, exchange: &mut Exchange<'_>) -> Call {
        let kept = if self.recheck.is_some() { exchange.state::<AuthResponse>().asked.clone() } else { None };
        let headers = kept.unwrap_or_else(|| self.fields(exchange));
        if self.recheck.is_some() {
            exchange.state::<AuthResponse>().asked = Some(headers.clone());
        }
        Call {
            to: self.to.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            headers,
            body: Bytes::new(),
            timeout: self.timeout,
            limit: LONGEST,
        }
    }

    /// The fields that the service gets. What the client says of itself in X-Forwarded-* counts only as far
    /// as the gateway trusts it, and is then in the request's facts.
    fn fields(&self, exchange: &Exchange<'_>) -> HeaderMap {
        let own = |name: &HeaderName| {
            NOT_SENT.contains(name)
                || X_FORWARDED.contains(name)
                || name.as_str().starts_with("sec-websocket-")
        };
        let mut fields = HeaderMap::with_capacity(exchange.headers.len() + X_FORWARDED.len());
        for (name, value) in exchange.headers.iter() {
            let wanted = match &self.sent {
                ForwardedFields::All => !own(name),
                ForwardedFields::These(names) => names.contains(name),
            };
            if wanted {
                fields.append(name.clone(), value.clone());
            }
        }
        // The service judges a credential, and may put another one in its place.
        for name in &self.to_backend {
            let wanted = match &self.sent {
                ForwardedFields::All => CREDENTIALS.contains(name),
                ForwardedFields::These(names) => names.contains(name),
            };
            for value in exchange.client_values(name).filter(|_| wanted) {
                fields.append(name.clone(), value.clone());
            }
        }
        let request = &exchange.request;
        let uri = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let client = request.client.to_string();
        let facts = [
            HeaderValue::try_from(client).ok(),
            HeaderValue::try_from(request.forwarded_host).ok(),
            HeaderValue::try_from(request.method.as_str()).ok(),
            HeaderValue::try_from(request.scheme).ok(),
            HeaderValue::try_from(uri).ok(),
        ];
        for (name, fact) in X_FORWARDED.into_iter().zip(facts) {
            if let Some(fact) = fact {
                fields.insert(name, fact);
            }
        }
        fields
    }

    /// The service said yes: what it says of the client counts. What the client says of itself has been withdrawn.
    fn welcome(&self, exchange: &mut Exchange<'_>, called: &CallResponse) -> Verdict {
        for name in &self.to_backend {
            let mut values = called.headers.get_all(name).iter().cloned();
            if let Some(first) = values.next() {
                exchange.headers.set(name, first);
            }
            for value in values {
                exchange.headers.append(name, value);
            }
        }
        if !self.to_client.is_empty() {
            let all = self.to_client.iter();
            let values =
                all.flat_map(|name| called.headers.get_all(name).iter().map(|v| (name.clone(), v.clone())));
            exchange.state::<AuthResponse>().answer = values.collect();
        }
        Verdict::Continue
    }
}

/// The service's no, as it said it.
fn refusal(called: CallResponse) -> Reply {
    let mut reply = Reply::new(called.status).body(called.body);
    for (name, value) in called.headers.iter().filter(|(name, _)| !NOT_ANSWERED.contains(name)) {
        reply.headers.append(name.clone(), value.clone());
    }
    reply
}

fn fault(error: CallError) -> Fault {
    Fault::fixed(match error {
        CallError::Unknown => "the authentication service is unknown",
        CallError::Unreachable => "the authentication service cannot be reached",
        CallError::TimedOut => "the authentication service takes too long",
        CallError::Bad | CallError::Cut(_) => {
            "the authentication service answers with something broken or too long"
        }
    })
}
