//! TLS I/O of a tunnel: records are read directly, because a stream registers a waker after each read and
//! cannot report that nothing arrived. Writing is left to tokio-rustls.

use super::Io;
use rustls::{CommonState, ConnectionCommon, SideData};
use std::io::{self, Read, Write};
use std::ops::DerefMut;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{client, server};

/// The transport below TLS.
pub trait TlsIo: AsyncRead + AsyncWrite + Send + Unpin {
    /// As [`Io::poll_receive`].
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// As [`Io::is_silent`].
    fn is_silent(&self) -> bool;
}

impl<C: TlsIo> Io for server::TlsStream<C> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let (carrier, session) = self.get_mut();
        receive(carrier, session, cx, into)
    }

    fn is_silent(&self) -> bool {
        let (carrier, session) = self.get_ref();
        is_silent(carrier, session)
    }
}

impl<C: TlsIo> Io for client::TlsStream<C> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let (carrier, session) = self.get_mut();
        receive(carrier, session, cx, into)
    }

    fn is_silent(&self) -> bool {
        let (carrier, session) = self.get_ref();
        is_silent(carrier, session)
    }
}

/// Whether TLS has nothing to read: no decrypted bytes, and no transport bytes before the closing alert.
fn is_silent(carrier: &impl TlsIo, session: &CommonState) -> bool {
    session.wants_read() && carrier.is_silent()
}

/// Reads available records into `into`, until nothing is left or `into` is full.
fn receive<S: SideData>(
    carrier: &mut impl TlsIo,
    session: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut filled = 0;
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
