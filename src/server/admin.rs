//! The administrator's address: health, readiness, metrics, status, reload, orders for endpoints, and a page that shows them.
//!
//! Pingora reads and frames HTTP here; what to answer is a table. Serving it on a socket is assembly's work, and what
//! the answers say comes through [`AdminState`], so that nothing here knows snapshots or listeners.

mod endpoint;
mod guard;
mod page;
#[cfg(test)]
mod tests;

use crate::telemetry::metrics;
use crate::upstream::Order;
use async_trait::async_trait;
use endpoint::{EndpointPath, Verb};
use guard::{Access, Refusal};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How much of a request's body is read and thrown away, and for how long, to keep the connection.
const BODY: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

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

/// An answer before it is a response.
struct Answer {
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

    async fn answer(&self, session: &ServerSession) -> Answer {
        let head = session.req_header();
        let page = Page::at(head.uri.path());
        // Probes of orchestrators carry no token and no wanted Host, and learn nothing but one bit.
        if !matches!(page, Some(Page::Health | Page::Readiness))
            && let Err(refusal) = self.access.check(&head.headers)
        {
            return Answer::refused(refusal);
        }
        let Some(page) = page else { return Answer::error(StatusCode::NOT_FOUND, "not_found") };
        if !page.allow().split(", ").any(|method| head.method == *method) {
            let field = (ALLOW, page.allow());
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").with(field);
        }
        if page.acts()
            && let Err(refusal) = guard::same_site(&head.headers)
        {
            return Answer::refused(refusal);
        }
        self.serve(page, &head.method).await
    }

    async fn serve(&self, page: Page, method: &Method) -> Answer {
        match page {
            Page::Index => Answer::html(page::render(&self.state.status(), self.state.ready())),
            Page::Health => Answer::text(StatusCode::OK, "ok\n"),
            Page::Readiness if self.state.ready() => Answer::text(StatusCode::OK, "ready\n"),
            Page::Readiness => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Page::Metrics => {
                Answer { media: metrics::CONTENT_TYPE, ..Answer::text(StatusCode::OK, &metrics::render()) }
            }
            Page::Status => Answer::json(StatusCode::OK, &self.state.status()),
            Page::Reload => match self.state.reload().await {
                ReloadOutcome::Taken { generation, report: None } => {
                    Answer::json(StatusCode::OK, &json!({ "ok": true, "generation": generation }))
                }
                ReloadOutcome::Taken { generation, report } => {
                    let body = json!({ "ok": true, "generation": generation, "report": report });
                    Answer::json(StatusCode::OK, &body)
                }
                ReloadOutcome::Refused { report } => {
                    Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "ok": false, "report": report }))
                }
            },
            Page::Endpoint(EndpointPath { upstream, address, verb }) => {
                let order = match verb {
                    Verb::Drain if *method == Method::POST => Order::Drain,
                    Verb::Drain | Verb::Undrain => Order::Undrain,
                };
                match self.state.order(&upstream, &address, order) {
                    Some(()) => Answer::json(StatusCode::OK, &json!({ "ok": true })),
                    None => Answer::error(StatusCode::NOT_FOUND, "unknown_endpoint"),
                }
            }
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if !session.is_body_empty() {
            discard(session).await;
        }
        let answer = self.answer(session).await;
        answer.into_response(session.req_header().method == Method::HEAD)
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

impl Answer {
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

    fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Token => {
                Self::error(StatusCode::UNAUTHORIZED, "unauthorized").with((WWW_AUTHENTICATE, "Bearer"))
            }
            Refusal::Host => Self::error(StatusCode::FORBIDDEN, "foreign_host"),
            Refusal::CrossSite => Self::error(StatusCode::FORBIDDEN, "cross_site"),
        }
    }

    fn with(self, field: (HeaderName, &'static str)) -> Self {
        Self { field: Some(field), ..self }
    }

    fn into_response(self, head_only: bool) -> Response<Vec<u8>> {
        let length = self.body.len();
        let mut response = Response::new(if head_only { Vec::new() } else { self.body.into_bytes() });
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, http::HeaderValue::from_static(self.media));
        fields.insert(CONTENT_LENGTH, length.into());
        for (name, value) in [
            (CACHE_CONTROL, "no-store"),
            (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (http::header::X_FRAME_OPTIONS, "DENY"),
            (http::header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        ]
        .into_iter()
        .chain(self.field)
        {
            fields.insert(name, http::HeaderValue::from_static(value));
        }
        response
    }
}

/// Reads a body that nobody asked for; the connection ends after the answer when there is too much of it.
async fn discard(session: &mut ServerSession) {
    let mut left = BODY;
    let drained = tokio::time::timeout(BODY_TIME, async {
        loop {
            match session.read_request_body().await {
                Ok(None) => return true,
                Ok(Some(bytes)) if bytes.len() <= left => left -= bytes.len(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    });
    if !drained.await.unwrap_or(false) {
        session.set_keepalive(None);
    }
}
