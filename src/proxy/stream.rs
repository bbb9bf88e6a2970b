//! A request with a body on a stream of HTTP/2, as we hand it to Pingora. Pingora's own session waits for the next
//! piece of a body for ever, and cannot be told that somebody else has read all of it; the rest is as it
//! was. A request without a body, and CONNECT, need neither and go without.

use super::upload_gate::{Gate, UploadGate};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream as Pieces;
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A stream's session for Pingora.
pub fn stream(mut session: HttpSession) -> ServerSession {
    if session.is_body_done() || session.req_header().method == Method::CONNECT {
        ServerSession::H2(session)
    } else {
        let gate = Arc::new(UploadGate::default());
        session.req_header_mut().extensions_mut().insert(Arc::clone(&gate));
        ServerSession::new_custom(Box::new(Stream {
            session,
            read_timeout: None,
            patience: None,
            answered: false,
            proxied: false,
            taken: 0,
            gate,
        }))
    }
}

struct Stream {
    session: HttpSession,
    read_timeout: Option<Duration>,
    /// The last read timeout that there was.
    patience: Option<Duration>,
    /// The end of a backend's answer is out. A client may be silent while it listens; when there is nothing more
    /// to hear it has its patience again, or a body that never ends would hold its endpoint for ever.
    answered: bool,
    /// Pingora has begun to keep what it reads for another attempt.
    proxied: bool,
    /// What was read before: a plugin wanted to see all of it, and it goes to the backend from there.
    taken: usize,
    gate: Arc<UploadGate>,
}

impl Stream {
    fn was_taken(&self) -> bool {
        self.taken > 0 && self.session.is_body_done()
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        match self.gate.get() {
            Gate::Open => {}
            Gate::Paused => {
                let Some(time) = self.read_timeout else { return std::future::pending().await };
                tokio::time::sleep(time).await;
                return Error::e_explain(ErrorType::ReadTimedout, "the response does not end");
            }
            Gate::Ended => return Error::e_explain(ErrorType::ReadError, "the upload has ended"),
        }
        let last = self.patience.filter(|_| self.answered);
        let Some(time) = self.read_timeout.or(last) else { return self.session.read_body_bytes().await };
        match timeout(time, self.session.read_body_bytes()).await {
            Ok(read) => read,
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "reading the body of a request"),
        }
    }
}

#[async_trait]
impl Session for Stream {
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let read = self.read().await?;
        if !self.proxied {
            self.taken += read.as_ref().map_or(0, Bytes::len);
        }
        Ok(read)
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            return self.session.read_body_or_idle(true).await;
        }
        self.read().await
    }

    fn is_body_done(&mut self) -> bool {
        // A body that is not read any more is never complete, whatever has arrived of it.
        self.gate.get() == Gate::Open && self.session.is_body_done()
    }

    fn is_body_empty(&mut self) -> bool {
        self.session.is_body_empty()
    }

    fn body_bytes_read(&self) -> usize {
        self.session.body_bytes_read() - self.taken
    }

    fn enable_retry_buffering(&mut self) {
        self.proxied = true;
        if !self.was_taken() {
            self.session.enable_retry_buffering();
        }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.patience = timeout.or(self.patience);
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    async fn abandon(&mut self, _ctx: &str) {
        self.session.shutdown();
    }

    // What follows is Pingora's, as it is.

    fn req_header(&self) -> &RequestHeader {
        self.session.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.session.req_header_mut()
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.session.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.session.write_response_header(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.session.write_response_header_ref(head, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.session.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.session.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.answered |= tasks.iter().any(HttpTask::is_end);
        self.session.response_duplex_vec(tasks).await
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.session.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.session.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.session.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.session.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.session.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.session.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.session.shutdown();
    }

    async fn finish(&mut self) -> Result<()> {
        self.session.finish()
    }

    fn body_bytes_sent(&self) -> usize {
        self.session.body_bytes_sent()
    }

    fn digest(&self) -> Option<&Digest> {
        self.session.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.session.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.session.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.session.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.session.pseudo_raw_h1_request_header()
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.session.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        // In its place the body is given from where it was read to, at every attempt.
        if self.was_taken() { Some(Bytes::new()) } else { self.session.get_retry_buffer() }
    }

    // Messages beside HTTP, which this protocol has none of.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Pieces<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Pieces<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
