//! Backends: one for thousands of WebSockets, and one that reads slowly. The first sends every frame back as it is, with its reserved bits and its place in a
//! message, so that compressed and fragmented messages return unchanged.

use crate::frame_stream::{CLOSE, FINAL, Frame, FrameReader, PING, PONG};
use crate::slow_client;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tungstenite::handshake::derive_accept_key;

/// The server's choice for permessage-deflate (RFC 7692 §7.1): both sides keep their contexts.
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// What the server does with a WebSocket.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Every frame goes back.
    Echo,
    /// It sends messages of this number and reads those of another, as far as it may: see [`slow_client::exchange`].
    Exchange([usize; 2], watch::Receiver<usize>),
}

/// Starts an echo in the runtime, and returns its address.
pub(crate) async fn start(tls: Option<rustls::ServerConfig>) -> SocketAddr {
    start_with(tls, Behaviour::Echo).await
}

/// Starts a server in the runtime, and returns its address.
pub(crate) async fn start_with(tls: Option<rustls::ServerConfig>, behaviour: Behaviour) -> SocketAddr {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(4096).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener.into()).unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let (acceptor, behaviour) = (acceptor.clone(), behaviour.clone());
            tokio::spawn(async move {
                // An error is the end of a connection; its client knows what it means.
                let _ = match acceptor {
                    None => serve(stream, behaviour).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => serve(stream, behaviour).await,
                        Err(error) => Err(error),
                    },
                };
            });
        }
    });
    address
}

async fn serve<S: AsyncRead + AsyncWrite>(stream: S, behaviour: Behaviour) -> io::Result<()> {
    let (source, mut sink) = tokio::io::split(stream);
    let mut frames = FrameReader::new(source);
    let head = frames.head().await?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let Some(key) = field("sec-websocket-key") else {
        sink.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await?;
        return sink.shutdown().await;
    };
    let deflate = if field("sec-websocket-extensions").is_some() { DEFLATE } else { "" };
    let accept = derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{deflate}\r\n"
    );
    sink.write_all(response.as_bytes()).await?;
    sink.flush().await?;
    if let Behaviour::Exchange(numbers, allowed) = behaviour {
        slow_client::exchange(numbers, &mut frames, &mut sink, None, allowed).await?;
    }
    let mut out = Vec::new();
    loop {
        let frame = frames.next().await?;
        match frame.opcode() {
            PING => Frame::new(FINAL | PONG, frame.payload.clone()).write(None, &mut out),
            PONG => continue,
            _ => frame.write(None, &mut out),
        }
        if frames.is_empty() || out.len() > 16 << 10 {
            sink.write_all(&out).await?;
            sink.flush().await?;
            out = Vec::new();
        }
        if frame.opcode() == CLOSE {
            sink.write_all(&out).await?;
            return sink.shutdown().await;
        }
    }
}
