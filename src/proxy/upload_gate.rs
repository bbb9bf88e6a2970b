//! The end of an upload by the backend: a final response that arrives before the request body has been sent whole
//! (RFC 9112 §9.3, RFC 9110 §7.5).
//!
//! What the client sends afterwards goes nowhere near that backend: it may have stopped to read where the head ended,
//! and would take the rest for a request. The response is passed on, and its connection is never pooled. HTTP/2 has
//! streams, so there both directions go on (RFC 9113 §8.1).
//!
//! Pingora's loop reads the client's body for as long as the request lasts. The gate stands where it reads.

use super::connection::Connection;
use super::intake::connection;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the rest of an upload is read and thrown away, so that the client can read its response before the
/// connection is reset: in all, and between two reads.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);

/// What becomes of a read of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It reads.
    Open,
    /// It waits: the response is under way.
    Shut,
    /// It fails: the response is over.
    Over,
}

/// Where the gate of one request body is kept.
#[derive(Debug, Default)]
pub(super) struct UploadGate(AtomicU8);

impl UploadGate {
    pub(super) fn get(&self) -> Gate {
        match self.0.load(Ordering::Relaxed) {
            0 => Gate::Open,
            1 => Gate::Shut,
            _ => Gate::Over,
        }
    }

    pub(super) fn set(&self, gate: Gate) {
        self.0.store(gate as u8, Ordering::Relaxed);
    }
}

/// The gate of the request; none where there is no body.
fn gate(session: &Session) -> Option<&UploadGate> {
    match session.as_downstream() {
        ServerSession::H1(_) => connection(session).map(Connection::upload_gate),
        _ => session.req_header().extensions.get::<Arc<UploadGate>>().map(|gate| &**gate),
    }
}

/// A final response came too early: the client's body is read no further.
pub(super) fn shut(session: &mut Session) {
    if let Some(gate) = gate(session) {
        gate.set(Gate::Shut);
    }
    // Nothing is awaited from the client any more, for however long the response takes.
    session.as_downstream_mut().set_read_timeout(None);
    session.set_keepalive(None);
}

/// The response is over: Pingora's loop ends, which still waits for the body.
pub(super) fn end(session: &Session) {
    if let Some(gate) = gate(session) {
        gate.set(Gate::Over);
    }
}

/// Reads what an HTTP/1 client still sends after its response, and throws it away. A stream of HTTP/2 is reset
/// without an error instead.
pub(super) async fn linger(session: &mut Session) {
    if session.as_http1().is_none() {
        return;
    }
    if let Some(gate) = gate(session) {
        gate.set(Gate::Open);
    }
    let end = Instant::now() + LINGER;
    while !session.as_downstream_mut().is_body_done() {
        let until = end.min(Instant::now() + LINGER_IDLE);
        let read = timeout_at(until, session.as_downstream_mut().read_request_body()).await;
        if !matches!(read, Ok(Ok(Some(_)))) {
            return;
        }
    }
}
