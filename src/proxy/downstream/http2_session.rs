//! A request over HTTP/2 and its response, with the gateway's limits: h2 limits neither the wait for a part of a
//! body nor a slow client.

use super::http1_session::MOST_ARRIVED;
use super::http2_stream::StreamIo;
use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::upload_gate::Gate;
use crate::net::conn_info::ConnInfo;
use crate::net::http1::trailers::Trailers;
use crate::proxy::failure::Failure;
use crate::proxy::request::{extended_connect, request_validation};
use crate::runtime::worker_timer::{WorkerTimer, timeout};
use crate::snapshot::MinRate;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

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

    /// Refuses the stream: nothing of it was processed (RFC 9113 §8.7).
    pub fn refuse(mut self) {
        self.respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Returns whether it asks for a WebSocket (RFC 8441).
    pub fn is_extended_connect(&self) -> bool {
        extended_connect::is_one(&self.head)
    }

    /// Returns whether the request is malformed (RFC 9113 §8.1.1). It is passed to the proxy, which rejects
    /// it.
    pub fn is_malformed(&self) -> bool {
        self.refused.is_some()
    }

    /// The session of the request. `open` is held as long as the stream, also by a tunnel.
    pub fn into_session(
        self,
        conn_info: Arc<ConnInfo>,
        rates: StreamRates,
        open: Arc<dyn Any + Send + Sync>,
    ) -> Http2Session {
        Http2Session {
            request: self.head,
            refused: self.refused,
            io: StreamIo::new(self.body, self.respond),
            conn_info,
            rates,
            read_timeout: None,
            last_read_timeout: None,
            proxied: false,
            taken: 0,
            control: SessionControl::default(),
            silence: WorkerTimer::default(),
            body_pace: None,
            send_pace: None,
            open,
        }
    }
}

/// Both directions of a stream whose response has begun.
pub(in crate::proxy) struct StreamHalves {
    pub(in crate::proxy) from_client: RecvStream,
    pub(in crate::proxy) to_client: SendStream<Bytes>,
    /// The guard by which its connection counts the stream.
    #[expect(dead_code, reason = "it counts while it lives")]
    pub(in crate::proxy) open: Arc<dyn Any + Send + Sync>,
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

/// A request, from its header to the end of its response.
pub struct Http2Session {
    pub(super) request: RequestHeader,
    /// Why the request is rejected, regardless of later checks.
    pub(super) refused: Option<Failure>,
    io: StreamIo,
    pub(super) conn_info: Arc<ConnInfo>,
    rates: StreamRates,
    read_timeout: Option<Duration>,
    /// The last read timeout that was set.
    last_read_timeout: Option<Duration>,
    /// Read bytes are kept for a retry.
    proxied: bool,
    /// The bytes read for a plugin that buffers the body; the buffer is sent to the backend.
    taken: usize,
    pub(super) control: SessionControl,
    silence: WorkerTimer,
    /// The rates of the body and of the response, created at the first wait for the client.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
    open: Arc<dyn Any + Send + Sync>,
}

impl Http2Session {
    fn has_no_body(&self) -> bool {
        let says_none =
            || self.request.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
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
        let last = self.last_read_timeout.filter(|_| self.control.is_answered());
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

impl Http2Session {
    pub(super) async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let read = self.read().await?;
        if !self.proxied {
            self.taken += read.as_ref().map_or(0, Bytes::len);
        }
        Ok(read)
    }

    pub(super) async fn read_body_or_idle(&mut self, has_end: bool) -> Result<Option<Bytes>> {
        if has_end || self.is_body_done() {
            return self.listen().await;
        }
        self.read().await
    }

    pub(super) fn is_body_done(&self) -> bool {
        // A body that is no longer read is never complete, even if all of it has arrived.
        self.control.gate.get() == Gate::Open && (self.has_no_body() || self.io.is_read())
    }

    /// Returns whether the client still sends the body of a request that has its whole response. What follows an extended
    /// CONNECT is no body.
    pub(super) fn is_in_body(&self) -> bool {
        let has_whole_body = self.has_no_body() || self.io.is_read();
        self.control.is_answered() && !has_whole_body && !extended_connect::is_one(&self.request)
    }

    pub(super) fn is_body_empty(&self) -> bool {
        self.has_no_body()
    }

    /// The trailers after a body that was read to its end.
    pub(super) fn trailers(&self) -> Option<Trailers> {
        Trailers::from_fields(self.io.trailers()?.clone())
    }

    pub(super) fn body_bytes_read(&self) -> usize {
        self.io.bytes_read() - self.taken
    }

    pub(super) fn body_bytes_sent(&self) -> usize {
        self.io.bytes_sent()
    }

    pub(super) fn keep_for_retry(&mut self) {
        self.proxied = true;
        if !self.was_taken() {
            self.io.keep();
        }
    }

    /// Reads what has arrived of a body that is kept for a retry. It may be the whole, so that its length is known.
    pub(super) async fn read_arrived(&mut self) -> Result<()> {
        // What was read or ended before is known already.
        if !self.proxied || self.io.bytes_read() > 0 || self.control.gate.get() != Gate::Open {
            return Ok(());
        }
        self.io.read_arrived(MOST_ARRIVED).await
    }

    pub(super) fn is_retry_truncated(&self) -> bool {
        self.io.is_truncated()
    }

    /// The bytes kept for a retry. A body that a plugin has buffered is sent in place of them.
    pub(super) fn kept_for_retry(&self) -> Option<Bytes> {
        if self.was_taken() { Some(Bytes::new()) } else { self.io.kept() }
    }

    pub(super) fn set_body_timeout(&mut self, timeout: Option<Duration>) {
        self.last_read_timeout = timeout.or(self.last_read_timeout);
        self.read_timeout = timeout;
    }

    pub(super) fn set_send_timeout(&mut self, timeout: Option<Duration>) {
        self.io.write_timeout = timeout;
    }

    pub(super) fn response_written(&self) -> Option<&ResponseHeader> {
        self.io.response()
    }

    pub(super) fn write_head(&mut self, head: ResponseHeader, end: bool) -> Result<()> {
        self.io.write_head(Box::new(head), end)?;
        self.wrote(end);
        Ok(())
    }

    pub(super) async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if data.is_empty() {
            if end {
                self.io.finish()?;
            }
        } else {
            self.send(data, end).await?;
        }
        self.wrote(end);
        Ok(())
    }

    pub(super) fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.io.write_trailers(trailers)?;
        self.wrote(true);
        Ok(())
    }

    fn wrote(&self, end: bool) {
        if end {
            self.control.set_answered();
        }
        self.control.hear();
    }

    /// The stream for a tunnel, if its response has begun and not ended.
    pub(super) fn into_tunnel(mut self) -> Option<StreamHalves> {
        let (from_client, to_client) = self.io.take()?;
        Some(StreamHalves { from_client, to_client, open: self.open })
    }
}
