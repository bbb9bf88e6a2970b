//! TLS I/O of a tunnel: records are read directly, because a stream registers a waker after each read and
//! cannot report that nothing arrived. Writing is left to tokio-rustls.

use super::carrier::{Carrier, TlsIo};
use super::record_state::RecordState;
use super::tls_connection::{TlsConnection, TlsSession};
use super::{Io, RecordStream, TunnelIo};
use rustls::{CommonState, ConnectionCommon, Error, ExtractedSecrets, ProtocolVersion, SideData};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::AsyncWrite;

impl<S: TlsSession> Io for TlsConnection<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let (carrier, session) = self.parts_mut();
        receive(carrier, session, cx, into)
    }

    fn is_silent(&self) -> bool {
        let (carrier, session) = self.parts();
        is_silent(carrier, session)
    }

    fn poll_shutdown_incomplete(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.set_ends_without_alert(true);
        ready!(Pin::new(&mut **self).poll_flush(cx))?;
        Pin::new(self.parts_mut().0).poll_shutdown(cx)
    }

    fn may_become_records(&self) -> bool {
        may_become_records(self.parts().1)
    }

    fn into_records(mut self: Box<Self>) -> TunnelIo {
        let (carrier, session) = self.parts_mut();
        let Some(bytes) = bytes_between_records(carrier, session) else { return TunnelIo::Boxed(self) };
        match self.into_secrets() {
            Some((carrier, secrets)) => records(carrier, secrets, bytes),
            None => TunnelIo::Gone,
        }
    }
}

/// What a session has decrypted and not given away, and its records that are not sent.
struct SessionBytes {
    plain: Vec<u8>,
    out: Vec<u8>,
}

/// Reads up to the end of the current record, and takes the bytes of the session. `None` if it has no state that can
/// move now: another version than TLS 1.3, a record that has not arrived, a session that is ending.
fn bytes_between_records<C: TlsIo, S: SideData>(
    carrier: &mut Carrier<C>,
    session: &mut ConnectionCommon<S>,
) -> Option<SessionBytes> {
    if !may_become_records(session) {
        return None;
    }
    carrier.end_with_record(true);
    let is_open = read_record(carrier, session);
    carrier.end_with_record(false);
    if !is_open {
        return None;
    }
    let mut bytes = SessionBytes { plain: std::mem::take(&mut carrier.plain), out: Vec::new() };
    // A reply to a change of keys waits for the next write, beside the other records.
    let _ = session.writer().write(&[]);
    // Neither fails on a vector, and a session without its closing alert has no end.
    let _ = session.reader().read_to_end(&mut bytes.plain);
    while session.wants_write() && session.write_tls(&mut bytes.out).is_ok() {}
    Some(bytes)
}

/// Returns whether the session has records whose state can move.
fn may_become_records(session: &CommonState) -> bool {
    session.protocol_version() == Some(ProtocolVersion::TLSv1_3) && !session.is_handshaking()
}

/// Reads the rest of the current record; returns whether all of it is there and the session stays open.
fn read_record<C: TlsIo, S: SideData>(carrier: &mut Carrier<C>, session: &mut ConnectionCommon<S>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let is_complete = carrier.is_between_records();
        match session.process_new_packets() {
            Ok(state) if !state.peer_has_closed() => {}
            _ => return false,
        }
        if is_complete {
            return true;
        }
        // A session reads nothing while many decrypted bytes wait. Without the rest of the record they are read later.
        let _ = session.reader().read_to_end(&mut carrier.plain);
        if !matches!(session.read_tls(&mut Now { carrier, cx: &mut cx }), Ok(1..)) {
            return false;
        }
    }
}

fn records<C: Into<TunnelIo>>(
    carrier: Carrier<C>,
    secrets: Result<ExtractedSecrets, Error>,
    SessionBytes { plain, out }: SessionBytes,
) -> TunnelIo {
    let state = secrets.ok().and_then(|secrets| RecordState::new(secrets, plain, out));
    let stream = state.and_then(|state| RecordStream::new(carrier.into_socket().into(), state));
    // Everything that the extraction requires was checked. Without the keys the connection would end here.
    stream.map_or(TunnelIo::Gone, |stream| TunnelIo::Records(Box::new(stream)))
}

/// Whether TLS has nothing to read: no decrypted bytes, and no transport bytes before the closing alert.
fn is_silent<C: TlsIo>(carrier: &Carrier<C>, session: &CommonState) -> bool {
    carrier.plain.is_empty() && session.wants_read() && carrier.is_silent()
}

/// Reads available records into `into`, until nothing is left or `into` is full.
fn receive<C: TlsIo, S: SideData>(
    carrier: &mut Carrier<C>,
    session: &mut ConnectionCommon<S>,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut filled = if carrier.plain.is_empty() { 0 } else { carrier.take_plain(into) };
    // After bytes, an error is returned by the next call.
    let stop = |filled, error| Poll::Ready(if filled > 0 { Ok(filled) } else { Err(error) });
    loop {
        match session.reader().read(&mut into[filled..]) {
            Ok(0) => return Poll::Ready(Ok(filled)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return stop(filled, error),
        }
        if filled > 0 && carrier.is_silent() {
            return Poll::Ready(Ok(filled));
        }
        let read = session.read_tls(&mut Now { carrier, cx });
        // Also without new bytes: a failed session returns its error here.
        if let Err(error) = session.process_new_packets() {
            // Sends the alert to the peer, if that does not block.
            let _ = session.write_tls(&mut Now { carrier, cx });
            return stop(filled, io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled == 0 => return Poll::Pending,
            Err(error) => return stop(filled, error),
        }
    }
}

/// The transport for rustls: blocking becomes `WouldBlock`, and wakes the task later.
struct Now<'a, 'b, C> {
    carrier: &'a mut C,
    cx: &'a mut Context<'b>,
}

impl<C: TlsIo> Read for Now<'_, '_, C> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        at_once(self.carrier.poll_receive(self.cx, into))
    }
}

impl<C: TlsIo> Write for Now<'_, '_, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.carrier).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_once(done: Poll<io::Result<usize>>) -> io::Result<usize> {
    match done {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
