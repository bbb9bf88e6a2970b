//! What a route asks of its tunnels, compiled from what the operator wrote and shared by all of them.
//!
//! Compiling is pure. Acting on the policy is the relay's; here only the limits that hold before a
//! tunnel begins are kept ([`Policy::admit`]).

use super::admission::{Admission, ClientKey, Denial, Permit};
use super::client_rate::Rates;
use super::handshake_limiter::HandshakeLimiter;
use crate::config::{self, InvalidFrames, OnEndpointLoss, Stay};
use crate::upstream::KeySource;
use crate::websocket::frame::Rules;
use crate::websocket::handshake::Extensions;
use moongate_config::{Period, Problem, Problems};
use std::sync::Arc;
use std::time::Duration;

/// The longest length of time a policy reckons with: moments stay within what a clock can hold.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long one attempt at a backend may take where nothing else is written.
const DEFAULT_ATTEMPT: Duration = Duration::from_secs(5);
/// A redial waits at least so long, however little of `reconnect_timeout` is left: a backend that needs a moment
/// is not to blame.
const SHORTEST_REDIAL: Duration = Duration::from_millis(500);

/// How long one attempt at a backend may take, from the connect to the head of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeTimeout {
    written: Option<Duration>,
}

impl HandshakeTimeout {
    /// For the first handshake of a client, on a route whose `timeout` is `request`; `None` for none.
    #[must_use]
    pub fn first(self, request: Option<Duration>) -> Duration {
        self.written
            .unwrap_or_else(|| request.map_or(DEFAULT_ATTEMPT, |request| DEFAULT_ATTEMPT.min(request)))
    }

    /// For a redial, when `left` is left of `reconnect_timeout`: at most a third of it, so that a third endpoint is asked
    /// when two do not answer.
    #[must_use]
    pub fn redial(self, request: Option<Duration>, left: Duration) -> Duration {
        self.first(request).min((left / 3).max(SHORTEST_REDIAL))
    }
}

/// The policy of a route's tunnels.
#[derive(Debug)]
pub struct Policy {
    /// The longest time without a data frame in either direction.
    pub idle_timeout: Option<Duration>,
    /// The silence after which a side is pinged.
    pub ping_interval: Option<Duration>,
    /// How long a pinged side may stay silent.
    pub ping_timeout: Duration,
    /// The longest life of a connection.
    pub max_age: Option<Duration>,
    /// Up to so much is taken off `max_age`.
    pub jitter: Duration,
    /// The window over which a drain is spread.
    pub drain: Duration,
    /// What happens to those at an endpoint that became unhealthy.
    pub on_unhealthy: Stay,
    /// What happens to those whose route was removed or changed.
    pub on_reload: Stay,
    /// How long an answering Close is waited for.
    pub close_timeout: Duration,
    /// How long a side may take nothing.
    pub write_timeout: Option<Duration>,
    /// How a client is kept whose backend is lost, when it is.
    pub reconnect: Option<Reconnect>,
    /// How long one attempt at a backend may take.
    pub handshake_timeout: HandshakeTimeout,
    max_frame: u64,
    max_message: u64,
    strict: bool,
    rates: Option<Rates>,
    admission: Admission,
    handshakes: Option<Arc<HandshakeLimiter>>,
}

/// How a client is kept whose backend is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Bytes that are kept of a message on its way, and for a client that waits.
    pub buffer: usize,
    /// How long another backend is looked for.
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
    /// Compiles what the operator wrote. `prior` is the route's policy before a reload: who is
    /// connected goes on to count, and who waits for a turn keeps it.
    ///
    /// # Errors
    /// Every setting that cannot be, with its place where it has one.
    pub fn new(written: &config::WebSocket, prior: Option<&Self>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match (&written.jitter, written.max_age) {
            (Some(jitter), None) => {
                problems.push(Problem::new("`jitter` needs a `max_age` to be taken off").at(&jitter.place));
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
        let admission = problems.keep(Admission::new(written, prior.map(|prior| &prior.admission)));
        let Some(admission) = admission.filter(|_| !problems.refuse()) else { return Err(problems) };
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
            admission,
            handshakes: HandshakeLimiter::carry(
                written.handshake_rate,
                prior.and_then(|prior| prior.handshakes.as_ref()),
            ),
        })
    }

    /// Whether a client may open a WebSocket now. The permit counts it until it is dropped: put it
    /// into the tunnel's guard.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn acquire_permit(&self, origin: Option<&[u8]>, client: ClientKey<'_>) -> Result<Permit, Denial> {
        self.admission.acquire(origin, client)
    }

    /// What tells clients apart for `connections_per_client`; `None` when that is not limited.
    #[must_use]
    pub fn client_key(&self) -> Option<&KeySource> {
        self.admission.client_key()
    }

    /// What gives out the turns of handshakes; `None` when they are not limited.
    #[must_use]
    pub fn handshakes(&self) -> Option<&Arc<HandshakeLimiter>> {
        self.handshakes.as_ref()
    }

    /// The rules of frames for a tunnel whose handshake agreed on `extensions`.
    #[must_use]
    pub fn rules(&self, extensions: Extensions) -> Rules {
        Rules {
            max_frame: self.max_frame,
            max_message: self.max_message,
            deflate: extensions == Extensions::Deflate,
            // What an unknown extension makes of the reserved bits and opcodes is not ours to judge.
            strict: self.strict && extensions != Extensions::Unknown,
        }
    }

    /// The client's rates, when they are limited.
    #[must_use]
    pub fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }
}

/// `0s` is no limit.
fn limit(period: Period) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0.min(FOREVER))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
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
    fn a_client_is_kept_where_that_is_asked_for() {
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
        assert!(policy.rules(Extensions::Deflate).deflate);
        assert!(policy.rules(Extensions::Deflate).strict);
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
