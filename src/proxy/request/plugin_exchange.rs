//! Conversion of a request to the plugins' `Exchange`.

use super::request_facts::RequestLine;
use crate::proxy::context::Context;
use crate::snapshot::Route;
use moongate_sdk::{Exchange, Fields, Headers};

/// The exchange of `ctx` for the plugins of its route.
pub(in crate::proxy) fn of<'a>(
    ctx: &'a mut Context,
    route: &'a Route,
    line: RequestLine<'a>,
    fields: &'a mut dyn Fields,
) -> Exchange<'a> {
    let listeners = ctx.snapshot.as_ref().map(|snapshot| &snapshot.listeners);
    let listener = listeners.and_then(|all| all.get(usize::from(ctx.received.listener)));
    Exchange {
        request: ctx.received.request(line, listener.map_or("", |listener| &*listener.name), &route.name),
        headers: Headers::request(fields),
        running: &mut ctx.running,
        services: &ctx.services,
    }
}
