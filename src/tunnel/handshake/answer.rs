//! The backend's answer: read from its leg, bounded in bytes and in time, and checked.

use super::{Offer, Request};
use crate::tunnel::Leg;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The most a backend may send before its head ends, 1xx answers included.
const MAX_HEAD: usize = 64 << 10;
/// The most fields of an answer.
const MAX_FIELDS: usize = 128;
/// What a usual 101 fits in.
const FIRST_READ: usize = 1 << 10;

/// What a backend said.
#[derive(Debug)]
pub enum Answer {
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

impl From<io::Error> for AnswerError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// Sends `request` and reads the answer's head, both within `limit`. Answers of the 1xx kind before
/// it (100, 102, 103) are skipped.
///
/// # Errors
/// [`AnswerError`], within `limit` in every case. The leg is then of no further use.
pub async fn exchange(leg: &mut Leg, request: &Request, limit: Duration) -> Result<Answer, AnswerError> {
    let work = async {
        leg.write_all(&request.bytes).await?;
        leg.flush().await?;
        read(leg, &request.offer).await
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(AnswerError::TimedOut))
}

async fn read(leg: &mut Leg, offer: &Offer) -> Result<Answer, AnswerError> {
    let mut buffer = BytesMut::with_capacity(FIRST_READ);
    let mut skipped = 0;
    let mut searched = 0;
    loop {
        // Only what is new is searched, so a head that comes byte by byte costs no more than one that
        // comes whole.
        let Some(end) = head_end(&buffer, searched) else {
            searched = buffer.len();
            if skipped + searched >= MAX_HEAD {
                return Err(AnswerError::Bad("its head is longer than 64 KiB"));
            }
            if leg.read_buf(&mut buffer).await? == 0 {
                return Err(AnswerError::Closed);
            }
            continue;
        };
        let read = std::mem::take(&mut buffer).freeze();
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let (status, fields) = parse(&read[..end], &mut room)?;
        if status / 100 == 1 && status != 101 {
            skipped += end;
            buffer.extend_from_slice(&read[end..]);
            searched = 0;
            continue;
        }
        if status != 101 {
            return Ok(Answer::Other { status, read });
        }
        let headers = shared(&read, fields)?;
        offer.check(&headers).map_err(AnswerError::Bad)?;
        return Ok(Answer::Upgraded { headers, early: read.slice(end..) });
    }
}

/// Where the head that starts `bytes` ends, when it does; up to `searched` it is known not to.
fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    // An end may begin up to three bytes before what is new.
    let start = searched.saturating_sub(3);
    for at in memchr::memchr_iter(b'\n', &bytes[start..]) {
        let rest = &bytes[start + at + 1..];
        match rest {
            [b'\n', ..] => return Some(start + at + 2),
            [b'\r', b'\n', ..] => return Some(start + at + 3),
            _ => {}
        }
    }
    None
}

/// The status and the fields of a whole head.
fn parse<'h, 'r>(
    head: &'h [u8],
    room: &'r mut [MaybeUninit<httparse::Header<'h>>],
) -> Result<(u16, &'r [httparse::Header<'h>]), AnswerError> {
    let mut answer = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, head, room);
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Err(AnswerError::Bad("its head is not HTTP")),
    }
    match (answer.version, answer.code) {
        // A 101 of HTTP/1.0 upgrades nothing (RFC 9110 §7.8).
        (Some(0), Some(101)) => Err(AnswerError::Bad("101 in HTTP/1.0")),
        (Some(_), Some(status)) if (100..1000).contains(&status) => Ok((status, answer.headers)),
        _ => Err(AnswerError::Bad("its status line is not HTTP")),
    }
}

/// The fields that were found in `read`, without copying their values.
fn shared(read: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, AnswerError> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok();
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value)).ok();
        let (Some(name), Some(value)) = (name, value) else {
            return Err(AnswerError::Bad("a field with characters that are not allowed"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}
