//! The head of a request between the client and Pingora's parser: held until it is whole, judged, and given to the parser as it
//! came or as another one that the parser takes.

use super::h1_head::{self, Judgement, SentHead, judge};
use crate::proxy::failure::Failure;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::ReadBuf;

/// What a parser skips before a request.
const EMPTY_LINE: &[u8] = b"\r\n";

/// The head of the request under way.
#[derive(Default)]
pub(in crate::proxy) struct HeadIntake {
    /// The beginning of a head whose end has not come yet.
    held: BytesMut,
    /// What the parser gets before anything else is read.
    given: BytesMut,
    /// Bytes of empty lines that the parser got, and of the head in place of the one that came.
    announced: usize,
    given_head: Option<usize>,
    /// What was sent, where the parser got another head.
    sent: Mutex<Option<Box<SentHead>>>,
    is_refused: bool,
}

impl HeadIntake {
    /// Bytes that the parser has read of a head that came with `size` bytes.
    pub(in crate::proxy) fn given_size(&self, size: usize) -> usize {
        self.announced + self.given_head.unwrap_or(size)
    }

    /// Why the request under way is refused, whatever the parser says.
    pub(in crate::proxy) fn refusal(&self) -> Option<Failure> {
        self.given_head.and_then(|_| self.sent.lock().as_ref()?.refused)
    }

    /// Whether it is refused, or one before it was.
    pub(in crate::proxy) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// What was sent, where the parser got another head. It is given out once.
    pub(in crate::proxy) fn take_sent(&self) -> Option<Box<SentHead>> {
        // An ordinary request takes no lock.
        self.given_head.and_then(|_| self.sent.lock().take())
    }

    /// Whether another head may follow.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        !self.is_refused && self.given.is_empty()
    }

    /// Whether nothing of a head is held.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the parser gets something before anything else is read.
    pub(in crate::proxy) fn gives(&self) -> bool {
        !self.given.is_empty()
    }

    /// Another head follows.
    pub(in crate::proxy) fn next_request(&mut self) {
        self.announced = 0;
        self.given_head = None;
    }

    /// The first byte of the head under way that is no empty line's.
    pub(in crate::proxy) fn first_byte(&self) -> Option<u8> {
        self.held.iter().copied().find(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Gives the parser an empty line, which it skips: its timer, which answers nothing, begins anew.
    pub(in crate::proxy) fn announce(&mut self, buf: &mut ReadBuf<'_>) {
        self.announced += EMPTY_LINE.len();
        self.given.extend_from_slice(EMPTY_LINE);
        self.give(buf);
    }

    /// Gives the parser what it is to get before anything else.
    pub(in crate::proxy) fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let here = self.given.len().min(buf.remaining());
        buf.put_slice(&self.given[..here]);
        self.given.advance(here);
        if self.given.is_empty() {
            self.given = BytesMut::new();
        }
    }

    /// Takes `own` bytes of a head, and of what follows it in the request, from `buf`. `head` is its size when its end has
    /// come. Returns whether the parser has something to read.
    pub(in crate::proxy) fn take(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
        own: usize,
        head: Option<usize>,
        most: usize,
    ) -> bool {
        let is_first = self.held.is_empty();
        let Some(size) = head else {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            match self.first_byte() {
                // Empty lines before the client's end.
                None if own == 0 => {}
                Some(_) if own == 0 => self.refuse(Failure::ClientGone),
                Some(first) if !h1_head::may_begin(first) => self.refuse(h1_head::not_http(first)),
                _ if self.held.len() >= most.saturating_mul(2).min(h1_head::MAX_SIZE) => {
                    self.refuse(Failure::HeadTooLarge);
                }
                Some(_) if self.announced == 0 => {
                    self.announce(buf);
                    return true;
                }
                _ => return false,
            }
            self.give(buf);
            return true;
        };
        let judgement = if is_first {
            judge(&buf.filled()[before..before + size])
        } else {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            judge(&self.held[..size])
        };
        match judgement {
            Judgement::Plain if is_first => return true,
            Judgement::Plain => self.given = std::mem::take(&mut self.held),
            Judgement::Other(head, sent) => {
                let mut behind = std::mem::take(&mut self.held);
                if is_first {
                    behind.extend_from_slice(&buf.filled()[before..]);
                    buf.set_filled(before);
                }
                behind.advance(size);
                self.give_other(&head, sent, &behind);
            }
        }
        self.give(buf);
        true
    }

    /// The parser gets another head than the one that came, and what came behind that.
    fn give_other(&mut self, head: &[u8], sent: Box<SentHead>, behind: &[u8]) {
        self.is_refused |= sent.refused.is_some();
        self.given_head = Some(head.len());
        self.given.extend_from_slice(head);
        if !self.is_refused {
            self.given.extend_from_slice(behind);
        }
        *self.sent.lock() = Some(sent);
    }

    /// The head does not come to its end: what is here of it is refused.
    pub(in crate::proxy) fn refuse(&mut self, failure: Failure) {
        let held = std::mem::take(&mut self.held);
        if let Judgement::Other(head, sent) = h1_head::refuse(&held, failure) {
            self.give_other(&head, sent, &[]);
        }
    }
}
