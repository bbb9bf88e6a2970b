//! One direction of a tunnel: the states of its source and sink, and the gateway's own frames in it. Only
//! control frames are inserted, at frame boundaries. `pump` moves the bytes; the relay owns the clocks.

use super::inspect_state::InspectState;
use crate::tunnel::close_frames::CloseFrame;
use crate::tunnel::messages::{self, PluginClose, Reassembler};
use crate::tunnel::relay_io::WriteBuffer;
use crate::tunnel::state::ReassemblerState;
use crate::tunnel::{Side, TunnelIo};
use crate::websocket::frame::{ControlFrame, FrameError, FrameParser, Mask, Rules, Sender};
use std::num::NonZeroU64;

/// A Close frame of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingClose {
    pub(super) code: u16,
    pub(super) text: Text,
}

impl PendingClose {
    pub(super) const fn of(frame: &'static CloseFrame) -> Self {
        Self { code: frame.code, text: Text::Fixed(frame) }
    }

    /// A Close with the code of another one.
    pub(super) const fn bare(code: u16) -> Self {
        Self { code, text: Text::Empty }
    }
}

/// The reason text of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Empty,
    /// The text of this frame. A reference, because its size counts in every idle direction.
    Fixed(&'static CloseFrame),
    /// The protocol error.
    Wrong(FrameError),
    /// The text stored in the direction's [`InspectState`].
    Given,
}

/// The state of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SinkMode {
    /// Everything.
    Open,
    /// The rest of the current frame, then this Close frame.
    Until(PendingClose),
    /// The remaining frames of the source, then this Close frame instead of its own.
    Behind(PendingClose),
    /// Nothing: a Close frame was queued.
    Shut,
}

/// The state of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceState {
    Open,
    /// Ignored bytes: it violated the protocol.
    Lost,
    Ended,
}

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) out: WriteBuffer,
    pub(super) follower: FrameParser,
    pub(super) pass: SinkMode,
    pub(super) source: SourceState,
    /// The source side.
    pub(super) from: Side,
    /// A ping for the sink that waits for a frame boundary.
    pub(super) ping: Option<NonZeroU64>,
    /// The payload of the latest ping that was sent to the source. The pongs to it and to earlier ones are not forwarded.
    pub(super) awaited: Option<NonZeroU64>,
    /// Nothing was readable at the last read, and the source wakes the task.
    pub(super) listening: bool,
    /// Whether another source may replace one that leaves.
    pub(super) replaceable: bool,
    /// What few lanes have.
    inspect_state: Option<Box<InspectState>>,
}

impl Direction {
    pub(super) fn new(from: Side) -> Self {
        let sender = match from {
            Side::Client => Sender::Client,
            Side::Backend => Sender::Server,
        };
        Self {
            out: WriteBuffer::new(),
            follower: FrameParser::new(sender),
            pass: SinkMode::Open,
            source: SourceState::Open,
            from,
            ping: None,
            awaited: None,
            listening: false,
            replaceable: false,
            inspect_state: None,
        }
    }

    /// Returns whether a Close frame with this code is not forwarded, because another source replaces this
    /// one. True for 1001 (going away) and 1012 (restart), if no message is incomplete.
    pub(super) fn spares(&self, code: u16) -> bool {
        self.replaceable && matches!(code, 1001 | 1012) && self.may_be_taken_over()
    }

    /// Returns whether no message of the source is incomplete, so that another source can continue. Withheld
    /// bytes were never forwarded.
    pub(super) fn may_be_taken_over(&self) -> bool {
        self.pass == SinkMode::Open && self.follower.between_messages()
    }

    /// Resets the direction for another source.
    pub(super) fn take_over(&mut self) {
        self.follower = FrameParser::new(self.follower.sender());
        if let Some(stage) = self.stage() {
            stage.take_over();
        }
        self.source = SourceState::Open;
        self.awaited = None;
        self.listening = false;
    }

    /// Returns whether no bytes wait for the sink, and none were received from the source since the last
    /// read.
    #[inline]
    pub(super) fn rests(&self, source: &TunnelIo) -> bool {
        self.listening && self.out.rests() && source.is_silent()
    }

    /// Returns whether the source sends nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.source == SourceState::Ended
    }

    /// Returns whether the source violated the protocol.
    pub(super) fn is_lost(&self) -> bool {
        self.source == SourceState::Lost
    }

    /// Returns whether the source has sent its Close frame.
    pub(super) fn has_closed(&self) -> bool {
        self.follower.closed() || self.has_closed_unseen()
    }

    /// Returns whether the sink has got its Close frame, or gets none.
    pub(super) fn is_shut(&self) -> bool {
        self.pass == SinkMode::Shut
    }

    /// The ping with `payload` was sent to the source.
    pub(super) fn await_pong(&mut self, payload: NonZeroU64) {
        self.awaited = Some(payload);
    }

    /// The source sends nothing more. A Close frame that waited for the end of a frame is discarded.
    pub(super) fn end(&mut self) {
        self.source = SourceState::Ended;
        match self.pass {
            SinkMode::Until(_) => {
                self.pass = SinkMode::Shut;
                self.out.end();
            }
            SinkMode::Behind(pending) => {
                self.close(pending);
            }
            SinkMode::Open | SinkMode::Shut => {}
        }
    }

    /// Ends the sink's stream: with a Close frame at the next boundary, or without one if there is no
    /// boundary. Returns whether this changed anything; a sent or queued Close frame stays the only one.
    pub(super) fn close(&mut self, pending: PendingClose) -> bool {
        let pending = match self.pass {
            SinkMode::Open => pending,
            SinkMode::Behind(waiting) => waiting,
            SinkMode::Until(_) | SinkMode::Shut => return false,
        };
        self.ping = None;
        if self.follower.may_inject() {
            self.out.push(self.close_frame(pending).as_bytes());
            self.pass = SinkMode::Shut;
        } else if self.source == SourceState::Open {
            self.pass = SinkMode::Until(pending);
        } else {
            self.out.end();
            self.pass = SinkMode::Shut;
        }
        true
    }

    /// Ends the sink's stream after the remaining bytes of the source: instead of its Close frame, or after
    /// its end.
    pub(super) fn close_behind(&mut self, pending: PendingClose) {
        if self.pass == SinkMode::Open && self.source == SourceState::Open {
            self.ping = None;
            self.pass = SinkMode::Behind(pending);
        } else {
            self.close(pending);
        }
    }

    /// The parser of the bytes that the source sends.
    pub(super) fn source_parser(&self) -> &FrameParser {
        let stage = self.inspect_state.as_ref().and_then(|aside| aside.stage.as_ref());
        stage.map_or(&self.follower, Reassembler::parser)
    }

    /// From now on, messages are put together.
    pub(super) fn take_apart(&mut self, rules: &Rules) {
        let stage = Reassembler::new(self.from, messages::rules(rules));
        self.inspect_state.get_or_insert_default().stage = Some(stage);
    }

    pub(super) fn stage(&mut self) -> Option<&mut Reassembler> {
        self.inspect_state.as_mut()?.stage.as_mut()
    }

    pub(super) fn is_inspected(&self) -> bool {
        self.inspect_state.as_ref().is_some_and(|aside| aside.stage.is_some())
    }

    /// The state of the message that is put together, for another process: `Some(None)` if none is, and `None` if the
    /// inspector ends the tunnel.
    pub(super) fn reassembler_state(&self) -> Option<Option<ReassemblerState>> {
        let Some(aside) = &self.inspect_state else { return Some(None) };
        let Some(stage) = &aside.stage else { return Some(None) };
        if aside.plugin_close.is_some() { None } else { stage.state().map(Some) }
    }

    /// Continues the message of another process; `None` if the state is not one.
    pub(super) fn resume_inspection(&mut self, state: Option<ReassemblerState>) -> Option<()> {
        match (self.stage(), state) {
            (None, None) => Some(()),
            (Some(stage), Some(state)) => stage.resume(state),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    /// The source has sent its Close where nothing of it passes any more.
    pub(super) fn has_closed_unseen(&self) -> bool {
        let stage = self.inspect_state.as_ref().and_then(|aside| aside.stage.as_ref());
        stage.is_some_and(Reassembler::has_closed)
    }

    /// What a Close with [`Text::Given`] says.
    pub(super) fn given(&self) -> &str {
        self.inspect_state.as_ref().map_or("", |aside| &aside.given)
    }

    /// Ends the sink's stream with these words, as [`Direction::close`] does.
    pub(super) fn close_with(&mut self, code: u16, text: &str) {
        self.inspect_state.get_or_insert_default().given = text.into();
        self.close(PendingClose { code, text: Text::Given });
    }

    /// The inspector ends the tunnel.
    pub(super) fn note_dismissal(&mut self, plugin_close: PluginClose) {
        self.inspect_state.get_or_insert_default().plugin_close = Some(plugin_close);
    }

    /// Why the inspector ends the tunnel; returned once.
    pub(super) fn take_dismissal(&mut self) -> Option<PluginClose> {
        self.inspect_state.as_mut()?.plugin_close.take()
    }

    /// Pings the sink. Whether the ping is on its way; otherwise it goes at the next boundary.
    pub(super) fn ping(&mut self, payload: NonZeroU64) -> bool {
        if self.pass != SinkMode::Open {
            return false;
        }
        let now = self.follower.may_inject();
        if now {
            self.out.push(self.ping_frame(payload).as_bytes());
        } else {
            self.ping = Some(payload);
        }
        now
    }

    pub(super) fn close_frame(&self, pending: PendingClose) -> ControlFrame {
        match pending.text {
            Text::Empty => ControlFrame::close(pending.code, "", self.mask()),
            Text::Fixed(frame) => ControlFrame::close(pending.code, frame.text, self.mask()),
            Text::Wrong(wrong) => ControlFrame::close(pending.code, &wrong.to_string(), self.mask()),
            Text::Given => ControlFrame::close(pending.code, self.given(), self.mask()),
        }
    }

    pub(super) fn ping_frame(&self, payload: NonZeroU64) -> ControlFrame {
        ControlFrame::ping(&payload.get().to_be_bytes(), self.mask())
    }

    /// Frames to a backend are masked, since the gateway is its client.
    fn mask(&self) -> Mask {
        match self.from {
            Side::Client => Mask::fresh(),
            Side::Backend => Mask::Off,
        }
    }
}
