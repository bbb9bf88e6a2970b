//! Channel of a handover: one end of a pair of Unix sockets that keep the boundaries of messages.

use super::message::{Envelope, Message, VERSION, json_length};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_peercred, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use zeroize::Zeroizing;

/// The maximum number of descriptors in a message; the kernel allows 253 (unix(7)).
pub(super) const MOST_DESCRIPTORS: usize = 128;

/// The length up to which a message is sent at once, below the usual send buffer of a socket. A longer one is sent in
/// parts, and any in smaller ones where the system has smaller buffers.
pub(super) const LONGEST_PART: usize = 192 << 10;

/// The maximum length of a message. A WebSocket of which more waits stays in the old process.
pub(super) const LONGEST_MESSAGE: usize = 4 << 20;

/// The first bytes of a part that others follow, and of the last one of several. No message begins with them.
const CONTINUES: u8 = b'+';
const ENDS: u8 = b'.';

/// The time limit for a message that the peer does not read.
const LONGEST_SEND: Duration = Duration::from_secs(10);

/// What the kernel adds to a message in a send buffer, rounded up.
const BUFFER_OVERHEAD: usize = 1 << 10;

/// One end of the channel.
#[derive(Debug)]
pub(super) struct HandoverChannel {
    socket: OwnedFd,
    /// The length of a part that the send buffer takes.
    longest_part: usize,
}

impl HandoverChannel {
    /// Both ends.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::set_up(own)?, other))
    }

    /// The end that this process was started with.
    ///
    /// # Errors
    /// When it is no such socket, or its other end belongs to another user.
    pub(super) fn inherited(socket: OwnedFd) -> io::Result<Self> {
        if socket_type(&socket).ok() != Some(SocketType::SEQPACKET) {
            return Err(io::Error::other("the descriptor is not the socket of a handover"));
        }
        let (peer, own) = (socket_peercred(&socket)?.uid, rustix::process::geteuid());
        if peer != own && !peer.is_root() {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("the other process is of user {}, not {}", peer.as_raw(), own.as_raw()),
            ));
        }
        Self::set_up(socket)
    }

    fn set_up(socket: OwnedFd) -> io::Result<Self> {
        SockRef::from(&socket).set_write_timeout(Some(LONGEST_SEND))?;
        // The system may have a lower maximum.
        let _ = SockRef::from(&socket).set_send_buffer_size(2 * LONGEST_PART);
        let buffer = SockRef::from(&socket).send_buffer_size()?;
        // The least size of a buffer is more than twice the overhead (socket(7)).
        let longest_part = buffer.saturating_sub(BUFFER_OVERHEAD).clamp(BUFFER_OVERHEAD, LONGEST_PART);
        Ok(Self { socket, longest_part })
    }

    /// Sends a message with descriptors, at most [`MOST_DESCRIPTORS`].
    ///
    /// # Errors
    /// When the other process is gone, or reads nothing.
    pub(super) fn send(&self, message: Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let envelope = Envelope { version: VERSION, message };
        // It may have keys of TLS connections: a buffer that grows would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(json_length(&envelope)));
        serde_json::to_writer(&mut *bytes, &envelope)?;
        if bytes.len() > LONGEST_MESSAGE || descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::other(format!("a message of {} bytes is too long", bytes.len())));
        }
        if bytes.len() <= self.longest_part {
            return self.send_part(&[IoSlice::new(&bytes)], descriptors);
        }
        let mut parts = bytes.chunks(self.longest_part - 1).peekable();
        while let Some(part) = parts.next() {
            let (mark, descriptors) = match parts.peek() {
                Some(_) => (CONTINUES, &[][..]),
                None => (ENDS, descriptors),
            };
            self.send_part(&[IoSlice::new(&[mark]), IoSlice::new(part)], descriptors)?;
        }
        Ok(())
    }

    fn send_part(&self, part: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors in a message"));
        }
        loop {
            match sendmsg(&self.socket, part, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(Into::into),
            }
        }
    }

    /// Ends the channel: the other process sees its end.
    pub(super) fn close(&self) {
        // It may have ended already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Receives a message with its descriptors, within a time limit. Messages that may be skipped are skipped.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other process is gone, `TimedOut`, or `InvalidData`.
    pub(super) fn receive(&self, limit: Duration) -> io::Result<(Message, Vec<OwnedFd>)> {
        SockRef::from(&self.socket).set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut parts = Parts::default();
        loop {
            let mut bytes = Zeroizing::new(vec![0; LONGEST_PART]);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let received = match received {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            };
            let descriptors: Vec<_> = control
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                })
                .flatten()
                .collect();
            if received.bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(received.bytes);
            let Some(bytes) = parts.add(bytes)? else { continue };
            let envelope: Envelope = serde_json::from_slice(&bytes)?;
            match envelope.message {
                Message::Unknown => {}
                message => return Ok((message, descriptors)),
            }
        }
    }
}

/// The parts of a message that has not arrived completely.
#[derive(Default)]
struct Parts {
    parts: Vec<Zeroizing<Vec<u8>>>,
    /// The length of the message so far.
    length: usize,
}

impl Parts {
    /// Adds a part; returns the message with the last one.
    ///
    /// # Errors
    /// When the message is too long.
    fn add(&mut self, part: Zeroizing<Vec<u8>>) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mark = part.first().copied();
        if mark != Some(CONTINUES) && mark != Some(ENDS) {
            return Ok(Some(part));
        }
        self.length += part.len() - 1;
        self.parts.push(part);
        if self.length > LONGEST_MESSAGE {
            return Err(ErrorKind::InvalidData.into());
        }
        if mark == Some(CONTINUES) {
            return Ok(None);
        }
        let Self { parts, length } = std::mem::take(self);
        // Allocated at once: it may have keys, of which a growing vector would leave copies.
        let mut whole = Zeroizing::new(Vec::with_capacity(length));
        parts.iter().for_each(|part| whole.extend_from_slice(&part[1..]));
        Ok(Some(whole))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (old, new) = HandoverChannel::pair().unwrap();
        let new = HandoverChannel::inherited(new).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = Message::Sockets { sockets: Vec::new(), more: true };
        old.send(message.clone(), &[listener.as_fd(); MOST_DESCRIPTORS]).unwrap();
        let (received, descriptors) = new.receive(LIMIT).unwrap();
        assert_eq!((received, descriptors.len()), (message, MOST_DESCRIPTORS));
        let passed = TcpListener::from(descriptors.into_iter().next().unwrap());
        assert_eq!(passed.local_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn a_message_of_any_length_arrives_as_one_with_its_descriptors() {
        let (old, new) = HandoverChannel::pair().unwrap();
        let new = HandoverChannel::inherited(new).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let empty = serde_json::to_vec(&Envelope {
            version: VERSION,
            message: Message::Failed { report: String::new() },
        });
        let overhead = empty.unwrap().len();
        let lengths = [LONGEST_PART - 1, LONGEST_PART, LONGEST_PART + 1, 2 * LONGEST_PART, 3 << 20];
        for length in lengths {
            // Each part may begin with a byte that is a mark.
            let message = Message::Failed { report: "+.".repeat(length)[..length - overhead].to_owned() };
            let (received, descriptors) = std::thread::scope(|scope| {
                scope.spawn(|| old.send(message.clone(), &[listener.as_fd(); 2]).unwrap());
                new.receive(LIMIT).unwrap()
            });
            assert!(received == message && descriptors.len() == 2, "{length}");
        }
        let too_long = Message::Failed { report: "x".repeat(LONGEST_MESSAGE) };
        assert!(old.send(too_long, &[]).is_err());
        // The other process is not trusted to end a message.
        let parts = std::iter::repeat_n(vec![CONTINUES; LONGEST_PART], 100);
        let mut received = Parts::default();
        assert!(parts.map(Zeroizing::new).any(|part| received.add(part).is_err()));
    }

    #[test]
    fn a_small_send_buffer_has_small_parts() {
        let (old, new) = HandoverChannel::pair().unwrap();
        let new = HandoverChannel::inherited(new).unwrap();
        SockRef::from(&old.socket).set_send_buffer_size(8 << 10).unwrap();
        let old = HandoverChannel { longest_part: (16 << 10) - BUFFER_OVERHEAD, ..old };
        let message = Message::Failed { report: "+".repeat(1 << 20) };
        let (received, _) = std::thread::scope(|scope| {
            scope.spawn(|| old.send(message.clone(), &[]).unwrap());
            new.receive(LIMIT).unwrap()
        });
        assert!(received == message);
    }

    #[test]
    fn an_end_a_silence_and_rubbish_are_errors() {
        let (old, new) = HandoverChannel::pair().unwrap();
        assert_eq!(old.receive(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::TimedOut);
        rustix::net::send(&new, b"{}", SendFlags::empty()).unwrap();
        assert!(old.receive(LIMIT).is_err());
        drop(new);
        assert_eq!(old.receive(LIMIT).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(old.send(Message::Serve, &[]).is_err());
    }

    #[test]
    fn another_socket_is_no_channel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(HandoverChannel::inherited(listener.into()).is_err());
    }
}
