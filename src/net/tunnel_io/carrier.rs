//! Transport below TLS that follows the records: a session can move to another process only between two of them,
//! because the bytes of a record that has begun are inside rustls.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The transport below TLS.
pub trait TlsIo: AsyncRead + AsyncWrite + Send + Unpin {
    /// As [`Io::poll_receive`](super::Io::poll_receive).
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// As [`Io::is_silent`](super::Io::is_silent).
    fn is_silent(&self) -> bool;

    /// Sends what the socket takes at once, outside of a task.
    ///
    /// # Errors
    /// Errors of the socket; `WouldBlock` if nothing can be sent now.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// The length of a record's header (RFC 8446 §5.1).
pub(super) const HEADER: usize = 5;

/// Follows the records in the bytes that a session reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordFollower {
    /// The length field of a header that has begun.
    length: [u8; 2],
    /// The bytes of that header so far.
    header: u8,
    /// The bytes of the current record that are missing.
    rest: u16,
}

impl RecordFollower {
    /// Follows these bytes.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.rest > 0 {
                let taken = bytes.len().min(self.rest.into());
                // At most the value itself.
                self.rest -= taken as u16;
                bytes = &bytes[taken..];
                continue;
            }
            if let Some(byte) = usize::from(self.header).checked_sub(HEADER - 2) {
                self.length[byte] = *first;
            }
            self.header += 1;
            bytes = &bytes[1..];
            if usize::from(self.header) == HEADER {
                (self.header, self.rest) = (0, u16::from_be_bytes(self.length));
            }
        }
    }

    /// The bytes up to the end of the current header or record; 0 between two records.
    fn missing(&self) -> usize {
        match (self.rest, self.header) {
            (0, 0) => 0,
            (0, begun) => HEADER - usize::from(begun),
            (rest, _) => rest.into(),
        }
    }
}

/// A transport whose reads are followed.
#[derive(Debug)]
pub struct Carrier<S> {
    socket: S,
    records: RecordFollower,
    /// Whether nothing is read beyond the current record.
    ends_with_record: bool,
    /// Decrypted bytes that were taken from the session: it reads no record while many wait. They come before those of the
    /// session.
    pub(super) plain: Vec<u8>,
}

impl<S> Carrier<S> {
    /// The transport, from which bytes up to `records` have been read.
    pub fn new(socket: S, records: RecordFollower) -> Self {
        Self { socket, records, ends_with_record: false, plain: Vec::new() }
    }

    /// The transport itself.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The transport itself.
    pub fn into_socket(self) -> S {
        self.socket
    }

    /// Moves decrypted bytes that were taken from the session to `into`, and returns their number.
    pub(super) fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.plain.len());
        into[..count].copy_from_slice(&self.plain[..count]);
        self.plain.drain(..count);
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
        count
    }

    /// Reads nothing beyond the current record from now on, or as much as there is.
    pub(super) fn end_with_record(&mut self, ends: bool) {
        self.ends_with_record = ends;
    }

    /// Returns whether everything that was read is whole records.
    pub(super) fn is_between_records(&self) -> bool {
        self.records.missing() == 0
    }

    /// How much of `room` may be read.
    fn allowance(&self, room: usize) -> usize {
        if self.ends_with_record { room.min(self.records.missing()) } else { room }
    }
}

impl<S: TlsIo> TlsIo for Carrier<S> {
    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let room = self.allowance(into.len());
        if room == 0 {
            // 0 bytes would be the end. No task waits meanwhile.
            return Poll::Pending;
        }
        let count = ready!(self.socket.poll_receive(cx, &mut into[..room]))?;
        self.records.follow(&into[..count]);
        Poll::Ready(Ok(count))
    }

    #[inline]
    fn is_silent(&self) -> bool {
        self.socket.is_silent()
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send_now(bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Carrier<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        this.records.follow(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Carrier<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_end_of_a_record_is_known_however_its_bytes_arrive(
            lengths in prop::collection::vec(0_u16..600, 1..20),
            pieces in prop::collection::vec(1_usize..300, 1..40),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for length in lengths {
                bytes.extend([23, 3, 3]);
                bytes.extend(length.to_be_bytes());
                bytes.extend(std::iter::repeat_n(7, length.into()));
                ends.push(bytes.len());
            }
            let mut follower = RecordFollower::default();
            let (mut at, mut pieces) = (0, pieces.into_iter().cycle());
            while at < bytes.len() {
                let piece = pieces.next().unwrap_or(1).min(bytes.len() - at);
                follower.follow(&bytes[at..at + piece]);
                at += piece;
                prop_assert_eq!(follower.missing() == 0, ends.contains(&at), "at {}", at);
                prop_assert!(at + follower.missing() <= bytes.len());
            }
        }
    }
}
