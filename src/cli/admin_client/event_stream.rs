//! Response that is a stream of Server-Sent Events.

use super::event_parser::{EventParser, StreamEvent};
use super::request_error::{RequestError, RequestFailure};
use super::{AdminAddress, OpenResponse};
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest silence of a stream: the gateway sends a comment at least every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// The events of a response.
#[derive(Debug)]
pub(in crate::cli) struct EventStream {
    address: AdminAddress,
    body: Incoming,
    parser: EventParser,
    /// Ends with the stream.
    _connection: JoinSet<()>,
}

impl EventStream {
    pub(super) fn new(address: AdminAddress, exchange: OpenResponse) -> Result<Self, RequestFailure> {
        let OpenResponse { response, connection } = exchange;
        let media_type = response.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !media_type.starts_with(b"text/event-stream") {
            return Err(RequestFailure::Malformed("it is not a stream of events".to_owned()));
        }
        let (body, parser) = (response.into_body(), EventParser::default());
        Ok(Self { address, body, parser, _connection: connection })
    }

    /// Waits for the next event; `None` at the end of the stream. It may be cancelled without a loss.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<StreamEvent>, RequestError> {
        let event = next_event(&mut self.body, &mut self.parser).await;
        event.map_err(|cause| RequestError { address: self.address.clone(), cause })
    }
}

async fn next_event(
    body: &mut Incoming,
    parser: &mut EventParser,
) -> Result<Option<StreamEvent>, RequestFailure> {
    loop {
        if let Some(event) = parser.next() {
            return Ok(Some(event));
        }
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| RequestFailure::Timeout(SILENCE))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| RequestFailure::of(&error))?;
        // Trailers have no events.
        let data = frame.into_data().unwrap_or_default();
        parser.push(&data).map_err(|_| RequestFailure::Malformed("an event is too large".to_owned()))?;
    }
}
