//! The backend's answer: read from its leg, bounded in bytes and in time, and checked.

use super::Request;
use crate::net::http1::response_head::{self, HeadError};
use crate::net::tunnel_io::TunnelIo;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// What a backend said.
#[derive(Debug)]
pub enum HandshakeResponse {
    /// A 101 that was checked: the leg carries frames from here on.
    Upgraded {
        /// Its fields; their values share the one buffer that was read.
        headers: HeaderMap,
        /// Bytes that came behind its head, already frames.
        early: Bytes,
    },
    /// Any other final answer. It is ordinary HTTP: its reader is given `read` before the leg.
    Other {
        /// Its status.
        status: u16,
        /// Everything read of it: its head and what came behind.
        read: Bytes,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection ended before the head did.
    #[error("the backend closed before it answered")]
    Closed,
    /// No whole head within the time limit.
    #[error("the backend did not answer in time")]
    TimedOut,
    /// What came is not an answer, or a 101 that must not be taken: 502.
    #[error("bad answer: {0}")]
    Bad(&'static str),
    /// The connection failed.
    #[error("the connection to the backend failed: {0}")]
    Io(io::Error),
}

impl From<HeadError> for AnswerError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Closed => Self::Closed,
            HeadError::Malformed(reason) => Self::Bad(reason),
            HeadError::Io(error) => Self::Io(error),
        }
    }
}

/// Sends `request` and reads the answer's head, both within `limit`. Answers of the 1xx kind before
/// it (100, 102, 103) are skipped.
///
/// # Errors
/// [`AnswerError`], within `limit` in every case. The leg is then of no further use.
pub async fn exchange(
    leg: &mut TunnelIo,
    request: &Request,
    limit: Duration,
) -> Result<HandshakeResponse, AnswerError> {
    let work = async {
        leg.write_all(&request.bytes).await.map_err(HeadError::from)?;
        leg.flush().await.map_err(HeadError::from)?;
        let head = response_head::read(leg).await?;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(HandshakeResponse::Other { status: head.status.as_u16(), read: head.bytes });
        }
        // RFC 9110 §7.8: HTTP/1.0 upgrades nothing.
        if head.version == Version::HTTP_10 {
            return Err(AnswerError::Bad("101 in HTTP/1.0"));
        }
        request.offer.check(&head.fields).map_err(AnswerError::Bad)?;
        Ok(HandshakeResponse::Upgraded { early: head.bytes.slice(head.end..), headers: head.fields })
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(AnswerError::TimedOut))
}
