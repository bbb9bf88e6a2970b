//! Execution of a chain: each phase calls its plugins in order.
//!
//! A plugin that failed is skipped for the rest of the request, regardless of its `on_error`, since its view
//! of the request may be incomplete.

use super::condition::Part;
use super::panic_guard::{CaughtFuture, guard};
use super::{Chain, Decision, PluginFailure};
use crate::telemetry::metrics::{Call, Phase};
use http::StatusCode;
use moongate_sdk::{Direction, Exchange, Fault, Flow, Piece, RequestState, Response, Verdict};
use std::time::Instant;

/// A plugin requested a body in a phase without one.
pub(super) const MISPLACED: Fault = Fault::fixed("the plugin requested the body outside `request_headers`");

const UNKNOWN: Fault = Fault::fixed("the condition `when` could not be evaluated");

/// The results of calls in traces.
const CONTINUED: &str = "continue";
const FAILED: &str = "failed";

/// A plugin panicked.
pub(super) struct PluginPanic;

/// The result of a call as a word.
fn result(verdict: &Result<Verdict, PluginPanic>) -> &'static str {
    match verdict {
        Ok(Verdict::Continue) => CONTINUED,
        Ok(Verdict::Respond(_)) => "respond",
        Ok(Verdict::Body(_)) => "wait_for_body",
        Ok(Verdict::Failed(_)) | Err(PluginPanic) => FAILED,
    }
}

impl Chain {
    /// Calls the plugins with the request header, until one decides.
    pub async fn request_headers(&self, exchange: &mut Exchange<'_>) -> Decision {
        self.request_headers_from(0, exchange).await
    }

    /// Continues from a position on: after the plugin that received the whole body.
    pub async fn request_headers_from(&self, from: usize, exchange: &mut Exchange<'_>) -> Decision {
        if from == 0 {
            self.withdraw(exchange);
        }
        for &at in &self.request {
            if at < from {
                continue;
            }
            let entry = &self.entries[at];
            let part = self.part(at, exchange, None);
            self.withdraw_at(at, exchange);
            match part {
                Part::Taken => {}
                Part::LeftOut => continue,
                Part::Unknown => match self.unknown(at, exchange, Phase::RequestHeaders) {
                    Some(decision) => return decision,
                    None => continue,
                },
            }
            if !entry.phases().request_headers {
                continue;
            }
            exchange.running.begin_plugin(at);
            let begun = exchange.running.call_begins();
            let mut call = entry.metrics().call(Phase::RequestHeaders);
            let flow = guard(|| entry.plugin().request_headers(exchange));
            call.returned();
            if let Some(Flow::Continue) = flow {
                drop(flow);
                exchange.running.call_ended(begun, Phase::RequestHeaders.label(), CONTINUED);
                continue;
            }
            let verdict = await_verdict(flow, &mut call).await;
            exchange.running.call_ended(begun, Phase::RequestHeaders.label(), result(&verdict));
            let decision = match verdict {
                Ok(Verdict::Body(limit)) => Some(Decision::Body { at, limit }),
                other => self.decide(at, other, exchange.running, &call),
            };
            if let Some(decision) = decision {
                return decision;
            }
        }
        Decision::Continue
    }

    /// Calls the plugins at these positions with a chunk of the request body, until one decides. If a plugin
    /// holds back all bytes, the next ones are not called, unless it was the last chunk.
    pub async fn request_body(
        &self,
        positions: std::ops::Range<usize>,
        exchange: &mut Exchange<'_>,
        piece: &mut Piece,
    ) -> Decision {
        for &at in &self.request_body {
            if piece.bytes.is_empty() && !piece.last {
                break;
            }
            if !positions.contains(&at) || exchange.running.skips_bodies(at) {
                continue;
            }
            let decision = self.body_shown(at, exchange, piece).await;
            if let Some(decision) = decision {
                return decision;
            }
        }
        Decision::Continue
    }

    /// Calls the plugin that requested the whole body, even if its phases contain no body phase.
    pub async fn whole_body(&self, at: usize, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Decision {
        self.body_shown(at, exchange, piece).await.unwrap_or(Decision::Continue)
    }

    async fn body_shown(
        &self,
        at: usize,
        exchange: &mut Exchange<'_>,
        piece: &mut Piece,
    ) -> Option<Decision> {
        let entry = &self.entries[at];
        // The body's length may already be sent to the backend, so it must not change.
        let looks_only = entry.phases().looks_only;
        let original = (looks_only || entry.is_dispensable()).then(|| piece.clone());
        let last = piece.last;
        exchange.running.begin_plugin(at);
        let begun = exchange.running.call_begins();
        let mut call = entry.metrics().call(Phase::RequestBody);
        let flow = guard(|| entry.plugin().request_body(exchange, piece));
        call.returned();
        let verdict = await_verdict(flow, &mut call).await;
        exchange.running.call_ended(begun, Phase::RequestBody.label(), result(&verdict));
        piece.last = last;
        let failed = !matches!(verdict, Ok(Verdict::Continue | Verdict::Respond(_)));
        let decision = self.decide(at, verdict, exchange.running, &call);
        let Some(original) = original else { return decision };
        if looks_only {
            piece.bytes = original.bytes;
            return decision;
        }
        let cut = self.body_left(at, failed, original, piece, exchange.running, Direction::ToBackend);
        decision.or(cut.map(Decision::Failed))
    }

    /// The chunk to forward after a dispensable plugin. After a failure that is the original chunk, unless
    /// the plugin changed an earlier one: the rest would not match it.
    fn body_left(
        &self,
        at: usize,
        failed: bool,
        original: Piece,
        piece: &mut Piece,
        running: &mut RequestState,
        direction: Direction,
    ) -> Option<PluginFailure> {
        if failed {
            *piece = original;
            let cut = running.has_changed_body(at, direction);
            return cut.then(|| PluginFailure { plugin: self.entries[at].name().clone() });
        }
        // Comparing pointers suffices: most plugins return the bytes that they received.
        if original.bytes.as_ptr() != piece.bytes.as_ptr() || original.bytes.len() != piece.bytes.len() {
            running.change_body(at, direction);
        }
        None
    }

    /// Calls the plugins with the response header, until one replaces the response. Those at `passed`
    /// replaced it before; the others see their response.
    pub async fn response_headers(
        &self,
        exchange: &mut Exchange<'_>,
        answer: &mut Response<'_>,
        passed: &[usize],
    ) -> Decision {
        for &at in &self.response {
            if passed.contains(&at) {
                continue;
            }
            let entry = &self.entries[at];
            match self.part(at, exchange, Some(answer)) {
                Part::Taken => {}
                Part::LeftOut => continue,
                Part::Unknown => match self.unknown(at, exchange, Phase::ResponseHeaders) {
                    Some(decision) => return decision,
                    None => continue,
                },
            }
            if !entry.phases().response_headers {
                continue;
            }
            exchange.running.begin_plugin(at);
            let begun = exchange.running.call_begins();
            let mut call = entry.metrics().call(Phase::ResponseHeaders);
            let flow = guard(|| entry.plugin().response_headers(exchange, answer));
            call.returned();
            if let Some(Flow::Continue) = flow {
                drop(flow);
                exchange.running.call_ended(begun, Phase::ResponseHeaders.label(), CONTINUED);
                continue;
            }
            let verdict = await_verdict(flow, &mut call).await;
            exchange.running.call_ended(begun, Phase::ResponseHeaders.label(), result(&verdict));
            if let Some(decision) = self.decide(at, verdict, exchange.running, &call) {
                return decision;
            }
        }
        Decision::Continue
    }

    /// Calls the plugins with a chunk of the response body.
    ///
    /// # Errors
    /// When a plugin with `on_error: closed` fails.
    pub fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), PluginFailure> {
        for &at in &self.response_body {
            if piece.bytes.is_empty() && !piece.last {
                break;
            }
            // The response of an earlier plugin may be the first that the plugin sees, so its condition is
            // evaluated now.
            if exchange.running.skips_bodies(at) || self.leaves_out(at, exchange) {
                continue;
            }
            let entry = &self.entries[at];
            let original = entry.is_dispensable().then(|| piece.clone());
            let last = piece.last;
            exchange.running.begin_plugin(at);
            let begun = exchange.running.call_begins();
            let mut call = entry.metrics().call(Phase::ResponseBody);
            let shown = guard(|| entry.plugin().response_body(exchange, piece));
            call.returned();
            piece.last = last;
            let failed = !matches!(shown, Some(Ok(())));
            let word = if failed { FAILED } else { CONTINUED };
            exchange.running.call_ended(begun, Phase::ResponseBody.label(), word);
            let broken = match &shown {
                Some(Ok(())) => None,
                Some(Err(fault)) => self.fail(at, Some(fault), exchange.running, &call),
                None => self.fail(at, None, exchange.running, &call),
            };
            let cut = original.and_then(|original| {
                self.body_left(at, failed, original, piece, exchange.running, Direction::ToClient)
            });
            if let Some(broken) = broken.or(cut) {
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Calls the plugins after the exchange. A panic is logged, and the next plugin is called.
    pub fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        for &at in &self.log {
            if self.leaves_out(at, exchange) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            let begun = exchange.running.call_begins();
            let mut call = entry.metrics().call(Phase::Log);
            let returned = guard(|| entry.plugin().log(exchange, status));
            call.returned();
            let word = if returned.is_some() { CONTINUED } else { FAILED };
            exchange.running.call_ended(begun, Phase::Log.label(), word);
            if returned.is_none() {
                self.fail(at, None, exchange.running, &call);
            }
        }
    }

    /// Handles a condition that could not be evaluated like a failed plugin: `on_error` decides. A guard is
    /// not bypassed.
    fn unknown(&self, at: usize, exchange: &mut Exchange<'_>, phase: Phase) -> Option<Decision> {
        let mut call = self.entries[at].metrics().call(phase);
        call.returned();
        self.decide(at, Ok(Verdict::Failed(UNKNOWN)), exchange.running, &call)
    }

    /// Converts a verdict to a decision; `None` if the request continues.
    fn decide(
        &self,
        at: usize,
        verdict: Result<Verdict, PluginPanic>,
        running: &mut RequestState,
        call: &Call<'_>,
    ) -> Option<Decision> {
        let fault = match verdict {
            Ok(Verdict::Continue) => return None,
            Ok(Verdict::Respond(reply)) => {
                return Some(Decision::Respond { at, by: self.entries[at].name().clone(), reply });
            }
            Ok(Verdict::Body(_)) => Some(MISPLACED),
            Ok(Verdict::Failed(fault)) => Some(fault),
            Err(PluginPanic) => None,
        };
        self.fail(at, fault.as_ref(), running, call).map(Decision::Failed)
    }

    /// Handles a failed plugin, or a panic if there is no fault. Returns `None` if the request continues
    /// without it.
    fn fail(
        &self,
        at: usize,
        fault: Option<&Fault>,
        running: &mut RequestState,
        call: &Call<'_>,
    ) -> Option<PluginFailure> {
        call.failed();
        running.skip(at);
        self.entries[at].failed(fault)
    }
}

/// Awaits the plugin's verdict.
pub(super) async fn await_verdict(
    flow: Option<Flow<'_>>,
    call: &mut Call<'_>,
) -> Result<Verdict, PluginPanic> {
    Ok(match flow.ok_or(PluginPanic)? {
        Flow::Continue => Verdict::Continue,
        Flow::Respond(reply) => Verdict::Respond(reply),
        Flow::Body(limit) => Verdict::Body(limit),
        Flow::Failed(fault) => Verdict::Failed(fault),
        Flow::Wait(future) => {
            let begun = Instant::now();
            let verdict = CaughtFuture::new(future).await;
            call.waited(begun.elapsed());
            verdict.ok_or(PluginPanic)?
        }
    })
}
