//! One callback of a request and its outcome, and the wait for a filter's HTTP calls.

use crate::callbacks::Action;
use crate::host::{Buffer, Phase};
use crate::http_calls::Calls;
use crate::instance::{Came, Scene};
use crate::phase_selection::{answer_ends, has_body};
use crate::request_scope::View;
use crate::stream_state::{Run, Stream};
use crate::worker_instances::Slots;
use bytes::{Bytes, BytesMut};
use moongate_sdk::{Exchange, Fault, Piece, Response, Services, Verdict};
use std::sync::Arc;

/// Without a pending call the request would wait forever.
pub(crate) const STUCK: Fault = Fault::fixed("it paused, and no pending call can resume it");
/// The outcome of a callback.
pub(crate) enum Next {
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
            let mut view = View { exchange, answer: None, kept: None, open: false, opcode: None };
            let id = instance.begin(Some(&mut view))?;
            stream.run = Some(Run::new(instance, id));
        }
        stream.run.as_ref().ok_or(STUCK)
    }

    pub(crate) fn on_request(&self, stream: &mut Stream, exchange: &mut Exchange<'_>) -> Result<Next, Fault> {
        let ends = !has_body(exchange);
        let fields = exchange.headers.len() + 4;
        let run = self.run(stream, exchange)?;
        let id = run.id;
        let mut view = View { exchange, answer: None, kept: None, open: true, opcode: None };
        let scene = Scene { stream: id, sight: Some(&mut view), ..Scene::default() };
        let came =
            run.instance.run(Phase::RequestHeaders, scene, |core| core.request_headers(id, fields, ends))?;
        Ok(next(run, exchange.services, came))
    }

    pub(crate) fn on_response(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        answer: &mut Response<'_>,
    ) -> Result<Next, Fault> {
        let ends = answer_ends(exchange, answer);
        let fields = answer.headers.len() + 1;
        let run = self.run(stream, exchange)?;
        let id = run.id;
        let mut view = View { exchange, answer: Some(answer), kept: None, open: false, opcode: None };
        let scene = Scene { stream: id, sight: Some(&mut view), ..Scene::default() };
        let came = run
            .instance
            .run(Phase::ResponseHeaders, scene, |core| core.response_headers(id, fields, ends))?;
        Ok(next(run, exchange.services, came))
    }

    pub(crate) fn on_body(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        piece: &mut Piece,
        phase: Phase,
    ) -> Result<Next, Fault> {
        let bytes = joined(&mut stream.held, std::mem::take(&mut piece.bytes));
        let (open, answer) = (stream.whole, stream.answer.take());
        let run = self.run(stream, exchange)?;
        let (id, size, last) = (run.id, bytes.len(), piece.last);
        let buffer = if phase == Phase::RequestBody { Buffer::RequestBody } else { Buffer::ResponseBody };
        let mut view = View { exchange, answer: None, kept: answer.as_deref(), open, opcode: None };
        let scene = Scene { stream: id, sight: Some(&mut view), body: Some((buffer, bytes)), services: None };
        let came = run.instance.run(phase, scene, |core| core.data(buffer, id, size, last))?;
        let next = next(run, exchange.services, came);
        stream.answer = answer;
        Ok(next)
    }

    /// Awaits calls until the filter resumes the stream.
    pub(crate) async fn await_calls(
        &self,
        stream: &mut Stream,
        exchange: &mut Exchange<'_>,
        mut answer: Option<&mut Response<'_>>,
        phase: Phase,
        (mut calls, mut body): (Calls, Bytes),
    ) -> Result<Next, Fault> {
        let run = stream.run.as_ref().ok_or(STUCK)?;
        let open = phase == Phase::RequestHeaders || stream.whole;
        loop {
            if calls.is_empty() {
                return Ok(Next::Hold(body));
            }
            let (number, called) = calls.next().await;
            let mut view = View {
                exchange: &mut *exchange,
                answer: answer.as_deref_mut(),
                kept: None,
                open,
                opcode: None,
            };
            let shown = (phase == Phase::RequestBody).then_some((Buffer::RequestBody, body));
            let scene = Scene { stream: run.id, sight: Some(&mut view), body: shown, services: None };
            let came = run.instance.run(phase, scene, |core| core.answered(number, called))?;
            body = came.body;
            calls.extend(came.outcome.calls);
            if let Some(reply) = came.outcome.reply {
                calls.detach(&run.instance, exchange.services);
                return Ok(Next::Now(Verdict::Respond(reply)));
            }
            if came.outcome.resumed {
                calls.detach(&run.instance, exchange.services);
                return Ok(Next::Go(body));
            }
        }
    }
}

fn next(run: &Run, services: &Arc<dyn Services>, came: Came<Action>) -> Next {
    let calls = Calls::new(came.outcome.calls);
    if let Some(reply) = came.outcome.reply {
        calls.detach(&run.instance, services);
        return Next::Now(Verdict::Respond(reply));
    }
    if came.value == Action::Continue || came.outcome.resumed {
        calls.detach(&run.instance, services);
        return Next::Go(came.body);
    }
    if calls.is_empty() { Next::Hold(came.body) } else { Next::Wait(calls, came.body) }
}

/// The held-back bytes followed by the next piece.
fn joined(held: &mut BytesMut, bytes: Bytes) -> Bytes {
    if held.is_empty() {
        return bytes;
    }
    held.extend_from_slice(&bytes);
    std::mem::take(held).freeze()
}
