//! The end of an upload by the backend: a final response that arrives before the request body has been sent whole
//! (RFC 9112 §9.3, RFC 9110 §7.5).
//!
//! What the client sends afterwards is not forwarded: the backend may have stopped to read after the head, and would take
//! the rest for a request. The response is passed on, and its connection is never pooled. HTTP/2 has streams, so there
//! both directions go on (RFC 9113 §8.1).
//!
//! Pingora's loop reads the client's body until its end, and pools the backend's connection when both messages are
//! complete. So the body is never completed: a read waits while the response is under way, then fails, and an attempt
//! that fails pools nothing. Each read gives out one chunk at the most, so none is under way when the gate closes.

use crate::proxy::downstream::session_lookup::{self, connection};
use crate::proxy::downstream::upload_gate::{Gate, UploadGate};
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the rest of an upload is read and thrown away, so that the client can read its response before the
/// connection is reset: in all, and between two reads.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);

/// The gate of the request.
fn gate(session: &Session) -> Option<&UploadGate> {
    session_lookup::control(session).map(|control| &control.gate)
}

/// A final response came too early: the client's body is read no further. What bounds the wait for the rest of the
/// response is the silence of the backend.
pub(in crate::proxy) fn pause(session: &mut Session) {
    if let Some(gate) = gate(session) {
        gate.set(Gate::Paused);
    }
    session.as_downstream_mut().set_read_timeout(None);
    session.set_keepalive(None);
}

/// The response is complete: Pingora's loop ends, which still waits for the body.
pub(in crate::proxy) fn end(session: &Session) {
    if let Some(gate) = gate(session) {
        gate.set(Gate::Ended);
    }
}

/// Ends the sending direction of an HTTP/1 client that has its response and still sends its body, then reads the body
/// for a while and drops it: a connection that is closed with bytes unread is reset, and the response may be lost with
/// it (RFC 9112 §9.6). A stream of HTTP/2 is reset without an error instead (RFC 9113 §8.1).
pub(in crate::proxy) async fn linger(session: &mut Session) {
    let Some(connection) = connection(session) else { return };
    if session.response_written().is_none_or(|head| head.status.is_informational())
        || !connection.is_in_body()
    {
        return;
    }
    connection.control().gate.set(Gate::Open);
    connection.end_sending();
    session.as_downstream_mut().set_read_timeout(None);
    let end = Instant::now() + LINGER;
    while !session.as_downstream_mut().is_body_done() {
        let until = end.min(Instant::now() + LINGER_IDLE);
        let read = timeout_at(until, session.as_downstream_mut().read_request_body()).await;
        if !matches!(read, Ok(Ok(Some(_)))) {
            return;
        }
    }
}
