//! A request on a stream of HTTP/2, as we hand it to Pingora. Pingora's own session waits for the next piece of a body for
//! ever, and cannot be told that somebody else has read all of it; it knows neither how long the backend may be silent nor
//! how slowly a client may read. The rest is as it was. CONNECT needs none of it and goes without.

use super::lazy_timer::LazyTimer;
use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::upload_gate::Gate;
use crate::snapshot::MinRate;
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
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A stream's session for Pingora.
pub fn stream(mut session: HttpSession, rates: StreamRates) -> ServerSession {
    if session.req_header().method == Method::CONNECT {
        return ServerSession::H2(session);
    }
    let control = Arc::new(SessionControl::default());
    session.req_header_mut().extensions_mut().insert(Arc::clone(&control));
    ServerSession::new_custom(Box::new(Stream {
        session,
        rates,
        read_timeout: None,
        patience: None,
        proxied: false,
        taken: 0,
        control,
        silence: LazyTimer::default(),
        body_pace: None,
        send_pace: None,
    }))
}

/// The lowest rates of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamRates {
    /// Of a request's body.
    pub body: Option<MinRate>,
    /// At which a client takes a response.
    pub send: Option<MinRate>,
}

/// Of a response so much is handed to the stream at a time: progress is seen in such pieces.
const PIECE: usize = 16 << 10;

struct Stream {
    session: HttpSession,
    rates: StreamRates,
    read_timeout: Option<Duration>,
    /// The last read timeout that there was.
    patience: Option<Duration>,
    /// Pingora has begun to keep what it reads for another attempt.
    proxied: bool,
    /// What was read before: a plugin wanted to see all of it, and it goes to the backend from there.
    taken: usize,
    control: Arc<SessionControl>,
    silence: LazyTimer,
    /// The rates of the body and of the response, once the client was waited for.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
}

impl Stream {
    fn was_taken(&self) -> bool {
        self.taken > 0 && self.session.is_body_done()
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        match self.control.gate.get() {
            Gate::Open => {}
            Gate::Paused => return self.listen().await,
            Gate::Ended => return Error::e_explain(ErrorType::ReadError, "the upload has ended"),
        }
        // A client may be silent while it listens; when there is nothing more to hear it has its patience again, or a body
        // that never ends would hold its endpoint for ever.
        let last = self.patience.filter(|_| self.control.is_answered());
        let Some(time) = self.read_timeout.or(last) else { return self.read_beside_response().await };
        let rate = self.rates.body.filter(|_| self.control.is_paced());
        let (session, pace, control) = (&mut self.session, &mut self.body_pace, &self.control);
        let slow = poll_fn(|cx| {
            let Some(rate) = rate else { return Poll::Pending };
            pace.get_or_insert_with(|| Box::new(Pace::new(rate))).poll_slow(cx)
        });
        let read = tokio::select! {
            biased;
            read = timeout(time, session.read_body_bytes()) => read.ok(),
            () = slow => None,
        };
        let Some(read) = read else {
            control.end(EndedBy::Body);
            return Error::e_explain(ErrorType::ReadTimedout, "reading the body of a request");
        };
        if let (Some(pace), Ok(bytes)) = (pace, &read) {
            pace.moved(bytes.as_ref().map_or(0, Bytes::len));
        }
        read
    }

    /// Reads while a response is under way, and both sides may be silent.
    async fn read_beside_response(&mut self) -> Result<Option<Bytes>> {
        let (silence, control) = (&mut self.silence, &self.control);
        let read = tokio::select! {
            biased;
            read = self.session.read_body_bytes() => read,
            () = poll_fn(|cx| poll_silence(silence, control, cx)) => return Error::e_explain(ErrorType::ReadTimedout, SILENT),
        };
        self.control.hear();
        read
    }

    /// Waits for the client's end, or that of the backend's time.
    async fn listen(&mut self) -> Result<Option<Bytes>> {
        let (silence, control) = (&mut self.silence, &self.control);
        tokio::select! {
            biased;
            end = self.session.read_body_or_idle(true) => end,
            () = poll_fn(|cx| poll_silence(silence, control, cx)) => Error::e_explain(ErrorType::ReadTimedout, SILENT),
        }
    }

    /// Hands a part of a response's body to the stream, as fast as the client takes it.
    async fn send(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        // The client is not waited for by the reader of its body meanwhile.
        if let Some(pace) = &mut self.body_pace {
            pace.pause();
        }
        let rate = self.rates.send.filter(|_| self.control.is_paced());
        let Some(rate) = rate else {
            let sent = self.session.write_body(data, end).await;
            self.control.hear();
            return sent;
        };
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            let (size, last) = (piece.len(), data.is_empty());
            self.send_piece(piece, end && last, rate, size).await?;
            if last {
                return Ok(());
            }
        }
    }

    async fn send_piece(&mut self, piece: Bytes, end: bool, rate: MinRate, size: usize) -> Result<()> {
        let pace = self.send_pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
        let mut sending = pin!(self.session.write_body(piece, end));
        // Mostly there is room, and no clock is read.
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        let sent = match at_once {
            Poll::Ready(sent) => {
                pace.took(size, Duration::ZERO);
                sent
            }
            Poll::Pending => {
                let begun = Instant::now();
                let Ok(sent) = timeout(pace.limit(size), sending).await else {
                    self.control.end(EndedBy::Send);
                    return Error::e_explain(ErrorType::WriteTimedout, "the client reads too slowly");
                };
                pace.took(size, begun.elapsed());
                sent
            }
        };
        self.control.hear();
        sent
    }
}

const SILENT: &str = "the backend is silent";

/// Ready when the backend has been silent for too long.
fn poll_silence(silence: &mut LazyTimer, control: &SessionControl, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = control.deadline() else { return Poll::Pending };
    ready!(silence.poll(deadline, cx));
    control.end(EndedBy::Backend);
    Poll::Ready(())
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
            return self.listen().await;
        }
        self.read().await
    }

    fn is_body_done(&mut self) -> bool {
        // A body that is not read any more is never complete, whatever has arrived of it.
        self.control.gate.get() == Gate::Open && self.session.is_body_done()
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
        self.send(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.session.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Header(head, end) => {
                    self.session.write_response_header(head, end).map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(Some(data), end) if !data.is_empty() => {
                    self.send(data, end).await.map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(_, end) => end,
                HttpTask::Trailer(Some(trailers)) => {
                    self.session.write_trailers(*trailers)?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "an upgrade on a stream of HTTP/2");
                }
            };
        }
        if ended {
            self.session.finish().map_err(Error::into_down)?;
            self.control.set_answered();
        }
        self.control.hear();
        Ok(ended)
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
