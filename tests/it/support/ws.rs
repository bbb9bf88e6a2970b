//! WebSocket client that knows the backend that it is connected to, and the frames that tests write by hand
//! when the exact bytes matter.

use super::raw::Wire;
use super::{LIMIT, Response, Seen};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// The key that [`handshake`] sends.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An open WebSocket.
pub(crate) struct Socket {
    /// The name of the backend in its 101.
    pub(crate) backend: String,
    /// The cookie in the 101.
    pub(crate) cookie: Option<String>,
    inner: WebSocket<TcpStream>,
}

impl Socket {
    /// Opens one; panics if it is rejected.
    pub(crate) fn open(gateway: SocketAddr, path: &str) -> Self {
        Self::open_with(gateway, path, &[]).unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Opens one with more request fields, or returns the status of the other response.
    pub(crate) fn open_with(gateway: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let mut request = format!("ws://{gateway}{path}").into_client_request().unwrap();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((inner, response)) => {
                let field = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
                Ok(Self {
                    backend: field("x-backend").unwrap_or_default(),
                    cookie: field("set-cookie"),
                    inner,
                })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(e) => panic!("the handshake failed: {e}"),
        }
    }

    /// Sends a text message.
    pub(crate) fn say(&mut self, text: &str) {
        self.inner.send(Message::text(text)).unwrap_or_else(|e| panic!("cannot say {text:?}: {e}"));
    }

    /// Sends a binary message.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.inner.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// The next data message, as bytes.
    pub(crate) fn hear(&mut self) -> Vec<u8> {
        loop {
            match self.inner.read().unwrap_or_else(|e| panic!("heard nothing: {e}")) {
                Message::Text(text) => return text.as_bytes().to_vec(),
                Message::Binary(bytes) => return bytes.to_vec(),
                Message::Close(close) => panic!("closed with {close:?}"),
                _ => {}
            }
        }
    }

    /// The next text within that time; `None` without one. Panics when the socket ends.
    pub(crate) fn hear_within(&mut self, time: Duration) -> Option<String> {
        self.inner.get_ref().set_read_timeout(Some(time)).unwrap();
        loop {
            match self.inner.read() {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Err(Error::Io(e)) if waited(&e) => return None,
                other => panic!("heard {other:?}"),
            }
        }
    }

    /// Sends a text and expects its echo.
    pub(crate) fn echo(&mut self, text: &str) {
        self.say(text);
        assert_eq!(String::from_utf8(self.hear()).unwrap(), text);
    }

    /// Sends a text and waits for its echo; the close code if the WebSocket ends instead, `None` without a Close frame.
    pub(crate) fn try_echo(&mut self, text: &str) -> Result<(), Option<u16>> {
        // One that has ended may still have its Close frame to read.
        let _ = self.inner.send(Message::text(text));
        let mut code = None;
        loop {
            match self.inner.read() {
                Ok(Message::Text(echo)) if echo.as_str() == text => return Ok(()),
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::Io(e)) if waited(&e) => panic!("no echo after {LIMIT:?}"),
                Err(_) => return Err(code),
            }
        }
    }

    /// Sends a binary message and expects its echo.
    pub(crate) fn echo_bytes(&mut self, bytes: &[u8]) {
        self.say_bytes(bytes);
        assert!(self.hear() == bytes, "{} bytes came back changed", bytes.len());
    }

    /// Reads for that long and expects no end; pings are answered meanwhile.
    pub(crate) fn stay_silent(&mut self, time: Duration) {
        let start = std::time::Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.inner.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.inner.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => panic!("not silent: {message:?}"),
                Err(Error::Io(e)) if waited(&e) => break,
                Err(e) => panic!("cut after {:?} of silence: {e}", start.elapsed()),
            }
        }
        self.inner.get_ref().set_read_timeout(Some(LIMIT)).unwrap();
    }

    /// Reads to the end: the code of the Close frame, if there was one.
    pub(crate) fn end(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.inner.read() {
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::Io(e)) if waited(&e) => panic!("still open after {LIMIT:?}"),
                Err(_) => return code,
            }
        }
    }

    /// Sends Close 1000 and waits for the backend's Close frame.
    pub(crate) fn close(mut self) {
        self.inner.close(None).unwrap();
        self.end();
    }
}

fn waited(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A client's handshake with more lines (each with its CRLF).
pub(crate) fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// A backend's valid 101 for that request, with more lines (each with its CRLF).
pub(crate) fn accepted(seen: &Seen, more: &str) -> String {
    let accept = derive_accept_key(seen.field("sec-websocket-key").unwrap_or_default().as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

/// A backend's frame: final, unmasked.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(opcode, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// A client's frame: final, masked.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(opcode, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn head(opcode: u8, length: usize, mask: u8) -> Vec<u8> {
    let mut head = vec![0x80 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => head.push(mask | short),
        (_, Ok(middle)) => {
            head.push(mask | 126);
            head.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// The next frame on a wire: its first byte and its payload, unmasked.
pub(crate) fn read_frame(wire: &mut Wire) -> io::Result<(u8, Vec<u8>)> {
    let head = wire.exactly(2)?;
    let length = match head[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes(wire.exactly(2)?.try_into().unwrap())),
        127 => u64::from_be_bytes(wire.exactly(8)?.try_into().unwrap()) as usize,
        short => usize::from(short),
    };
    let mask = if head[1] & 0x80 == 0 { vec![0; 4] } else { wire.exactly(4)? };
    let mut payload = wire.exactly(length)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0], payload))
}

/// Opens a WebSocket by hand: the wire after its 101.
pub(crate) fn open_raw(gateway: SocketAddr, path: &str) -> Wire {
    let mut wire = Wire::connect(gateway);
    wire.send(handshake(path, ""));
    let response: Response = wire.response();
    assert_eq!(response.status, 101, "{}{}", response.head, response.text());
    wire
}
