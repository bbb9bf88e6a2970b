//! WebSocket policy of a route, compiled from its settings and shared by its tunnels.
//!
//! Compiling is pure. The relay applies most of the policy; the limits that precede a tunnel are here
//! ([`Policy::acquire_permit`]).

use super::raw_limits::RawLimits;
use super::route_limits::{ClientKey, Denial, Permit, PermitKey, RouteLimits};
use crate::config::{self, ExistingTunnels, InvalidFrames, OnEndpointLoss};
use crate::limit::{ClientTokens, HandshakeLimiter, Rates, SharedTokens, Stores};
use crate::upstream::KeySource;
use crate::websocket::frame::Rules;
use crate::websocket::handshake::Extensions;
use moongate_config::{Period, Problem, Problems};
use std::sync::Arc;
use std::time::Duration;

/// The maximum duration in a policy, so that times do not overflow.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The default time limit of one attempt at a backend.
const DEFAULT_ATTEMPT: Duration = Duration::from_secs(5);
/// The minimum time limit of a redial, even if less of `reconnect_timeout` is left: a backend that needs a
/// moment is not at fault.
const SHORTEST_REDIAL: Duration = Duration::from_millis(500);

/// The time limit of one attempt at a backend, from the connect to the response header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeTimeout {
    written: Option<Duration>,
}

impl HandshakeTimeout {
    /// The limit for a client's first handshake, on a route with the `timeout` `request`; `None` for no
    /// timeout.
    #[must_use]
    pub fn first(self, request: Option<Duration>) -> Duration {
        self.written
            .unwrap_or_else(|| request.map_or(DEFAULT_ATTEMPT, |request| DEFAULT_ATTEMPT.min(request)))
    }

    /// The limit for a redial with `left` of `reconnect_timeout`: at most a third of it, so that a third
    /// endpoint is tried after two time out.
    #[must_use]
    pub fn redial(self, request: Option<Duration>, left: Duration) -> Duration {
        self.first(request).min((left / 3).max(SHORTEST_REDIAL))
    }
}

/// The policy of a route's tunnels.
#[derive(Debug)]
pub struct Policy {
    /// The maximum time without a data frame in either direction.
    pub idle_timeout: Option<Duration>,
    /// A side is pinged after this long without a frame from it.
    pub ping_interval: Option<Duration>,
    /// The time limit for a sign of life after a ping.
    pub ping_timeout: Duration,
    /// The maximum age of a connection.
    pub max_age: Option<Duration>,
    /// The maximum random reduction of `max_age`.
    pub jitter: Duration,
    /// The window over which a drain is spread.
    pub drain: Duration,
    /// What happens to tunnels of an endpoint that became unhealthy.
    pub on_unhealthy: ExistingTunnels,
    /// What happens to tunnels of a removed or changed route.
    pub on_reload: ExistingTunnels,
    /// The time limit for the peer's Close frame.
    pub close_timeout: Duration,
    /// The maximum time without progress in writing to a side.
    pub write_timeout: Option<Duration>,
    /// The failover settings, if enabled.
    pub reconnect: Option<Reconnect>,
    /// The time limit of one attempt at a backend.
    pub handshake_timeout: HandshakeTimeout,
    max_frame: u64,
    max_message: u64,
    strict: bool,
    rates: Option<Rates>,
    message_limit: Option<MessageLimit>,
    route_limits: RouteLimits,
    handshake_limiter: Option<Arc<HandshakeLimiter>>,
}

/// The limit on the messages of a client over a fleet.
#[derive(Debug)]
struct MessageLimit {
    key: KeySource,
    tokens: Arc<SharedTokens>,
}

impl MessageLimit {
    fn new(
        written: &config::SharedMessages,
        prior: Option<&Self>,
        stores: &Stores,
        owner: &str,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let prior = prior.map(|prior| &prior.tokens);
        let tokens = problems.keep(stores.message_limit(written, owner, prior).map_err(Problems::from));
        let key = problems.keep(written.key.as_ref().map_or(Ok(KeySource::ClientIp), KeySource::read_from));
        key.zip(tokens).map(|(key, tokens)| Self { key, tokens }).ok_or(problems)
    }
}

/// The failover of a client whose backend is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The maximum bytes buffered for an incomplete message and during a failover.
    pub buffer: usize,
    /// The time limit for finding another backend.
    pub timeout: Duration,
}

impl Reconnect {
    fn new(written: &config::WebSocket) -> Option<Self> {
        (written.on_endpoint_loss == OnEndpointLoss::Reconnect).then(|| Self {
            buffer: usize::try_from(written.reconnect_buffer.0).unwrap_or(usize::MAX),
            timeout: written.reconnect_timeout.0.min(FOREVER),
        })
    }
}

impl Policy {
    /// Compiles the settings of `route`. `prior` is the route's policy before a reload, whose counts and handshake queue
    /// are kept.
    ///
    /// # Errors
    /// Every invalid setting, with its place where it has one.
    pub fn compile(
        written: &config::WebSocket,
        prior: Option<&Self>,
        stores: &Stores,
        route: &str,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match (&written.jitter, written.max_age) {
            (Some(jitter), None) if !jitter.value.0.is_zero() => {
                problems
                    .push(Problem::new("`jitter` shortens `max_age`, which is not set").at(&jitter.place));
            }
            (Some(jitter), Some(age)) if jitter.value > age => {
                problems.push(Problem::new("`jitter` must not be longer than `max_age`").at(&jitter.place));
            }
            _ => {}
        }
        if written.ping_timeout.0.is_zero() && !written.ping_interval.0.is_zero() {
            problems.push(
                Problem::new("`ping_timeout` must be longer than 0")
                    .at(&written.ping_timeout.place)
                    .help("`ping_interval: 0s` turns pings off"),
            );
        }
        let owner = format!("route/{route}");
        let prior_limits = prior.map(|prior| &prior.route_limits);
        let route_limits = problems.keep(RouteLimits::new(written, prior_limits, stores, &owner));
        let prior_limiter = prior.and_then(|prior| prior.handshake_limiter.as_ref());
        let handshake_limiter =
            stores.handshake_limiter(written.handshake_rate.as_ref(), &owner, prior_limiter);
        let handshake_limiter = problems.keep(handshake_limiter.map_err(Problems::from)).flatten();
        let prior_messages = prior.and_then(|prior| prior.message_limit.as_ref());
        let messages = written.messages_per_second.as_ref().and_then(config::MessageRate::shared);
        let message_limit = messages
            .and_then(|shared| problems.keep(MessageLimit::new(shared, prior_messages, stores, &owner)));
        let Some(route_limits) = route_limits.filter(|_| !problems.refuse()) else { return Err(problems) };
        let max_age = written.max_age.and_then(limit);
        Ok(Self {
            idle_timeout: limit(written.idle_timeout),
            ping_interval: limit(written.ping_interval),
            ping_timeout: written.ping_timeout.0.min(FOREVER),
            max_age,
            jitter: written.jitter.as_ref().map_or(max_age.unwrap_or_default() / 10, |jitter| jitter.value.0),
            drain: written.drain_window.0.min(FOREVER),
            on_unhealthy: written.on_unhealthy,
            on_reload: written.on_reload,
            close_timeout: written.close_timeout.0.min(FOREVER),
            write_timeout: limit(written.write_timeout),
            reconnect: Reconnect::new(written),
            handshake_timeout: HandshakeTimeout {
                written: written.handshake_timeout.map(|timeout| timeout.0.min(FOREVER)),
            },
            max_frame: written.max_frame.map_or(u64::MAX, |size| size.0),
            max_message: written.max_message.map_or(u64::MAX, |size| size.0),
            strict: written.invalid_frames == InvalidFrames::Close,
            rates: Rates::new(written),
            message_limit,
            route_limits,
            handshake_limiter,
        })
    }

    /// Acquires a permit for a WebSocket. The permit counts it until dropped: put it into the tunnel's guard. A limit per
    /// client that a fleet shares is not applied yet: see [`Permit::share`].
    ///
    /// # Errors
    /// [`Denial`].
    pub fn acquire_permit(&self, origin: Option<&[u8]>, client: ClientKey<'_>) -> Result<Permit, Denial> {
        self.route_limits.acquire(origin, client)
    }

    /// The compiled settings without stores.
    ///
    /// # Errors
    /// As for [`Policy::compile`].
    #[cfg(test)]
    pub fn new(written: &config::WebSocket, prior: Option<&Self>) -> Result<Self, Problems> {
        Self::compile(written, prior, &Stores::default(), "test")
    }

    /// The permit of a WebSocket that another process has admitted, whatever the limits are now. `key` is that of the
    /// other process's permit.
    #[must_use]
    pub fn readmit(&self, key: Option<PermitKey>, client: ClientKey<'_>) -> Permit {
        self.route_limits.readmit(key, client)
    }

    /// The key of `max_connections_per_client`; `None` without that limit.
    #[must_use]
    pub fn client_key(&self) -> Option<&KeySource> {
        self.route_limits.client_key()
    }

    /// The handshake rate limit; `None` without one.
    #[must_use]
    pub fn handshake_limiter(&self) -> Option<&Arc<HandshakeLimiter>> {
        self.handshake_limiter.as_ref()
    }

    /// The frame rules for a tunnel whose handshake negotiated `extensions`.
    #[must_use]
    pub fn rules(&self, extensions: Extensions) -> Rules {
        Rules {
            max_frame: self.max_frame,
            max_message: self.max_message,
            deflate: matches!(extensions, Extensions::Deflate(_)),
            // An unknown extension may redefine the reserved bits and opcodes, so they cannot be validated.
            strict: self.strict && extensions != Extensions::Unknown,
        }
    }

    /// The limits of a raw relay: those that concern no messages.
    #[must_use]
    pub fn raw_limits(&self) -> RawLimits {
        RawLimits {
            idle_timeout: self.idle_timeout,
            max_age: self.max_age,
            jitter: self.jitter,
            write_timeout: self.write_timeout,
            close_timeout: self.close_timeout,
            rate: self.rates.and_then(Rates::of_bytes),
        }
    }

    /// The client's rate limits, if any.
    #[must_use]
    pub fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    /// The key of a client in the limit on messages that a fleet shares; `None` without one.
    #[must_use]
    pub fn message_key(&self) -> Option<&KeySource> {
        self.message_limit.as_ref().map(|limit| &limit.key)
    }

    /// The tokens of a client with this key in the limit on messages that a fleet shares.
    pub(super) fn message_tokens(&self, client: Option<u128>) -> Option<ClientTokens> {
        let limit = self.message_limit.as_ref()?;
        Some(ClientTokens { tokens: Arc::clone(&limit.tokens), key: client? })
    }
}

/// `0s` means no limit.
fn limit(period: Period) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0.min(FOREVER))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::websocket::handshake::ContextReset;
    use moongate_config::{Place, Placed};

    fn refusals(change: impl FnOnce(&mut config::WebSocket)) -> usize {
        let mut written = config::WebSocket::default();
        change(&mut written);
        Policy::new(&written, None).err().map_or(0, |problems| problems.0.len())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let policy = Policy::new(&config::WebSocket::default(), None).unwrap();
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs());
        assert_eq!(seconds(policy.idle_timeout), Some(3600));
        assert_eq!((seconds(policy.ping_interval), policy.ping_timeout.as_secs()), (Some(30), 10));
        assert_eq!((policy.drain.as_secs(), policy.close_timeout.as_secs()), (30, 5));
        assert_eq!((policy.max_age, policy.rates(), policy.reconnect), (None, None, None));
        assert_eq!(policy.rules(Extensions::None), Rules::default());
    }

    #[test]
    fn zero_switches_a_timeout_off_and_a_jitter_follows_the_age() {
        let off = Period(Duration::ZERO);
        let age = Some(Period(Duration::from_secs(600)));
        let written =
            config::WebSocket { idle_timeout: off, ping_interval: off, max_age: age, ..Default::default() };
        let policy = Policy::new(&written, None).unwrap();
        assert_eq!((policy.idle_timeout, policy.ping_interval), (None, None));
        assert_eq!(policy.jitter.as_secs(), 60);
    }

    #[test]
    fn a_client_is_kept_if_configured() {
        let written = config::WebSocket { on_endpoint_loss: OnEndpointLoss::Reconnect, ..Default::default() };
        let kept = Policy::new(&written, None).unwrap().reconnect.unwrap();
        assert_eq!((kept.buffer, kept.timeout.as_secs()), (64 << 10, 10));
    }

    #[test]
    fn an_attempt_leaves_time_for_others() {
        let seconds = Duration::from_secs;
        let timeout = |written: Option<u64>| {
            let handshake_timeout = written.map(|written| Period(seconds(written)));
            let written = config::WebSocket { handshake_timeout, ..Default::default() };
            Policy::new(&written, None).unwrap().handshake_timeout
        };
        let default = timeout(None);
        assert_eq!(
            (default.first(Some(seconds(60))), default.first(Some(seconds(2)))),
            (seconds(5), seconds(2))
        );
        assert_eq!(default.redial(Some(seconds(60)), seconds(9)), seconds(3));
        assert_eq!(default.redial(Some(seconds(60)), seconds(60)), seconds(5));
        assert_eq!(default.redial(Some(seconds(60)), Duration::from_millis(90)), SHORTEST_REDIAL);
        let written = timeout(Some(8));
        assert_eq!(
            (written.first(Some(seconds(2))), written.redial(Some(seconds(2)), seconds(9))),
            (seconds(8), seconds(3))
        );
        assert_eq!(written.redial(Some(seconds(2)), seconds(60)), seconds(8));
    }

    #[test]
    fn what_cannot_be_is_reported_all_at_once() {
        let jitter = |seconds| Some(Placed { value: Period::seconds(seconds), place: Place::nowhere() });
        assert_eq!(refusals(|written| written.jitter = jitter(1)), 1);
        let many = refusals(|written| {
            written.ping_timeout.value = Period(Duration::ZERO);
            written.max_age = Some(Period::seconds(1));
            written.jitter = jitter(2);
        });
        assert_eq!(many, 2);
    }

    #[test]
    fn an_unknown_extension_is_not_judged() {
        let policy = Policy::new(&config::WebSocket::default(), None).unwrap();
        assert!(policy.rules(Extensions::Deflate(ContextReset::default())).deflate);
        assert!(policy.rules(Extensions::Deflate(ContextReset::default())).strict);
        assert!(!policy.rules(Extensions::Unknown).strict);
    }

    #[test]
    fn the_longest_period_is_within_what_a_clock_can_hold() {
        let endless = Period(Duration::MAX);
        let written =
            config::WebSocket { idle_timeout: endless, max_age: Some(endless), ..Default::default() };
        let policy = Policy::new(&written, None).unwrap();
        assert_eq!((policy.idle_timeout, policy.max_age), (Some(FOREVER), Some(FOREVER)));
    }
}
