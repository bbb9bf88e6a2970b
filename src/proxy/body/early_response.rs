//! Early responses: a final response that arrives before the request body has been sent completely (RFC 9112
//! §9.3, RFC 9110 §7.5).
//!
//! The rest of the upload is not forwarded: the backend may have stopped reading after the header, and would
//! parse the rest as a request. After a 2xx of a backend over HTTP/1 the upload goes on until the response is complete.
//! The response is forwarded, and its connection is never pooled. With HTTP/2 both directions of a stream continue (RFC
//! 9113 §8.1).
//!
//! Pingora's loop, which may serve a backend of an HTTP/2 upstream that has chosen HTTP/1.1, reads the request body to its
//! end, and pools the connection when both messages are complete. So the body is never completed: a read waits
//! during the response and then fails, and a failed attempt pools nothing. Each read returns at most one chunk, so
//! none is in progress when the gate closes.

use crate::proxy::downstream::session::Session;
use crate::proxy::downstream::upload_gate::Gate;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the rest of an upload is read and discarded, so that the client can read its response before the
/// connection is reset: in total, and between two reads.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);

/// The interval of checks for a shutdown meanwhile.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(200);

/// A final response came early: the client's body is no longer read. The idle limit of the response applies
/// to the wait.
pub(in crate::proxy) fn pause(session: &mut Session) {
    session.control().gate.set(Gate::Paused);
    session.set_body_timeout(None);
    session.close_after_response();
}

/// The response is complete: ends a loop that still waits for the body.
pub(in crate::proxy) fn end(session: &Session) {
    session.control().gate.set(Gate::Ended);
}

/// Half-closes an HTTP/1 connection whose client still sends its body after the response, then reads and
/// discards the body for a while. A connection closed with unread bytes is reset, and the response may be
/// lost (RFC 9112 §9.6). An HTTP/2 stream is reset without an error after that time (RFC 9113 §8.1), and not at once:
/// clients of Node.js take a reset before the end of their upload for the failure of the request.
///
/// A shutdown waits for the streams of a connection, so they are reset when it begins.
pub(in crate::proxy) async fn linger(session: &mut Session, shutdown: &AtomicBool) {
    if !session.has_response() || !session.is_in_body() || session.flush().await.is_err() {
        return;
    }
    session.control().gate.set(Gate::Open);
    session.end_sending();
    session.set_body_timeout(None);
    let end = Instant::now() + LINGER;
    let mut idle_end = Instant::now() + LINGER_IDLE;
    let ends = |session: &Session| session.is_body_done() || session.is_http2() && shutdown.load(Relaxed);
    while !ends(session) {
        let until = end.min(idle_end);
        let look = if session.is_http2() { until.min(Instant::now() + SHUTDOWN_LOOK) } else { until };
        match timeout_at(look, session.read_body()).await {
            Ok(Ok(Some(_))) => idle_end = Instant::now() + LINGER_IDLE,
            Ok(_) => return,
            Err(_) if Instant::now() >= until => return,
            Err(_) => {}
        }
    }
}
