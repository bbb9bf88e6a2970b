//! tokio-tungstenite, its server.

use futures_util::{SinkExt, StreamExt};
use moongate_clients::{Failure, Stream, server_tls};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

type Socket = WebSocketStream<Box<dyn Stream>>;

fn refusal() -> ErrorResponse {
    let mut response = ErrorResponse::new(Some("sign in first\n".to_owned()));
    *response.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
    let fields =
        [("WWW-Authenticate", "Basic realm=\"test\""), ("Content-Length", "14"), ("Connection", "close")];
    for (name, value) in fields {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Serves one connection. Ending it without Close is dropping it.
async fn serve(stream: Box<dyn Stream>, reset: impl Fn()) -> Result<(), Failure> {
    let path = Mutex::new(String::new());
    #[allow(clippy::result_large_err, reason = "the type is tungstenite's")]
    let check = |request: &Request, mut response: Response| {
        request.uri().path().clone_into(&mut path.lock().unwrap());
        if request.uri().path().ends_with("/refuse") {
            return Err(refusal());
        }
        let offered = request.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok());
        if offered.is_some_and(|names| names.contains("chat.v2")) {
            response.headers_mut().insert("Sec-WebSocket-Protocol", "chat.v2".parse().unwrap());
        }
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, check).await?;
    let path = path.into_inner()?;
    let (token, action) = path.trim_start_matches('/').split_once('/').ok_or("no action")?;
    println!("{token} open");
    let seen = converse(&mut socket, action, reset).await;
    println!("{token} end {seen}");
    Ok(())
}

/// Returns what was seen of the end.
async fn converse(socket: &mut Socket, action: &str, reset: impl Fn()) -> String {
    let mut seen = "no Close".to_owned();
    while let Some(message) = socket.next().await {
        let message = match message {
            Ok(message) => message,
            Err(error) => return format!("{seen}, {error}"),
        };
        let sent = match message {
            Message::Close(frame) => {
                seen = frame.map_or("no code".to_owned(), |frame| {
                    format!("{} {}", u16::from(frame.code), frame.reason)
                });
                continue;
            }
            Message::Pong(_) => socket.send("pong received".into()).await,
            Message::Text(_) | Message::Binary(_) => match action {
                "close" => {
                    let reason = "closed by the server".into();
                    socket.close(Some(CloseFrame { code: 4001.into(), reason })).await
                }
                "fin" => return "ended".to_owned(),
                "reset" => {
                    reset();
                    return "reset".to_owned();
                }
                "ping" => socket.send(Message::Ping("from the server".into())).await,
                "fragments" => {
                    let data = message.into_data();
                    let first = Frame::message(data.slice(..5), OpCode::Data(Data::Text), false);
                    let last = Frame::message(data.slice(5..), OpCode::Data(Data::Continue), true);
                    match socket.send(Message::Frame(first)).await {
                        Ok(()) => socket.send(Message::Frame(last)).await,
                        Err(error) => Err(error),
                    }
                }
                _ => socket.send(message).await,
            },
            _ => Ok(()),
        };
        if let Err(error) = sent {
            return format!("{seen}, {error}");
        }
    }
    seen
}

/// A second handle of the socket: a reset needs an option of it.
fn reset_of(stream: TcpStream) -> Result<(TcpStream, impl Fn()), Failure> {
    let stream = stream.into_std()?;
    let second = TcpStream::from_std(stream.try_clone()?)?;
    #[allow(deprecated, reason = "linger of zero seconds does not block")]
    let reset = move || second.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    Ok((TcpStream::from_std(stream)?, reset))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let secure = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening plain={} tls={}", plain.local_addr()?.port(), secure.local_addr()?.port());
    let acceptor = TlsAcceptor::from(Arc::new(server_tls()));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            loop {
                let (stream, tls) = tokio::select! {
                    accepted = plain.accept() => (accepted?.0, None),
                    accepted = secure.accept() => (accepted?.0, Some(acceptor.clone())),
                };
                let (stream, reset) = reset_of(stream)?;
                tokio::task::spawn_local(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
                    };
                    // What the server saw is printed; errors before that are the client's.
                    drop(serve(stream, reset).await);
                    Ok::<_, std::io::Error>(())
                });
            }
        })
        .await
}
