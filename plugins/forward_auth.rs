//! Authentication by an external service for every request, like nginx's auth_request and Traefik's forwardAuth.
//!
//! The service gets the request head, never its body.

mod settings;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{
    Call, CallError, CallResponse, CallTarget, Exchange, Fault, Flow, Phases, Plugin, Reply, Response,
    Verdict, saved_fields,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest body of a refusal.
const LONGEST: usize = 1 << 20;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "forward_auth",
    about: "Delegates authentication to a service",
    schema: <settings::ForwardAuthSettings as JsonSchema>::json_schema,
    build,
};

/// Client fields that are never sent: those that describe a body, make the response partial or conditional (RFC
/// 9110 §13, §14), or belong to a WebSocket handshake.
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

/// Fields of a refusal that belong to the service's connection, not to the client's.
const SKIPPED_RESPONSE_FIELDS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::UPGRADE,
    header::VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Client fields that are sent to the service although its response sets them again.
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
    /// Fields of a 2xx response that are copied to the backend request.
    to_backend: Vec<HeaderName>,
    /// Fields of a 2xx response that are copied to the client's response.
    to_client: Vec<HeaderName>,
    timeout: Duration,
    recheck: Option<Duration>,
}

enum ForwardedFields {
    All,
    These(Vec<HeaderName>),
}

/// State of one exchange.
#[derive(Default, Deserialize, Serialize)]
struct AuthResponse {
    /// The fields of the first call, if the service is called again.
    asked: Option<AskedFields>,
    /// Fields for the client's response.
    #[serde(skip)]
    response_fields: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Deserialize, Serialize)]
struct AskedFields(#[serde(with = "saved_fields")] HeaderMap);

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
                Ok(auth_response) if auth_response.status.is_success() => {
                    self.accept(exchange, &auth_response)
                }
                Ok(auth_response) => {
                    exchange.note("refused", auth_response.status.as_str());
                    refusal(auth_response).into()
                }
                // Its status decides, even if the body was malformed.
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
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        for (name, value) in std::mem::take(&mut exchange.movable_state::<AuthResponse>().response_fields) {
            response.headers.append(&name, value);
        }
        Flow::Continue
    }
}

impl ForwardAuth {
    fn call(&self, exchange: &mut Exchange<'_>) -> Call {
        let kept = if self.recheck.is_some() {
            exchange.movable_state::<AuthResponse>().asked.clone()
        } else {
            None
        };
        let headers = kept.map_or_else(|| self.fields(exchange), |kept| kept.0);
        if self.recheck.is_some() {
            exchange.movable_state::<AuthResponse>().asked = Some(AskedFields(headers.clone()));
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

    /// The fields for the service. X-Forwarded-* of the client count only as far as the gateway trusts them, and
    /// are then part of the request's facts.
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
        // The service checks a credential, and may replace it.
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

    /// Applies a 2xx response. The client's own values of its fields were withdrawn.
    fn accept(&self, exchange: &mut Exchange<'_>, auth_response: &CallResponse) -> Verdict {
        for name in &self.to_backend {
            let mut values = auth_response.headers.get_all(name).iter().cloned();
            if let Some(first) = values.next() {
                exchange.headers.set(name, first);
            }
            for value in values {
                exchange.headers.append(name, value);
            }
        }
        if !self.to_client.is_empty() {
            let all = self.to_client.iter();
            let values = all.flat_map(|name| {
                auth_response.headers.get_all(name).iter().map(|v| (name.clone(), v.clone()))
            });
            exchange.movable_state::<AuthResponse>().response_fields = values.collect();
        }
        Verdict::Continue
    }
}

/// Forwards the service's refusal.
fn refusal(auth_response: CallResponse) -> Reply {
    let mut reply = Reply::new(auth_response.status).body(auth_response.body);
    for (name, value) in
        auth_response.headers.iter().filter(|(name, _)| !SKIPPED_RESPONSE_FIELDS.contains(name))
    {
        reply.headers.append(name.clone(), value.clone());
    }
    reply
}

fn fault(error: CallError) -> Fault {
    Fault::fixed(match error {
        CallError::Unknown => "the upstream of the authentication service is unknown",
        CallError::Unreachable => "the authentication service cannot be reached",
        CallError::TimedOut => "the authentication service timed out",
        CallError::Closed => "the authentication service closed the connection without a response",
        CallError::Bad | CallError::Cut(_) => {
            "the response of the authentication service was malformed or too long"
        }
    })
}
