//! Request header buffer between the client and Pingora's parser: held until complete, validated, and passed
//! to the parser unchanged or translated.

use super::h1_head::{self, Judgement, SentHead, judge};
use crate::proxy::failure::Failure;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::ReadBuf;

/// The parser skips it before a request.
const EMPTY_LINE: &[u8] = b"\r\n";

/// The header of the current request.
#[derive(Default)]
pub(in crate::proxy) struct HeadIntake {
    /// The start of an incomplete header.
    held: BytesMut,
    /// Bytes for the parser before anything else is read.
    given: BytesMut,
    /// The bytes of empty lines passed to the parser, and of a translated header.
    announced: usize,
    given_head: Option<usize>,
    /// The received header, if the parser got another one.
    sent: Mutex<Option<Box<SentHead>>>,
    is_refused: bool,
}

impl HeadIntake {
    /// The bytes that the parser has read for a header of `size` received bytes.
    pub(in crate::proxy) fn given_size(&self, size: usize) -> usize {
        self.announced + self.given_head.unwrap_or(size)
    }

    /// Why the current request is rejected, regardless of the parser.
    pub(in crate::proxy) fn refusal(&self) -> Option<Failure> {
        self.given_head.and_then(|_| self.sent.lock().as_ref()?.refused)
    }

    /// Returns whether this request or a previous one is rejected.
    pub(in crate::proxy) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// The received header, if the parser got another one. Returned once.
    pub(in crate::proxy) fn take_sent(&self) -> Option<Box<SentHead>> {
        // An ordinary request takes no lock.
        self.given_head.and_then(|_| self.sent.lock().take())
    }

    /// Returns whether another header may follow.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        !self.is_refused && self.given.is_empty()
    }

    /// Returns whether no part of a header is held.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns whether there are bytes for the parser before anything else is read.
    pub(in crate::proxy) fn gives(&self) -> bool {
        !self.given.is_empty()
    }

    /// Prepares for another header.
    pub(in crate::proxy) fn next_request(&mut self) {
        self.announced = 0;
        self.given_head = None;
    }

    /// The first byte of the current header after empty lines.
    pub(in crate::proxy) fn first_byte(&self) -> Option<u8> {
        self.held.iter().copied().find(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Passes an empty line to the parser, which skips it: it restarts Pingora's timer, which would close
    /// without a response.
    pub(in crate::proxy) fn announce(&mut self, buf: &mut ReadBuf<'_>) {
        self.announced += EMPTY_LINE.len();
        self.given.extend_from_slice(EMPTY_LINE);
        self.give(buf);
    }

    /// Passes the pending bytes to the parser.
    pub(in crate::proxy) fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let here = self.given.len().min(buf.remaining());
        buf.put_slice(&self.given[..here]);
        self.given.advance(here);
        if self.given.is_empty() {
            self.given = BytesMut::new();
        }
    }

    /// Takes `own` bytes of a header, and of what follows in the request, from `buf`. `head` is its size if
    /// it is complete. Returns whether the parser has bytes to read.
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

    /// Passes another header than the received one, and the bytes that followed the received one.
    fn give_other(&mut self, head: &[u8], sent: Box<SentHead>, behind: &[u8]) {
        self.is_refused |= sent.refused.is_some();
        self.given_head = Some(head.len());
        self.given.extend_from_slice(head);
        if !self.is_refused {
            self.given.extend_from_slice(behind);
        }
        *self.sent.lock() = Some(sent);
    }

    /// Rejects an incomplete header.
    pub(in crate::proxy) fn refuse(&mut self, failure: Failure) {
        let held = std::mem::take(&mut self.held);
        if let Judgement::Other(head, sent) = h1_head::refuse(&held, failure) {
            self.give_other(&head, sent, &[]);
        }
    }
}
