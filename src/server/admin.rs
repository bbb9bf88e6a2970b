//! Admin API: health, readiness, metrics, status, reload, orders for endpoints, and a status page.
//!
//! The routes are a table. [`AdminState`] supplies the data, so that this module does not depend on snapshots
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
use connection_limit::{ClientTrust, Scope};
use drain_path::{DrainCommand, EndpointPath};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moongate_sdk::ClientPrefix;
use pingora::http::{RequestHeader, ResponseHeader};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The state and the actions of the admin API.
#[async_trait]
pub trait AdminState: Send + Sync {
    /// Returns whether new connections are accepted: false while draining.
    fn ready(&self) -> bool;
    /// The whole state, as in `/api/v1/status`.
    fn status(&self) -> Value;
    /// Reloads the configuration and waits for the outcome.
    async fn reload(&self) -> ReloadOutcome;
    /// Applies an order to an endpoint of an upstream; `None` if it does not exist.
    fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()>;
    /// The current limits of a client.
    fn limits(&self) -> ClientLimits;
}

/// The limits of a client of the admin address.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// The time limit of a request header, `server.header_timeout`.
    pub header_timeout: Duration,
    /// The time limit of a whole response, `server.send_timeout`.
    pub send_timeout: Duration,
    /// The prefix that identifies a client, `server.client_ipv6_prefix`.
    pub client_prefix: ClientPrefix,
}

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration is used.
    Taken {
        /// The number of its generation.
        generation: u64,
        /// The file that it was read from.
        file: String,
        /// The rendered warnings, if any.
        report: Option<String>,
    },
    /// The previous configuration stays in use.
    Refused {
        /// The rendered problems.
        report: String,
    },
}

/// The HTTP application of the admin address.
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

/// Path and page.
const PAGES: [(&str, Page); 6] = [
    ("/", Page::Index),
    ("/healthz", Page::Health),
    ("/readyz", Page::Readiness),
    ("/metrics", Page::Metrics),
    ("/api/v1/status", Page::Status),
    ("/api/v1/reload", Page::Reload),
];

/// A response of the admin API.
struct Response {
    status: StatusCode,
    media: &'static str,
    body: String,
    field: Option<(HeaderName, &'static str)>,
}

impl Admin {
    /// Creates the application; with `token`, requests need `Authorization: Bearer …`.
    pub fn new(state: Arc<dyn AdminState>, token: Option<&str>) -> Self {
        Self { state, access: Access::new(token) }
    }

    fn limits(&self) -> ClientLimits {
        self.state.limits()
    }

    /// The trust of a connection before its first request.
    fn initial_trust(&self) -> ClientTrust {
        if self.access.wants_token() { ClientTrust::Unauthenticated } else { ClientTrust::NoTokenConfigured }
    }

    /// Returns whether a request has the token; without one, whether it passes the other checks.
    fn is_authenticated(&self, fields: &HeaderMap) -> bool {
        self.access.check(fields).is_ok()
    }

    async fn respond(&self, head: &RequestHeader, scope: Scope) -> Response {
        let page = Page::at(head.uri.path());
        // Health probes of orchestrators have no token and arbitrary Hosts, and get only one bit.
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
                ReloadOutcome::Taken { generation, file, report } => {
                    let mut body = json!({ "ok": true, "generation": generation, "file": file });
                    if let Some(report) = report {
                        body["report"] = report.into();
                    }
                    Response::json(StatusCode::OK, &body)
                }
                ReloadOutcome::Refused { report } => Response::json(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    &json!({ "ok": false, "report": report }),
                ),
            },
            Page::Endpoint(EndpointPath { upstream, address, verb }) => {
                let order = match verb {
                    DrainCommand::Drain if *method == Method::POST => Order::Drain,
                    DrainCommand::Drain | DrainCommand::Undrain => Order::Undrain,
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

    /// The allowed methods.
    fn allow(&self) -> &'static str {
        match self {
            Self::Reload => "POST",
            Self::Endpoint(EndpointPath { verb, .. }) => verb.allow(),
            _ => "GET, HEAD",
        }
    }

    /// Returns whether the page changes state.
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

    /// The header and the body; for a HEAD request, the header alone.
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
