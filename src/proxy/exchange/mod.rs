//! Exchange of a request with an HTTP/1.1 backend: attempts at endpoints until a response begins, then the
//! response to its end. HTTP/2 backends use Pingora's loop.
//!
//! `request_head` writes the header of the request, `transfer` moves both messages. A request with `Upgrade` may end with
//! a `switched_connection`.

pub(super) mod request_head;
pub(super) mod switched_connection;
mod transfer;

use super::attempt;
use super::context::Context;
use super::downstream::session::Session;
use super::failure::OURS;
use super::failure::failed_attempt::FailedAttempt;
use super::upload::BodyProgress;
use crate::config::UpstreamProtocol;
use crate::upstream::{BackendVersion, DialError, Http1Connection};
use bytes::Bytes;
use pingora::{Error, ErrorSource, Result};
use std::time::Duration;
use switched_connection::SwitchedConnection;
use transfer::Transfer;

/// What served a request.
pub(super) enum Exchanged {
    /// The client has the response.
    Response,
    /// Nothing yet: the upstream, or the leased endpoint, uses HTTP/2.
    NeedsHttp2,
    /// The backend switched to another protocol. Its 101 was not sent yet.
    Switched(Box<SwitchedConnection>),
}

/// Chooses the cluster of the request, if it has none yet. Backends with HTTP/2 over TLS get HTTP/1.1 for an upgrade, unless
/// they have HTTP/2 only; those with h2c have none, and the request goes on without it.
pub(super) fn choose_protocol(session: &Session, ctx: &mut Context) {
    attempt::choose_cluster(session.request(), ctx);
    if ctx.attempts.protocol() == Some(UpstreamProtocol::H2c) {
        ctx.upgrade = None;
    }
}

/// Returns whether a test compares this exchange with Pingora's loop, and this process runs the latter.
#[cfg(debug_assertions)]
fn is_disabled() -> bool {
    static IS_DISABLED: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("MOONGATE_TEST_PINGORA_LOOP").is_some());
    *IS_DISABLED
}

#[cfg(not(debug_assertions))]
const fn is_disabled() -> bool {
    false
}

/// Sends the request to endpoints until one responds, and the response to the client. A lease of the context is the first
/// endpoint.
///
/// # Errors
/// The last attempt's error, after which the failure's response may be sent; the context has the failure.
pub(super) async fn serve(session: &mut Session, ctx: &mut Context) -> Result<Exchanged> {
    choose_protocol(session, ctx);
    let is_left_out = is_disabled() && ctx.upgrade.is_none();
    if is_left_out || ctx.attempts.protocol() == Some(UpstreamProtocol::H2c) {
        return Ok(Exchanged::NeedsHttp2);
    }
    loop {
        match attempt_once(session, ctx).await {
            Err(error) if error.retry() => {}
            done => return done,
        }
    }
}

async fn attempt_once(session: &mut Session, ctx: &mut Context) -> Result<Exchanged> {
    attempt::lease_next(session, ctx).await?;
    if !attempt::uses_http1(ctx) {
        return Ok(Exchanged::NeedsHttp2);
    }
    let Some(connection) = connect(session, ctx).await? else {
        attempt::change_version(ctx, BackendVersion::Http2);
        return Ok(Exchanged::NeedsHttp2);
    };
    let is_reused = connection.is_reused();
    let mut transfer = Transfer::new(connection);
    let moved = transfer.run(session, ctx).await;
    let has_switched = transfer.has_switched();
    if moved.is_ok() && has_switched {
        return Ok(transfer.into_switched().map_or(Exchanged::Response, Exchanged::Switched));
    }
    if has_switched {
        // The backend has begun to act on the request, whatever its method.
        ctx.upload.passed = BodyProgress::Lost;
    }
    end_attempt(session, ctx, moved.map(|()| transfer), is_reused).await.map(|()| Exchanged::Response)
}

/// Keeps the connection of a complete exchange, or decides about another attempt.
async fn end_attempt(
    session: &mut Session,
    ctx: &mut Context,
    moved: Result<Transfer>,
    is_reused: bool,
) -> Result<()> {
    match moved {
        Ok(transfer) => {
            let reusable = transfer.reusable(session, ctx);
            // Requests to other endpoints use HTTP/2: only a refused handshake or upgrade was served here.
            if let Some(connection) = reusable.filter(|_| attempt::shares_http1(ctx)) {
                ctx.attempts.keep(connection, ctx.snapshot.threads);
            }
            Ok(())
        }
        Err(error) => {
            if *error.esource() == ErrorSource::Upstream {
                // The client gets all that came of a response that ends before its end.
                session.flush_now().await;
            }
            Err(attempt::broken(session, ctx, error, is_reused))
        }
    }
}

/// Sends the response on this connection to the client: that of a backend which refused a WebSocket handshake.
///
/// # Errors
/// The error of the side that failed, after which the failure's response may be sent.
pub(super) async fn pass_on(
    session: &mut Session,
    ctx: &mut Context,
    connection: Box<Http1Connection>,
) -> Result<()> {
    let mut transfer = Transfer::new(connection);
    let moved = transfer.run_response(session, ctx).await;
    end_attempt(session, ctx, moved.map(|()| transfer), false).await
}

/// A connection to the leased endpoint. `None` if a backend that chose HTTP/1.1 before has selected HTTP/2, or has nothing
/// else; a request that offers protocols then offers none.
async fn connect(session: &Session, ctx: &mut Context) -> Result<Option<Box<Http1Connection>>> {
    let addrs = attempt::ends(session, ctx);
    let connected = if ctx.upgrade.is_some() {
        // One that was idle before may be closed, which would fail a request that is not idempotent.
        match ctx.attempts.connect_anew(addrs, Duration::MAX).await {
            Ok(stream) => Ok(Some(Box::new(Http1Connection::resume(stream, addrs, Bytes::new())))),
            // RFC 9110 §7.8: `Upgrade` may be ignored, and HTTP/2 has none.
            Err(DialError::NoHttp1) => {
                ctx.upgrade = None;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    } else {
        let version = ctx.attempts.lease().map(|lease| lease.endpoint().version());
        let offers_h2 = attempt::may_change_version(ctx) && version == Some(BackendVersion::ChoseHttp1);
        match ctx.attempts.connect_offering(addrs, offers_h2).await {
            // It demanded HTTP/1.1 before, or seemed to by an invalid response.
            Err(DialError::NoHttp1) if attempt::may_change_version(ctx) => Ok(None),
            Err(DialError::NoHttp1) => Err(DialError::Handshake(std::io::Error::other(DialError::NoHttp1))),
            connected => connected,
        }
    };
    connected.map_err(|error| {
        // Nothing was sent, so any request may be retried.
        let follows = attempt::end(ctx, FailedAttempt::from(error), true, false);
        let mut error = Error::new(OURS);
        error.set_retry(follows);
        error
    })
}
