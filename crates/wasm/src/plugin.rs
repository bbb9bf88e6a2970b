//! The phases of a request, mapped to callbacks of a filter.
//!
//! A filter that pauses waits for its HTTP calls. Without a pending call, a pause at the head requests the body,
//! and a pause in a body holds it back. Any other pause is a fault, because nothing would resume the request.

use crate::host::{Phase, Shared};
use crate::invoke::{Invoker, NextStep, STUCK};
use crate::logs::Logs;
use crate::metrics::Ledger;
use crate::module::CompiledModule;
use crate::module_settings::ModuleSettings;
use crate::phase_selection::{has_body, phases};
use crate::request_scope::View;
use crate::shared_data::SharedData;
use crate::stream_state::Stream;
use crate::worker_instances::Slots;
use crate::{messages, timers};
use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use moongate_config::Problem;
use moongate_sdk::{
    Background, Exchange, Fault, Flow, Message, MessageVerdict, Phases, Piece, Plugin, Reply, Response,
    Services, Verdict, WebSocketEnd,
};
use std::sync::Arc;

const TOO_LONG: Fault = Fault::fixed("the filter holds back more than `limits.body`");

/// An entry.
pub(crate) struct Wasm {
    invoker: Invoker,
    phases: Phases,
    /// Whether the response head is kept for later phases.
    keeps_response: bool,
}

impl Wasm {
    /// Starts the module once, as a check.
    pub(crate) fn start(program: Arc<CompiledModule>, settings: ModuleSettings) -> Result<Self, Problem> {
        let phases = phases(&program, settings.websocket)?;
        let keeps_response = phases.response_body || program.has("proxy_on_log");
        let shared = Arc::new(Shared {
            logs: Logs::default(),
            ledger: Ledger::of(&settings.name),
            data: SharedData::of(&settings.vm_id),
            ticks: tokio::sync::Notify::new(),
            settings,
        });
        let slots = Slots::new(program, shared)
            .map_err(|fault| Problem::new(format!("the module does not start: {fault}")))?;
        Ok(Self { invoker: Invoker { slots: Arc::new(slots) }, phases, keeps_response })
    }

    /// Ends the phase `request_headers`.
    fn headers_verdict(&self, stream: &mut Stream, exchange: &Exchange<'_>, next: NextStep) -> Verdict {
        match next {
            NextStep::Now(verdict) => verdict,
            NextStep::Go(_) => Verdict::Continue,
            NextStep::Hold(_) if self.phases.request_body && has_body(exchange) => {
                stream.whole = true;
                Verdict::Body(self.invoker.slots.shared().settings.body as u64)
            }
            NextStep::Hold(_) | NextStep::Wait(..) => Verdict::Failed(STUCK),
        }
    }

    /// Ends a piece of a body: it is forwarded, or held back.
    fn piece_verdict(&self, stream: &mut Stream, piece: &mut Piece, next: NextStep) -> Verdict {
        match next {
            NextStep::Now(verdict) => verdict,
            NextStep::Go(bytes) => {
                piece.bytes = bytes;
                Verdict::Continue
            }
            NextStep::Hold(_) | NextStep::Wait(..) if piece.last => Verdict::Failed(STUCK),
            NextStep::Hold(bytes) | NextStep::Wait(_, bytes) => {
                if bytes.len() > self.invoker.slots.shared().settings.body {
                    return Verdict::Respond(Box::new(Reply::new(StatusCode::PAYLOAD_TOO_LARGE)));
                }
                stream.held = bytes.try_into_mut().unwrap_or_else(BytesMut::from);
                Verdict::Continue
            }
        }
    }
}

impl Plugin for Wasm {
    fn phases(&self) -> Phases {
        self.phases
    }

    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        self.invoker
            .slots
            .program()
            .has("proxy_on_tick")
            .then(|| timers::keep(self.invoker.slots.clone(), services.clone()))
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let mut stream = Stream::take(exchange);
        let next = match self.invoker.on_request(&mut stream, exchange) {
            Ok(NextStep::Wait(calls, body)) => {
                return Flow::wait(async move {
                    let wait = self.invoker.await_calls(
                        &mut stream,
                        exchange,
                        None,
                        Phase::RequestHeaders,
                        (calls, body),
                    );
                    let next = wait.await.unwrap_or_else(failed);
                    let verdict = self.headers_verdict(&mut stream, exchange, next);
                    stream.put(exchange);
                    verdict
                });
            }
            next => next.unwrap_or_else(failed),
        };
        let verdict = self.headers_verdict(&mut stream, exchange, next);
        stream.put(exchange);
        verdict.into()
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let mut stream = Stream::take(exchange);
        let next = match self.invoker.on_body(&mut stream, exchange, piece, Phase::RequestBody) {
            Ok(NextStep::Wait(calls, body)) => {
                return Flow::wait(async move {
                    let wait = self.invoker.await_calls(
                        &mut stream,
                        exchange,
                        None,
                        Phase::RequestBody,
                        (calls, body),
                    );
                    let next = wait.await.unwrap_or_else(failed);
                    let verdict = self.piece_verdict(&mut stream, piece, next);
                    stream.put(exchange);
                    verdict
                });
            }
            next => next.unwrap_or_else(failed),
        };
        let verdict = self.piece_verdict(&mut stream, piece, next);
        stream.put(exchange);
        verdict.into()
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let mut stream = Stream::take(exchange);
        // The held-back part of the request was forwarded with it.
        stream.held.clear();
        let next = match self.invoker.on_response(&mut stream, exchange, response) {
            Ok(NextStep::Wait(calls, body)) => {
                return Flow::wait(async move {
                    let wait = self.invoker.await_calls(
                        &mut stream,
                        exchange,
                        Some(response),
                        Phase::ResponseHeaders,
                        (calls, body),
                    );
                    let verdict = response_verdict(wait.await.unwrap_or_else(failed));
                    self.keep(&mut stream, response);
                    stream.put(exchange);
                    verdict
                });
            }
            next => next.unwrap_or_else(failed),
        };
        let verdict = response_verdict(next);
        self.keep(&mut stream, response);
        stream.put(exchange);
        verdict.into()
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let mut stream = Stream::take(exchange);
        let next = match self.invoker.on_body(&mut stream, exchange, piece, Phase::ResponseBody) {
            Ok(NextStep::Wait(calls, body)) => {
                // This phase cannot wait, so the responses arrive in parallel to the body.
                if let Some(run) = &stream.run {
                    calls.detach(&run.instance, exchange.services);
                }
                NextStep::Hold(body)
            }
            next => next.unwrap_or_else(failed),
        };
        let verdict = self.piece_verdict(&mut stream, piece, next);
        stream.put(exchange);
        match verdict {
            Verdict::Continue => Ok(()),
            Verdict::Failed(fault) => Err(fault),
            // A filter cannot respond here; the host found the body too long.
            Verdict::Respond(_) | Verdict::Body(_) => Err(TOO_LONG),
        }
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        messages::message(&self.invoker, exchange, message)
    }

    fn closed(&self, exchange: &mut Exchange<'_>, _: &WebSocketEnd<'_>) {
        messages::closed(exchange);
    }

    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        let mut stream = Stream::take(exchange);
        let Some(run) = stream.run.take() else { return };
        let sent_response =
            stream.response.take().or_else(|| status.map(|status| Box::new((status, HeaderMap::new()))));
        run.end(&mut View {
            exchange,
            response: None,
            sent_response: sent_response.as_deref(),
            open: false,
            opcode: None,
        });
    }
}

impl Wasm {
    fn keep(&self, stream: &mut Stream, response: &Response<'_>) {
        if self.keeps_response {
            stream.response = Some(Box::new((response.status, (*response.headers).clone())));
        }
    }
}

fn failed(fault: Fault) -> NextStep {
    NextStep::Now(Verdict::Failed(fault))
}

/// Ends the phase `response_headers`.
fn response_verdict(next: NextStep) -> Verdict {
    match next {
        NextStep::Now(verdict) => verdict,
        NextStep::Go(_) => Verdict::Continue,
        NextStep::Hold(_) | NextStep::Wait(..) => Verdict::Failed(STUCK),
    }
}
