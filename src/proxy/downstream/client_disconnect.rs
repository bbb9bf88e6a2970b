//! Detection of client disconnects while a request waits for something other than the response: a plugin's
//! call, a handshake queue, a WebSocket handshake. While the response is awaited or sent, the session is read
//! and detects it.

use super::session::Session;
use super::socket_watch::{DisconnectFuture, SocketWatch};
use crate::proxy::failure::Failure;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

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
    // The rest of a body is not read.
    tokio::select! {
        biased;
        output = work => Ok(output),
        _ = session.read_body_or_idle(true) => Err(Failure::ClientGone),
    }
}
