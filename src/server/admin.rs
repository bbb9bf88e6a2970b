//! The administrator's address: health, readiness, metrics, status, reload, orders for endpoints, and a page that shows them.
//!
//! What to respond is a table. What the responses say comes through [`AdminState`], so that nothing here knows snapshots
//! or workers.

mod access_control;
mod connection;
mod connection_limit;
mod drain_path;
mod listener;
mod status_page;
#[cfg(test)]
mod tests;

pub(super) use listener::start;

use crate::telemetry::metrics;
use crate::upstream::Order;
use access_control::{Access, AccessError};
use async_trait::async_trait;
use connection_limit::{Scope, Trust};
use drain_path::{EndpointPath, Verb};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moongate_sdk::ClientPrefix;
use pingora::http::{RequestHeader, ResponseHeader};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What the administrator's address shows and does.
#[async_trait]
pub trait AdminState: Send + Sync {
    /// Whether new connections are wanted: false while draining.
    fn ready(&self) -> bool;
    /// The whole state, as `/api/v1/status` shows it.
    fn status(&self) -> Value;
    /// Reads the configuration again and waits for the outcome.
    async fn reload(&self) -> ReloadOutcome;
    /// Takes an order for an endpoint of an upstream; `None` when there is no such one.
    fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()>;
    /// What the current configuration allows a client.
    fn limits(&self) -> ClientLimits;
}

/// What the current configuration allows a client of the admin address.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// The time for a request head, `server.header_timeout`.
    pub header_timeout: Duration,
    /// The time for a whole response, `server.send_timeout`.
    pub send_timeout: Duration,
    /// What one client is, `server.client_ipv6_prefix`.
    pub client_prefix: ClientPrefix,
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration serves.
    Taken {
        /// Its number.
        generation: u64,
        /// The rendered warnings, when there are some.
        report: Option<String>,
    },
    /// The one before serves on.
    Refused {
        /// The rendered problems.
        report: String,
    },
}

/// The HTTP application behind the administrator's address.
pub struct Admin {
    state: Arc<dyn AdminState>,
    access: Access,
}

#[derive(Clone, PartialEq, Eq)]
enum Page {
    Index,
    Health,
    Readiness,
    Metrics,
    Status,
    Reload,
    Endpoint(EndpointPath),
}

/// Path, page, and what else it wants.
const PAGES: [(&str, Page); 6] = [
    ("/", Page::Index),
    ("/healthz", Page::Health),
    ("/readyz", Page::Readiness),
    ("/metrics", Page::Metrics),
    ("/api/v1/status", Page::Status),
    ("/api/v1/reload", Page::Reload),
];

/// A response of this address.
struct Response {
    status: StatusCode,
    media: &'static str,
    body: String,
    field: Option<(HeaderName, &'static str)>,
}

impl Admin {
    /// An application that wants `token` as `Authorization: Bearer …`, when there is one.
    pub fn new(state: Arc<dyn AdminState>, token: Option<&str>) -> Self {
        Self { state, access: Access::new(token) }
    }

    fn limits(&self) -> ClientLimits {
        self.state.limits()
    }

    /// What a connection is trusted with before its first request.
    fn initial_trust(&self) -> Trust {
        if self.access.wants_token() { Trust::Unauthenticated } else { Trust::NoTokenConfigured }
    }

    /// Whether a request has the token, or what is required instead where there is none.
    fn is_authenticated(&self, fields: &HeaderMap) -> bool {
        self.access.check(fields).is_ok()
    }

    async fn respond(&self, head: &RequestHeader, scope: Scope) -> Response {
        let page = Page::at(head.uri.path());
        // Probes of orchestrators carry no token and no wanted Host, and learn nothing but one bit.
        if !matches!(page, Some(Page::Health | Page::Readiness)) {
            if scope == Scope::Probes {
                return Response::error(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections")
                    .with((RETRY_AFTER, "1"));
            }
            if let Err(refusal) = self.access.check(&head.headers) {
                return Response::refused(refusal);
            }
        }
        let Some(page) = page else { return Response::error(StatusCode::NOT_FOUND, "not_found") };
        if !page.allow().split(", ").any(|method| head.method == *method) {
            let field = (ALLOW, page.allow());
            return Response::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").with(field);
        }
        if page.acts()
            && let Err(refusal) = access_control::same_site(&head.headers)
        {
            return Response::refused(refusal);
        }
        self.serve(page, &head.method).await
    }

    async fn serve(&self, page: Page, method: &Method) -> Response {
        match page {
            Page::Index => Response::html(status_page::render(&self.state.status(), self.state.ready())),
            Page::Health => Response::text(StatusCode::OK, "ok\n"),
            Page::Readiness if self.state.ready() => Response::text(StatusCode::OK, "ready\n"),
            Page::Readiness => Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Page::Metrics => Response {
                media: metrics::CONTENT_TYPE,
                ..Response::text(StatusCode::OK, &metrics::render())
            },
            Page::Status => Response::json(StatusCode::OK, &self.state.status()),
            Page::Reload => match self.state.reload().await {
                ReloadOutcome::Taken { generation, report: None } => {
                    Response::json(StatusCode::OK, &json!({ "ok": true, "generation": generation }))
                }
                ReloadOutcome::Taken { generation, report } => {
                    let body = json!({ "ok": true, "generation": generation, "report": report });
                    Response::json(StatusCode::OK, &body)
                }
                ReloadOutcome::Refused { report } => Response::json(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    &json!({ "ok": false, "report": report }),
                ),
            },
            Page::Endpoint(EndpointPath { upstream, address, verb }) => {
                let order = match verb {
                    Verb::Drain if *method == Method::POST => Order::Drain,
                    Verb::Drain | Verb::Undrain => Order::Undrain,
                };
                match self.state.order(&upstream, &address, order) {
                    Some(()) => Response::json(StatusCode::OK, &json!({ "ok": true })),
                    None => Response::error(StatusCode::NOT_FOUND, "unknown_endpoint"),
                }
            }
        }
    }
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        let fixed = PAGES.iter().find(|(known, _)| *known == path).map(|(_, page)| page.clone());
        fixed.or_else(|| EndpointPath::parse(path).map(Self::Endpoint))
    }

    /// The methods it answers to.
    fn allow(&self) -> &'static str {
        match self {
            Self::Reload => "POST",
            Self::Endpoint(EndpointPath { verb, .. }) => verb.allow(),
            _ => "GET, HEAD",
        }
    }

    /// Whether it changes anything.
    fn acts(&self) -> bool {
        matches!(self, Self::Reload | Self::Endpoint(_))
    }
}

impl Response {
    fn text(status: StatusCode, body: &str) -> Self {
        Self { status, media: "text/plain; charset=utf-8", body: body.to_owned(), field: None }
    }

    fn html(body: String) -> Self {
        Self { media: "text/html; charset=utf-8", body, ..Self::text(StatusCode::OK, "") }
    }

    fn json(status: StatusCode, body: &Value) -> Self {
        Self { media: "application/json", body: format!("{body}\n"), ..Self::text(status, "") }
    }

    fn error(status: StatusCode, token: &str) -> Self {
        Self::json(status, &json!({ "error": token, "status": status.as_u16() }))
    }

    fn refused(refusal: AccessError) -> Self {
        match refusal {
            AccessError::Token => {
                Self::error(StatusCode::UNAUTHORIZED, "unauthorized").with((WWW_AUTHENTICATE, "Bearer"))
            }
            AccessError::Host => Self::error(StatusCode::FORBIDDEN, "foreign_host"),
            AccessError::CrossSite => Self::error(StatusCode::FORBIDDEN, "cross_site"),
        }
    }

    fn with(self, field: (HeaderName, &'static str)) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The head and the body; of a response to a HEAD request, the head alone.
    fn into_parts(self, head_only: bool) -> (ResponseHeader, Vec<u8>) {
        let mut response = http::Response::new(());
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        fields.insert(CONTENT_LENGTH, self.body.len().into());
        for (name, value) in [
            (CACHE_CONTROL, "no-store"),
            (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (http::header::X_FRAME_OPTIONS, "DENY"),
            (http::header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        ]
        .into_iter()
        .chain(self.field)
        {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let body = if head_only { Vec::new() } else { self.body.into_bytes() };
        (response.into_parts().0.into(), body)
    }
}
