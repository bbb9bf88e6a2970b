//! The target of a plugin's call: an endpoint of an upstream, or an address of a URL's host.

use super::http_exchange::{self, ExchangeError};
use crate::net::resolver;
use crate::upstream::{Cluster, Lease, Reason, RequestView, TriedEndpoints, Versions};
use http::Uri;
use http::header::USER_AGENT;
use http::uri::Scheme;
use moongate_sdk::{Call, CallError, CallResponse, Request, log_throttle};
use pingora::ErrorType;
use pingora::connectors::http::v1::Connector;
use pingora::upstreams::peer::HttpPeer;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an idle connection to a URL is kept.
const IDLE: Duration = Duration::from_secs(60);
/// The maximum number of addresses tried per name.
const MOST_ADDRESSES: usize = 4;

/// Calls an endpoint of `cluster`, and another one if it cannot be reached.
pub(super) async fn upstream(
    connector: &Connector,
    call: &Call,
    cluster: &Cluster,
) -> Result<CallResponse, CallError> {
    let mut tried = TriedEndpoints::new();
    let mut stale = 0;
    let mut last = None;
    loop {
        cluster.await_first_probe().await;
        // A call has no client, so the key is read from the path and the fields only.
        let client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let request = Request::internal(&call.method, &call.target, client);
        let view = RequestView { request, headers: &call.headers };
        let lease = match cluster.pick(&cluster.key(&view), &tried, Duration::ZERO) {
            Ok(lease) => lease,
            Err(_) => return Err(last.unwrap_or(CallError::Unreachable)),
        };
        let failed = match at_endpoint(connector, call, cluster, &lease).await {
            Ok(called) => return Ok(called),
            Err(Problem::Call(error)) => return Err(error),
            Err(Problem::Try(failed)) => failed,
        };
        match &failed {
            // The endpoint is not at fault; it may have closed many of the pooled connections.
            ExchangeError::Stale if stale < 2 => {
                stale += 1;
                tried.repeat();
            }
            ExchangeError::NotConnected(_) if tried.len() < usize::from(cluster.spec().retries) => {
                tried.add(lease.endpoint());
            }
            _ => return Err(failed.into()),
        }
        last = Some(failed.into());
    }
}

/// Why an attempt at an endpoint failed.
enum Problem {
    /// The call itself is invalid.
    Call(CallError),
    /// This attempt failed.
    Try(ExchangeError),
}

async fn at_endpoint(
    http: &Connector,
    call: &Call,
    cluster: &Cluster,
    lease: &Lease,
) -> Result<CallResponse, Problem> {
    let bad = |_| Problem::Call(CallError::Unreachable);
    let connector = cluster.connector();
    let mut peer = connector.peer(lease.endpoint(), None, Versions::Http1).map_err(bad)?;
    let host = connector.authority(lease.endpoint());
    let connect = cluster.spec().connect_timeout.0;
    peer.options.connection_timeout = Some(connect);
    peer.options.total_connection_timeout = Some(connect);
    let head = http_exchange::head(call, &call.target, &host).map_err(Problem::Call)?;
    let asked = Instant::now();
    let called = http_exchange::exchange(http, &peer, &head, call, cluster.spec().keepalive_timeout.0).await;
    match &called {
        Ok(_) => lease.record_latency(asked.elapsed()),
        Err(failed) => {
            if let Some(reason) = blame(failed) {
                lease.endpoint().metrics().failed(reason.as_str());
                lease.failed(reason);
            }
        }
    }
    called.map_err(Problem::Try)
}

/// The reason to count against the endpoint, if it is at fault.
fn blame(failed: &ExchangeError) -> Option<Reason> {
    match failed {
        ExchangeError::NotConnected(ErrorType::ConnectTimedout) => Some(Reason::ConnectTimeout),
        // This machine ran out of descriptors or ports.
        ExchangeError::NotConnected(ErrorType::SocketError | ErrorType::BindError) => None,
        ExchangeError::NotConnected(ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert) => {
            Some(Reason::Tls)
        }
        ExchangeError::NotConnected(_) => Some(Reason::Refused),
        ExchangeError::NoAnswer => Some(Reason::Closed),
        ExchangeError::Stale | ExchangeError::BadAnswer | ExchangeError::Cut(_) => None,
    }
}

/// Calls a URL: tries the addresses of its name until one connects.
pub(super) async fn url(connector: &Connector, call: &Call, url: &str) -> Result<CallResponse, CallError> {
    let place = PoolSlot::read(url).ok_or(CallError::Unknown)?;
    let mut head = http_exchange::head(call, &place.target, &place.authority)?;
    if !call.headers.contains_key(USER_AGENT) {
        // Some services reject requests without it; probes send the same value.
        head.insert_header(USER_AGENT, "moongate").map_err(|_| CallError::Unknown)?;
    }
    let mut last = CallError::Unreachable;
    for address in place.addresses().await? {
        let mut peer = HttpPeer::new(address, place.tls, place.host.clone());
        peer.options.connection_timeout = Some(call.timeout);
        peer.options.total_connection_timeout = Some(call.timeout);
        let mut stale = 0;
        loop {
            match http_exchange::exchange(connector, &peer, &head, call, IDLE).await {
                Ok(called) => return Ok(called),
                Err(ExchangeError::Stale) if stale < 2 => stale += 1,
                Err(failed @ ExchangeError::NotConnected(_)) => {
                    last = failed.into();
                    break;
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }
    Err(last)
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct PoolSlot {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The value of `Host`.
    authority: String,
    /// Path and query.
    target: String,
}

impl PoolSlot {
    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme()? {
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
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
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
                    log::warn!(name = self.host.as_str(), reason:% = error; "{MESSAGE}");
                }
                return Err(CallError::Unreachable);
            }
        };
        let addresses = answer.addresses.iter().take(MOST_ADDRESSES);
        Ok(addresses.map(|ip| SocketAddr::new(*ip, self.port)).collect())
    }
}
