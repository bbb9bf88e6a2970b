//! Attempts of one message at the endpoints of an upstream: the selection, the connection, whom a failure counts
//! against, and whether another attempt is allowed. Requests, WebSocket handshakes, redials and plugins' calls use it.

use super::cluster::Cluster;
use super::connection_pool::{self, IdleLimits, Server};
use super::connector::Reuse;
use super::dial::DialError;
use super::endpoint::Endpoint;
use super::hash_key::Key;
use super::http1_connection::Http1Connection;
use super::lease::{Lease, NoEndpoint};
use super::passive_health::Reason;
use super::proxy_header::ProxyAddrs;
use super::tried_endpoints::TriedEndpoints;
use super::upstream_stream::UpstreamStream;
use crate::config::UpstreamProtocol;
use crate::runtime::clock;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an attempt ended without a response.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd {
    /// The token that counts the failure, and the reason for passive health if the endpoint is at fault. `None` if
    /// something else ended the attempt, such as the client.
    pub blame: Option<(&'static str, Option<Reason>)>,
    /// The message may be sent again (RFC 9110 §9.2.2), and is still complete.
    pub is_repeatable: bool,
    /// The backend had closed a pooled connection: a repeatable message is sent again, the endpoint is not at fault, and
    /// the attempt is not counted.
    pub is_stale: bool,
}

/// The attempts of one message.
#[derive(Debug)]
pub struct Attempts {
    cluster: Option<Arc<Cluster>>,
    tried: TriedEndpoints,
    count: u8,
    started: Instant,
    lease: Option<Lease>,
    last_endpoint: Option<Arc<Endpoint>>,
}

impl Attempts {
    /// Creates the state before the upstream is chosen.
    pub fn new(now: Instant) -> Self {
        Self {
            cluster: None,
            tried: TriedEndpoints::new(),
            count: 0,
            started: now,
            lease: None,
            last_endpoint: None,
        }
    }

    /// The attempts at the endpoints of `cluster`, without those of `tried`.
    pub fn at(cluster: Arc<Cluster>, tried: TriedEndpoints) -> Self {
        Self { cluster: Some(cluster), tried, ..Self::new(clock::now().into_std()) }
    }

    /// Sets the upstream.
    pub fn choose(&mut self, cluster: Option<Arc<Cluster>>) {
        self.cluster = cluster;
    }

    /// The upstream.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The HTTP version of the upstream's backends.
    pub fn protocol(&self) -> Option<UpstreamProtocol> {
        self.cluster.as_ref().map(|cluster| cluster.connector().protocol())
    }

    /// The lease of the current endpoint.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The endpoint of the current attempt, or of the last one.
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.lease.as_ref().map(Lease::endpoint).or(self.last_endpoint.as_ref())
    }

    /// The number of attempts, without those on pooled connections that had been closed.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Returns whether connections are kept for other requests.
    pub fn keeps_connections(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| {
            let spec = cluster.spec();
            !spec.keepalive_timeout.0.is_zero() && spec.max_idle_connections > 0
        })
    }

    /// Returns whether another attempt is allowed.
    pub fn may_repeat(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| self.count <= cluster.spec().retries)
    }

    /// Prepares the next attempt: releases the previous endpoint, and waits for the first probe of endpoints where no
    /// other is healthy.
    pub async fn prepare(&mut self) {
        // The previous lease is released before the next endpoint is counted.
        self.lease = None;
        if let Some(cluster) = &self.cluster {
            cluster.await_first_probe().await;
        }
    }

    /// Selects an endpoint, as [`Cluster::pick`].
    ///
    /// # Errors
    /// Why no endpoint can be selected.
    pub fn pick(&self, key: &Key<'_>, drain_window: Duration) -> Result<Lease, NoEndpoint> {
        let cluster = self.cluster.as_ref().ok_or(NoEndpoint::Empty)?;
        cluster.pick(key, &self.tried, drain_window)
    }

    /// Selects an endpoint for a new WebSocket, as [`Cluster::pick_for_websocket`].
    ///
    /// # Errors
    /// Why no endpoint can be selected.
    pub fn pick_for_websocket(&self, key: &Key<'_>, drain_window: Duration) -> Result<Lease, NoEndpoint> {
        let cluster = self.cluster.as_ref().ok_or(NoEndpoint::Empty)?;
        cluster.pick_for_websocket(key, &self.tried, drain_window)
    }

    /// Returns whether [`Attempts::pick`] would find an endpoint now. It takes no place at an endpoint and no turn of a
    /// rotation.
    pub fn has_candidate(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.has_candidate(&self.tried))
    }

    /// Begins an attempt at the selected endpoint.
    pub fn begin(&mut self, lease: Lease) {
        self.count = self.count.saturating_add(1);
        self.started = clock::now().into_std();
        self.lease = Some(lease);
    }

    /// A connection for a request to the current endpoint: a pooled one, unless one turned out to be closed before,
    /// because others may be too.
    ///
    /// # Errors
    /// [`DialError`], within the upstream's `connect_timeout` in every case.
    pub async fn connect(&self, addrs: ProxyAddrs) -> Result<Box<Http1Connection>, DialError> {
        // HTTP/2 is not offered, so that it is not selected.
        self.connect_offering(addrs, false).await?.ok_or(DialError::Refused)
    }

    /// As [`Attempts::connect`], but with `h2` a new connection offers HTTP/2 too; `None` if the backend selects it.
    ///
    /// # Errors
    /// As [`Attempts::connect`].
    pub async fn connect_offering(
        &self,
        addrs: ProxyAddrs,
        h2: bool,
    ) -> Result<Option<Box<Http1Connection>>, DialError> {
        let (cluster, lease) = self.leased()?;
        let reuse = if self.tried.is_repeated() { Reuse::Forbidden } else { Reuse::Allowed };
        let limit = cluster.spec().connect_timeout.0;
        cluster.connector().http1_connection(lease.endpoint(), addrs, reuse, h2, limit).await
    }

    /// A new connection for HTTP/1.1 to the current endpoint, within `limit` and the upstream's `connect_timeout`.
    /// A backend with HTTP/2 over TLS gets HTTP/1.1 too, selected by ALPN.
    ///
    /// # Errors
    /// [`DialError`], within the limits in every case.
    pub async fn connect_anew(
        &self,
        addrs: ProxyAddrs,
        limit: Duration,
    ) -> Result<UpstreamStream, DialError> {
        let (cluster, lease) = self.leased()?;
        let limit = cluster.spec().connect_timeout.0.min(limit);
        cluster.connector().connect(lease.endpoint(), addrs, false, limit).await
    }

    fn leased(&self) -> Result<(&Cluster, &Lease), DialError> {
        match (&self.cluster, &self.lease) {
            (Some(cluster), Some(lease)) => Ok((cluster, lease)),
            // Excluded: an attempt begins with a lease.
            _ => Err(DialError::Refused),
        }
    }

    /// The endpoint has responded to a handshake, whatever it said. A connect alone proves less: a backend may reject
    /// the gateway's certificate after it (TLS 1.3).
    pub fn record_connect(&self) {
        if let Some(lease) = &self.lease {
            lease.connected();
        }
    }

    /// The header of a final response has been received.
    pub fn record_latency(&self) {
        if let Some(lease) = &self.lease {
            lease.record_latency(clock::now().into_std().saturating_duration_since(self.started));
        }
    }

    /// Keeps the connection of a complete exchange for the next request; `workers` share the endpoint's
    /// `max_idle_connections`.
    pub fn keep(&self, connection: Box<Http1Connection>, workers: usize) {
        let (Some(cluster), Some(lease)) = (&self.cluster, &self.lease) else { return };
        let spec = cluster.spec();
        let limits = IdleLimits::of_endpoint(spec.max_idle_connections as usize, workers);
        connection_pool::give_back(
            Server::Endpoint(lease.endpoint()),
            connection,
            spec.keepalive_timeout.0,
            limits,
        );
    }

    /// Ends an attempt without a response, and decides: whether the endpoint is at fault, and whether another attempt
    /// follows, which is returned. It goes to another endpoint, except after a stale connection.
    pub fn end(&mut self, end: AttemptEnd) -> bool {
        if end.is_stale && end.is_repeatable {
            self.count = self.count.saturating_sub(1);
            self.tried.repeat();
            self.lease = None;
            return true;
        }
        if let Some(lease) = self.lease.take() {
            if let Some((token, fault)) = end.blame {
                lease.end_failed(token, fault);
            }
            self.tried.add(lease.endpoint());
            self.last_endpoint = Some(Arc::clone(lease.endpoint()));
        }
        end.is_repeatable && self.may_repeat()
    }

    /// Releases the endpoint, which remains the last one.
    pub fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.last_endpoint = Some(Arc::clone(lease.endpoint()));
        }
    }

    /// Takes the lease for a connection that outlives the request.
    pub fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }
}
