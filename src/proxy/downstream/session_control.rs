//! Control of a client's session by the phases of its request: whether the body is read, the backend's idle
//! limit and the meaning of a half-close. The session reports which of its limits ended the request. Atomics,
//! because the session is shared; one thread uses them.
//!
//! The session is polled while the backend is awaited, so the wait is limited there.

use super::upload_gate::UploadGate;
use crate::config::OnClientClose;
use crate::proxy::failure::Failure;
use crate::runtime::clock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The control of one client's session.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SessionControl {
    /// Whether the body is read.
    pub(in crate::proxy) gate: UploadGate,
    finishes: AtomicBool,
    /// The backend's maximum idle time in milliseconds; 0 means no limit.
    silence: AtomicU64,
    /// When bytes were last received from the backend or sent to it, in milliseconds.
    heard: AtomicU64,
    /// The backend's response has begun.
    streams: AtomicBool,
    /// No minimum rate applies: an event stream or a gRPC call.
    unpaced: AtomicBool,
    /// The whole response was sent to the client.
    response_started: AtomicBool,
    ended_by: AtomicU8,
}

/// A limit that ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::proxy) enum EndedBy {
    /// The route's `timeout` or `stream_idle_timeout`.
    Backend = 1,
    /// `body_timeout` or `body_min_rate`.
    Body,
    /// `send_timeout` or `send_min_rate`.
    Send,
}

impl SessionControl {
    /// Resets the control for the next request of the connection.
    pub(in crate::proxy) fn reset(&self) {
        self.gate.reset();
        self.finishes.store(false, Relaxed);
        self.streams.store(false, Relaxed);
        self.unpaced.store(false, Relaxed);
        self.response_started.store(false, Relaxed);
        self.silence.store(0, Relaxed);
        self.ended_by.store(0, Relaxed);
    }

    /// Sets the meaning of a half-close on the route.
    pub(in crate::proxy) fn on_client_close(&self, close: OnClientClose) {
        self.finishes.store(close == OnClientClose::Finish, Relaxed);
    }

    /// Returns whether the response is delivered to a client that half-closed its connection.
    pub(in crate::proxy) fn finishes(&self) -> bool {
        self.finishes.load(Relaxed)
    }

    /// The request was sent: the response header must arrive within the limit.
    pub(in crate::proxy) fn await_response(&self, limit: Option<Duration>) {
        self.streams.store(false, Relaxed);
        self.bound(limit);
    }

    /// The response has begun: its idle limit applies from now on.
    pub(in crate::proxy) fn stream(&self, limit: Option<Duration>) {
        self.streams.store(true, Relaxed);
        self.bound(limit);
    }

    fn bound(&self, limit: Option<Duration>) {
        let millis = limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
        self.silence.store(millis, Relaxed);
        self.hear();
    }

    /// Returns whether the backend's response has begun.
    pub(in crate::proxy) fn has_response_begun(&self) -> bool {
        self.streams.load(Relaxed)
    }

    /// Disables the minimum rates for this request and its response.
    pub(in crate::proxy) fn unpace(&self) {
        self.unpaced.store(true, Relaxed);
    }

    pub(in crate::proxy) fn is_paced(&self) -> bool {
        !self.unpaced.load(Relaxed)
    }

    /// Bytes were received from the backend, or sent to it.
    pub(in crate::proxy) fn hear(&self) {
        self.heard.store(clock::millis(), Relaxed);
    }

    /// When the backend's idle limit is reached.
    pub(in crate::proxy) fn deadline(&self) -> Option<Instant> {
        let silence = self.silence.load(Relaxed);
        let limit = self.heard.load(Relaxed).saturating_add(silence);
        (silence > 0).then(|| clock::at_millis(limit)).flatten()
    }

    /// The client has the whole response.
    pub(in crate::proxy) fn set_answered(&self) {
        self.response_started.store(true, Relaxed);
    }

    pub(in crate::proxy) fn is_answered(&self) -> bool {
        self.response_started.load(Relaxed)
    }

    /// A limit ended the request.
    pub(in crate::proxy) fn end(&self, by: EndedBy) {
        self.ended_by.store(by as u8, Relaxed);
    }

    /// The failure of a request that a limit ended.
    pub(in crate::proxy) fn failure(&self) -> Option<Failure> {
        match self.ended_by.load(Relaxed) {
            1 if self.streams.load(Relaxed) => Some(Failure::StreamIdleTimeout),
            1 => Some(Failure::ResponseTimeout),
            2 => Some(Failure::BodyTimeout),
            3 => Some(Failure::SendTimeout),
            _ => None,
        }
    }
}
