//! One direction of a tunnel: what its source and its sink are up to, and what of the gateway's own
//! enters it. Only control frames do, at boundaries. `turn` moves the bytes; when to do what, and every
//! clock, is the relay's.

use super::inspect_state::InspectState;
use super::write_buffer::WriteBuffer;
use crate::tunnel::messages::{self, PluginClose, Reassembler};
use crate::tunnel::{Side, TunnelIo};
use crate::websocket::frame::{ControlFrame, FrameError, FrameParser, Mask, Rules, Sender};
use std::num::NonZeroU64;

/// A Close of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingClose {
    pub(super) code: u16,
    pub(super) text: Text,
}

/// The reason in a Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Of these words. By one more reference, since every idle lane has room for it.
    Plain(&'static &'static str),
    /// What the side did wrong.
    Wrong(FrameError),
    /// What the lane was given to say.
    Given,
}

/// What the sink still gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SinkMode {
    /// Everything.
    Open,
    /// The rest of the frame under way, then this.
    Until(PendingClose),
    /// What the source still says, then this in place of its Close.
    Behind(PendingClose),
    /// Nothing: a Close is behind everything.
    Shut,
}

/// What still comes from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceState {
    Open,
    /// Bytes that mean nothing any more: it broke the protocol.
    Lost,
    Ended,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) out: WriteBuffer,
    pub(super) follower: FrameParser,
    pub(super) pass: SinkMode,
    pub(super) source: SourceState,
    /// The side the bytes come from.
    pub(super) from: Side,
    /// A ping for the sink that waits for a boundary.
    pub(super) ping: Option<NonZeroU64>,
    /// The payload of the ping the source was sent; its pong goes no further.
    pub(super) awaited: Option<NonZeroU64>,
    /// Nothing was to be read when this was last looked at, and the source wakes the task.
    pub(super) listening: bool,
    /// Another source may take the place of one that leaves.
    pub(super) replaceable: bool,
    /// What few lanes have.
    aside: Option<Box<InspectState>>,
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
            aside: None,
        }
    }

    /// Whether a Close of this code goes no further, because another source takes its place: of one that
    /// goes away (1001) or restarts (1012), and only when it leaves no message unfinished.
    pub(super) fn spares(&self, code: u16) -> bool {
        self.replaceable && matches!(code, 1001 | 1012) && self.may_be_taken_over()
    }

    /// Nothing of the source is half said: another one can go on. What was withheld was never passed on.
    pub(super) fn may_be_taken_over(&self) -> bool {
        self.pass == SinkMode::Open && self.follower.between_messages()
    }

    /// Another source begins.
    pub(super) fn take_over(&mut self) {
        self.follower = FrameParser::new(self.follower.sender());
        if let Some(stage) = self.stage() {
            stage.take_over();
        }
        self.source = SourceState::Open;
        self.awaited = None;
        self.listening = false;
    }

    /// Nothing waits for the sink, and nothing came from the source since it was last looked at.
    #[inline]
    pub(super) fn rests(&self, source: &TunnelIo) -> bool {
        self.listening && self.out.rests() && source.is_silent()
    }

    /// The source sends nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.source == SourceState::Ended
    }

    /// What the source sends cannot be understood any more.
    pub(super) fn is_lost(&self) -> bool {
        self.source == SourceState::Lost
    }

    /// The source has sent its Close.
    pub(super) fn has_closed(&self) -> bool {
        self.follower.closed() || self.has_closed_unseen()
    }

    /// The sink has got its Close, or gets none.
    pub(super) fn is_shut(&self) -> bool {
        self.pass == SinkMode::Shut
    }

    /// What comes from here on is the pong to `payload`, when it is one.
    pub(super) fn await_pong(&mut self, payload: NonZeroU64) {
        self.awaited = Some(payload);
    }

    /// The source sends nothing more. A Close that waited for the end of a frame has waited in vain.
    pub(super) fn end(&mut self) {
        self.source = SourceState::Ended;
        match self.pass {
            SinkMode::Until(_) => {
                self.pass = SinkMode::Shut;
                self.out.end();
            }
            SinkMode::Behind(farewell) => {
                self.close(farewell);
            }
            SinkMode::Open | SinkMode::Shut => {}
        }
    }

    /// Ends the sink's stream: with a Close at the next boundary, or bare when there will be none.
    /// Whether that was news; a Close that has passed or waits stays the only one.
    pub(super) fn close(&mut self, farewell: PendingClose) -> bool {
        let farewell = match self.pass {
            SinkMode::Open => farewell,
            SinkMode::Behind(waiting) => waiting,
            SinkMode::Until(_) | SinkMode::Shut => return false,
        };
        self.ping = None;
        if self.follower.may_inject() {
            self.out.push(self.close_frame(farewell).as_bytes());
            self.pass = SinkMode::Shut;
        } else if self.source == SourceState::Open {
            self.pass = SinkMode::Until(farewell);
        } else {
            self.out.end();
            self.pass = SinkMode::Shut;
        }
        true
    }

    /// Ends the sink's stream when the source has said what it has to say: in place of its Close, or
    /// behind its end.
    pub(super) fn close_behind(&mut self, farewell: PendingClose) {
        if self.pass == SinkMode::Open && self.source == SourceState::Open {
            self.ping = None;
            self.pass = SinkMode::Behind(farewell);
        } else {
            self.close(farewell);
        }
    }

    /// From now on, messages are put together.
    pub(super) fn take_apart(&mut self, rules: &Rules) {
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

    /// Ends the sink's stream with these words, as [`Direction::close`] does.
    pub(super) fn close_with(&mut self, code: u16, text: &str) {
        self.aside.get_or_insert_default().given = text.into();
        self.close(PendingClose { code, text: Text::Given });
    }

    /// The inspector ends the tunnel.
    pub(super) fn note_dismissal(&mut self, dismissal: PluginClose) {
        self.aside.get_or_insert_default().dismissal = Some(dismissal);
    }

    /// Why the inspector ends the tunnel; told once.
    pub(super) fn take_dismissal(&mut self) -> Option<PluginClose> {
        self.aside.as_mut()?.dismissal.take()
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

    pub(super) fn close_frame(&self, farewell: PendingClose) -> ControlFrame {
        match farewell.text {
            Text::Plain(text) => ControlFrame::close(farewell.code, text, self.mask()),
            Text::Wrong(wrong) => ControlFrame::close(farewell.code, &wrong.to_string(), self.mask()),
            Text::Given => ControlFrame::close(farewell.code, self.given(), self.mask()),
        }
    }

    pub(super) fn ping_frame(&self, payload: NonZeroU64) -> ControlFrame {
        ControlFrame::ping(&payload.get().to_be_bytes(), self.mask())
    }

    /// Towards a backend the gateway is a client.
    fn mask(&self) -> Mask {
        match self.from {
            Side::Client => Mask::fresh(),
            Side::Backend => Mask::Off,
        }
    }
}
