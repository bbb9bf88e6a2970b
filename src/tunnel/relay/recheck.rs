//! Whether a tunnel may live on, asked again and again. One moment among those the tunnel's timer waits for; only while
//! an answer is under way there is a future.

use super::Relay;
use super::keepalive::Activity;
use crate::tunnel::messages::{Asking, PluginClose, Recheck};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Up to this share of an interval is taken off, another one each time: what connected together asks apart.
const JITTER: f64 = 0.1;

/// What is asked of a tunnel.
pub(super) struct Rechecks {
    who: Arc<dyn Recheck>,
    questions: Box<[Question]>,
    under_way: Option<(usize, Asking)>,
}

struct Question {
    every: Duration,
    next: Instant,
}

impl Question {
    fn after(every: Duration, now: Instant) -> Self {
        Self { every, next: now + every.mul_f64(1.0 - JITTER * fastrand::f64()) }
    }
}

impl Rechecks {
    /// `None` when nothing is to be asked.
    pub(super) fn new(who: Arc<dyn Recheck>, now: Instant) -> Option<Box<Self>> {
        let questions: Box<[_]> =
            who.intervals().into_iter().map(|every| Question::after(every, now)).collect();
        (!questions.is_empty()).then(|| Box::new(Self { who, questions, under_way: None }))
    }

    /// When the next question is due; `None` while one is under way.
    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.is_none().then(|| self.questions.iter().map(|question| question.next).min())?
    }

    /// Asks what is due.
    fn ask(&mut self, now: Instant) {
        let due = self.questions.iter().position(|question| question.next <= now);
        if let (None, Some(due)) = (&self.under_way, due) {
            self.under_way = Some((due, Arc::clone(&self.who).ask(due)));
        }
    }
}

impl Relay {
    /// Asks what is due and hears the answer that is there.
    pub(super) fn recheck(&mut self, cx: &mut Context<'_>, news: &mut Activity) {
        let Some(rechecks) = &mut self.rechecks else { return };
        if self.ending.is_some() {
            self.rechecks = None;
            return;
        }
        rechecks.ask(Instant::now());
        let Some((question, asking)) = &mut rechecks.under_way else { return };
        let Poll::Ready(answer) = asking.as_mut().poll(cx) else { return };
        let now = Instant::now();
        let asked = &mut rechecks.questions[*question];
        *asked = Question::after(asked.every, now);
        rechecks.under_way = None;
        // The next moment may be an earlier one; and the clock of this poll may be a little behind.
        self.clocks.quiet_until = self.clocks.began();
        if let Some(dismissal) = PluginClose::of(&answer) {
            self.dismiss(&dismissal);
            news.consequences = true;
        }
    }
}
