//! One connection of a demo backend: requests in a row, until one of them opens a WebSocket. An error ends only
//! this connection, and is reported only to the peer.

use super::Backend;
use super::request::{BODY_LIMIT, BodyFraming, DemoResponse, Request, RequestError};
use super::websocket;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The timeout of a request head, including the idle time before it. Longer than the gateway keeps an idle
/// connection (60 s), so that the backend never closes just as a request is sent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The timeout of a body, and of writing a response.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for which a rejected client may continue to send before the connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// A stream and the bytes received after the last read message.
struct Connection {
    stream: TcpStream,
    waiting: Vec<u8>,
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, backend: Arc<Backend>) {
    // Echoes are small; Nagle's algorithm would only add latency.
    let _ = stream.set_nodelay(true);
    // A disconnected peer is normal for a backend, so the error is dropped.
    let _ = (Connection { stream, waiting: Vec::new() }).requests(&backend).await;
}

impl Connection {
    async fn requests(mut self, backend: &Backend) -> io::Result<()> {
        loop {
            let request = match timeout(HEAD_TIMEOUT, self.head()).await {
                Ok(head) => match head? {
                    Head::Request(request) => request,
                    Head::Refused(refusal) => return self.refuse(refusal, backend).await,
                    Head::Closed => return Ok(()),
                },
                Err(_) => return Ok(()),
            };
            if request.wants_websocket() {
                return self.upgrade(&request, backend).await;
            }
            match request.body() {
                Ok(length) => self.skip(length).await?,
                Err(refusal) => return self.refuse(refusal, backend).await,
            }
            backend.served.fetch_add(1, Ordering::Relaxed);
            let then = request.then();
            self.write(&answer(&request, backend, then)).await?;
            if then == BodyFraming::Close {
                return self.stream.shutdown().await;
            }
        }
    }

    async fn upgrade(mut self, request: &Request, backend: &Backend) -> io::Result<()> {
        match websocket::accept(request, &backend.name) {
            Ok(head) => {
                self.write(&head).await?;
                websocket::echo(self.stream, self.waiting, &request.path, backend).await;
                Ok(())
            }
            Err(refusal) => self.refuse(refusal, backend).await,
        }
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            match Request::parse(&self.waiting) {
                Ok(Some((request, length))) => {
                    self.waiting.drain(..length);
                    return Ok(Head::Request(request));
                }
                Ok(None) => {}
                Err(refusal) => return Ok(Head::Refused(refusal)),
            }
            if self.stream.read_buf(&mut self.waiting).await? == 0 {
                return Ok(Head::Closed);
            }
        }
    }

    async fn skip(&mut self, length: u64) -> io::Result<()> {
        // The length was checked against BODY_LIMIT.
        let mut left = usize::try_from(length).map_err(io::Error::other)?;
        loop {
            let here = left.min(self.waiting.len());
            self.waiting.drain(..here);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if timeout(TRANSFER_TIMEOUT, self.stream.read_buf(&mut self.waiting)).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn refuse(
        mut self,
        RequestError(status, reason): RequestError,
        backend: &Backend,
    ) -> io::Result<()> {
        let mut answer = DemoResponse::text(status, reason, reason);
        answer.extra = (status == 426).then_some(("Sec-WebSocket-Version", "13"));
        self.write(&answer.bytes(&backend.name, "", BodyFraming::Close)).await?;
        self.stream.shutdown().await?;
        // Closing a socket with unread bytes resets the connection, and the reset may overtake the response.
        let mut rest = self.stream.take(BODY_LIMIT);
        timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await??;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(TRANSFER_TIMEOUT, self.stream.write_all(bytes)).await?
    }
}

/// The first bytes of a client.
enum Head {
    Request(Request),
    Refused(RequestError),
    Closed,
}

fn answer(request: &Request, backend: &Backend, then: BodyFraming) -> Vec<u8> {
    let known = matches!(request.path.as_str(), "/" | "/whoami" | "/health");
    let read_only = matches!(request.method.as_str(), "GET" | "HEAD");
    let whoami;
    let answer = match request.path.as_str() {
        _ if known && !read_only => {
            let refused = DemoResponse::text(405, "Method Not Allowed", "only GET and HEAD\n");
            DemoResponse { extra: Some(("Allow", "GET, HEAD")), ..refused }
        }
        "/" => DemoResponse::ok("text/html; charset=utf-8", &backend.page),
        "/health" => DemoResponse::ok("text/plain; charset=utf-8", "ok\n"),
        "/whoami" => {
            whoami = describe(request, backend);
            DemoResponse::ok("application/json", &whoami)
        }
        _ => DemoResponse::text(404, "Not Found", "not found\n"),
    };
    answer.bytes(&backend.name, &request.method, then)
}

fn describe(request: &Request, backend: &Backend) -> String {
    let object = json!({
        "backend": backend.name,
        "served": backend.served.load(Ordering::Relaxed),
        "websockets": backend.open.load(Ordering::Relaxed),
        "host": request.field("host"),
        "forwarded_for": request.field("x-forwarded-for"),
        "request_id": request.field("x-request-id"),
    });
    format!("{object}\n")
}
