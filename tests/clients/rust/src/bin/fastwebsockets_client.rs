//! fastwebsockets, over hyper.

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use moongate_clients::{Failure, Outcome, connect, content, pattern, run, same, text};

type Socket = FragmentCollector<TokioIo<Upgraded>>;

async fn open(url: &str, protocols: &str) -> Result<(Socket, String), Failure> {
    let uri: hyper::Uri = url.parse()?;
    let mut request = Request::builder()
        .uri(uri.path())
        .header(HOST, uri.authority().ok_or("no host")?.as_str())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13");
    if !protocols.is_empty() {
        request = request.header("Sec-WebSocket-Protocol", protocols);
    }
    let stream = connect(url).await?;
    let (mut socket, response) =
        handshake::client(&TokioExecutor::new(), request.body(Empty::<Bytes>::new())?, stream).await?;
    socket.set_max_message_size(usize::MAX);
    let chosen = response.headers().get("Sec-WebSocket-Protocol");
    let chosen = chosen.map_or_else(String::new, |value| value.to_str().unwrap_or_default().to_owned());
    Ok((FragmentCollector::new(socket), chosen))
}

async fn exchange(socket: &mut Socket, kind: OpCode, data: &[u8]) -> Outcome {
    socket.write_frame(Frame::new(true, kind, None, Payload::Borrowed(data))).await?;
    let received = socket.read_frame().await?;
    println!("{:?} {} {}", received.opcode, data.len(), same(data, &received.payload));
    Ok(())
}

async fn show(socket: &mut Socket) -> Outcome {
    let received = socket.read_frame().await?;
    let (kind, payload) = (received.opcode, received.payload.to_vec());
    if kind == OpCode::Close && payload.len() >= 2 {
        println!("closed {} {}", u16::from_be_bytes([payload[0], payload[1]]), content(&payload[2..]));
    } else {
        println!("{kind:?} {}", content(&payload));
    }
    Ok(())
}

async fn end(socket: &mut Socket, code: u16, reason: &str) -> Outcome {
    socket.write_frame(Frame::close(code, reason.as_bytes())).await?;
    show(socket).await
}

async fn ends(url: &str, path: &str) -> Outcome {
    let (mut socket, _) = open(&format!("{url}{path}"), "").await?;
    socket.write_frame(Frame::text(Payload::Borrowed(b"end"))).await?;
    show(&mut socket).await
}

async fn case(name: &str, url: &str) -> Outcome {
    match name {
        "echo" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, OpCode::Text, b"").await?;
            exchange(&mut socket, OpCode::Text, "héllo wörld ☃".as_bytes()).await?;
            exchange(&mut socket, OpCode::Binary, &(0..=255).collect::<Vec<u8>>()).await?;
            exchange(&mut socket, OpCode::Text, text().as_bytes()).await?;
            exchange(&mut socket, OpCode::Binary, &pattern(1 << 20)).await?;
            end(&mut socket, 1000, "").await
        }
        "fragments" => {
            let (mut socket, _) = open(&format!("{url}/fragments"), "").await?;
            let frames =
                [(OpCode::Text, "one, "), (OpCode::Continuation, "two, "), (OpCode::Continuation, "three")];
            for (position, (kind, part)) in frames.into_iter().enumerate() {
                socket
                    .write_frame(Frame::new(position == 2, kind, None, Payload::Borrowed(part.as_bytes())))
                    .await?;
            }
            show(&mut socket).await?;
            end(&mut socket, 1000, "").await
        }
        "subprotocol" => {
            let (mut socket, protocol) = open(&format!("{url}/echo"), "chat.v1, chat.v2").await?;
            println!("subprotocol {protocol}");
            end(&mut socket, 1000, "").await
        }
        "ping" => {
            let (mut socket, _) = open(&format!("{url}/ping"), "").await?;
            socket.write_frame(Frame::text(Payload::Borrowed(b"go"))).await?;
            show(&mut socket).await?;
            end(&mut socket, 1000, "").await
        }
        "client_close" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, OpCode::Text, b"hello").await?;
            end(&mut socket, 3001, "bye from the client").await
        }
        "server_close" => ends(url, "/close").await,
        "lost_fin" => ends(url, "/fin").await,
        "lost_reset" => ends(url, "/reset").await,
        "client_lost" => {
            let (mut socket, _) = open(&format!("{url}/echo"), "").await?;
            exchange(&mut socket, OpCode::Text, b"hello").await?;
            std::process::exit(0)
        }
        _ => open(&format!("{url}/refuse"), "").await.map(|_| println!("opened")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run(|_, name, url| async move { case(&name, &url).await.map(|()| true) }).await;
}
