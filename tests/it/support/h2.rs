//! HTTP/2 client by the h2 crate.

use super::LIMIT;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A connection.
pub(crate) struct Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A response that may be cut off.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) error: Option<h2::Error>,
}

/// A request with only a target.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path).body(()).unwrap()
}

/// A request builder.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://localhost{path}"))
}

impl Client {
    /// Connects without TLS.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (send, connection) = h2::client::handshake(socket).await.unwrap();
            // The requests report its end.
            tokio::spawn(async move { drop(connection.await) });
            send
        });
        Self { runtime, send }
    }

    /// Begins a request.
    pub(crate) fn begin(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.runtime.block_on(async {
            let mut send = self.send.clone().ready().await.unwrap();
            send.send_request(request, end).unwrap()
        })
    }

    /// Sends a request with a body in these chunks, and reads the whole response.
    pub(crate) fn try_ask(&self, request: Request<()>, pieces: &[&[u8]]) -> Result<Answer, h2::Error> {
        let (answer, mut body) = self.begin(request, pieces.is_empty());
        for (at, piece) in pieces.iter().enumerate() {
            // A response that does not wait for the body ends the upload (RFC 9113 §8.1).
            if self.write(&mut body, piece, at + 1 == pieces.len()).is_err() {
                break;
            }
        }
        self.read(answer)
    }

    /// The same, which must succeed.
    pub(crate) fn ask(&self, request: Request<()>, pieces: &[&[u8]]) -> Answer {
        self.try_ask(request, pieces).unwrap()
    }

    /// Writes a chunk as the window allows.
    pub(crate) fn write(
        &self,
        body: &mut SendStream<Bytes>,
        piece: &[u8],
        end: bool,
    ) -> Result<(), h2::Error> {
        let writing = async {
            let mut left = Bytes::copy_from_slice(piece);
            while !left.is_empty() {
                body.reserve_capacity(left.len());
                let Some(room) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.transpose()? else {
                    break;
                };
                let part = left.split_to(room.min(left.len()));
                let last = end && left.is_empty();
                body.send_data(part, last)?;
            }
            if end && piece.is_empty() {
                body.send_data(Bytes::new(), true)?;
            }
            Ok(())
        };
        self.runtime.block_on(async { timeout(LIMIT, writing).await.expect("the piece is taken") })
    }

    /// Reads a response to its end.
    pub(crate) fn read(&self, answer: ResponseFuture) -> Result<Answer, h2::Error> {
        let reading = async {
            let (head, mut body) = answer.await?.into_parts();
            let (bytes, trailers) = drain(&mut body).await?;
            Ok(Answer { status: head.status, headers: head.headers, body: bytes, trailers })
        };
        self.runtime.block_on(async { timeout(LIMIT, reading).await.expect("an answer") })
    }
}

impl Client {
    /// Reads a response to its end, or to the error that ends it.
    pub(crate) fn receive(&self, answer: ResponseFuture) -> Received {
        let mut received = Received::default();
        let reading = async {
            let (head, mut body) = answer.await?.into_parts();
            received.status = Some(head.status);
            received.headers = head.headers;
            while let Some(piece) = body.data().await {
                let piece = piece?;
                body.flow_control().release_capacity(piece.len())?;
                received.body.extend_from_slice(&piece);
            }
            received.trailers = body.trailers().await?;
            Ok(())
        };
        let read = self.runtime.block_on(async { timeout(LIMIT, reading).await.expect("an end") });
        received.error = read.err();
        received
    }
}

async fn drain(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, body.trailers().await?))
}
