//! Response of a backend to the handshake: read with limits on bytes and time, and validated.

use super::Request;
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::{
    HeadError, HeadReader, InterimHead, MAX_INTERIM, ReadHead, ResponseHead,
};
use crate::runtime::worker_timer;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// A backend's response.
#[derive(Debug)]
pub enum HandshakeResponse {
    /// A validated 101: the connection carries frames from here on.
    Upgraded {
        /// The fields; their values share the one buffer that was read.
        headers: HeaderMap,
        /// Their names as received.
        names: FieldNames,
        /// Bytes after the header, which are frames already.
        early: Bytes,
    },
    /// Any other final response. It is ordinary HTTP: its reader starts with `read`.
    Other {
        /// The status.
        status: u16,
        /// All bytes read: the header and bytes after it.
        read: Bytes,
    },
}

/// The reason for the lack of a response.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The connection was closed before the end of the header.
    #[error("the backend closed the connection before its response")]
    Closed,
    /// The header was incomplete after the time limit.
    #[error("the backend did not respond in time")]
    TimedOut,
    /// The response is not HTTP, or an invalid 101: 502.
    #[error("invalid response: {0}")]
    Bad(&'static str),
    /// The connection failed.
    #[error("the connection to the backend failed: {0}")]
    Io(io::Error),
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Closed => Self::Closed,
            HeadError::Malformed(reason) => Self::Bad(reason),
            HeadError::Io(error) => Self::Io(error),
        }
    }
}

/// The next response of a backend.
#[derive(Debug)]
pub enum NextResponse {
    /// An interim one (100, 102, 103), which another one follows.
    Interim(InterimHead),
    /// The response to the handshake.
    Final(HandshakeResponse),
}

/// A handshake that was sent.
#[derive(Debug)]
pub struct Exchange {
    reader: HeadReader,
    deadline: Instant,
    interim: u32,
}

impl Exchange {
    /// Sends `request`; `limit` covers the final response header too.
    ///
    /// # Errors
    /// [`ResponseError`], within `limit` in every case. The connection cannot be used afterwards.
    pub async fn send<S: AsyncWrite + Unpin>(
        stream: &mut S,
        request: &Request,
        limit: Duration,
    ) -> Result<Self, ResponseError> {
        let deadline = Instant::now() + limit;
        let work = async {
            stream.write_all(&request.bytes).await.map_err(HeadError::from)?;
            stream.flush().await.map_err(HeadError::from)?;
            Ok(Self { reader: HeadReader::default(), deadline, interim: 0 })
        };
        worker_timer::timeout(limit, work).await.unwrap_or(Err(ResponseError::TimedOut))
    }

    /// Reads the next response header.
    ///
    /// # Errors
    /// [`ResponseError`], within the limit in every case. The connection cannot be used afterwards.
    pub async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        request: &Request,
    ) -> Result<NextResponse, ResponseError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let read = worker_timer::timeout(left, self.reader.next(stream)).await;
        match read.map_err(|_| ResponseError::TimedOut)?? {
            ReadHead::Interim(_) if self.interim >= MAX_INTERIM => {
                Err(ResponseError::Bad("too many interim responses"))
            }
            ReadHead::Interim(head) => {
                self.interim += 1;
                Ok(NextResponse::Interim(head))
            }
            ReadHead::Final(head) => judge(head, request).map(NextResponse::Final),
        }
    }
}

fn judge(head: ResponseHead, request: &Request) -> Result<HandshakeResponse, ResponseError> {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(HandshakeResponse::Other { status: head.status.as_u16(), read: head.bytes });
    }
    // RFC 9110 §7.8: HTTP/1.0 has no upgrade.
    if head.version == Version::HTTP_10 {
        return Err(ResponseError::Bad("101 in HTTP/1.0"));
    }
    request.offer.check(&head.fields).map_err(ResponseError::Bad)?;
    let early = head.bytes.slice(head.end..);
    Ok(HandshakeResponse::Upgraded { early, headers: head.fields, names: head.names })
}

/// Sends `request` and reads the final response header, both within `limit`. Interim responses are skipped.
///
/// # Errors
/// [`ResponseError`], within `limit` in every case. The connection cannot be used afterwards.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    limit: Duration,
) -> Result<HandshakeResponse, ResponseError> {
    let mut exchange = Exchange::send(stream, request, limit).await?;
    loop {
        if let NextResponse::Final(response) = exchange.next(stream, request).await? {
            return Ok(response);
        }
    }
}
