//! Channel of a handover: one end of a pair of Unix sockets that keep the boundaries of messages.

use super::message::{Envelope, Message, VERSION};
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

/// The maximum length of a message.
pub(super) const LONGEST_MESSAGE: usize = 192 << 10;

/// The time limit for a message that the peer does not read.
const LONGEST_SEND: Duration = Duration::from_secs(10);

/// One end of the channel.
#[derive(Debug)]
pub(super) struct HandoverChannel(OwnedFd);

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
        // The default suffices if the system has a lower maximum.
        let _ = SockRef::from(&socket).set_send_buffer_size(2 * LONGEST_MESSAGE);
        Ok(Self(socket))
    }

    /// Sends a message with descriptors, at most [`MOST_DESCRIPTORS`].
    ///
    /// # Errors
    /// When the other process is gone, or reads nothing.
    pub(super) fn send(&self, message: Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // It may have keys of TLS connections.
        let bytes = Zeroizing::new(serde_json::to_vec(&Envelope { version: VERSION, message })?);
        if bytes.len() > LONGEST_MESSAGE || descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::other(format!("a message of {} bytes is too long", bytes.len())));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors in a message"));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(Into::into),
            }
        }
    }

    /// Ends the channel: the other process sees its end.
    pub(super) fn close(&self) {
        // It may have ended already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// Receives a message with its descriptors, within a time limit. Messages that may be skipped are skipped.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other process is gone, `TimedOut`, or `InvalidData`.
    pub(super) fn receive(&self, limit: Duration) -> io::Result<(Message, Vec<OwnedFd>)> {
        SockRef::from(&self.0).set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        loop {
            let mut bytes = Zeroizing::new(vec![0; LONGEST_MESSAGE]);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
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
            let envelope: Envelope = serde_json::from_slice(&bytes[..received.bytes])?;
            match envelope.message {
                Message::Unknown => {}
                message => return Ok((message, descriptors)),
            }
        }
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
