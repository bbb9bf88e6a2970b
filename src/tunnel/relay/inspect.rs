//! Inspection of a direction: bytes pass through a reassembler, and its output is relayed as if the source
//! had sent it.

use super::Relay;
use super::direction::{Direction, PendingClose, SinkMode, SourceState, Text};
use super::frame_stats::FrameSummary;
use super::pump::ReadOutcome;
use crate::tunnel::messages::{self, FeedResult, Inspector, PluginClose, Reassembler, Stop};
use crate::tunnel::{Initiator, Side};
use crate::websocket::frame::Rules;

/// Rarely used state of a direction, boxed to keep others small.
#[derive(Debug, Default)]
pub(super) struct InspectState {
    stage: Option<Reassembler>,
    /// The pending close by the inspector.
    dismissal: Option<PluginClose>,
    /// The reason text of a Close frame of the gateway.
    given: Box<str>,
}

impl Direction {
    /// Enables reassembly.
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

    /// Returns whether the source has sent its Close frame after forwarding ended.
    pub(super) fn has_closed_unseen(&self) -> bool {
        let stage = self.aside.as_ref().and_then(|aside| aside.stage.as_ref());
        stage.is_some_and(Reassembler::has_closed)
    }

    /// The reason text of a Close frame with [`Text::Given`].
    pub(super) fn given(&self) -> &str {
        self.aside.as_ref().map_or("", |aside| &aside.given)
    }

    /// Ends the sink's stream with this reason, like [`Direction::close`].
    fn close_with(&mut self, code: u16, text: &str) {
        self.aside.get_or_insert_default().given = text.into();
        self.close(PendingClose { code, text: Text::Given });
    }

    /// Inspects the messages that `chunk` completes, and passes the output to `pass`.
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
            // The output consists of complete frames within the limits.
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
    /// Adds the frames that the reassembler did not forward.
    fn add(&mut self, fed: FeedResult) {
        self.data |= fed.data;
        for (count, dropped) in self.messages.iter_mut().zip(fed.dropped) {
            *count += dropped;
        }
    }
}

impl Relay {
    /// Enables reassembly for the inspected directions.
    pub(super) fn begin_inspection(&mut self) {
        let Some(inspector) = &self.inspector else { return };
        let rules = self.policy.rules(self.extensions);
        for side in Side::BOTH {
            if inspector.inspects(side) {
                self.lanes[side as usize].take_apart(&rules);
            }
        }
    }

    /// The inspector closed the tunnel because of a message from `side`.
    pub(super) fn dismissed(&mut self, side: Side) {
        let aside = self.lanes[side as usize].aside.as_mut();
        if let Some(dismissal) = aside.and_then(|aside| aside.dismissal.take()) {
            self.dismiss(&dismissal);
        }
    }

    /// Closes both sides with this Close frame.
    pub(super) fn dismiss(&mut self, dismissal: &PluginClose) {
        self.begin_end(Initiator::Gateway, dismissal.reason, dismissal.code);
        for lane in &mut self.lanes {
            lane.close_with(dismissal.code, &dismissal.text);
        }
    }
}
