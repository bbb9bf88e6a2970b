//! Admin API: health, readiness, metrics, status, reload, orders for endpoints and WebSockets, and the live page.
//!
//! The calls are a table. [`AdminState`] supplies the data, so that this module does not depend on snapshots
//! or workers.

mod access_control;
mod browser_session;
mod connection;
mod connection_limit;
mod drain_path;
mod listener;
pub(in crate::server) mod live;
mod log_lines;
mod page;
mod query;
mod response;
mod secret_rotation;
mod socket_fields;
mod socket_filter;
mod socket_list;
mod socket_path;
mod tap_filter;
mod tap_stream;
#[cfg(test)]
mod tests;

pub(super) use listener::AdminListener;
pub use secret_rotation::StoreRotation;

use super::handover::Succession;
use crate::control::{EndpointDrain, ReloadHistory};
use crate::proxy::ExplainRequest;
use crate::telemetry::metrics::{self, TextFormat};
use crate::tunnel::{Registry, TunnelSnapshot};
use crate::upstream::{EndpointStatus, Order};
use access_control::Access;
use async_trait::async_trait;
use browser_session::NewSession;
use connection_limit::{ClientTrust, Scope};
use drain_path::{DrainCommand, EndpointPath};
use http::header::{ACCEPT, ALLOW, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use live::{Live, LiveStream, Sections};
use moongate_sdk::{ClientPrefix, log_throttle};
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use query::Query;
use response::Response;
use serde_json::{Value, json};
use socket_list::{SocketQuery, SocketRow};
use socket_path::{SocketPath, operator_close};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tap_stream::{TapRequest, TapStream};
use tokio::sync::Semaphore;

/// Taps at a time: each one looks at every message of the WebSockets that it selects.
const MOST_TAPS: usize = 16;

/// The state and the actions of the admin API.
#[async_trait]
pub trait AdminState: Send + Sync {
    /// Returns whether new connections are accepted: false while draining.
    fn ready(&self) -> bool;

    /// The whole state, as in `/api/v1/status`.
    fn status(&self) -> Value;

    /// Reloads the configuration and waits for the outcome.
    async fn reload(&self) -> ReloadOutcome;

    /// Hands over to a new process, and waits for the outcome.
    ///
    /// # Errors
    /// Why this process continues.
    async fn upgrade(&self, succession: Succession) -> Result<UpgradedProcess, String>;

    /// Applies an order to an endpoint of an upstream; `None` if it does not exist.
    fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()>;

    /// Adds a secret to the store of this name, or to every one whose secrets are used.
    async fn rotate_secrets(&self, store: Option<&str>) -> Vec<StoreRotation>;

    /// The current limits of a client.
    fn limits(&self) -> ClientLimits;

    /// Returns whether taps are allowed: `admin.tap`.
    fn allows_taps(&self) -> bool;

    /// Returns whether there is a route with this name, or a WebSocket of a removed one.
    fn has_route(&self, name: &str) -> bool;

    /// The open WebSockets.
    fn tunnels(&self) -> &Arc<Registry>;

    /// Every endpoint, removed ones in use included.
    fn endpoints(&self) -> Vec<EndpointFacts>;

    /// The facts of the process.
    fn process(&self) -> ProcessFacts;

    /// The last reloads.
    fn reloads(&self) -> &ReloadHistory;

    /// The effective configuration as YAML, without secrets.
    fn configuration(&self) -> String;

    /// Explains the route of a request.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn explain(&self, request: &ExplainRequest<'_>) -> Result<Value, String>;
}

/// The process that serves after an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradedProcess {
    /// Its ID.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The WebSockets that it continues.
    pub websockets_moved: usize,
    /// The WebSockets that are asked to reconnect.
    pub websockets_left: usize,
}

/// An endpoint in the live view.
#[derive(Clone, Debug)]
pub struct EndpointFacts {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Its status.
    pub status: EndpointStatus,
    /// The drain of its WebSockets, if there is one.
    pub drain: Option<EndpointDrain>,
}

/// The process in the live view.
#[derive(Clone, Copy, Debug)]
pub struct ProcessFacts {
    /// The time since its start.
    pub uptime: Duration,
    /// The number of the configuration in use.
    pub generation: u64,
    /// Whether it shuts down.
    pub draining: bool,
    /// Requests in flight.
    pub requests: usize,
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
    port: u16,
    /// Replaced when a reload changes the token.
    access: Mutex<Arc<Access>>,
    /// Whether a reload removed the address: each connection ends with its response.
    is_retired: AtomicBool,
    live: Live,
    /// One permit for each tap.
    taps: Arc<Semaphore>,
    started: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Page,
    Health,
    Readiness,
    Metrics,
    Session,
    Status,
    Overview,
    Upstreams,
    Sockets,
    Live,
    Tap,
    Reloads,
    Configuration,
    Explain,
    Log,
    Reload,
    Upgrade,
    RotateSecrets,
    Endpoint(EndpointPath),
    Socket(SocketPath),
}

/// Path and call.
const CALLS: [(&str, Call); 18] = [
    ("/", Call::Page),
    ("/healthz", Call::Health),
    ("/readyz", Call::Readiness),
    ("/metrics", Call::Metrics),
    ("/api/v1/session", Call::Session),
    ("/api/v1/status", Call::Status),
    ("/api/v1/overview", Call::Overview),
    ("/api/v1/upstreams", Call::Upstreams),
    ("/api/v1/sockets", Call::Sockets),
    ("/api/v1/live", Call::Live),
    ("/api/v1/tap", Call::Tap),
    ("/api/v1/reloads", Call::Reloads),
    ("/api/v1/config", Call::Configuration),
    ("/api/v1/explain", Call::Explain),
    ("/api/v1/log", Call::Log),
    ("/api/v1/reload", Call::Reload),
    ("/api/v1/upgrade", Call::Upgrade),
    ("/api/v1/secrets/rotate", Call::RotateSecrets),
];

impl Admin {
    /// Creates the application of the address with this port; with `token`, requests need
    /// `Authorization: Bearer …`, or the session of a browser.
    pub(super) fn new(
        state: Arc<dyn AdminState>,
        token: Option<&str>,
        port: u16,
        history: Arc<live::History>,
    ) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let started = now.as_secs().saturating_sub(state.process().uptime.as_secs());
        let access = Mutex::new(Arc::new(Access::new(token, port)));
        Self {
            state,
            port,
            access,
            is_retired: AtomicBool::new(false),
            live: Live::new(history),
            taps: Arc::new(Semaphore::new(MOST_TAPS)),
            started,
        }
    }

    /// Changes the token. Sessions that began with another one end.
    pub(super) fn set_token(&self, token: Option<&str>) {
        *self.access.lock() = Arc::new(Access::new(token, self.port));
    }

    /// Ends every connection with its current response, and every stream at its next event.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Relaxed);
    }

    fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed)
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.lock())
    }

    fn limits(&self) -> ClientLimits {
        self.state.limits()
    }

    /// The trust of a connection before its first request.
    fn initial_trust(&self) -> ClientTrust {
        if self.access().wants_token() {
            ClientTrust::Unauthenticated
        } else {
            ClientTrust::NoTokenConfigured
        }
    }

    /// Returns whether a request has the token; without one, whether it passes the other checks.
    fn is_authenticated(&self, fields: &HeaderMap) -> bool {
        self.access().check(fields).is_ok()
    }

    /// Returns whether the stream of a request may continue.
    fn may_continue(&self, fields: &HeaderMap) -> bool {
        !self.is_retired() && self.is_authenticated(fields)
    }

    /// What a viewer learns first.
    fn hello(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": self.state.process().generation,
            "started": self.started,
            "interval": 1.0,
            "pid": std::process::id(),
            "tap": self.state.allows_taps() && self.access().wants_token(),
        })
    }

    async fn respond(
        self: &Arc<Self>,
        head: &RequestHeader,
        body: &[u8],
        scope: Scope,
        peer: SocketAddr,
    ) -> Response {
        let call = Call::at(head.uri.path());
        // Health probes of orchestrators have no token and arbitrary Hosts, and get only one bit.
        if !matches!(call, Some(Call::Health | Call::Readiness)) {
            if scope == Scope::Probes {
                return Response::error(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections")
                    .with(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            let is_public = call.as_ref().is_some_and(Call::is_public);
            let access = if is_public { Access::check_public } else { Access::check };
            if let Err(refusal) = access(&self.access(), &head.headers) {
                return Response::refused(refusal);
            }
        }
        let Some(call) = call else { return Response::error(StatusCode::NOT_FOUND, "not_found") };
        if !call.allow().split(", ").any(|method| head.method == *method) {
            return Response::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
                .with(ALLOW, HeaderValue::from_static(call.allow()));
        }
        if (call.acts() || head.method == Method::POST || head.method == Method::DELETE)
            && let Err(refusal) = access_control::same_site(&head.headers)
        {
            return Response::refused(refusal);
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        match self.serve(call, head, &query, body, peer).await {
            Ok(response) => response,
            Err(detail) => Response::explained(StatusCode::UNPROCESSABLE_ENTITY, "bad_parameter", &detail),
        }
    }

    /// # Errors
    /// A description of a wrong parameter.
    async fn serve(
        self: &Arc<Self>,
        call: Call,
        head: &RequestHeader,
        query: &Query,
        body: &[u8],
        peer: SocketAddr,
    ) -> Result<Response, String> {
        let state = &*self.state;
        Ok(match call {
            Call::Page => {
                let page = page::page();
                Response::page(&page.document, page.policy.clone())
            }
            Call::Health => Response::text(StatusCode::OK, "ok\n"),
            Call::Readiness if state.ready() => Response::text(StatusCode::OK, "ready\n"),
            Call::Readiness => Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Call::Metrics => metrics_for(&head.headers),
            Call::Session => self.session(&head.method, &head.headers, body, peer),
            Call::Status => Response::json(StatusCode::OK, &state.status()),
            Call::Overview => Response::json(StatusCode::OK, &self.live.overview(state).await),
            Call::Upstreams => Response::json(StatusCode::OK, &self.live.upstreams(state).await),
            Call::Sockets => Response::json(StatusCode::OK, &SocketQuery::read(query)?.list(state.tunnels())),
            Call::Live => {
                Response::events(LiveStream::new(Arc::clone(self), Sections::read(query)?, &head.headers))
            }
            // Messages are more than the state of the gateway: not without a token, on loopback neither.
            Call::Tap if !state.allows_taps() || !self.access().wants_token() => {
                Response::error(StatusCode::FORBIDDEN, "tap_off")
            }
            Call::Tap => {
                let request = TapRequest::read(query)?;
                if let Some(id) = request.socket() {
                    let Some(seen) = state.tunnels().find(id) else {
                        return Ok(Response::error(StatusCode::NOT_FOUND, "unknown_socket"));
                    };
                    if let Some(protocol) = seen.protocol {
                        return Err(format!(
                            "{id} is a connection of the protocol `{protocol}`, without messages"
                        ));
                    }
                }
                if let Some(route) = request.route().filter(|route| !state.has_route(route)) {
                    return Err(format!("there is no route `{route}`"));
                }
                match Arc::clone(&self.taps).try_acquire_owned() {
                    Ok(permit) => {
                        Response::events(TapStream::begin(self, request, &head.headers, peer, permit)?)
                    }
                    Err(_) => Response::error(StatusCode::SERVICE_UNAVAILABLE, "too_many_taps"),
                }
            }
            Call::Reloads => {
                let (entries, generations) = (state.reloads().entries(), state.tunnels().generations());
                Response::json(StatusCode::OK, &json!({ "entries": entries, "generations": generations }))
            }
            Call::Configuration => {
                Response::text(StatusCode::OK, state.configuration()).media("text/yaml; charset=utf-8")
            }
            Call::Explain => Response::json(StatusCode::OK, &explain(state, query)?),
            Call::Log => {
                let lines: Vec<_> =
                    log_lines::followers(query)?.iter_mut().filter_map(log_lines::Follower::next).collect();
                match &*lines {
                    [one] => Response::json(StatusCode::OK, one),
                    all => Response::json(StatusCode::OK, &all),
                }
            }
            Call::Reload => reload(state).await,
            Call::RotateSecrets => secret_rotation::respond(state, query).await,
            Call::Upgrade => match state.upgrade(succession(query)?).await {
                Ok(UpgradedProcess { pid, version, websockets_moved, websockets_left }) => {
                    let done = json!({
                        "ok": true,
                        "pid": pid,
                        "version": version,
                        "websockets": { "moved": websockets_moved, "left": websockets_left },
                    });
                    Response::json(StatusCode::OK, &done)
                }
                Err(report) => {
                    let failed = json!({ "ok": false, "error": "upgrade_failed", "report": report });
                    Response::json(StatusCode::UNPROCESSABLE_ENTITY, &failed)
                }
            },
            Call::Endpoint(EndpointPath { upstream, address, verb }) => {
                let order = match verb {
                    DrainCommand::Drain if head.method == Method::POST => Order::Drain,
                    DrainCommand::Drain | DrainCommand::Undrain => Order::Undrain,
                };
                match state.order(&upstream, &address, order) {
                    Some(()) => Response::ok(),
                    None => Response::error(StatusCode::NOT_FOUND, "unknown_endpoint"),
                }
            }
            Call::Socket(SocketPath { id, closes: false }) => match state.tunnels().find(id) {
                Some(seen) => Response::json(StatusCode::OK, &SocketRow::new(&seen)),
                None => Response::error(StatusCode::NOT_FOUND, "unknown_socket"),
            },
            Call::Socket(SocketPath { id, closes: true }) => {
                let close = operator_close(query)?;
                let seen = state.tunnels().find(id);
                match seen.filter(|_| state.tunnels().close(id, close).is_some()) {
                    Some(TunnelSnapshot { protocol: Some(protocol), .. }) => {
                        Response::json(StatusCode::OK, &json!({ "ok": true, "protocol": &*protocol }))
                    }
                    Some(_) => Response::ok(),
                    None => Response::error(StatusCode::NOT_FOUND, "unknown_socket"),
                }
            }
        })
    }

    /// Signs a browser in or out, or tells whether it is signed in.
    fn session(&self, method: &Method, fields: &HeaderMap, body: &[u8], peer: SocketAddr) -> Response {
        match *method {
            Method::POST => {
                let sent: Value = serde_json::from_slice(body).unwrap_or_default();
                let token = sent.get("token").and_then(Value::as_str).unwrap_or_default();
                match self.access().sign_in(token.as_bytes()) {
                    Some(Ok(NewSession { set_cookie, key })) => {
                        log::info!("admin session started");
                        Response::json(StatusCode::OK, &json!({ "key": key })).with_cookie(&set_cookie)
                    }
                    Some(Err(_)) => Response::error(StatusCode::SERVICE_UNAVAILABLE, "no_random_bytes"),
                    None => {
                        const MESSAGE: &str = "admin sign-in refused";
                        if log_throttle::admit(log::Level::Warn, MESSAGE, &[]) {
                            log::warn!(peer:% = peer; "{MESSAGE}");
                        }
                        Response::error(StatusCode::UNAUTHORIZED, "unauthorized")
                    }
                }
            }
            Method::DELETE => {
                let set_cookie = self.access().sign_out(fields);
                Response::ok().with_cookie(&set_cookie)
            }
            _ => {
                let state = json!({
                    "required": self.access().wants_token(),
                    "signed_in": self.is_authenticated(fields),
                });
                Response::json(StatusCode::OK, &state)
            }
        }
    }
}

/// The metrics in the format that the scraper accepts.
fn metrics_for(fields: &HeaderMap) -> Response {
    let accept: Vec<_> = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = TextFormat::accepted_by(&accept.join(","));
    Response::text(StatusCode::OK, metrics::render(format))
        .media(format.content_type())
        .with(VARY, HeaderValue::from_static("Accept"))
}

async fn reload(state: &dyn AdminState) -> Response {
    match state.reload().await {
        ReloadOutcome::Taken { generation, file, report } => {
            let mut body = json!({ "ok": true, "generation": generation, "file": file });
            if let Some(report) = report {
                body["report"] = report.into();
            }
            Response::json(StatusCode::OK, &body)
        }
        ReloadOutcome::Refused { report } => {
            let body = json!({ "ok": false, "report": report });
            Response::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
        }
    }
}

/// How long the new process of an upgrade serves: `for=restart`, or no parameter.
///
/// # Errors
/// Another value.
fn succession(query: &Query) -> Result<Succession, String> {
    match query.get("for") {
        None => Ok(Succession::Permanent),
        Some("restart") => Ok(Succession::UntilRestart),
        Some(_) => Err("`for` must be `restart`".to_owned()),
    }
}

fn explain(state: &dyn AdminState, query: &Query) -> Result<Value, String> {
    let client = query.get("client").unwrap_or("127.0.0.1");
    state.explain(&ExplainRequest {
        method: query.get("method").unwrap_or("GET"),
        url: query.get("url").ok_or("`url` is missing")?,
        headers: query.all("header").collect(),
        listener: query.get("listener"),
        client: client.parse().map_err(|_| format!("`{client}` is not an IP address"))?,
    })
}

impl Call {
    fn at(path: &str) -> Option<Self> {
        let fixed = CALLS.iter().find(|(known, _)| *known == path).map(|(_, call)| call.clone());
        fixed
            .or_else(|| EndpointPath::parse(path).map(Self::Endpoint))
            .or_else(|| SocketPath::parse(path).map(Self::Socket))
    }

    /// The allowed methods.
    fn allow(&self) -> &'static str {
        match self {
            Self::Reload | Self::Upgrade | Self::RotateSecrets => "POST",
            Self::Socket(SocketPath { closes: true, .. }) => "POST",
            Self::Session => "GET, HEAD, POST, DELETE",
            Self::Endpoint(EndpointPath { verb, .. }) => verb.allow(),
            _ => "GET, HEAD",
        }
    }

    /// Returns whether the call changes state.
    fn acts(&self) -> bool {
        matches!(
            self,
            Self::Reload
                | Self::Upgrade
                | Self::RotateSecrets
                | Self::Endpoint(_)
                | Self::Socket(SocketPath { closes: true, .. })
        )
    }

    /// Returns whether the call needs no token: it shows nothing of the gateway.
    fn is_public(&self) -> bool {
        matches!(self, Self::Page | Self::Session)
    }
}
