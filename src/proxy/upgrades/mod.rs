//! Upgrades to protocols other than WebSocket (RFC 9110 §7.8): a request that offers protocols of its route's list, with its
//! body if it has one. Up to the 101 it is HTTP, and all settings of the route apply; then both connections become a raw
//! relay.

pub(super) mod raw_tunnel_start;

use super::Gateway;
use super::context::Context;
use super::downstream::http1_session::put_head;
use super::downstream::session::Session;
use super::exchange::switched_connection::SwitchedConnection;
use super::exchange::{self, Exchanged};
use super::failure::Failure;
use super::message_fields::ResponseFields;
use super::request::request_facts::RequestLine;
use super::response::{local_response, request_end, response_head};
use super::tracing::websocket_span::WebSocketTrace;
use super::websocket::tunnel_admission;
use super::websocket::tunnel_log::{CloseLogFields, Origin};
use super::websocket::websocket_plugins;
use crate::tunnel::{Permit, TunnelIo};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, header};
use pingora::Result;
use raw_tunnel_start::RawTunnelStart;

/// What follows a request that offers protocols.
pub(super) enum ServedUpgrade {
    /// The client has a response.
    Response,
    /// The connections become this relay.
    Relay(Box<RawTunnelStart>),
    /// Nothing yet: the backend has HTTP/2 only, and the request goes on without the offer.
    NeedsHttp2,
}

/// Serves a request that offers protocols.
///
/// # Errors
/// When the client disconnected, or the last attempt failed.
pub(super) async fn serve(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
) -> Result<ServedUpgrade> {
    let permit = match tunnel_admission::admit(gateway, session, ctx).await {
        Ok(permit) => permit,
        Err(failure) => {
            local_response::failure(session, ctx, failure).await?;
            return Ok(ServedUpgrade::Response);
        }
    };
    match exchange::serve(session, ctx).await? {
        Exchanged::Switched(switched) => {
            let opened = open(gateway, session, ctx, permit, *switched).await?;
            Ok(opened.map_or(ServedUpgrade::Response, ServedUpgrade::Relay))
        }
        Exchanged::Response => Ok(ServedUpgrade::Response),
        Exchanged::NeedsHttp2 => Ok(ServedUpgrade::NeedsHttp2),
    }
}

/// Both sides agreed: the client gets its 101 with the start of the relay.
async fn open(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
    permit: Permit,
    switched: SwitchedConnection,
) -> Result<Option<Box<RawTunnelStart>>> {
    let SwitchedConnection { mut head, names, protocol, chosen, stream, early } = switched;
    let fields = &mut ResponseFields(&mut head);
    let drain_moment = match response_head::finish_upgrade(session, fields, ctx).await {
        Ok(moment) => moment,
        // The backend's connection ends here: its 101 is not forwarded.
        Err(instead) => {
            local_response::instead(session, ctx, instead).await?;
            return Ok(None);
        }
    };
    head.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    head.remove_header(&header::UPGRADE);
    for value in chosen {
        head.append_header(header::UPGRADE, value)?;
    }
    let mut switching = BytesMut::new();
    put_head(&mut switching, &head, &names, None);
    // No subprotocol is negotiated.
    let origin = Origin::of(session.request(), &HeaderMap::new(), ctx);
    let (Some(origin), Some(route)) = (origin, ctx.route.clone()) else {
        local_response::failure(session, ctx, Failure::Internal).await?;
        return Ok(None);
    };
    let handshake = ctx.started.elapsed();
    let trace = WebSocketTrace::open(&gateway.shared, session.request(), ctx, Some(&protocol));
    request_end::upgraded(session, ctx);
    let notes = CloseLogFields::all(&request_end::notes(ctx));
    let recheck = websocket_plugins::rechecks(ctx, &route, RequestLine::of(session.request()));
    let Some(lease) = ctx.attempts.take_lease() else { return Ok(None) };
    Ok(Some(Box::new(RawTunnelStart {
        protocol,
        origin,
        notes,
        route,
        generation: ctx.snapshot.generation,
        lease,
        permit,
        backend: TunnelIo::from(stream),
        backend_early: early,
        listener: ctx.listener().into(),
        switching: switching.freeze(),
        handshake,
        drain_moment,
        recheck,
        trace,
    })))
}
