//! Response of a backend to the handshake: read with limits on bytes and time, and validated.

use super::Request;
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::{self, HeadError};
use crate::runtime::worker_timer;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use std::io;
use std::time::Duration;
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

/// Sends `request` and reads the response header, both within `limit`. Interim responses (100, 102, 103) are
/// skipped.
///
/// # Errors
/// [`ResponseError`], within `limit` in every case. The connection cannot be used afterwards.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    limit: Duration,
) -> Result<HandshakeResponse, ResponseError> {
    let work = async {
        stream.write_all(&request.bytes).await.map_err(HeadError::from)?;
        stream.flush().await.map_err(HeadError::from)?;
        let head = response_head::read(stream).await?;
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
    };
    worker_timer::timeout(limit, work).await.unwrap_or(Err(ResponseError::TimedOut))
}
