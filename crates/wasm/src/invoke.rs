//! One callback of a request and its outcome, and the wait for a filter's HTTP calls.

use crate::callbacks::Action;
use crate::host::{Buffer, Phase};
use crate::http_calls::Calls;
use crate::instance::{CallbackContext, CallbackResult};
use crate::phase_selection::{has_body, response_ends};
use crate::request_scope::View;
use crate::stream_state::{Run, Stream};
use crate::worker_instances::Slots;
use bytes::{Bytes, BytesMut};
use moongate_sdk::{Exchange, Fault, Piece, Response, Services, Verdict};
use std::sync::Arc;

/// Without a pending call the request would wait forever.
pub(crate) const STUCK: Fault = Fault::fixed("the filter paused without a pending call that can resume it");
/// The outcome of a callback.
pub(crate) enum NextStep {
    Now(Verdict),
    /// It paused until these calls complete; with the body after the callback.
    Wait(Calls, Bytes),
    /// It paused, and nothing is pending.
    Hold(Bytes),
    /// It continues, with that body.
    Go(Bytes),
}

/// Runs the callbacks of an entry's module.
pub(crate) struct Invoker {
    pub(crate) slots: Arc<Slots>,
}

impl Invoker {
    /// The stream's context, which is new in the first phase that it meets.
    pub(crate) fn run<'s>(
        &self,
        stream: &'s mut Stream,
        exchange: &mut Exchange<'_>,
    ) -> Result<&'s Run, Fault> {
        if stream.run.is_none() {
            let instance = self.slots.instance()?;
            let mut view = View { exchange, response: None, sent_response: None, open: false, opcode: None };
            let id = instance.begin(Some(&mut view))?;
            stream.run = Some(Run::new(instance, id));
        }
        stream.run.as_ref().ok_or(STUCK)
    }

    pub(crate) fn on_request(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
    ) -> Result<NextStep, Fault> {
        let ends = !has_body(exchange);
        let fields = exchange.headers.len() + 4;
        let run = self.run(stream, exchange)?;
        let id = run.id;
        let mut view = View { exchange, response: None, sent_response: None, open: true, opcode: None };
        let context = CallbackContext { stream: id, scope: Some(&mut view), ..CallbackContext::default() };
        let result = run
            .instance
            .run(Phase::RequestHeaders, context, |core| core.request_headers(id, fields, ends))?;
        Ok(next(run, exchange.services, result))
    }

    pub(crate) fn on_response(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        response: &mut Response<'_>,
    ) -> Result<NextStep, Fault> {
        let ends = response_ends(exchange, response);
        let fields = response.headers.len() + 1;
        let run = self.run(stream, exchange)?;
        let id = run.id;
        let mut view =
            View { exchange, response: Some(response), sent_response: None, open: false, opcode: None };
        let context = CallbackContext { stream: id, scope: Some(&mut view), ..CallbackContext::default() };
        let result = run
            .instance
            .run(Phase::ResponseHeaders, context, |core| core.response_headers(id, fields, ends))?;
        Ok(next(run, exchange.services, result))
    }

    pub(crate) fn on_body(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        piece: &mut Piece,
        phase: Phase,
    ) -> Result<NextStep, Fault> {
        let bytes = joined(&mut stream.held, std::mem::take(&mut piece.bytes));
        let (open, response) = (stream.whole, stream.response.take());
        let run = self.run(stream, exchange)?;
        let (id, size, last) = (run.id, bytes.len(), piece.last);
        let buffer = if phase == Phase::RequestBody { Buffer::RequestBody } else { Buffer::ResponseBody };
        let mut view =
            View { exchange, response: None, sent_response: response.as_deref(), open, opcode: None };
        let context = CallbackContext {
            stream: id,
            scope: Some(&mut view),
            body: Some((buffer, bytes)),
            services: None,
        };
        let result = run.instance.run(phase, context, |core| core.data(buffer, id, size, last))?;
        let next = next(run, exchange.services, result);
        stream.response = response;
        Ok(next)
    }

    /// Awaits calls until the filter resumes the stream.
    pub(crate) async fn await_calls(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        mut response: Option<&mut Response<'_>>,
        phase: Phase,
        (mut calls, mut body): (Calls, Bytes),
    ) -> Result<NextStep, Fault> {
        let run = stream.run.as_ref().ok_or(STUCK)?;
        let open = phase == Phase::RequestHeaders || stream.whole;
        loop {
            if calls.is_empty() {
                return Ok(NextStep::Hold(body));
            }
            let (number, call_result) = calls.next().await;
            let mut view = View {
                exchange: &mut *exchange,
                response: response.as_deref_mut(),
                sent_response: None,
                open,
                opcode: None,
            };
            let shown = (phase == Phase::RequestBody).then_some((Buffer::RequestBody, body));
            let context =
                CallbackContext { stream: run.id, scope: Some(&mut view), body: shown, services: None };
            let result =
                run.instance.run(phase, context, |core| core.http_call_response(number, call_result))?;
            body = result.body;
            calls.extend(result.outcome.calls);
            if let Some(reply) = result.outcome.reply {
                calls.detach(&run.instance, exchange.services);
                return Ok(NextStep::Now(Verdict::Respond(reply)));
            }
            if result.outcome.resumed {
                calls.detach(&run.instance, exchange.services);
                return Ok(NextStep::Go(body));
            }
        }
    }
}

fn next(run: &Run, services: &Arc<dyn Services>, result: CallbackResult<Action>) -> NextStep {
    let calls = Calls::new(result.outcome.calls);
    if let Some(reply) = result.outcome.reply {
        calls.detach(&run.instance, services);
        return NextStep::Now(Verdict::Respond(reply));
    }
    if result.value == Action::Continue || result.outcome.resumed {
        calls.detach(&run.instance, services);
        return NextStep::Go(result.body);
    }
    if calls.is_empty() { NextStep::Hold(result.body) } else { NextStep::Wait(calls, result.body) }
}

/// The held-back bytes followed by the next piece.
fn joined(held: &mut BytesMut, bytes: Bytes) -> Bytes {
    if held.is_empty() {
        return bytes;
    }
    held.extend_from_slice(&bytes);
    std::mem::take(held).freeze()
}
