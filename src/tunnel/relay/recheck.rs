//! Periodic rechecks of an open tunnel. The tunnel's timer includes the next recheck; a future exists only
//! while one is in progress.

use super::Relay;
use super::keepalive::Activity;
use crate::tunnel::messages::{PluginClose, Recheck, RecheckFuture};
use std::sync::Arc;
use std::task::{Context, Poll};
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

    /// Starts the due recheck.
    fn ask(&mut self, now: Instant) {
        let due = self.questions.iter().position(|question| question.next <= now);
        if let (None, Some(due)) = (&self.under_way, due) {
            self.under_way = Some((due, Arc::clone(&self.rechecker).ask(due)));
        }
    }
}

impl Relay {
    /// Starts the due recheck and handles a verdict.
    pub(super) fn recheck(&mut self, cx: &mut Context<'_>, activity: &mut Activity) {
        let Some(rechecks) = &mut self.rechecks else { return };
        if self.closing.is_some() {
            self.rechecks = None;
            return;
        }
        rechecks.ask(Instant::now());
        let Some((question, asking)) = &mut rechecks.under_way else { return };
        let Poll::Ready(answer) = asking.as_mut().poll(cx) else { return };
        let now = Instant::now();
        let asked = &mut rechecks.questions[*question];
        *asked = PendingRecheck::after(asked.every, now);
        rechecks.under_way = None;
        // The next deadline may be earlier, and the clock of this poll may lag a little.
        self.clocks.quiet_until = self.clocks.began();
        if let Some(plugin_close) = PluginClose::of(&answer) {
            self.dismiss(&plugin_close);
            activity.consequences = true;
        }
    }
}
