//! WebSocket messages as data of a stream filter: each whole message is one `proxy_on_downstream_data` (from the
//! client) or `proxy_on_upstream_data` (from the backend).

use crate::callbacks::Action;
use crate::host::{Buffer, Phase};
use crate::instance::CallbackContext;
use crate::invoke::Invoker;
use crate::request_scope::View;
use crate::stream_state::Stream;
use bytes::BytesMut;
use moongate_sdk::{Direction, Exchange, Fault, Message, MessageVerdict};

pub(crate) fn message(
    invoker: &Invoker,
    exchange: &mut Exchange<'_>,
    message: &mut Message,
) -> MessageVerdict {
    let mut stream = Stream::take(exchange);
    let verdict = pass(invoker, &mut stream, exchange, message).unwrap_or_else(MessageVerdict::Failed);
    stream.put(exchange);
    verdict
}

fn pass(
    invoker: &Invoker,
    stream: &mut Stream,
    exchange: &mut Exchange<'_>,
    message: &mut Message,
) -> Result<MessageVerdict, Fault> {
    let new = stream.run.is_none();
    let run = invoker.run(stream, exchange)?;
    let buffer = match message.direction {
        Direction::ToBackend => Buffer::DownstreamData,
        Direction::ToClient => Buffer::UpstreamData,
    };
    let (id, size) = (run.id, message.payload.len());
    let opcode = Some(if message.binary { "binary" } else { "text" });
    let bytes = std::mem::take(&mut message.payload).freeze();
    let mut view = View { exchange, response: None, sent_response: None, open: false, opcode };
    let context =
        CallbackContext { stream: id, scope: Some(&mut view), body: Some((buffer, bytes)), services: None };
    let result = run.instance.run(Phase::Message, context, |core| {
        if new {
            core.connected(id)?;
        }
        core.data(buffer, id, size, false)
    })?;
    crate::http_calls::Calls::new(result.outcome.calls).detach(&run.instance, exchange.services);
    if let Some((code, reason)) = result.outcome.close {
        return Ok(MessageVerdict::Close { code, reason });
    }
    if result.value == Action::Pause && !result.outcome.resumed {
        return Ok(MessageVerdict::Drop);
    }
    // An unchanged message has no other owner, so nothing is copied.
    message.payload = result.body.try_into_mut().unwrap_or_else(BytesMut::from);
    Ok(MessageVerdict::Forward)
}

/// Handles the end of the WebSocket.
pub(crate) fn closed(exchange: &mut Exchange<'_>) {
    let mut stream = Stream::take(exchange);
    let Some(run) = stream.run.take() else { return };
    let id = run.id;
    let mut view = View { exchange, response: None, sent_response: None, open: false, opcode: None };
    let context = CallbackContext { stream: id, scope: Some(&mut view), ..CallbackContext::default() };
    // A failure here affects only the instance: there is nothing left to decide.
    if run.instance.run(Phase::Log, context, |core| core.disconnected(id)).is_ok() {
        run.end(&mut view);
    }
}
