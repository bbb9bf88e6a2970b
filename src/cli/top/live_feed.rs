//! Live stream of a gateway that is opened again after each loss, as by a restart.

use crate::cli::admin_client::{AdminClient, EventStream, RequestError, RequestTarget, StreamEvent};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// The time between a loss and the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// A change of the stream.
#[derive(Debug)]
pub(super) enum FeedUpdate {
    Event(StreamEvent),
    Connected,
    /// The stream ended for this reason and will be opened again.
    Lost(String),
    /// The gateway refuses the stream.
    Refused(RequestError),
}

/// The request of the stream.
pub(super) fn target() -> RequestTarget {
    RequestTarget::new("/api/v1/live?sections=overview,upstreams")
}

/// Sends the updates of a stream and of its successors until the receiver is gone.
pub(super) async fn run(client: AdminClient, first: EventStream, updates: Sender<FeedUpdate>) {
    let mut stream = Some(first);
    loop {
        let update = match &mut stream {
            Some(open) => match open.next().await {
                Ok(Some(event)) => FeedUpdate::Event(event),
                Ok(None) => lost(&mut stream, "the gateway has closed the stream".to_owned()),
                Err(error) => lost(&mut stream, error.to_string()),
            },
            None => {
                tokio::time::sleep(PAUSE).await;
                match client.stream(&target()).await {
                    Ok(open) => {
                        stream = Some(open);
                        FeedUpdate::Connected
                    }
                    Err(error) if error.is_temporary() => FeedUpdate::Lost(error.to_string()),
                    Err(error) => FeedUpdate::Refused(error),
                }
            }
        };
        let is_last = matches!(update, FeedUpdate::Refused(_));
        if updates.send(update).await.is_err() || is_last {
            return;
        }
    }
}

fn lost(stream: &mut Option<EventStream>, reason: String) -> FeedUpdate {
    *stream = None;
    FeedUpdate::Lost(reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::cli::admin_client::testing::{FakeGateway, block_on, events, json};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn a_lost_stream_is_opened_again_until_it_is_refused() {
        let count = AtomicUsize::new(0);
        let gateway = FakeGateway::start(move |_| match count.fetch_add(1, SeqCst) {
            0 | 2 => events("event: hello\ndata: {}\n\n"),
            1 => json(503, r#"{"error":"too_many_connections","status":503}"#),
            _ => json(401, r#"{"error":"unauthorized","status":401}"#),
        });
        let seen = block_on(async {
            let client = gateway.client(None);
            let first = client.stream(&target()).await.unwrap();
            let (updates, mut received) = tokio::sync::mpsc::channel(1);
            let collect = async {
                let mut seen = Vec::new();
                while let Some(update) = received.recv().await {
                    seen.push(match update {
                        FeedUpdate::Event(event) => event.name,
                        FeedUpdate::Connected => "connected".to_owned(),
                        FeedUpdate::Lost(_) => "lost".to_owned(),
                        FeedUpdate::Refused(error) => error.status(401).unwrap().error.clone(),
                    });
                }
                seen
            };
            tokio::join!(run(client.clone(), first, updates), collect).1
        });
        assert_eq!(seen, ["hello", "lost", "lost", "connected", "hello", "lost", "unauthorized"]);
        assert_eq!(gateway.lines()[0], "GET /api/v1/live?sections=overview,upstreams");
    }
}
