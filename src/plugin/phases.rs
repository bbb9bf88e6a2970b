//! A chain at work: each phase shown to the plugins that take part in it, one after the other.
//!
//! A plugin that failed is left out of the rest of the request, whatever its `on_error`: what it knows of
//! the request may be half of the truth.

use super::condition::Part;
use super::panic_guard::{Guarded, guard};
use super::{Broken, Chain, Decision};
use crate::telemetry::metrics::{Call, Phase};
use http::StatusCode;
use moongate_sdk::{Direction, Exchange, Fault, Flow, Piece, Response, Running, Verdict};
use std::time::Instant;

/// A plugin asked for a body where there is none to ask for.
pub(super) const MISPLACED: Fault =
    Fault::fixed("it asked for the request's body outside of request_headers");

const UNKNOWN: Fault = Fault::fixed("its condition `when` could not be evaluated");

/// A plugin panicked.
pub(super) struct Panicked;

impl Chain {
    /// Shows the request's head to the plugins, until one decides.
    pub async fn request_headers(&self, exchange: &mut Exchange<'_>) -> Decision {
        self.request_headers_from(0, exchange).await
    }

    /// The same from a position on: behind the plugin that has seen the whole body.
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
            let mut call = entry.metrics().call(Phase::RequestHeaders);
            let flow = guard(|| entry.plugin().request_headers(exchange));
            call.returned();
            if let Some(Flow::Continue) = flow {
                continue;
            }
            let decision = match await_verdict(flow, &mut call).await {
                Ok(Verdict::Body(limit)) => Some(Decision::Body { at, limit }),
                other => self.decide(at, other, exchange.running, &call),
            };
            if let Some(decision) = decision {
                return decision;
            }
        }
        Decision::Continue
    }

    /// Shows a piece of the request's body to the plugins at these positions, until one decides. What
    /// holds bytes back leaves nothing to show to the next, unless it was the last piece.
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

    /// Shows the whole body to the plugin that asked for it, whether or not its phases name bodies.
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
        // The length of the body may be told to the backend already: it stays what it is.
        let looks_only = entry.phases().looks_only;
        let came = (looks_only || entry.is_dispensable()).then(|| piece.clone());
        let last = piece.last;
        exchange.running.begin_plugin(at);
        let mut call = entry.metrics().call(Phase::RequestBody);
        let flow = guard(|| entry.plugin().request_body(exchange, piece));
        call.returned();
        let verdict = await_verdict(flow, &mut call).await;
        piece.last = last;
        let failed = !matches!(verdict, Ok(Verdict::Continue | Verdict::Respond(_)));
        let decision = self.decide(at, verdict, exchange.running, &call);
        let Some(came) = came else { return decision };
        if looks_only {
            piece.bytes = came.bytes;
            return decision;
        }
        let cut = self.body_left(at, failed, came, piece, exchange.running, Direction::ToBackend);
        decision.or(cut.map(Decision::Failed))
    }

    /// What becomes of a piece that a plugin was shown which need not be there. One that failed leaves the piece as it
    /// came; unless it had made something else of an earlier piece, for what is left would not fit to that.
    fn body_left(
        &self,
        at: usize,
        failed: bool,
        came: Piece,
        piece: &mut Piece,
        running: &mut Running,
        direction: Direction,
    ) -> Option<Broken> {
        if failed {
            *piece = came;
            let cut = running.has_changed_body(at, direction);
            return cut.then(|| Broken { plugin: self.entries[at].name().clone() });
        }
        // The same bytes at the same place: most plugins hand on what they were shown.
        if came.bytes.as_ptr() != piece.bytes.as_ptr() || came.bytes.len() != piece.bytes.len() {
            running.change_body(at, direction);
        }
        None
    }

    /// Shows the answer's head to the plugins, until one answers in its place. Those at `passed` have
    /// done so before; theirs is the answer that the others see.
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
            let mut call = entry.metrics().call(Phase::ResponseHeaders);
            let flow = guard(|| entry.plugin().response_headers(exchange, answer));
            call.returned();
            if let Some(Flow::Continue) = flow {
                continue;
            }
            let verdict = await_verdict(flow, &mut call).await;
            if let Some(decision) = self.decide(at, verdict, exchange.running, &call) {
                return decision;
            }
        }
        Decision::Continue
    }

    /// Shows a piece of the answer's body to the plugins.
    ///
    /// # Errors
    /// When one fails without which the answer must not go on.
    pub fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Broken> {
        for &at in &self.response_body {
            if piece.bytes.is_empty() && !piece.last {
                break;
            }
            // An answer of a plugin before it may be the first that it meets: it is judged now.
            if exchange.running.skips_bodies(at) || self.leaves_out(at, exchange) {
                continue;
            }
            let entry = &self.entries[at];
            let came = entry.is_dispensable().then(|| piece.clone());
            let last = piece.last;
            exchange.running.begin_plugin(at);
            let mut call = entry.metrics().call(Phase::ResponseBody);
            let shown = guard(|| entry.plugin().response_body(exchange, piece));
            call.returned();
            piece.last = last;
            let failed = !matches!(shown, Some(Ok(())));
            let broken = match &shown {
                Some(Ok(())) => None,
                Some(Err(fault)) => self.fail(at, Some(fault), exchange.running, &call),
                None => self.fail(at, None, exchange.running, &call),
            };
            let cut = came.and_then(|came| {
                self.body_left(at, failed, came, piece, exchange.running, Direction::ToClient)
            });
            if let Some(broken) = broken.or(cut) {
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Tells the plugins that the exchange is over. A panic of one is logged, and the next is told.
    pub fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        for &at in &self.log {
            if self.leaves_out(at, exchange) {
                continue;
            }
            let entry = &self.entries[at];
            exchange.running.begin_plugin(at);
            let mut call = entry.metrics().call(Phase::Log);
            let told = guard(|| entry.plugin().log(exchange, status));
            call.returned();
            if told.is_none() {
                self.fail(at, None, exchange.running, &call);
            }
        }
    }

    /// A condition could not be evaluated: the entry's `on_error` decides, as when its plugin fails. A guard
    /// that might have been needed is not passed by.
    fn unknown(&self, at: usize, exchange: &mut Exchange<'_>, phase: Phase) -> Option<Decision> {
        let mut call = self.entries[at].metrics().call(phase);
        call.returned();
        self.decide(at, Ok(Verdict::Failed(UNKNOWN)), exchange.running, &call)
    }

    /// What a verdict means for the request; nothing when it goes on.
    fn decide(
        &self,
        at: usize,
        verdict: Result<Verdict, Panicked>,
        running: &mut Running,
        call: &Call<'_>,
    ) -> Option<Decision> {
        let fault = match verdict {
            Ok(Verdict::Continue) => return None,
            Ok(Verdict::Respond(reply)) => {
                return Some(Decision::Respond { at, by: self.entries[at].name().clone(), reply });
            }
            Ok(Verdict::Body(_)) => Some(MISPLACED),
            Ok(Verdict::Failed(fault)) => Some(fault),
            Err(Panicked) => None,
        };
        self.fail(at, fault.as_ref(), running, call).map(Decision::Failed)
    }

    /// A plugin failed, or panicked when there is no fault to tell of. Nothing when the request goes on
    /// without it.
    fn fail(
        &self,
        at: usize,
        fault: Option<&Fault>,
        running: &mut Running,
        call: &Call<'_>,
    ) -> Option<Broken> {
        call.failed();
        running.skip(at);
        self.entries[at].failed(fault)
    }
}

/// Waits for what the plugin decides.
pub(super) async fn await_verdict(flow: Option<Flow<'_>>, call: &mut Call<'_>) -> Result<Verdict, Panicked> {
    Ok(match flow.ok_or(Panicked)? {
        Flow::Continue => Verdict::Continue,
        Flow::Respond(reply) => Verdict::Respond(reply),
        Flow::Body(limit) => Verdict::Body(limit),
        Flow::Failed(fault) => Verdict::Failed(fault),
        Flow::Wait(future) => {
            let begun = Instant::now();
            let verdict = Guarded::new(future).await;
            call.waited(begun.elapsed());
            verdict.ok_or(Panicked)?
        }
    })
}
