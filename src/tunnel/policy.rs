//! What a route asks of its tunnels, compiled from what the operator wrote and shared by all of them.
//!
//! Compiling is pure. Acting on the policy is the relay's; here only the limits that hold before a
//! tunnel begins are kept ([`Policy::admit`]).

use super::admit::{Admission, Denial, Permit, Who};
use super::frame::Rules;
use super::handshake::Extensions;
use super::rate::Rates;
use crate::spec::{self, InvalidFrames};
use crate::upstream::KeySource;
use moongate_sdk::{Period, Problem, Problems, Size};
use std::time::Duration;

/// The longest length of time a policy reckons with: moments stay within what a clock can hold.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

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
    /// How long an answering Close is waited for.
    pub close_timeout: Duration,
    /// How long a side may take nothing.
    pub write_timeout: Option<Duration>,
    max_frame: u64,
    max_message: u64,
    strict: bool,
    rates: Option<Rates>,
    admission: Admission,
}

impl Policy {
    /// Compiles what the operator wrote. `prior` is the route's policy before a reload: who is
    /// connected goes on to count.
    ///
    /// # Errors
    /// Every setting that cannot be, with its place where it has one.
    pub fn new(written: &spec::WebSocket, prior: Option<&Self>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        for (name, size) in [
            ("max_frame", written.max_frame),
            ("max_message", written.max_message),
            ("bytes_per_second", written.bytes_per_second),
        ] {
            if size == Some(Size(0)) {
                problems.push(Problem::new(format!("{name} must be at least 1 byte")));
            }
        }
        if written.jitter > written.max_age {
            problems.push(Problem::new("jitter must not be longer than max_age"));
        }
        let admission = problems.keep(Admission::new(written, prior.map(|prior| &prior.admission)));
        let Some(admission) = admission.filter(|_| !problems.refuse()) else { return Err(problems) };
        let max_age = written.max_age.and_then(limit);
        Ok(Self {
            idle_timeout: limit(written.idle_timeout),
            ping_interval: limit(written.ping_interval),
            ping_timeout: written.ping_timeout.0.min(FOREVER),
            max_age,
            jitter: written.jitter.map_or(max_age.unwrap_or_default() / 10, |jitter| jitter.0),
            drain: written.drain.0.min(FOREVER),
            close_timeout: written.close_timeout.0.min(FOREVER),
            write_timeout: limit(written.write_timeout),
            max_frame: written.max_frame.map_or(u64::MAX, |size| size.0),
            max_message: written.max_message.map_or(u64::MAX, |size| size.0),
            strict: written.invalid_frames == InvalidFrames::Close,
            rates: Rates::new(written),
            admission,
        })
    }

    /// Whether a client may open a WebSocket now. The permit counts it until it is dropped: put it
    /// into the tunnel's guard.
    ///
    /// # Errors
    /// [`Denial`], which knows its status.
    pub fn admit(&self, origin: Option<&[u8]>, client: Who<'_>) -> Result<Permit, Denial> {
        self.admission.admit(origin, client)
    }

    /// What tells clients apart for `connections_per_client`; `None` when that is not limited.
    #[must_use]
    pub fn client_key(&self) -> Option<&KeySource> {
        self.admission.client_key()
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
