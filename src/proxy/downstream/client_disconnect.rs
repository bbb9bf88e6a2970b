//! Detection of client disconnects while a request waits for something other than the response: a plugin's
//! call, a handshake queue, a WebSocket handshake. While the response is awaited or sent, the session is read
//! and detects it.

use super::client_stream::Connection;
use super::session_lookup::connection;
use super::socket_watch::{DisconnectFuture, SocketWatch};
use crate::proxy::failure::Failure;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// A watch for an HTTP/1 client while its session is lent to plugins: a duplicate of its socket.
pub(in crate::proxy) fn watch(session: &Session) -> Option<SocketWatch> {
    connection(session).and_then(Connection::watch)
}

/// The output of `work`, unless the client disconnects first.
///
/// # Errors
/// [`Failure::ClientGone`].
pub(in crate::proxy) async fn until_disconnect<T>(
    watch: Option<SocketWatch>,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let Some(mut watch) = watch.map(Some) else { return Ok(work.await) };
    let mut work = pin!(work);
    let mut gone: Option<DisconnectFuture> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // The socket is watched only if there is a wait.
        if let Some(watch) = watch.take() {
            gone = Some(watch.gone());
        }
        match &mut gone {
            Some(gone) => gone.as_mut().poll(cx).map(|()| Err(Failure::ClientGone)),
            None => Poll::Pending,
        }
    })
    .await
}

/// The output of work that does not need the session, for a request that was received completely.
///
/// # Errors
/// [`Failure::ClientGone`].
pub(in crate::proxy) async fn unless_session_ends<T>(
    session: &mut Session,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let downstream = session.as_downstream_mut();
    // The rest of a body must not be read here.
    let has_end = !matches!(downstream, ServerSession::H1(_)) || downstream.is_body_done();
    tokio::select! {
        biased;
        output = work => Ok(output),
        _ = downstream.read_body_or_idle(true), if has_end => Err(Failure::ClientGone),
    }
}
