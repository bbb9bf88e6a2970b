//! TLS 1.3 after its handshake: the record layer alone (RFC 8446 §5), with keys from rustls and the AEADs that rustls
//! uses. Unlike a session of rustls, its state can move to another process.

use super::TunnelIo;
use super::carrier::HEADER;
use super::record_state::{Algorithm, RecordState, TrafficKey};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum length of a record's content, and of its ciphertext (RFC 8446 §5.1, §5.2).
const MOST_CONTENT: usize = 1 << 14;
const MOST_CIPHERTEXT: usize = MOST_CONTENT + 256;

/// The length of an authentication tag.
const TAG: usize = 16;

/// Bytes that are read at a time.
const READ: usize = HEADER + MOST_CIPHERTEXT;

/// Ciphertext that waits for the socket before nothing more is accepted.
const MOST_WAITING: usize = 64 << 10;

/// The most bytes of a handshake message.
const MOST_HANDSHAKE: usize = 64 << 10;

/// Content types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Alerts (RFC 8446 §6).
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The most records without content in a row, as in rustls: each costs work and brings nothing.
const MOST_EMPTY: u8 = 32;

/// Records of the write key that are kept for what ends a connection.
const LAST_RECORDS: u64 = 1 << 10;

/// The type of a message that announces another key (RFC 8446 §4.6.3).
const KEY_UPDATE: u8 = 24;

/// The type of a message with a session ticket, which a server sends at any time (RFC 8446 §4.6.1).
const NEW_SESSION_TICKET: u8 = 4;

/// A connection with TLS 1.3 records.
pub struct RecordStream {
    socket: TunnelIo,
    algorithm: Algorithm,
    read: RecordKey,
    write: RecordKey,
    /// Received bytes, of which those before `opened` have been decrypted.
    input: Vec<u8>,
    opened: usize,
    /// Decrypted bytes, of which those before `taken` have been read.
    plain: Vec<u8>,
    taken: usize,
    /// The part of a handshake message that has arrived.
    handshake: Vec<u8>,
    /// Records for the peer, of which the bytes before `sent` are sent.
    out: Vec<u8>,
    sent: usize,
    end: ReadEnd,
    /// Records without content since the last one with some.
    empty: u8,
    /// Whether the last alert is among the records for the peer.
    is_closing: bool,
    /// Whether another process may continue the connection.
    is_lent: bool,
    /// Whether what was sent is incomplete.
    ends_without_alert: bool,
}

/// What ended the direction from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    Open,
    /// The closing alert.
    Closed,
    /// The keys have come to their end: the peer changes its own, or few records are left. A new key cannot be derived,
    /// because rustls gives away the keys in use, and not what they are derived from.
    KeysEnded,
    /// An error.
    Failed(&'static str),
}

/// The error of a read at the end of the keys. Something may still be written.
#[derive(Debug, thiserror::Error)]
#[error("the TLS keys of a moved connection have come to their end")]
struct KeysEnded;

/// Returns whether the keys of a moved connection have come to their end.
pub(crate) fn is_end_of_keys(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<KeysEnded>())
}

/// An invalid record.
struct Fault {
    /// The alert for the peer; none answers an alert.
    alert: Option<u8>,
    reason: &'static str,
}

impl Fault {
    fn new(alert: u8, reason: &'static str) -> Self {
        Self { alert: Some(alert), reason }
    }
}

/// A key in use.
struct RecordKey {
    key: LessSafeKey,
    /// Kept for another process.
    secret: TrafficKey,
}

impl RecordKey {
    /// `None` if the key does not have the algorithm's length.
    fn new(algorithm: Algorithm, secret: TrafficKey) -> Option<Self> {
        let aead = match algorithm {
            Algorithm::Aes128Gcm => &AES_128_GCM,
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::Chacha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(aead, &secret.key).ok()?);
        (secret.iv.len() == ring::aead::NONCE_LEN).then_some(Self { key, secret })
    }

    /// The nonce of the next record (RFC 8446 §5.3). No nonce is used twice.
    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce: [u8; ring::aead::NONCE_LEN] = self.secret.iv.as_slice().try_into().ok()?;
        for (byte, number) in nonce[4..].iter_mut().zip(self.secret.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.secret.sequence = self.secret.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

impl RecordStream {
    /// Continues from a state on a plain socket; `None` if the state is not one.
    pub(crate) fn new(socket: TunnelIo, state: RecordState) -> Option<Self> {
        let RecordState { algorithm, read, write, input, plain, handshake, out } = state;
        Some(Self {
            socket,
            algorithm,
            read: RecordKey::new(algorithm, read)?,
            write: RecordKey::new(algorithm, write)?,
            input,
            opened: 0,
            plain,
            taken: 0,
            handshake,
            out,
            sent: 0,
            end: ReadEnd::Open,
            empty: 0,
            is_closing: false,
            is_lent: false,
            ends_without_alert: false,
        })
    }

    /// The state for another process; `None` for a stream that is ending.
    pub(crate) fn state(&self) -> Option<RecordState> {
        if self.end != ReadEnd::Open || self.is_closing {
            return None;
        }
        Some(RecordState {
            algorithm: self.algorithm,
            read: self.read.secret.clone(),
            write: self.write.secret.clone(),
            input: self.input[self.opened..].to_vec(),
            plain: self.plain[self.taken..].to_vec(),
            handshake: self.handshake.clone(),
            out: self.out[self.sent..].to_vec(),
        })
    }

    /// Another process may continue the connection: its end here sends nothing.
    pub(super) fn set_lent(&mut self, is_lent: bool) {
        self.is_lent = is_lent;
    }

    /// Ends the sending direction without the closing alert.
    pub(super) fn poll_shutdown_incomplete(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends_without_alert = true;
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// The socket below.
    pub(crate) fn socket(&self) -> &TunnelIo {
        &self.socket
    }

    /// Reads decrypted bytes into `into`; 0 means the closing alert.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            filled += self.take(&mut into[filled..]);
            if filled == into.len() {
                return Poll::Ready(Ok(filled));
            }
            if self.open_next() {
                continue;
            }
            if filled == 0 && self.has_no_keys() {
                return Poll::Ready(Err(io::Error::other(KeysEnded)));
            }
            if let ReadEnd::Failed(reason) = self.end
                && filled == 0
            {
                // The alert, if the socket takes it now.
                let _ = self.poll_send(cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
            }
            if self.end != ReadEnd::Open || filled > 0 && self.socket.is_silent() {
                return Poll::Ready(Ok(filled));
            }
            match self.fill(cx) {
                Poll::Ready(Ok(0)) if filled == 0 => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(filled)),
                Poll::Ready(Ok(_)) => {}
                // The error is returned by the next call.
                Poll::Ready(Err(_)) | Poll::Pending if filled > 0 => return Poll::Ready(Ok(filled)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.release();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether the keys have come to their end.
    fn has_no_keys(&self) -> bool {
        let most = self.algorithm.most_records();
        self.end == ReadEnd::KeysEnded || self.write.secret.sequence.saturating_add(LAST_RECORDS) >= most
    }

    /// Whether reading would certainly find nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.end == ReadEnd::Open
            && self.taken == self.plain.len()
            && self.record_length().is_none()
            && self.socket.is_silent()
            && !self.has_no_keys()
    }

    /// Copies decrypted bytes.
    fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.plain.len() - self.taken);
        into[..count].copy_from_slice(&self.plain[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
        count
    }

    /// An idle stream has no buffers.
    fn release(&mut self) {
        if self.input.len() == self.opened {
            (self.input, self.opened) = (Vec::new(), 0);
        }
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
    }

    /// Reads from the socket; 0 is its end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.drain(..self.opened);
        self.opened = 0;
        let before = self.input.len();
        self.input.resize(before + READ, 0);
        let read = self.socket.poll_receive(cx, &mut self.input[before..]);
        let count = if let Poll::Ready(Ok(count)) = &read { *count } else { 0 };
        self.input.truncate(before + count);
        read
    }

    /// The length of the next record if all of it has arrived, or if it is invalid.
    fn record_length(&self) -> Option<usize> {
        let bytes = &self.input[self.opened..];
        let length = HEADER + usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));
        (length > READ || bytes.len() >= length).then_some(length)
    }

    /// Decrypts the next record; returns whether there was one.
    fn open_next(&mut self) -> bool {
        if self.end != ReadEnd::Open {
            return false;
        }
        let Some(length) = self.record_length() else { return false };
        match self.open(length) {
            Ok(end) => self.end = end,
            Err(fault) => self.fail(&fault),
        }
        self.end == ReadEnd::Open
    }

    /// Ends the stream with an alert.
    fn fail(&mut self, fault: &Fault) {
        self.end = ReadEnd::Failed(fault.reason);
        if let Some(alert) = fault.alert.filter(|_| !self.is_closing) {
            self.is_closing = true;
            // Without it the connection ends all the same.
            let _ = self.seal(ALERT, &[FATAL, alert]);
        }
    }

    fn open(&mut self, length: usize) -> Result<ReadEnd, Fault> {
        const TYPE: Fault =
            Fault { alert: Some(UNEXPECTED_MESSAGE), reason: "a TLS record has an unexpected type" };
        if length > READ {
            return Err(Fault::new(RECORD_OVERFLOW, "a TLS record is too long"));
        }
        let record = &mut self.input[self.opened..self.opened + length];
        self.opened += length;
        let (header, sealed) = record.split_at_mut(HEADER);
        if header[0] != APPLICATION_DATA {
            return Err(TYPE);
        }
        let nonce = self.read.nonce().ok_or_else(|| Fault::new(INTERNAL_ERROR, "the TLS key is used up"))?;
        let inner = self.read.key.open_in_place(nonce, Aad::from(&*header), sealed);
        let inner = inner.map_err(|_| Fault::new(BAD_RECORD_MAC, "a TLS record cannot be decrypted"))?;
        // Padding follows the type (RFC 8446 §5.4).
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(TYPE)?;
        let (kind, content) = (inner[end], &inner[..end]);
        if content.len() > MOST_CONTENT {
            return Err(Fault::new(RECORD_OVERFLOW, "a TLS record is too long"));
        }
        self.empty = match kind {
            APPLICATION_DATA if !content.is_empty() => 0,
            _ => self.empty + 1,
        };
        if self.empty > MOST_EMPTY {
            return Err(Fault::new(UNEXPECTED_MESSAGE, "too many TLS records have no content"));
        }
        match (kind, content) {
            (APPLICATION_DATA, _) if self.handshake.is_empty() => {
                self.plain.extend_from_slice(content);
                Ok(ReadEnd::Open)
            }
            (ALERT, [_, CLOSE_NOTIFY]) => Ok(ReadEnd::Closed),
            (ALERT, [_, USER_CANCELED]) => Ok(ReadEnd::Open),
            (ALERT, _) => Err(Fault { alert: None, reason: "the TLS peer sent an alert" }),
            (HANDSHAKE, [_, ..]) => {
                self.handshake.extend_from_slice(content);
                skip_tickets(&mut self.handshake)
            }
            _ => Err(TYPE),
        }
    }

    /// Appends a record.
    fn seal(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let used_up = || io::Error::other("the TLS key is used up");
        // The last record may be one more: an alert tells why nothing follows.
        if kind != ALERT && self.write.secret.sequence >= self.algorithm.most_records() {
            return Err(used_up());
        }
        // At most MOST_CONTENT and 17 more.
        let length = (content.len() + 1 + TAG) as u16;
        let [high, low] = length.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let nonce = self.write.nonce().ok_or_else(used_up)?;
        self.out.extend_from_slice(&header);
        let start = self.out.len();
        self.out.extend_from_slice(content);
        self.out.push(kind);
        let inner = &mut self.out[start..];
        let tag = self.write.key.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        let tag = tag.map_err(|_| io::Error::other("a TLS record cannot be encrypted"))?;
        self.out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Sends the records that wait.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        // An idle stream has no buffer.
        (self.out, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

/// Removes whole messages with session tickets: nothing of the gateway resumes the session.
fn skip_tickets(messages: &mut Vec<u8>) -> Result<ReadEnd, Fault> {
    while let [kind, a, b, c, ..] = **messages {
        match kind {
            NEW_SESSION_TICKET => {}
            KEY_UPDATE => return Ok(ReadEnd::KeysEnded),
            _ => return Err(Fault::new(UNEXPECTED_MESSAGE, "a TLS message has an unexpected type")),
        }
        let length = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MOST_HANDSHAKE {
            return Err(Fault::new(UNEXPECTED_MESSAGE, "a TLS message is too long"));
        }
        if messages.len() < length {
            break;
        }
        messages.drain(..length);
    }
    if messages.is_empty() {
        *messages = Vec::new();
    }
    Ok(ReadEnd::Open)
}

impl Drop for RecordStream {
    /// Sends the closing alert if that is possible at once (RFC 8446 §6.1).
    fn drop(&mut self) {
        if self.is_lent || self.ends_without_alert {
            return;
        }
        // Without a key for it there is no alert.
        let is_sealed = self.is_closing || self.seal(ALERT, &[WARNING, CLOSE_NOTIFY]).is_ok();
        while is_sealed && self.sent < self.out.len() {
            match self.socket.send_now(&self.out[self.sent..]) {
                Ok(count @ 1..) => self.sent += count,
                _ => return,
            }
        }
    }
}

impl AsyncRead for RecordStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.get_mut().poll_receive(cx, buf.initialize_unfilled()))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RecordStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() - this.sent >= MOST_WAITING {
            ready!(this.poll_send(cx))?;
        }
        // A peer that never takes everything must not keep what it has taken.
        if this.sent >= MOST_WAITING {
            this.out.drain(..this.sent);
            this.sent = 0;
        }
        let accepted = &bytes[..bytes.len().min(MOST_WAITING)];
        for content in accepted.chunks(MOST_CONTENT) {
            this.seal(APPLICATION_DATA, content)?;
        }
        // What the socket does not take now is sent by a flush.
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(accepted.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_closing {
            this.is_closing = true;
            this.seal(ALERT, &[WARNING, CLOSE_NOTIFY])?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn key(byte: u8) -> TrafficKey {
        TrafficKey { key: vec![byte; 16], iv: vec![byte; 12], sequence: 0 }
    }

    /// A stream on a pipe of 8 KiB, and the other end of the pipe.
    fn stream(read: u8, write: u8) -> (RecordStream, DuplexStream) {
        let (near, far) = duplex(8 << 10);
        let state = RecordState {
            algorithm: Algorithm::Aes128Gcm,
            read: key(read),
            write: key(write),
            input: Vec::new(),
            plain: Vec::new(),
            handshake: Vec::new(),
            out: Vec::new(),
        };
        (RecordStream::new(TunnelIo::Boxed(Box::new(near)), state).unwrap(), far)
    }

    /// Records with these types and contents.
    fn sealed(records: &[(u8, &[u8])]) -> Vec<u8> {
        let (mut peer, _pipe) = stream(2, 1);
        records.iter().for_each(|(kind, content)| peer.seal(*kind, content).unwrap());
        std::mem::take(&mut peer.out)
    }

    async fn heard(records: &[(u8, &[u8])]) -> io::Result<Vec<u8>> {
        let (mut side, mut pipe) = stream(1, 2);
        pipe.write_all(&sealed(records)).await.unwrap();
        let mut bytes = Vec::new();
        side.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    const END: (u8, &[u8]) = (ALERT, &[WARNING, CLOSE_NOTIFY]);

    #[tokio::test]
    async fn records_without_content_are_limited() {
        let data = (APPLICATION_DATA, &b"ab"[..]);
        let empty = [(APPLICATION_DATA, &b""[..]); MOST_EMPTY as usize];
        let few = [&empty[..], &[data], &empty, &[data], &empty[1..], &[END]].concat();
        assert_eq!(heard(&few).await.unwrap(), b"abab");
        let many = [&empty[..], &empty[..1], &[data]].concat();
        assert_eq!(heard(&many).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn tickets_are_skipped_and_other_messages_end_the_stream() {
        let ticket = [&[NEW_SESSION_TICKET, 0, 0, 3], &b"abc"[..]].concat();
        let (begin, end) = ticket.split_at(2);
        let records = [(HANDSHAKE, begin), (HANDSHAKE, end), (APPLICATION_DATA, b"data"), END];
        assert_eq!(heard(&records).await.unwrap(), b"data");
        // Nothing may come between the parts of a message.
        for records in [
            &[(HANDSHAKE, begin), (APPLICATION_DATA, b"data"), END][..],
            &[(HANDSHAKE, &[11, 0, 0, 1, 0]), END],
            &[(HANDSHAKE, &[NEW_SESSION_TICKET, 255, 255, 255]), END],
            &[(HANDSHAKE, &[]), END],
            &[(0, &[]), END],
            &[(ALERT, &[FATAL, INTERNAL_ERROR])],
        ] {
            assert_eq!(heard(records).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{records:?}");
        }
    }

    #[tokio::test]
    async fn keys_end_before_their_last_record_and_when_the_peer_changes_its_own() {
        let error =
            heard(&[(APPLICATION_DATA, b"data"), (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0])]).await.unwrap_err();
        assert!(is_end_of_keys(&error), "{error}");
        let (mut side, _pipe) = stream(1, 2);
        side.write.secret.sequence = side.algorithm.most_records() - LAST_RECORDS;
        let error = side.read_exact(&mut [0]).await.unwrap_err();
        assert!(is_end_of_keys(&error), "{error}");
        assert!(!side.is_silent(), "one who only writes to it asks it too");
        side.seal(APPLICATION_DATA, b"goodbye").unwrap();
    }

    #[tokio::test]
    async fn what_a_slow_peer_has_taken_is_freed() {
        let (mut side, mut pipe) = stream(1, 2);
        let mut taken = vec![0; 60_000];
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..200 {
            // The peer never takes everything.
            let written = Pin::new(&mut side).poll_write(&mut cx, &[7; 59_000]);
            assert!(matches!(written, Poll::Ready(Ok(59_000)) | Poll::Pending));
            assert!(side.sent < side.out.len());
            assert!(side.out.len() < 4 * MOST_WAITING, "{} bytes are kept", side.out.len());
            let reading = pipe.read_exact(&mut taken[..50_000]);
            let sending = std::future::poll_fn(|cx| {
                // The pipe is small.
                let _ = side.poll_send(cx);
                Poll::<()>::Pending
            });
            tokio::select! {
                read = reading => drop(read.unwrap()),
                () = sending => {}
            }
        }
    }

    #[test]
    fn a_key_ends_after_its_records_and_its_last_alert() {
        let (mut side, _pipe) = stream(1, 2);
        side.write.secret.sequence = side.algorithm.most_records() - 1;
        side.seal(APPLICATION_DATA, b"last").unwrap();
        assert!(side.seal(APPLICATION_DATA, b"more").is_err());
        side.seal(ALERT, &[WARNING, CLOSE_NOTIFY]).unwrap();
    }
}
