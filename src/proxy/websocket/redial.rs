//! Redial for failover: selects another endpoint as for a new request, sends it the client's original
//! handshake, and accepts it only if it negotiates the same.

use super::handshake_attempt::attempt;
use super::handshake_rate_wait::{self, QueueTurn};
use super::tunnel_log::Origin;
use super::tunnel_resources::{ClientResources, ClientResourcesState, TunnelGuards};
use crate::config::PathParameters;
use crate::proxy::context::Context;
use crate::proxy::{Gateway, Shared};
use crate::runtime::base64_bytes;
use crate::snapshot::Route;
use crate::telemetry::metrics::{RouteMetrics, TunnelMetrics};
use crate::tunnel::{Counters, Found, HandshakeTimeout, Loss, Redial, Search, TunnelIo};
use crate::upstream::{AttemptEnd, Attempts, Endpoint, Lease, ProxyAddrs, RequestView, TriedEndpoints};
use crate::websocket::handshake::{self, Agreement, HandshakeResponse, Request};
use bytes::Bytes;
use http::{HeaderMap, Method};
use moongate_sdk::{read_path, saved_fields, without_parameters};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The delay between two rounds of attempts, doubled each time,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// If an endpoint is lost sooner, the next redial is delayed.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// The delay before another reservation after a full queue.
const CROWDED: Duration = Duration::from_millis(500);

/// The agreement of a 101, if the route has failover and another backend could continue from it. The client
/// also gets `client_no_context_takeover`.
pub(in crate::proxy) fn agreement(ctx: &Context, headers: &mut HeaderMap) -> Option<Agreement> {
    let route = ctx.route.as_ref().filter(|route| route.policy.reconnect.is_some())?;
    let agreement = Agreement::of(headers);
    if agreement.is_some() {
        handshake::forget_context(headers);
    } else {
        log::debug!(route = &*route.name; "failover impossible: the backend requires its compression context");
    }
    agreement
}

/// Finds other endpoints for one client. It holds nothing of the generation that served the handshake and
/// uses the current one.
pub(in crate::proxy) struct Redialer {
    shared: Arc<Shared>,
    origin: Arc<Origin>,
    route: Arc<RouteMetrics>,
    request: Request,
    /// Whether the route matches paths including parameters.
    keeps_path_parameters: bool,
    agreement: Agreement,
    ends: ProxyAddrs,
    /// The name of the client's listener.
    listener: Arc<str>,
    /// The time limit of an attempt, on a route with this `timeout`.
    handshake_timeout: HandshakeTimeout,
    timeout: Option<Duration>,
    /// When the current endpoint was found, and the delay before that.
    found: Option<(Instant, Duration)>,
    client: ClientResources,
}

/// A redialer for another process.
#[derive(Clone, Deserialize, Serialize)]
pub(in crate::proxy) struct RedialerState {
    #[serde(with = "base64_bytes")]
    request: Vec<u8>,
    #[serde(default)]
    keeps_path_parameters: bool,
    /// The fields of the agreement.
    #[serde(with = "saved_fields")]
    agreement: HeaderMap,
    #[serde(default)]
    ends: ProxyAddrs,
    /// The time since the current endpoint was found, and the delay before that.
    #[serde(default)]
    found: Option<(Duration, Duration)>,
    #[serde(default)]
    pub(in crate::proxy) client: ClientResourcesState,
}

/// The result of a round with as many attempts as a request has.
enum Round {
    Agreed(Box<NegotiatedHandshake>),
    NoEndpoint,
    /// No reservation in time.
    NoTurn,
}

/// An endpoint that agreed.
struct NegotiatedHandshake {
    lease: Lease,
    tunnel_io: TunnelIo,
    early: Bytes,
}

impl Redialer {
    pub(in crate::proxy) fn new(
        gateway: &Gateway,
        origin: &Arc<Origin>,
        route: &Route,
        client: ClientResources,
        (mut request, agreement, ends): (Request, Agreement, ProxyAddrs),
        listener: Arc<str>,
    ) -> Self {
        request.bytes.shrink_to_fit();
        Self {
            shared: Arc::clone(&gateway.shared),
            origin: Arc::clone(origin),
            route: Arc::clone(&route.metrics.route),
            request,
            keeps_path_parameters: route.path_parameters == PathParameters::Keep,
            agreement,
            ends,
            listener,
            handshake_timeout: route.policy.handshake_timeout,
            timeout: route.timeout,
            found: None,
            client,
        }
    }

    /// Continues a redialer of another process; `None` if the state is none.
    pub(in crate::proxy) fn restore(
        state: RedialerState,
        gateway: &Gateway,
        origin: &Arc<Origin>,
        route: &Route,
        client: ClientResources,
        listener: Arc<str>,
    ) -> Option<Self> {
        let RedialerState { request, keeps_path_parameters, agreement, ends, found, .. } = state;
        let again = (Request::restore(request)?, Agreement::of(&agreement)?, ends);
        let now = Instant::now();
        let found = found.map(|(age, pause)| (now.checked_sub(age).unwrap_or(now), pause));
        let redialer = Self::new(gateway, origin, route, client, again, listener);
        Some(Self { keeps_path_parameters, found, ..redialer })
    }

    /// Searches until an endpoint is found. `None` if no attempt can start in time.
    async fn search(&mut self, until: Instant, attempts: &mut u32) -> Option<NegotiatedHandshake> {
        let mut pause = match self.found {
            Some((at, before)) if at.elapsed() < SHORT_LIFE => longer(before),
            _ => Duration::ZERO,
        };
        let mut tried = TriedEndpoints::default();
        // The lost endpoint is tried again if no other one is available: it may have restarted.
        tried.add(&self.origin.endpoint());
        loop {
            if !pause.is_zero() {
                // Randomised, so that the clients of a lost endpoint do not reconnect together.
                sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
            }
            match self.round(tried, until, attempts).await {
                Round::Agreed(agreed) => {
                    self.found = Some((Instant::now(), pause));
                    return Some(*agreed);
                }
                Round::NoTurn => return None,
                Round::NoEndpoint => {}
            }
            tried = TriedEndpoints::default();
            pause = longer(pause);
        }
    }

    /// Tries endpoints until one agrees or the attempts of a request are used up.
    async fn round(&mut self, tried: TriedEndpoints, until: Instant, count: &mut u32) -> Round {
        let snapshot = self.shared.live.pin();
        let Some(cluster) = snapshot.cluster(self.origin.endpoint().upstream()).map(Arc::clone) else {
            return Round::NoEndpoint;
        };
        drop(snapshot);
        let mut attempts = Attempts::at(cluster, tried);
        while attempts.may_repeat() {
            let left = until.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(left, attempts.prepare()).await;
            // Without an endpoint there is no handshake to take a turn for.
            if !attempts.has_candidate() {
                return Round::NoEndpoint;
            }
            let Some(turn) = self.wait_for_turn(until).await else { return Round::NoTurn };
            let Some(lease) = self.pick(&attempts) else { return Round::NoEndpoint };
            attempts.begin(lease);
            *count += 1;
            let left = until.saturating_duration_since(Instant::now());
            let limit = self.handshake_timeout.redial(self.timeout, left);
            if let Some(agreed) = self.ask(&mut attempts, limit, turn).await {
                return Round::Agreed(Box::new(agreed));
            }
        }
        Round::NoEndpoint
    }

    /// Waits for a reservation for one more handshake.
    async fn wait_for_turn(&self, until: Instant) -> Option<QueueTurn> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // A wait must not keep a generation.
            let turn = handshake_rate_wait::redial(
                &self.shared.live.look(),
                self.origin.route(),
                &self.listener,
                left,
            );
            if let Some(taken) = turn.await {
                return Some(taken);
            }
            // New clients have the same chance as redials.
            let pause = CROWDED.mul_f64(0.5 + fastrand::f64());
            if Instant::now() + pause >= until {
                return None;
            }
            sleep(pause).await;
        }
    }

    fn pick(&self, attempts: &Attempts) -> Option<Lease> {
        let cluster = attempts.cluster()?;
        let (target, headers) = self.request.read()?;
        let client = self.origin.client.address();
        let client_network = self.shared.live.look().globals.client_prefix.identity(client);
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let request = moongate_sdk::Request::internal(&Method::GET, &target, unspecified);
        // In the route's interpretation: a key of the path is the same as for the first endpoint.
        let read =
            read_path(request.path.as_bytes()).map_or(Cow::Borrowed(request.path), |reading| reading.path);
        let bare = if self.keeps_path_parameters { None } else { without_parameters(&read) };
        let path = bare.as_deref().unwrap_or(&read);
        let request = moongate_sdk::Request { path, client, client_network, is_websocket: true, ..request };
        let view = RequestView { request, headers: &headers };
        attempts.pick(&cluster.key(&view), Duration::ZERO).ok()
    }

    /// Sends the handshake to the current endpoint within `limit`.
    async fn ask(
        &mut self,
        attempts: &mut Attempts,
        limit: Duration,
        turn: QueueTurn,
    ) -> Option<NegotiatedHandshake> {
        let span = match (&self.client.trace, attempts.cluster(), attempts.endpoint()) {
            (Some(trace), Some(cluster), Some(to)) => Some(trace.redial(&mut self.request, cluster, to)),
            _ => None,
        };
        let answer = attempt(attempts, self.ends, &self.request, limit).await;
        let is_sent =
            answer.as_ref().map_or_else(|unanswered| !unanswered.failure.is_before_request(), |_| true);
        // Without a connection no handshake was sent, and the reservation is reused.
        if is_sent {
            turn.used();
        }
        let status = match &answer {
            Ok((_, HandshakeResponse::Upgraded { .. })) => Some(101),
            Ok((_, HandshakeResponse::Other { status, .. })) => Some(*status),
            Err(_) => None,
        };
        let (token, fault) = match answer {
            Ok((stream, HandshakeResponse::Upgraded { headers, early, .. })) => {
                attempts.record_latency();
                if Agreement::of(&headers).as_ref() == Some(&self.agreement) {
                    let lease = attempts.take_lease()?;
                    if let Some(span) = span {
                        span.end(status, None);
                    }
                    return Some(NegotiatedHandshake { lease, tunnel_io: TunnelIo::from(stream), early });
                }
                ("other_agreement", None)
            }
            Ok((_, HandshakeResponse::Other { .. })) => {
                attempts.record_connect();
                ("handshake_refused", None)
            }
            Err(unanswered) => (unanswered.failure.token(), unanswered.failure.endpoints_fault()),
        };
        if let Some(span) = span {
            span.end(status, Some(token));
        }
        // The round decides about the next one.
        attempts.end(AttemptEnd { blame: Some((token, fault)), is_repeatable: true, is_stale: false });
        None
    }

    fn found(&self, agreed: NegotiatedHandshake) -> Found {
        let endpoint = agreed.lease.endpoint();
        let metrics = TunnelMetrics::open(&self.route, endpoint.metrics());
        Found {
            backend: agreed.tunnel_io,
            early: agreed.early,
            endpoint: endpoint.token().get(),
            counters: Counters::new(metrics),
            guard: Box::new(TunnelGuards { _lease: agreed.lease, client: None }),
        }
    }
}

impl Redial for Redialer {
    fn redial(mut self: Box<Self>, loss: Loss) -> Search {
        Box::pin(async move {
            let began = Instant::now();
            let mut attempts = 0;
            let search = self.search(began + loss.limit, &mut attempts);
            let agreed = timeout(loss.limit, search).await.ok().flatten();
            let to: Option<&Arc<Endpoint>> = agreed.as_ref().map(|agreed| agreed.lease.endpoint());
            let from = self.origin.endpoint();
            self.origin.moved(to, loss.reason.token(), attempts, began.elapsed());
            if let Some(trace) = &self.client.trace {
                trace.moved(&from, to.map(|to| &**to), loss.reason.token(), began);
            }
            let found = agreed.map(|agreed| self.found(agreed));
            (self as Box<dyn Redial>, found)
        })
    }

    fn state(&self) -> Option<serde_json::Value> {
        serde_json::to_value(RedialerState {
            request: self.request.bytes.clone(),
            keeps_path_parameters: self.keeps_path_parameters,
            agreement: self.agreement.fields(),
            ends: self.ends,
            found: self.found.map(|(at, pause)| (at.elapsed(), pause)),
            client: self.client.state(),
        })
        .ok()
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}
