//! A lane whose messages are shown to somebody: what is read goes through a stage first, and what the stage leaves of
//! it goes on as if the source had sent it.

use super::Relay;
use super::direction::{Direction, PendingClose, SinkMode, SourceState, Text};
use super::frame_stats::FrameSummary;
use super::pump::ReadOutcome;
use crate::tunnel::messages::{self, FeedResult, Inspector, PluginClose, Reassembler, Stop};
use crate::tunnel::{Initiator, Side};
use crate::websocket::frame::Rules;

/// What few lanes have, apart so that the others stay small.
#[derive(Debug, Default)]
pub(super) struct InspectState {
    stage: Option<Reassembler>,
    /// Why the inspector ends the tunnel, until that is done.
    dismissal: Option<PluginClose>,
    /// What a Close of the gateway's own says.
    given: Box<str>,
}

impl Direction {
    /// From now on, messages are put together.
    fn take_apart(&mut self, rules: &Rules) {
        let stage = Reassembler::new(self.from, messages::rules(rules));
        self.aside.get_or_insert_default().stage = Some(stage);
    }

    pub(super) fn stage(&mut self) -> Option<&mut Reassembler> {
        self.aside.as_mut()?.stage.as_mut()
    }

    pub(super) fn is_inspected(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.stage.is_some())
    }

    /// The source has sent its Close where nothing of it passes any more.
    pub(super) fn has_closed_unseen(&self) -> bool {
        let stage = self.aside.as_ref().and_then(|aside| aside.stage.as_ref());
        stage.is_some_and(Reassembler::has_closed)
    }

    /// What a Close with [`Text::Given`] says.
    pub(super) fn given(&self) -> &str {
        self.aside.as_ref().map_or("", |aside| &aside.given)
    }

    /// Ends the sink's stream with these words, as [`Lane::close`] does.
    fn close_with(&mut self, code: u16, text: &str) {
        self.aside.get_or_insert_default().given = text.into();
        self.close(PendingClose { code, text: Text::Given });
    }

    /// Shows the messages that `chunk` completes, and hands what is left to `pass`.
    pub(super) fn inspect(
        &mut self,
        chunk: &[u8],
        inspector: &mut dyn Inspector,
        seen: &mut FrameSummary,
        pass: impl FnOnce(&mut Self, &[u8], &Rules, &mut FrameSummary) -> ReadOutcome,
    ) -> ReadOutcome {
        messages::lend(|out| {
            let shut = self.pass == SinkMode::Shut;
            let Some(stage) = self.stage() else { return ReadOutcome::Waiting };
            if shut {
                stage.deafen();
            }
            seen.add(stage.feed(chunk, inspector, out));
            let stop = stage.stopped();
            // What a stage writes is whole and within the limits.
            let turn = pass(self, out, &Rules::default(), seen);
            match stop {
                None => turn,
                Some(Stop::Violation(violation)) => {
                    self.source = SourceState::Lost;
                    ReadOutcome::Violation(violation)
                }
                Some(Stop::Dismissed(dismissal)) => {
                    self.aside.get_or_insert_default().dismissal = Some(dismissal);
                    ReadOutcome::Dismissed
                }
            }
        })
    }
}

impl FrameSummary {
    /// Adds what a stage saw that does not pass.
    fn add(&mut self, fed: FeedResult) {
        self.data |= fed.data;
        for (count, dropped) in self.messages.iter_mut().zip(fed.dropped) {
            *count += dropped;
        }
    }
}

impl Relay {
    /// Takes the directions apart that the inspector looks at.
    pub(super) fn begin_inspection(&mut self) {
        let Some(inspector) = &self.inspector else { return };
        let rules = self.policy.rules(self.extensions);
        for side in Side::BOTH {
            if inspector.inspects(side) {
                self.lanes[side as usize].take_apart(&rules);
            }
        }
    }

    /// The inspector ends the tunnel for a message from `side`.
    pub(super) fn dismissed(&mut self, side: Side) {
        let aside = self.lanes[side as usize].aside.as_mut();
        if let Some(dismissal) = aside.and_then(|aside| aside.dismissal.take()) {
            self.dismiss(&dismissal);
        }
    }

    /// Ends the tunnel with this Close to both sides.
    pub(super) fn dismiss(&mut self, dismissal: &PluginClose) {
        self.begin_end(Initiator::Gateway, dismissal.reason, dismissal.code);
        for lane in &mut self.lanes {
            lane.close_with(dismissal.code, &dismissal.text);
        }
    }
}
