//! tokio-tungstenite.

use futures_util::{SinkExt, StreamExt};
use moongate_clients::{Failure, Outcome, Stream, connect, content, pattern, run, same, text};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<Box<dyn Stream>>;

async fn open(url: &str, protocols: &str) -> Result<(Socket, String), Failure> {
    let mut request = url.into_client_request()?;
    if !protocols.is_empty() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse()?);
    }
    let (socket, response) = client_async(request, connect(url).await?).await?;
    let chosen = response.headers().get("Sec-WebSocket-Protocol");
    Ok((socket, chosen.map_or_else(String::new, |value| value.to_str().unwrap_or_default().to_owned())))
}

/// The next message that is no ping.
async fn next(socket: &mut Socket) -> Result<Message, Failure> {
    loop {
        match socket.next().await.ok_or("the stream ended")?? {
            Message::Ping(_) => {}
            message => return Ok(message),
        }
    }
}

async fn exchange(socket: &mut Socket, message: Message) -> Outcome {
    socket.send(message.clone()).await?;
    let received = next(socket).await?;
    let kind = if received.is_text() { "text" } else { "binary" };
    println!("{kind} {} {}", message.len(), same(&message.into_data(), &received.into_data()));
    Ok(())
}

/// Sends Close, and reads until the end of the stream, which is an error where TLS ends without close_notify.
async fn end(socket: &mut Socket, code: u16, reason: &str) -> Outcome {
    socket.close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })).await?;
    rest(socket).await;
    Ok(())
}

async fn rest(socket: &mut Socket) {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(Some(frame))) => println!("closed {} {}", u16::from(frame.code), frame.reason),
            Ok(message) => println!("{message:?}"),
            Err(error) => println!("error {error}"),
        }
    }
}

async fn ends(url: &str, path: &str) -> Outcome {
    let (mut socket, _) = open(&format!("{url}{path}"), "").await?;
    socket.send("end".into()).await?;
    rest(&mut socket).await;
    Ok(())
}

async fn case(name: &str, url: &str) -> Outcome {
    match name {
        "echo" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, "".into()).await?;
            exchange(&mut socket, "héllo wörld ☃".into()).await?;
            exchange(&mut socket, Message::binary((0..=255).collect::<Vec<u8>>())).await?;
            exchange(&mut socket, text().into()).await?;
            exchange(&mut socket, Message::binary(pattern(1 << 20))).await?;
            end(&mut socket, 1000, "").await
        }
        "fragments" => {
            let (mut socket, _) = open(&format!("{url}/fragments"), "").await?;
            let frames = [(Data::Text, "one, "), (Data::Continue, "two, "), (Data::Continue, "three")];
            for (position, (kind, part)) in frames.into_iter().enumerate() {
                let frame = Frame::message(part, OpCode::Data(kind), position == 2);
                socket.send(Message::Frame(frame)).await?;
            }
            println!("{}", content(&next(&mut socket).await?.into_data()));
            end(&mut socket, 1000, "").await
        }
        "subprotocol" => {
            let (mut socket, protocol) = open(&format!("{url}/echo"), "chat.v1, chat.v2").await?;
            println!("subprotocol {protocol}");
            end(&mut socket, 1000, "").await
        }
        "ping" => {
            let (mut socket, _) = open(&format!("{url}/ping"), "").await?;
            socket.send(Message::Ping("from the client".into())).await?;
            println!("{:?}", next(&mut socket).await?);
            socket.send("go".into()).await?;
            println!("{:?}", next(&mut socket).await?);
            end(&mut socket, 1000, "").await
        }
        "client_close" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, "hello".into()).await?;
            end(&mut socket, 3001, "bye from the client").await
        }
        "server_close" => ends(url, "/close").await,
        "lost_fin" => ends(url, "/fin").await,
        "lost_reset" => ends(url, "/reset").await,
        "client_lost" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, "hello".into()).await?;
            std::process::exit(0)
        }
        _ => match open(&format!("{url}/refuse"), "").await {
            Ok(_) => {
                println!("opened");
                Ok(())
            }
            Err(error) => match error.downcast_ref() {
                Some(Error::Http(response)) => {
                    let body = response.body().clone().unwrap_or_default();
                    println!(
                        "{} {:?} {}",
                        response.status(),
                        response.headers()["www-authenticate"],
                        content(&body)
                    );
                    Ok(())
                }
                _ => Err(error),
            },
        },
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run(|_, name, url| async move { case(&name, &url).await.map(|()| true) }).await;
}
