//! The schedule and thresholds of probes: the settings that all kinds share.

use super::Thresholds;
use moongate_config::{Period, Placed, Problem, Problems};
use std::num::NonZeroU16;
use std::time::Duration;

/// The minimum interval; zero would be a busy loop.
const SHORTEST: Duration = Duration::from_millis(10);

/// The schedule of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSchedule {
    /// From one probe of an endpoint to the next.
    pub interval: Duration,
    /// For a whole probe, from the connect to the verdict.
    pub timeout: Duration,
    /// The maximum random delay added to `interval`, so that gateways do not probe together.
    pub jitter: Duration,
    /// How many consecutive outcomes change a verdict.
    pub thresholds: Thresholds,
}

/// The shared settings as configured.
#[derive(Default)]
pub(super) struct ProbeSettings {
    pub(super) interval: Option<Placed<Period>>,
    pub(super) timeout: Option<Placed<Period>>,
    pub(super) jitter: Option<Period>,
    pub(super) healthy_after: Option<NonZeroU16>,
    pub(super) unhealthy_after: Option<NonZeroU16>,
}

impl ProbeSettings {
    /// Applies the defaults; problems are added to `problems`.
    pub(super) fn schedule(&self, problems: &mut Problems) -> ProbeSchedule {
        let interval = at_least("interval", self.interval.as_ref(), 5, problems);
        ProbeSchedule {
            interval,
            timeout: at_least("timeout", self.timeout.as_ref(), 2, problems),
            jitter: self.jitter.map_or(interval / 10, |jitter| jitter.0),
            thresholds: Thresholds {
                healthy_after: self.healthy_after.unwrap_or(NonZeroU16::MIN),
                unhealthy_after: self.unhealthy_after.unwrap_or(NonZeroU16::MIN.saturating_add(2)),
            },
        }
    }
}

fn at_least(name: &str, written: Option<&Placed<Period>>, default: u64, problems: &mut Problems) -> Duration {
    let Some(period) = written else { return Duration::from_secs(default) };
    if period.value.0 < SHORTEST {
        let problem = Problem::new(format!("`{name}` must be at least 10ms"));
        problems.push(problem.help("omit `health_check` for no probes").at(&period.place));
    }
    period.value.0
}

impl ProbeSchedule {
    /// The time from one probe of an endpoint to the next.
    pub fn pause(&self) -> Duration {
        self.interval + self.jitter.mul_f64(fastrand::f64())
    }
}

/// Defines a kind's settings with the shared ones appended. A macro, because serde cannot both flatten a
/// struct and reject unknown keys.
macro_rules! probe_settings {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        struct $name {
            $($(#[$doc])* $field: $type,)*
            /// Probes each endpoint this often; the probes of an upstream are spread over this time. At least 10ms. Default 5s.
            interval: Option<moongate_config::Placed<moongate_config::Period>>,
            /// Fails a probe after this long, from the connect to the verdict. At least 10ms. Default 2s.
            timeout: Option<moongate_config::Placed<moongate_config::Period>>,
            /// Adds a random time of up to this much to `interval`. `0s`: off. Default a tenth of `interval`.
            jitter: Option<moongate_config::Period>,
            /// Marks an endpoint healthy after this many consecutive successes. Default 1.
            healthy_after: Option<std::num::NonZeroU16>,
            /// Marks an endpoint unhealthy after this many consecutive failures. Default 3.
            unhealthy_after: Option<std::num::NonZeroU16>,
        }

        impl $name {
            fn schedule(&self, problems: &mut moongate_config::Problems) -> $crate::upstream::health::ProbeSchedule {
                let Self { interval, timeout, jitter, healthy_after, unhealthy_after, .. } = self;
                $crate::upstream::health::probe_settings::ProbeSettings {
                    interval: interval.clone(),
                    timeout: timeout.clone(),
                    jitter: *jitter,
                    healthy_after: *healthy_after,
                    unhealthy_after: *unhealthy_after,
                }
                .schedule(problems)
            }
        }
    };
}
pub(super) use probe_settings;
