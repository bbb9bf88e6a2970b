//! The target of a plugin's call: an endpoint of an upstream, or an address of a URL's host.

use super::http_exchange::{self, ExchangeError, Exchanged};
use crate::net::resolver;
use crate::upstream::{AttemptEnd, Attempts, Cluster, RequestView, Reuse, TriedEndpoints, UrlServer};
use http::Uri;
use http::header::USER_AGENT;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use moongate_sdk::{Call, CallError, CallResponse, Request, log_throttle};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of addresses tried per name.
const MOST_ADDRESSES: usize = 4;

/// Calls an endpoint of `cluster`, and another one if that is safe. The `workers` share its idle connections.
pub(super) async fn upstream(
    call: &Call,
    cluster: Arc<Cluster>,
    workers: usize,
) -> Result<CallResponse, CallError> {
    // A call has no client, so the key is read from the path and the fields only.
    let client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let request = Request::internal(&call.method, &call.target, client);
    let view = RequestView { request, headers: &call.headers };
    let mut attempts = Attempts::at(Arc::clone(&cluster), TriedEndpoints::new());
    let mut last = None;
    loop {
        attempts.prepare().await;
        let Ok(lease) = attempts.pick(&cluster.key(&view), Duration::ZERO) else {
            return Err(last.unwrap_or(CallError::Unreachable));
        };
        let host = cluster.connector().authority(lease.endpoint());
        let keeps = attempts.keeps_connections();
        let head = http_exchange::head(call, &call.headers, (&call.target, &host), keeps)?;
        attempts.begin(lease);
        let (is_reused, error) = match at_endpoint(&attempts, call, &head).await {
            Ok(Exchanged { response, reusable }) => {
                if let Some(connection) = reusable {
                    attempts.keep(connection, workers);
                }
                return Ok(response);
            }
            Err(failed) => failed,
        };
        let is_repeatable = error.is_repeatable(&call.method);
        if !attempts.end(AttemptEnd { blame: error.blame(), is_repeatable, is_stale: is_reused }) {
            return Err(error.into());
        }
        last = Some(error.into());
    }
}

/// One attempt at the current endpoint. An error comes with whether a pooled connection was used.
async fn at_endpoint(
    attempts: &Attempts,
    call: &Call,
    head: &[u8],
) -> Result<Exchanged, (bool, ExchangeError)> {
    let connection = attempts.connect(None).await.map_err(|error| (false, error.into()))?;
    let is_reused = connection.is_reused();
    let record = || attempts.record_latency();
    http_exchange::exchange(connection, head, call, record).await.map_err(|error| (is_reused, error))
}

/// Calls a URL: tries the addresses of its name until one connects.
pub(super) async fn url(call: &Call, url: &str) -> Result<CallResponse, CallError> {
    let target = UrlTarget::read(url).ok_or(CallError::Unknown)?;
    let place = (&*target.target, &*target.authority);
    let head = http_exchange::head(call, &with_user_agent(&call.headers), place, true)?;
    let mut last = CallError::Unreachable;
    for address in target.addresses().await? {
        let server = Arc::new(UrlServer { address, has_tls: target.has_tls, host: target.host.clone() });
        match at_address(&server, call, &head).await {
            Err(failed @ ExchangeError::NotConnected(_)) => last = failed.into(),
            called => return called.map_err(CallError::from),
        }
    }
    Err(last)
}

/// Calls one server, again on a new connection if a pooled one had been closed.
async fn at_address(
    server: &Arc<UrlServer>,
    call: &Call,
    head: &[u8],
) -> Result<CallResponse, ExchangeError> {
    let mut reuse = Reuse::Allowed;
    loop {
        let connection = server.connection(reuse, call.timeout).await?;
        let is_reused = connection.is_reused();
        match http_exchange::exchange(connection, head, call, || {}).await {
            Ok(Exchanged { response, reusable }) => {
                if let Some(connection) = reusable {
                    server.give_back(connection);
                }
                return Ok(response);
            }
            Err(error) if is_reused && error.is_repeatable(&call.method) => reuse = Reuse::Forbidden,
            Err(error) => return Err(error),
        }
    }
}

/// Some services reject requests without `User-Agent`; probes send the same value.
fn with_user_agent(headers: &HeaderMap) -> Cow<'_, HeaderMap> {
    if headers.contains_key(USER_AGENT) {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.clone();
    headers.insert(USER_AGENT, HeaderValue::from_static("moongate"));
    Cow::Owned(headers)
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct UrlTarget {
    has_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: Box<str>,
    port: u16,
    /// The value of `Host`.
    authority: String,
    /// Path and query.
    target: String,
}

impl UrlTarget {
    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let has_tls = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTP => false,
            scheme if *scheme == Scheme::HTTPS => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        // A password in a URL would be sent in `Host`.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        Some(Self {
            has_tls,
            host: authority.host().trim_matches(['[', ']']).into(),
            port: authority.port_u16().unwrap_or(if has_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, CallError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let answer = match resolver::global().lookup_soon(&self.host).await {
            Ok(answer) => answer,
            Err(error) => {
                const MESSAGE: &str = "host of a plugin call not resolved";
                if log_throttle::admit(log::Level::Warn, MESSAGE, &[&self.host]) {
                    log::warn!(name = &*self.host, reason:% = error; "{MESSAGE}");
                }
                return Err(CallError::Unreachable);
            }
        };
        let addresses = answer.addresses.iter().take(MOST_ADDRESSES);
        Ok(addresses.map(|ip| SocketAddr::new(*ip, self.port)).collect())
    }
}
