//! Tests with a WebSocket library on both sides, handshakes included, over real sockets.

use super::*;
use crate::net::http1::field_names::FieldNames;
use crate::upstream::{Address, dial};
use crate::websocket::handshake::{self, HandshakeResponse, write_request, write_switching};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use std::net::SocketAddr;
use std::thread;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket as Socket};

const LIMIT: Duration = Duration::from_secs(10);

/// A backend that sends a greeting and echoes, for one connection.
fn echo() -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.send(Message::text("greeting")).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    });
    (address, thread)
}

/// A gateway for one connection: the whole path without the proxy.
async fn gateway(listener: TcpListener, backend: SocketAddr) -> Outcome {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(&head).unwrap();
    let headers: HeaderMap = request
        .headers
        .iter()
        .map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(field.value).unwrap())
        })
        .collect();
    let shake = handshake::check(&Method::GET, Version::HTTP_11, &headers).unwrap();
    let request =
        write_request(request.path.unwrap().as_bytes(), headers, &FieldNames::default(), &shake).unwrap();
    let mut tunnel_io = TunnelIo::from(dial(&Address::Tcp(backend), LIMIT).await.unwrap());
    let answer = handshake::exchange(&mut tunnel_io, &request, LIMIT).await.unwrap();
    let HandshakeResponse::Upgraded { mut headers, names, early } = answer else { panic!("not upgraded") };
    let mut switching = ::bytes::BytesMut::new();
    write_switching(&mut switching, request.accept(), &mut headers, &names);
    client.write_all(&switching).await.unwrap();
    let mut tunnel = tunnel(client, tunnel_io, policy(|_| {}));
    tunnel.backend_early = early;
    run(tunnel).await
}

/// Runs `talk` as a client of the echo backend; returns its result and the outcome.
async fn through<T: Send + 'static>(
    talk: impl FnOnce(Socket<std::net::TcpStream>) -> T + Send + 'static,
) -> (T, Outcome) {
    let (backend, echo) = echo();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{address}/chat"), stream).unwrap();
        talk(socket)
    });
    let outcome = gateway(listener, backend).await;
    let result = client.await.unwrap();
    echo.join().unwrap();
    (result, outcome)
}

fn close(mut socket: Socket<std::net::TcpStream>) {
    socket.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).unwrap();
    while socket.read().is_ok() {}
}

#[tokio::test]
async fn a_library_on_both_sides_notices_nothing() {
    let (echoed, outcome) = through(|mut socket| {
        assert_eq!(socket.read().unwrap(), Message::text("greeting"));
        let sent = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20].map(|size| Message::binary(vec![7; size]));
        for message in &sent {
            socket.send(message.clone()).unwrap();
            assert_eq!(&socket.read().unwrap(), message);
        }
        close(socket);
        sent.len() as u64
    })
    .await;
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Client), Reason::Closed, 1000)
    );
    assert_eq!(outcome.messages, [echoed, echoed + 1]);
}

#[tokio::test]
async fn a_message_in_fragments_with_a_ping_inside_arrives() {
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    let (pong, outcome) = through(|mut socket| {
        socket.read().unwrap();
        let part =
            |opcode, fin, text: &'static str| Message::Frame(Frame::message(text, OpCode::Data(opcode), fin));
        socket.send(part(Data::Text, false, "one ")).unwrap();
        socket.send(Message::Ping("inside".into())).unwrap();
        socket.send(part(Data::Continue, false, "two ")).unwrap();
        socket.send(part(Data::Continue, true, "three")).unwrap();
        let answers = [socket.read().unwrap(), socket.read().unwrap()];
        close(socket);
        answers
    })
    .await;
    assert!(pong.contains(&Message::Pong("inside".into())));
    assert!(pong.contains(&Message::text("one two three")));
    assert_eq!(outcome.messages, [1, 2]);
}
