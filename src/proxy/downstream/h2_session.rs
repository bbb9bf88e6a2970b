//! HTTP/2 request session for Pingora. Pingora's own session waits for a body chunk without a limit, cannot
//! be told that its body was read elsewhere, and rejects requests with a bare status. It also limits neither
//! the backend's idle time nor a slow client.

use super::h2_stream::StreamIo;
use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::upload_gate::Gate;
use crate::proxy::failure::Failure;
use crate::proxy::request::request_validation;
use crate::runtime::worker_timer::WorkerTimer;
use crate::snapshot::MinRate;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream as Pieces;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, header};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A request parsed by h2.
pub struct ReceivedStream {
    head: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    refused: Option<Failure>,
}

impl ReceivedStream {
    /// Validates the rules that apply to HTTP/2 headers only.
    pub fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (head, body) = request.into_parts();
        let head = RequestHeader::from(head);
        let refused = request_validation::check_stream(&head).err();
        Self { head, body, respond, refused }
    }

    /// Returns whether the request is malformed (RFC 9113 §8.1.1). It is passed to the proxy, which rejects
    /// it.
    pub fn is_malformed(&self) -> bool {
        self.refused.is_some()
    }

    /// A session for Pingora. `open` is held as long as the stream, also by a tunnel.
    pub fn into_session(
        mut self,
        digest: Arc<Digest>,
        rates: StreamRates,
        open: Arc<dyn Any + Send + Sync>,
    ) -> ServerSession {
        let control = Arc::new(SessionControl::for_stream(self.refused));
        self.head.extensions_mut().insert(Arc::clone(&control));
        let handover = (self.head.method == Method::CONNECT).then(|| {
            let handover = Arc::new(Handover(Mutex::new(None)));
            self.head.extensions_mut().insert(Arc::clone(&handover));
            handover
        });
        ServerSession::new_custom(Box::new(Stream {
            head: self.head,
            io: StreamIo::new(self.body, self.respond),
            digest,
            rates,
            read_timeout: None,
            timeouts: None,
            drain_timeout: None,
            proxied: false,
            taken: 0,
            control,
            silence: WorkerTimer::default(),
            body_pace: None,
            send_pace: None,
            handover,
            open,
        }))
    }
}

/// Receives the stream of a CONNECT when its session ends: Pingora's type has no access to the session inside
/// it.
pub(in crate::proxy) struct Handover(Mutex<Option<StreamHalves>>);

/// Both directions of a stream whose response has begun.
pub(in crate::proxy) struct StreamHalves {
    pub(in crate::proxy) from_client: RecvStream,
    pub(in crate::proxy) to_client: SendStream<Bytes>,
    /// The guard by which its connection counts the stream.
    #[expect(dead_code, reason = "it counts while it lives")]
    pub(in crate::proxy) open: Arc<dyn Any + Send + Sync>,
}

/// Ends the session of a CONNECT. Returns its stream, if its response has begun and not ended.
pub(in crate::proxy) fn take_stream(session: ServerSession) -> Option<StreamHalves> {
    let handover = session.req_header().extensions.get::<Arc<Handover>>().map(Arc::clone)?;
    drop(session);
    handover.0.lock().take()
}

/// The minimum rates of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamRates {
    /// Of a request body.
    pub body: Option<MinRate>,
    /// Of a client's reading of a response.
    pub send: Option<MinRate>,
}

/// The size of the chunks in which a response is passed to the stream, which makes progress visible.
const PIECE: usize = 16 << 10;

struct Stream {
    head: RequestHeader,
    io: StreamIo,
    digest: Arc<Digest>,
    rates: StreamRates,
    read_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    /// The last read timeout that was set.
    timeouts: Option<Duration>,
    /// Pingora has begun to keep read bytes for a retry.
    proxied: bool,
    /// The bytes read for a plugin that buffers the body; the buffer is sent to the backend.
    taken: usize,
    control: Arc<SessionControl>,
    silence: WorkerTimer,
    /// The rates of the body and of the response, created at the first wait for the client.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
    /// Of a CONNECT only.
    handover: Option<Arc<Handover>>,
    open: Arc<dyn Any + Send + Sync>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(handover) = &self.handover else { return };
        if let Some((from_client, to_client)) = self.io.take() {
            *handover.0.lock() = Some(StreamHalves { from_client, to_client, open: Arc::clone(&self.open) });
        }
    }
}

impl Stream {
    fn has_no_body(&self) -> bool {
        let says_none = || self.head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        self.io.bytes_read() == 0 && (self.io.is_read() || says_none())
    }

    fn was_taken(&self) -> bool {
        self.taken > 0 && self.io.is_read()
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        match self.control.gate.get() {
            Gate::Open => {}
            Gate::Paused => return self.listen().await,
            Gate::Ended => return Error::e_explain(ErrorType::ReadError, "the upload has ended"),
        }
        // A client may be silent while it listens. After the response its timeout applies again; otherwise an
        // endless body would hold its endpoint forever.
        let last = self.timeouts.filter(|_| self.control.is_answered());
        let Some(time) = self.read_timeout.or(last) else { return self.read_beside_response().await };
        let rate = self.rates.body.filter(|_| self.control.is_paced());
        let (io, pace, control) = (&mut self.io, &mut self.body_pace, &self.control);
        let slow = poll_fn(|cx| {
            let Some(rate) = rate else { return Poll::Pending };
            pace.get_or_insert_with(|| Box::new(Pace::new(rate))).poll_slow(cx)
        });
        let read = tokio::select! {
            biased;
            read = timeout(time, io.read()) => read.ok(),
            () = slow => None,
        };
        let Some(read) = read else {
            control.end(EndedBy::Body);
            return Error::e_explain(ErrorType::ReadTimedout, "reading the body of a request");
        };
        let read = read?;
        if let Some(pace) = pace {
            pace.moved(read.as_ref().map_or(0, Bytes::len));
        }
        Ok(read)
    }

    /// Reads during a response, while both sides may be silent.
    async fn read_beside_response(&mut self) -> Result<Option<Bytes>> {
        let (io, silence, control) = (&mut self.io, &mut self.silence, &self.control);
        let read = tokio::select! {
            biased;
            read = io.read() => read,
            () = poll_fn(|cx| poll_silence(silence, control, cx)) => return Error::e_explain(ErrorType::ReadTimedout, SILENT),
        };
        self.control.hear();
        read
    }

    /// Waits for the client's end, or for the backend's time limit.
    async fn listen(&mut self) -> Result<Option<Bytes>> {
        let (io, silence, control) = (&mut self.io, &mut self.silence, &self.control);
        tokio::select! {
            biased;
            end = io.reset() => end,
            () = poll_fn(|cx| poll_silence(silence, control, cx)) => Error::e_explain(ErrorType::ReadTimedout, SILENT),
        }
    }

    /// Passes a part of a response body to the stream, as fast as the client reads.
    async fn send(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        // The time does not count as a wait for the request body.
        if let Some(pace) = &mut self.body_pace {
            pace.pause();
        }
        let rate = self.rates.send.filter(|_| self.control.is_paced());
        let Some(rate) = rate else {
            let sent = self.io.write(data, end).await;
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
        let mut sending = pin!(self.io.write(piece, end));
        // In the common case there is window, and no clock is read.
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

const SILENT: &str = "the backend is idle";

/// Ready when the backend was idle for too long.
fn poll_silence(silence: &mut WorkerTimer, control: &SessionControl, cx: &mut Context<'_>) -> Poll<()> {
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
        // A body that is no longer read is never complete, even if all of it has arrived.
        self.control.gate.get() == Gate::Open && (self.has_no_body() || self.io.is_read())
    }

    fn is_body_empty(&mut self) -> bool {
        self.has_no_body()
    }

    fn body_bytes_read(&self) -> usize {
        self.io.bytes_read() - self.taken
    }

    fn enable_retry_buffering(&mut self) {
        self.proxied = true;
        if !self.was_taken() {
            self.io.keep();
        }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts = timeout.or(self.timeouts);
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    async fn abandon(&mut self, _ctx: &str) {
        self.io.abort();
    }

    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let wait = self.drain_timeout;
        let drain = async {
            // Trailers end a body without END_STREAM on a DATA frame.
            while !self.is_body_done() && self.io.read().await?.is_some() {}
            Ok(())
        };
        let Some(wait) = wait else { return drain.await };
        timeout(wait, drain)
            .await
            .unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "draining a body"))
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.io.write_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.io.write_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.send(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.io.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Header(head, end) => {
                    self.io.write_head(head, end).map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(Some(data), end) if !data.is_empty() => {
                    self.send(data, end).await.map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(_, end) => end,
                HttpTask::Trailer(Some(trailers)) => {
                    self.io.write_trailers(*trailers)?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "an upgrade on an HTTP/2 stream");
                }
            };
        }
        if ended {
            self.io.finish().map_err(Error::into_down)?;
            self.control.set_answered();
        }
        self.control.hear();
        Ok(ended)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.io.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.io.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, String::from_utf8_lossy(self.head.raw_path()))
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.io.response()
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.io.abort();
    }

    async fn finish(&mut self) -> Result<()> {
        self.io.finish()
    }

    fn body_bytes_sent(&self) -> usize {
        self.io.bytes_sent()
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.io.is_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        // The buffered body is used instead, at every attempt.
        if self.was_taken() { Some(Bytes::new()) } else { self.io.kept() }
    }

    // Messages outside HTTP, which HTTP/2 does not have.

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
