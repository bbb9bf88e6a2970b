//! Periodic rechecks of an open tunnel. The tunnel's timer includes the next recheck; a future exists only
//! while one is in progress.

use super::messages::{PluginClose, Recheck, RecheckFuture};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum random reduction of an interval, as a fraction: tunnels opened together are rechecked at
/// different times.
const JITTER: f64 = 0.1;

/// The rechecks of a tunnel.
pub(super) struct Rechecks {
    rechecker: Arc<dyn Recheck>,
    questions: Box<[PendingRecheck]>,
    under_way: Option<(usize, RecheckFuture)>,
}

struct PendingRecheck {
    every: Duration,
    next: Instant,
}

impl PendingRecheck {
    fn after(every: Duration, now: Instant) -> Self {
        Self { every, next: now + every.mul_f64(1.0 - JITTER * fastrand::f64()) }
    }
}

impl Rechecks {
    /// `None` without rechecks.
    pub(super) fn new(rechecker: Arc<dyn Recheck>, now: Instant) -> Option<Box<Self>> {
        let questions: Box<[_]> =
            rechecker.intervals().into_iter().map(|every| PendingRecheck::after(every, now)).collect();
        (!questions.is_empty()).then(|| Box::new(Self { rechecker, questions, under_way: None }))
    }

    /// When the next recheck is due; `None` while one is in progress.
    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.is_none().then(|| self.questions.iter().map(|question| question.next).min())?
    }

    /// The state between two rechecks, for another process.
    pub(super) fn state(&self) -> Option<serde_json::Value> {
        self.under_way.is_none().then(|| self.rechecker.state())?
    }

    /// The times until the rechecks.
    pub(super) fn waits(&self, now: Instant) -> Vec<Duration> {
        self.questions.iter().map(|question| question.next.saturating_duration_since(now)).collect()
    }

    /// Continues these waits of another process.
    pub(super) fn resume(&mut self, waits: &[Duration], now: Instant) {
        for (question, wait) in self.questions.iter_mut().zip(waits) {
            question.next = now + (*wait).min(question.every);
        }
    }

    /// Starts the due recheck. Ready when one is complete, with the reason to end the tunnel if there is one: the next
    /// deadline may then be earlier.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<PluginClose>> {
        self.ask(Instant::now());
        let Some((question, asking)) = &mut self.under_way else { return Poll::Pending };
        let answer = ready!(asking.as_mut().poll(cx));
        let asked = &mut self.questions[*question];
        *asked = PendingRecheck::after(asked.every, Instant::now());
        self.under_way = None;
        Poll::Ready(PluginClose::of(&answer))
    }

    /// Starts the due recheck.
    fn ask(&mut self, now: Instant) {
        let due = self.questions.iter().position(|question| question.next <= now);
        if let (None, Some(due)) = (&self.under_way, due) {
            self.under_way = Some((due, Arc::clone(&self.rechecker).ask(due)));
        }
    }
}
