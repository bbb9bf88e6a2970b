//! Admission of a request that may open a tunnel: the route's limits, and the handshake queue.

use super::handshake_rate_wait;
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::downstream::client_disconnect;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::Failure;
use crate::tunnel::{ClientKey, Denial, Permit};
use crate::upstream::{Key, RequestView};
use http::header;

/// Waits until the limits of the route and of the listener allow one more tunnel.
///
/// # Errors
/// The limit that refuses it, or the client's disconnect.
pub(in crate::proxy) async fn admit(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &Context,
) -> std::result::Result<Permit, Failure> {
    // A rejected request uses no reservation, and a waiting one holds no permit.
    let permit = Box::pin(acquire_permit(session, ctx)).await?;
    let Some(wait) = Box::pin(handshake_rate_wait::take(ctx)).await? else { return Ok(permit) };
    drop(permit);
    let wait = Box::pin(handshake_rate_wait::wait(gateway, wait));
    client_disconnect::unless_session_ends(session, wait).await??;
    Box::pin(acquire_permit(session, ctx)).await
}

/// Returns a permit if the route accepts one more tunnel, of this client and this origin.
async fn acquire_permit(session: &Session, ctx: &Context) -> std::result::Result<Permit, Failure> {
    let route = ctx.route.as_ref().ok_or(Failure::Internal)?;
    let head = session.request();
    let view = ctx.view(head);
    let origin = head.headers.get(header::ORIGIN).map(http::HeaderValue::as_bytes);
    let key = route.policy.client_key().map(|source| source.read(&view));
    let failure = |denial| match denial {
        Denial::Origin => Failure::OriginDenied,
        Denial::Full => Failure::TooManyConnections,
        Denial::ClientFull => Failure::TooManyOfClient,
    };
    let permit = route.policy.acquire_permit(origin, client_key(key.as_ref(), &view)).map_err(failure)?;
    permit.share().await.map_err(failure)
}

/// The key of the client in the route's limit on messages, if a fleet shares it.
pub(super) fn message_key(session: &Session, ctx: &Context) -> Option<u128> {
    let source = ctx.route.as_ref()?.policy.message_key()?;
    let view = ctx.view(session.request());
    let key = source.read(&view);
    Some(client_key(Some(&key), &view).fleet_key())
}

fn client_key<'a>(key: Option<&'a Key<'_>>, view: &RequestView<'a>) -> ClientKey<'a> {
    match key {
        Some(key) if !key.is_client() => ClientKey::Key(key.as_bytes()),
        _ => ClientKey::Client(view.request.client_network),
    }
}
