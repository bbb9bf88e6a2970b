//! A request in the shape in which plugins see it. What they may do with it is the plugin interface's.

use super::context::{Context, target};
use crate::snapshot::Route;
use http::{HeaderMap, Method, Uri, Version};
use moongate_sdk::{Exchange, Fields, Headers, Request};
use pingora::http::RequestHeader;

/// A request line. It is apart from the fields, for those may be changed meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) version: Version,
}

impl<'a> Line<'a> {
    pub(super) fn of(head: &'a RequestHeader) -> Self {
        Self { method: &head.method, uri: &head.uri, version: head.version }
    }
}

/// What the client uses, or what a trusted proxy says that it does.
pub(super) fn scheme(ctx: &Context, fields: &HeaderMap) -> &'static str {
    let told = ctx.trusted.then(|| fields.get("x-forwarded-proto")).flatten();
    let secure = told.map_or(ctx.tls.is_some(), |proto| proto == "https");
    if secure { "https" } else { "http" }
}

/// Whether the scheme is beyond doubt: TLS ended here, or a trusted proxy told it. Otherwise a balancer that nobody
/// named as trusted may have ended TLS in front.
pub(super) fn scheme_is_certain(ctx: &Context, fields: &HeaderMap) -> bool {
    ctx.tls.is_some() || (ctx.trusted && fields.contains_key("x-forwarded-proto"))
}

/// The request of `ctx` for the plugins of its route.
pub(super) fn of<'a>(
    ctx: &'a mut Context,
    route: &'a Route,
    line: Line<'a>,
    fields: &'a mut dyn Fields,
) -> Exchange<'a> {
    let (path, query) = target(ctx.rewritten.as_deref(), line.uri);
    let listeners = ctx.snapshot.as_ref().map(|snapshot| &snapshot.listeners);
    let listener = listeners.and_then(|all| all.get(usize::from(ctx.listener)));
    let (scheme, certain) = (scheme(ctx, fields.map()), scheme_is_certain(ctx, fields.map()));
    Exchange {
        request: Request {
            method: line.method,
            scheme,
            scheme_is_certain: certain,
            host: &ctx.host,
            path: ctx.matched.as_deref().unwrap_or(path),
            forwarded_path: path,
            query,
            version: line.version,
            client: ctx.client,
            peer: ctx.peer,
            tls: ctx.tls.as_deref(),
            listener: listener.map_or("", |listener| &*listener.name),
            route: &route.name,
        },
        headers: Headers::new(fields),
        running: &mut ctx.running,
        services: &ctx.services,
    }
}
