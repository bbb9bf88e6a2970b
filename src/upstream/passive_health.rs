//! Passive health: consecutive failures of real traffic eject an endpoint for a while.
//!
//! The caller passes the time. `lease` reports failures; `endpoint_set` decides what happens when no endpoint
//! is healthy.

use crate::config::PassiveHealth;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// When to eject an endpoint and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Consecutive failures; 0 means never.
    failures: u32,
    /// Milliseconds.
    eject_for: u64,
}

impl From<&PassiveHealth> for Policy {
    fn from(spec: &PassiveHealth) -> Self {
        let eject_for = u64::try_from(spec.eject_for.0.as_millis()).unwrap_or(u64::MAX);
        Self { failures: u32::from(spec.failures), eject_for }
    }
}

/// A failure of an exchange that is the endpoint's fault.
///
/// A slow response is not included: it depends on the request. Neither is a pooled
/// connection that the backend closed while idle, which is normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The connect was refused or the host unreachable.
    Refused,
    /// The connect timed out.
    ConnectTimeout,
    /// The TLS handshake failed, or the certificate was rejected.
    Tls,
    /// The response to a WebSocket handshake was invalid.
    Handshake,
    /// A WebSocket handshake timed out.
    HandshakeTimeout,
    /// A new connection was closed, or violated HTTP, before the response header was complete.
    Closed,
}

impl Reason {
    /// The token in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls_handshake",
            Self::Handshake => "bad_handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Closed => "upstream_closed",
        }
    }
}

/// What a success proves: each of these includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Proof {
    /// Connections are accepted.
    Connect,
    /// The endpoint responds to requests.
    Exchange,
    /// The endpoint responds to WebSocket handshakes.
    Handshake,
}

/// The passive health of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Passive {
    /// Failed connects since the last success.
    connects: AtomicU32,
    /// Exchanges that failed after a connect, since the last response.
    exchanges: AtomicU32,
    /// Failed WebSocket handshakes since the last successful exchange.
    handshakes: AtomicU32,
    /// The cause of the ejection as a [`Proof`]: the success that ends it early.
    out_for: AtomicU8,
    /// Ejected until this millisecond; 0 means not ejected.
    out_until: AtomicU64,
}

/// The passive health for another process. Times are relative, because clocks of processes differ.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct PassiveState {
    connects: u32,
    exchanges: u32,
    handshakes: u32,
    out_for: u8,
    /// The milliseconds that the ejection lasts still; `None` without one.
    ejected_for: Option<u64>,
}

impl Passive {
    /// The state for another process.
    pub(super) fn state(&self, now: u64) -> PassiveState {
        let until = self.out_until.load(Relaxed);
        PassiveState {
            connects: self.connects.load(Relaxed),
            exchanges: self.exchanges.load(Relaxed),
            handshakes: self.handshakes.load(Relaxed),
            out_for: self.out_for.load(Relaxed),
            ejected_for: (until > now).then(|| until - now),
        }
    }

    /// Continues with the state of another process. Probes of this one may have ended an ejection already; traffic decides
    /// again.
    pub(super) fn restore(&self, state: &PassiveState, now: u64) {
        self.connects.store(state.connects, Relaxed);
        self.exchanges.store(state.exchanges, Relaxed);
        self.handshakes.store(state.handshakes, Relaxed);
        self.out_for.store(state.out_for, Relaxed);
        self.out_until.store(state.ejected_for.map_or(0, |left| now.saturating_add(left)), Relaxed);
    }

    /// When the last ejection ends, or has ended without a success since; 0 means never ejected.
    pub(super) fn out_until(&self) -> u64 {
        self.out_until.load(Relaxed)
    }

    /// Returns whether the endpoint is ejected; the clock is read only if it was.
    pub(super) fn is_out(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.out_until.load(Relaxed);
        until != 0 && now() < until
    }

    /// Records a connect. The application may still be broken.
    pub(super) fn connected(&self) {
        clear(&self.connects);
    }

    /// Records a successful exchange or probe. If it ended an ejection, returns the millisecond at which the
    /// ejection would have ended.
    pub(super) fn record_success(&self, proof: Proof) -> Option<u64> {
        clear(&self.connects);
        if proof >= Proof::Exchange {
            clear(&self.exchanges);
        }
        if proof >= Proof::Handshake {
            clear(&self.handshakes);
        }
        if self.out_until.load(Relaxed) == 0 || self.out_for.load(Relaxed) > proof as u8 {
            return None;
        }
        Some(self.out_until.swap(0, Relaxed)).filter(|until| *until != 0)
    }

    /// The millisecond at which an ejection expired without a success since; 0 if there was none or it lasts.
    pub(super) fn back_since(&self, now: u64) -> u64 {
        let until = self.out_until.load(Relaxed);
        if until <= now { until } else { 0 }
    }

    /// Records a failure; returns true if it ejected the endpoint.
    ///
    /// The count is kept during an ejection, so that one more failure after it ejects the endpoint again.
    pub(super) fn failed(&self, reason: Reason, policy: Policy, now: u64) -> bool {
        let (row, proof) = match reason {
            Reason::Refused | Reason::ConnectTimeout | Reason::Tls => (&self.connects, Proof::Connect),
            Reason::Closed => (&self.exchanges, Proof::Exchange),
            Reason::Handshake | Reason::HandshakeTimeout => (&self.handshakes, Proof::Handshake),
        };
        let failures = row.fetch_add(1, Relaxed).saturating_add(1);
        if policy.failures == 0 || failures < policy.failures {
            return false;
        }
        self.out_for.store(proof as u8, Relaxed);
        let before = self.out_until.swap(now.saturating_add(policy.eject_for), Relaxed);
        before <= now
    }
}

/// A store to a shared cache line costs every other core; a load of 0 does not.
fn clear(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { failures: 3, eject_for: 1000 };

    #[test]
    fn three_failures_in_a_row_put_it_out_for_a_while() {
        let passive = Passive::default();
        assert!(!passive.failed(Reason::Refused, POLICY, 10));
        assert!(!passive.failed(Reason::ConnectTimeout, POLICY, 20));
        assert!(!passive.is_out(|| 20));
        assert!(passive.failed(Reason::Refused, POLICY, 30));
        assert!(passive.is_out(|| 1029));
        assert!(!passive.is_out(|| 1030));
        assert!(passive.failed(Reason::Refused, POLICY, 2000), "one more is enough after it came back");
    }

    #[test]
    fn a_connect_does_not_forgive_failed_handshakes() {
        let passive = Passive::default();
        for _ in 0..2 {
            passive.connected();
            assert!(!passive.failed(Reason::Handshake, POLICY, 10));
        }
        passive.connected();
        assert!(passive.failed(Reason::Handshake, POLICY, 10));
    }

    #[test]
    fn a_connect_does_not_reset_failed_handshakes() {
        let passive = Passive::default();
        let outcomes = [(); 3].map(|()| {
            passive.connected();
            passive.failed(Reason::HandshakeTimeout, POLICY, 10)
        });
        assert_eq!(outcomes, [false, false, true]);
    }

    #[test]
    fn a_response_resets_all_failures() {
        let passive = Passive::default();
        for _ in 0..3 {
            passive.failed(Reason::Closed, POLICY, 10);
        }
        assert_eq!(passive.back_since(500), 0, "still out");
        assert_eq!(passive.back_since(2000), 1010);
        assert_eq!(passive.record_success(Proof::Handshake), Some(1010));
        assert_eq!((passive.record_success(Proof::Handshake), passive.back_since(2000)), (None, 0));
        assert!(!passive.is_out(|| 11));
        assert!(!passive.failed(Reason::Closed, POLICY, 12));
    }

    #[test]
    fn a_probe_forgives_what_it_has_proven_and_no_more() {
        for (reason, wanted) in [
            (Reason::Refused, Proof::Connect),
            (Reason::Closed, Proof::Exchange),
            (Reason::Handshake, Proof::Handshake),
            (Reason::HandshakeTimeout, Proof::Handshake),
        ] {
            for proof in [Proof::Connect, Proof::Exchange, Proof::Handshake] {
                let passive = Passive::default();
                let put_out = [(); 3].map(|()| {
                    passive.record_success(proof);
                    passive.failed(reason, POLICY, 10)
                });
                assert_eq!(put_out[2], proof < wanted, "{reason:?} {proof:?}");
                let passive = Passive::default();
                for _ in 0..3 {
                    passive.failed(reason, POLICY, 10);
                }
                assert_eq!(passive.record_success(proof).is_some(), proof >= wanted, "{reason:?} {proof:?}");
                assert_eq!(passive.is_out(|| 11), proof < wanted, "{reason:?} {proof:?}");
            }
        }
    }

    #[test]
    fn an_ejection_lasts_as_long_in_another_process() {
        let passive = Passive::default();
        assert!((0..3).any(|_| passive.failed(Reason::Refused, POLICY, 10)));
        let state = passive.state(310);
        let other = Passive::default();
        other.restore(&state, 5_000);
        assert!(other.is_out(|| 5_699) && !other.is_out(|| 5_700));
        assert!(other.failed(Reason::Refused, POLICY, 6_000), "one more is enough after it came back");
        assert_eq!(Passive::default().state(10), PassiveState::default());
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let passive = Passive::default();
        let off = Policy { failures: 0, eject_for: 1000 };
        assert!((0..100).all(|now| !passive.failed(Reason::Refused, off, now)));
        assert!(!passive.is_out(|| 50));
    }
}
