//! Both directions of an HTTP/2 stream, over h2's server types.

use super::retry_buffer::RetryBuffer;
use crate::runtime::worker_timer::timeout;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Response, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, OrErr, Result};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Connection-specific fields of HTTP/1, which HTTP/2 does not allow (RFC 9113 §8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The most bytes of interim responses of a stream; further ones are left out.
const MOST_INTERIM: usize = 32 << 10;

/// A stream after its request header.
pub(in crate::proxy) struct StreamIo {
    /// `None` once it was taken.
    from_client: Option<RecvStream>,
    respond: SendResponse<Bytes>,
    /// Set once the response has begun.
    to_client: Option<SendStream<Bytes>>,
    response: Option<Box<ResponseHeader>>,
    /// A response whose header goes out with the first part of its body.
    held: Option<Response<()>>,
    /// The request body was read to its end.
    is_at_end: bool,
    /// The trailers after it.
    trailers: Option<Box<HeaderMap>>,
    /// END_STREAM was sent.
    has_ended: bool,
    /// Bytes of the request body and of the response body.
    read: usize,
    sent: usize,
    replay: Option<RetryBuffer>,
    /// The size of the interim responses so far.
    interim: usize,
    /// The time limit for a client without window.
    pub(in crate::proxy) write_timeout: Option<Duration>,
}

impl StreamIo {
    pub(in crate::proxy) fn new(from_client: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            from_client: Some(from_client),
            respond,
            to_client: None,
            response: None,
            held: None,
            is_at_end: false,
            trailers: None,
            has_ended: false,
            read: 0,
            sent: 0,
            replay: None,
            interim: 0,
            write_timeout: None,
        }
    }

    /// Both directions, if the response has begun and not ended.
    pub(in crate::proxy) fn take(&mut self) -> Option<(RecvStream, SendStream<Bytes>)> {
        let to_client = self.to_client.take().filter(|_| !self.has_ended)?;
        self.from_client.take().map(|from_client| (from_client, to_client))
    }

    pub(in crate::proxy) fn bytes_read(&self) -> usize {
        self.read
    }

    pub(in crate::proxy) fn bytes_sent(&self) -> usize {
        self.sent
    }

    /// The response header, once it was sent.
    pub(in crate::proxy) fn response(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    /// The trailers after a request body that was read to its end.
    pub(in crate::proxy) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    /// Returns whether the request body has been read to its end.
    pub(in crate::proxy) fn is_read(&self) -> bool {
        self.is_at_end || self.from_client.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// From now on, read bytes are kept for a retry.
    pub(in crate::proxy) fn keep(&mut self) {
        self.replay.get_or_insert_default();
    }

    /// Returns whether more was read than is kept.
    pub(in crate::proxy) fn is_truncated(&self) -> bool {
        self.replay.as_ref().is_some_and(RetryBuffer::is_truncated)
    }

    /// The bytes kept for a retry.
    pub(in crate::proxy) fn kept(&self) -> Option<Bytes> {
        self.replay.as_ref()?.kept()
    }

    /// The next chunk of the request body. Its window is released at once, since it is forwarded.
    pub(in crate::proxy) async fn read(&mut self) -> Result<Option<Bytes>> {
        let Some(from_client) = &mut self.from_client else { return Ok(None) };
        let data = from_client.data().await.transpose().map_err(read_error)?;
        if data.is_none() {
            // They have arrived before the body ended.
            let trailers = from_client.trailers().await.map_err(read_error)?;
            self.trailers = trailers.map(Box::new).or(self.trailers.take());
            self.is_at_end = true;
        }
        if let Some(data) = &data {
            // Fails if the stream has ended, which the next read reports.
            let _ = from_client.flow_control().release_capacity(data.len());
            self.read += data.len();
            if let Some(replay) = &mut self.replay {
                replay.keep(data);
            }
        }
        Ok(data)
    }

    /// Reads the parts of the request body that have arrived, up to `limit` bytes and a part more.
    pub(in crate::proxy) async fn read_arrived(&mut self, limit: usize) -> Result<()> {
        let end = self.read + limit;
        while self.read < end && !self.is_read() {
            let read = {
                let mut read = pin!(self.read());
                poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await
            };
            match read {
                Poll::Ready(part) => drop(part?),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until the client resets the stream or its connection ends.
    pub(in crate::proxy) async fn reset(&mut self) -> Result<Option<Bytes>> {
        let reason = poll_fn(|cx| match &mut self.to_client {
            Some(to_client) => to_client.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        let reason = reason.await.or_err(ErrorType::H2Error, "waiting for the client")?;
        Error::e_explain(ErrorType::H2Error, format!("the client reset the stream: {reason}"))
    }

    /// Sends a response header: interim ones, and then the final one. With `end`, it has no body.
    pub(in crate::proxy) fn write_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.has_ended || self.response.is_some() {
            return Ok(());
        }
        for name in &CONNECTION_FIELDS {
            head.remove_header(name);
        }
        if head.status.is_informational() {
            // They have no flow control.
            let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
            self.interim = self.interim.saturating_add(fields.sum::<usize>() + 32);
            if self.interim > MOST_INTERIM {
                return Ok(());
            }
            let interim = Response::from_parts(head.as_owned_parts(), ());
            return self
                .respond
                .send_informational(interim)
                .or_err(ErrorType::WriteError, "sending an interim response");
        }
        // RFC 9110 §6.6.1: that of the backend, if it sent one.
        if !head.headers.contains_key(header::DATE) {
            head.insert_header(header::DATE, get_cached_date())?;
        }
        let response = Response::from_parts(head.as_owned_parts(), ());
        // Some clients give up their upload at the header of a refusal, and end it with fewer bytes than they announced. h2
        // ends the stream with that (RFC 9113 §8.1.1), and the body of the response would be lost.
        let is_early_refusal = !self.is_read() && !end && head.status.is_client_error();
        if is_early_refusal && head.headers.contains_key(header::CONTENT_LENGTH) {
            self.held = Some(response);
        } else {
            self.send_header(response, end)?;
        }
        self.response = Some(head);
        self.has_ended |= end;
        Ok(())
    }

    fn send_header(&mut self, response: Response<()>, end: bool) -> Result<()> {
        let sent = self.respond.send_response(response, end);
        self.to_client = Some(sent.or_err(ErrorType::WriteError, "sending a response header")?);
        Ok(())
    }

    /// Sends the header of a response that waits for its body.
    pub(in crate::proxy) fn send_held(&mut self) -> Result<()> {
        match self.held.take() {
            Some(response) => self.send_header(response, false),
            None => Ok(()),
        }
    }

    /// Sends a part of the response body as soon as the client's window allows it.
    pub(in crate::proxy) async fn write(&mut self, data: Bytes, end: bool) -> Result<()> {
        let Some(wait) = self.write_timeout else { return self.write_whole(data, end).await };
        let written = timeout(wait, self.write_whole(data, end)).await;
        written.unwrap_or_else(|_| Error::e_explain(ErrorType::WriteTimedout, "sending a body"))
    }

    async fn write_whole(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        self.send_held()?;
        let Some(to_client) = &mut self.to_client else {
            return Error::e_explain(ErrorType::H2Error, "a body before the response header");
        };
        loop {
            let mut room = 0;
            if !data.is_empty() {
                to_client.reserve_capacity(data.len());
                let Some(found) = poll_fn(|cx| to_client.poll_capacity(cx)).await else {
                    return Error::e_explain(ErrorType::H2Error, "the stream has ended");
                };
                room = found.or_err(ErrorType::H2Error, "waiting for the client's window")?;
            }
            let part = data.split_to(room.min(data.len()));
            let (size, is_last) = (part.len(), data.is_empty());
            to_client.send_data(part, is_last && end).or_err(ErrorType::WriteError, "sending a body")?;
            self.sent += size;
            if is_last {
                self.has_ended |= end;
                return Ok(());
            }
        }
    }

    /// Sends the trailers, which end the response.
    pub(in crate::proxy) fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        self.send_held()?;
        let Some(to_client) = &mut self.to_client else {
            return Error::e_explain(ErrorType::H2Error, "trailers before the response header");
        };
        to_client.send_trailers(trailers).or_err(ErrorType::WriteError, "sending trailers")?;
        self.has_ended = true;
        Ok(())
    }

    /// Ends the response, if it has not ended. A stream without an end is reset on drop.
    pub(in crate::proxy) fn finish(&mut self) -> Result<()> {
        self.send_held()?;
        if let Some(to_client) = self.to_client.as_mut().filter(|_| !self.has_ended) {
            to_client.send_data(Bytes::new(), true).or_err(ErrorType::WriteError, "ending a response")?;
            self.has_ended = true;
        }
        Ok(())
    }
}

impl Drop for StreamIo {
    fn drop(&mut self) {
        // The body failed before its first part. The stream may have ended.
        let _ = self.send_held();
    }
}

fn read_error(error: h2::Error) -> Box<Error> {
    // h2 itself rejects malformed requests; a reset by the client is a disconnect.
    let is_malformed = error.is_library() && error.is_reset();
    let kind = if is_malformed { ErrorType::InvalidHTTPHeader } else { ErrorType::ReadError };
    Error::because(kind, "reading the body of a request", error).into_down()
}
