//! The state of one direction and the steps it takes over bytes. Which heads are legal is `check.rs`'s to say.

use super::header::FrameHeader;
use super::partial_header::{MAX_WITHHELD, PartialHeader};
use super::{Close, Event, MAX_CONTROL, Opcode, Rules, Sender, Violation};

/// Follows the frames of one direction. 32 bytes; nothing is allocated unless a feed ends inside a head or a control
/// frame, and then one short-lived block of 132 bytes.
///
/// A caller that wants to keep control frames whole (to swallow one, or to put a Close in the place of a bad frame)
/// passes on everything fed except the last [`Follower::withheld`] bytes, and puts those in front of the next feed
/// with [`Follower::reclaim`]. Then every frame's head, and every control frame, lies within one feed, and what was
/// passed on never ends inside one of them.
#[derive(Debug)]
pub struct FrameParser {
    /// Payload bytes of the current frame that are still to come.
    pub(super) left: u64,
    /// Wire bytes of the message under way, the current frame's included.
    message_bytes: u64,
    /// The start of a head or of a control frame whose rest is still to come.
    pub(super) held: Option<Box<PartialHeader>>,
    /// Frames of the message under way, the current one included.
    message_frames: u32,
    /// Text or Binary while a message is under way.
    message: Option<Opcode>,
    /// First byte of the frame that `left` belongs to.
    current: u8,
    pub(super) sender: Sender,
    /// A Close has passed.
    closed: bool,
}

/// A run of bytes that starts with a frame, and where it lies in the bytes fed.
#[derive(Clone, Copy)]
struct View<'a> {
    bytes: &'a [u8],
    /// Offset of the frame's first byte in the feed, 0 when it came earlier.
    start: usize,
    /// How many of `bytes` came earlier.
    earlier: usize,
}

impl FrameParser {
    /// A follower at the start of a direction, behind the handshake.
    #[must_use]
    pub fn new(sender: Sender) -> Self {
        Self {
            left: 0,
            message_bytes: 0,
            held: None,
            message_frames: 0,
            message: None,
            current: 0,
            sender,
            closed: false,
        }
    }

    /// Follows `bytes`, split from what came before and what comes next at any place, and calls `on` for every event
    /// in order. Bytes behind a Close count for nothing: no events, no violations (§1.4, §5.5.1).
    ///
    /// # Errors
    /// The first [`Violation`]. The follower is then where the stream cut at [`Violation::at`] leaves it; the
    /// direction is over, nothing more is to be fed.
    #[inline]
    pub fn feed(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let mut at = if self.held.is_some() { self.resume(bytes, rules, on)? } else { 0 };
        loop {
            at += self.pass_payload(at, bytes.len() - at, on);
            if at == bytes.len() || self.closed {
                return Ok(());
            }
            let view = View { bytes: &bytes[at..], start: at, earlier: 0 };
            match self.open(view, rules, on)? {
                Some(taken) => at += taken,
                None => {
                    self.held = Some(PartialHeader::new(view.bytes));
                    return Ok(());
                }
            }
        }
    }

    /// No frame is half through: not a payload, not a head.
    #[cfg(test)]
    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0 && self.held.is_none()
    }

    /// A fragmented message is open, or a message's only frame is half through (§5.4).
    #[must_use]
    pub fn in_message(&self) -> bool {
        self.message.is_some()
    }

    /// No message is half through, but for a frame whose head is not whole yet.
    #[must_use]
    pub fn between_messages(&self) -> bool {
        self.left == 0 && !self.in_message()
    }

    /// Whose frames these are.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// A Close has passed: nothing that follows counts, and nothing may be added (§5.5.1).
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Wire bytes of the message under way, 0 between messages.
    pub(super) fn message_bytes(&self) -> u64 {
        if self.in_message() { self.message_bytes } else { 0 }
    }

    /// How many bytes, at the end of all that was fed, belong to a head or a control frame that is not whole yet. At
    /// most [`MAX_WITHHELD`].
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.as_slice().len())
    }

    /// Moves the withheld bytes to the front of `into` and returns how many they are. They are to be fed again, with
    /// more behind them: the follower is back at the frame's start.
    pub fn reclaim(&mut self, into: &mut [u8; MAX_WITHHELD]) -> usize {
        let Some(held) = self.held.take() else { return 0 };
        let bytes = held.as_slice();
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        count
    }

    /// Goes on with a head or control frame of an earlier feed. Returns how many of `bytes` it took.
    #[cold]
    fn resume(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, Violation> {
        let Some(mut held) = self.held.take() else { return Ok(0) };
        let earlier = held.as_slice().len();
        held.fill(bytes);
        match self.open(View { bytes: held.as_slice(), start: 0, earlier }, rules, on) {
            // More than `earlier`, or the frame would have been opened by the feed before.
            Ok(Some(taken)) => Ok(taken - earlier),
            // What is held can only be short of a whole when every byte went into it.
            Ok(None) => {
                self.held = Some(held);
                Ok(bytes.len())
            }
            Err(violation) => {
                held.truncate(earlier);
                self.held = Some(held);
                Err(violation)
            }
        }
    }

    /// Steps over payload, `available` bytes at most. Returns how many it took.
    #[inline]
    fn pass_payload(&mut self, at: usize, available: usize, on: &mut impl FnMut(Event<'_>)) -> usize {
        if self.left == 0 {
            return 0;
        }
        let taken = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left -= taken as u64;
        if self.left == 0 {
            self.end_frame(at + taken, on);
        }
        taken
    }

    /// Opens the frame that `view` starts with. Returns how many bytes of the view it took: the head of a data frame,
    /// the whole of a control frame, or `None` while those are not all there.
    #[inline]
    fn open(
        &mut self,
        view: View<'_>,
        rules: &Rules,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<usize>, Violation> {
        let Some(head) = FrameHeader::read(view.bytes) else { return Ok(None) };
        self.check(head, rules).map_err(|what| Violation::new(view.start, what))?;
        let opcode = head.opcode();
        // A longer one gets here only when breaches pass; it is stepped over like data, and says nothing, but
        // nothing counts behind a Close even so: whoever gets it ends the connection.
        if opcode.is_control() && head.length <= MAX_CONTROL as u64 {
            return self.control(head, view, rules, on);
        }
        on(Event::FrameStart {
            opcode,
            fin: head.fin(),
            masked: head.masked(),
            length: head.length,
            at: view.start,
        });
        self.count(opcode, head.length);
        self.current = head.first;
        self.left = head.length;
        if head.length == 0 {
            self.end_frame(view.start + head.size - view.earlier, on);
        }
        Ok(Some(head.size))
    }

    /// Adds a data frame to its message.
    #[inline]
    fn count(&mut self, opcode: Opcode, length: u64) {
        match opcode {
            Opcode::Text | Opcode::Binary => {
                self.message = Some(opcode);
                self.message_bytes = length;
                self.message_frames = 1;
            }
            Opcode::Continuation => {
                self.message_bytes = self.message_bytes.saturating_add(length);
                self.message_frames = self.message_frames.saturating_add(1);
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong | Opcode::Reserved => {}
        }
    }

    /// The payload that `left` counted is through.
    #[inline]
    fn end_frame(&mut self, at: usize, on: &mut impl FnMut(Event<'_>)) {
        let (opcode, fin) = (Opcode::of(self.current), self.current & 0x80 != 0);
        on(Event::FrameEnd { opcode, fin, at });
        let data = matches!(opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation);
        self.closed |= opcode == Opcode::Close;
        if fin
            && data
            && let Some(opcode) = self.message.take()
        {
            on(Event::MessageEnd { opcode, bytes: self.message_bytes, frames: self.message_frames });
        }
    }

    /// A control frame: reported when it is whole, so that nobody has to act on half a Ping.
    fn control(
        &mut self,
        head: FrameHeader,
        view: View<'_>,
        rules: &Rules,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<usize>, Violation> {
        let whole = head.size + head.length as usize;
        let Some(payload) = view.bytes.get(head.size..whole) else { return Ok(None) };
        let mut clear = [0; MAX_CONTROL];
        let payload = head.unmask(view.bytes, payload, &mut clear);
        let (opcode, fin) = (head.opcode(), head.fin());
        if opcode == Opcode::Close {
            if rules.strict {
                Close::read(payload).map_err(|what| Violation::new(view.start, what))?;
            }
            self.closed = true;
        }
        let (start, at) = (view.start, view.start + whole - view.earlier);
        on(Event::FrameStart { opcode, fin, masked: head.masked(), length: head.length, at: start });
        on(Event::Control { opcode, payload, start, at });
        on(Event::FrameEnd { opcode, fin, at });
        Ok(Some(whole))
    }
}
