//! Frame parser of one direction. `frame_rules` has the validity rules.

use super::header::FrameHeader;
use super::partial_header::{MAX_WITHHELD, PartialHeader};
use super::{Close, Event, MAX_CONTROL, Opcode, Rules, Sender, Violation};

/// Parses the frames of one direction. It has 32 bytes, and allocates only if a feed ends inside a header or
/// a control frame: one short-lived block of 132 bytes.
///
/// A caller can keep control frames whole, to drop one, or to replace a bad frame with a Close. It forwards
/// all fed bytes except the last [`FrameParser::withheld`] ones, and prepends those to the next feed with
/// [`FrameParser::reclaim`]. Then every header and every control frame lies within one feed, and forwarded
/// bytes never end inside one.
#[derive(Clone, Debug)]
pub struct FrameParser {
    /// Payload bytes of the current frame that have not arrived yet.
    pub(super) left: u64,
    /// Wire bytes of the current message, with the current frame.
    pub(super) message_bytes: u64,
    /// The start of an incomplete header or control frame.
    pub(super) held: Option<Box<PartialHeader>>,
    /// Frames of the current message, with the current frame.
    pub(super) message_frames: u32,
    /// Text or Binary during a message.
    pub(super) message: Option<Opcode>,
    /// The first byte of the frame that `left` counts.
    pub(super) current: u8,
    pub(super) sender: Sender,
    /// Whether a Close has passed.
    pub(super) closed: bool,
}

/// Bytes that start with a frame, and their position in the feed.
#[derive(Clone, Copy)]
struct View<'a> {
    bytes: &'a [u8],
    /// The offset of the frame's first byte in the feed; 0 if it was in an earlier feed.
    start: usize,
    /// The number of `bytes` from earlier feeds.
    earlier: usize,
}

impl FrameParser {
    /// A parser at the start of a direction, after the handshake.
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

    /// Parses `bytes`, split at any place, and calls `on` for every event in order. Bytes after a Close are
    /// ignored: no events, no violations (§1.4, §5.5.1).
    ///
    /// # Errors
    /// The first [`Violation`]. The parser is then in the state of a stream that ends at [`Violation::at`],
    /// and must not be fed again.
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

    /// Whether a message is incomplete, fragmented or not (§5.4).
    #[must_use]
    pub fn in_message(&self) -> bool {
        self.message.is_some()
    }

    /// Whether no message is incomplete, except for an incomplete header.
    #[must_use]
    pub fn between_messages(&self) -> bool {
        self.left == 0 && !self.in_message()
    }

    /// The sender of these frames.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// Whether a Close has passed: later bytes are ignored, and nothing may be inserted (§5.5.1).
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Wire bytes of the current message; 0 between messages.
    pub(super) fn message_bytes(&self) -> u64 {
        if self.in_message() { self.message_bytes } else { 0 }
    }

    /// The number of bytes at the end of the last feed that belong to an incomplete header or control frame;
    /// at most [`MAX_WITHHELD`].
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.as_slice().len())
    }

    /// Moves the withheld bytes to the front of `into` and returns their number. Feed them again with more
    /// bytes: the parser is back at the start of the frame.
    pub fn reclaim(&mut self, into: &mut [u8; MAX_WITHHELD]) -> usize {
        let Some(held) = self.held.take() else { return 0 };
        let bytes = held.as_slice();
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        count
    }

    /// Whether the gateway may write a control frame now, after all fed bytes except the withheld ones: between
    /// the frames of a message, never inside one (RFC 6455 §5.4).
    #[must_use]
    pub fn may_inject(&self) -> bool {
        self.left == 0 && !self.closed()
    }

    /// Text or Binary if `bytes`, the next to be fed, are exactly one valid unfragmented message: feeding
    /// them would only report it, without a change of state. `None` means that they must be fed.
    #[inline]
    #[must_use]
    pub fn whole_message(&self, bytes: &[u8], rules: &Rules) -> Option<Opcode> {
        if self.left != 0 || self.held.is_some() || self.in_message() || self.closed() {
            return None;
        }
        let head = FrameHeader::read(bytes)?;
        let opcode = head.opcode();
        let alone = matches!(opcode, Opcode::Text | Opcode::Binary)
            && head.fin()
            && head.length == (bytes.len() - head.size) as u64;
        (alone && self.check(head, rules).is_ok()).then_some(opcode)
    }

    /// Continues a header or control frame of an earlier feed. Returns the number of `bytes` that it
    /// consumed.
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
            // More than `earlier`, or the previous feed would have opened the frame.
            Ok(Some(taken)) => Ok(taken - earlier),
            // A frame is incomplete only after all bytes are kept.
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

    /// Skips payload, at most `available` bytes. Returns the number of skipped bytes.
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

    /// Opens the frame at the start of `view`. Returns the number of bytes that it consumed, the header of a
    /// data frame or a whole control frame, or `None` if those are incomplete.
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
        // A longer control frame gets here only with `invalid_frames: pass`. It is skipped like data, but
        // bytes after a Close are ignored in any case, because its receiver ends the connection.
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

    /// Ends the frame whose payload is complete.
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

    /// Reports a control frame once complete.
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
