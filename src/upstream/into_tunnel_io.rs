//! Conversion of a connection to an endpoint into one side of a tunnel.

use super::{PlainStream, UpstreamStream};
use crate::net::tunnel_io::{TlsIo, TunnelIo};
use std::io;
use std::task::{Context, Poll};

impl TlsIo for PlainStream {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_receive(cx, into),
            Self::Unix(stream) => stream.poll_receive(cx, into),
        }
    }

    fn is_silent(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_silent(),
            Self::Unix(stream) => stream.is_silent(),
        }
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.send_now(bytes),
            Self::Unix(stream) => stream.send_now(bytes),
        }
    }
}

impl From<PlainStream> for TunnelIo {
    fn from(stream: PlainStream) -> Self {
        match stream {
            PlainStream::Tcp(stream) => Self::Tcp(stream),
            PlainStream::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl From<UpstreamStream> for TunnelIo {
    fn from(wire: UpstreamStream) -> Self {
        match wire {
            UpstreamStream::Plain(stream) => stream.into(),
            UpstreamStream::Tls(stream) => Self::Boxed(stream),
        }
    }
}
