//! TLS connection of either role. It ends with its closing alert wherever it is dropped: a peer that sees the end of the
//! transport without the alert cannot tell it from a truncation (RFC 8446 §6.1).

use super::TunnelIo;
use super::carrier::{Carrier, TlsIo};
use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::{CommonState, ConnectionCommon, Error, ExtractedSecrets, SideData};
use std::io::{self, IoSlice, Write};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

/// The transport, and the keys in use.
pub(super) type CarrierAndKeys<C> = (Carrier<C>, Result<ExtractedSecrets, Error>);

/// A stream of tokio-rustls of either role.
pub trait TlsSession: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The transport.
    type Socket: TlsIo + Into<TunnelIo>;
    /// What distinguishes the roles in rustls.
    type Data: SideData;

    /// The transport, and the session.
    fn parts(&self) -> (&Carrier<Self::Socket>, &CommonState);

    /// The transport, and the session.
    fn parts_mut(&mut self) -> (&mut Carrier<Self::Socket>, &mut ConnectionCommon<Self::Data>);

    /// The transport, and the keys in use.
    fn into_secrets(self) -> CarrierAndKeys<Self::Socket>;
}

impl<C: TlsIo + Into<TunnelIo> + 'static> TlsSession for server::TlsStream<Carrier<C>> {
    type Socket = C;
    type Data = ServerConnectionData;

    fn parts(&self) -> (&Carrier<C>, &CommonState) {
        let (carrier, session) = self.get_ref();
        (carrier, session)
    }

    fn parts_mut(&mut self) -> (&mut Carrier<C>, &mut ConnectionCommon<ServerConnectionData>) {
        let (carrier, session) = self.get_mut();
        (carrier, session)
    }

    fn into_secrets(self) -> CarrierAndKeys<C> {
        let (carrier, session) = self.into_inner();
        (carrier, session.dangerous_extract_secrets())
    }
}

impl<C: TlsIo + Into<TunnelIo> + 'static> TlsSession for client::TlsStream<Carrier<C>> {
    type Socket = C;
    type Data = ClientConnectionData;

    fn parts(&self) -> (&Carrier<C>, &CommonState) {
        let (carrier, session) = self.get_ref();
        (carrier, session)
    }

    fn parts_mut(&mut self) -> (&mut Carrier<C>, &mut ConnectionCommon<ClientConnectionData>) {
        let (carrier, session) = self.get_mut();
        (carrier, session)
    }

    fn into_secrets(self) -> CarrierAndKeys<C> {
        let (carrier, session) = self.into_inner();
        (carrier, session.dangerous_extract_secrets())
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct TlsConnection<S: TlsSession> {
    /// `None` only while it is taken apart, which consumes it.
    stream: Option<S>,
    ends_without_alert: bool,
}

impl<S: TlsSession> TlsConnection<S> {
    /// For a stream after its handshake.
    pub fn new(stream: S) -> Self {
        Self { stream: Some(stream), ends_without_alert: false }
    }

    /// Whether no alert is sent when it is dropped: the end of the connection would complete what was sent, which is
    /// incomplete.
    pub fn set_ends_without_alert(&mut self, ends_without_alert: bool) {
        self.ends_without_alert = ends_without_alert;
    }

    /// The transport, and the keys in use. No alert is sent: the connection continues.
    pub(super) fn into_secrets(mut self) -> Option<CarrierAndKeys<S::Socket>> {
        self.stream.take().map(S::into_secrets)
    }
}

impl<S: TlsSession> Deref for TlsConnection<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.stream {
            Some(stream) => stream,
            None => unreachable!("it is taken apart only by a method that consumes it"),
        }
    }
}

impl<S: TlsSession> DerefMut for TlsConnection<S> {
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.stream {
            Some(stream) => stream,
            None => unreachable!("it is taken apart only by a method that consumes it"),
        }
    }
}

impl<S: TlsSession> Drop for TlsConnection<S> {
    fn drop(&mut self) {
        let ends_without_alert = self.ends_without_alert;
        let Some(stream) = self.stream.as_mut().filter(|_| !ends_without_alert) else { return };
        let (carrier, session) = stream.parts_mut();
        // No effect if it was sent.
        session.send_close_notify();
        // What the socket does not take at once is lost: no task waits for it.
        while session.wants_write() && matches!(session.write_tls(&mut AtOnce(carrier)), Ok(1..)) {}
    }
}

/// A transport that is written to without a task.
struct AtOnce<'a, C>(&'a C);

impl<C: TlsIo> Write for AtOnce<'_, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_now(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: TlsSession> AsyncRead for TlsConnection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut()).poll_read(cx, buf)
    }
}

impl<S: TlsSession> AsyncWrite for TlsConnection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.get_mut()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.get_mut()).poll_shutdown(cx)
    }
}
