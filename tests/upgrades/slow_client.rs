//! Slow reader: it sends without pause and reads as much as it is allowed to, so that the gateway has bytes that the
//! client does not take.

use crate::frame_stream::{BINARY, FINAL, Frame};
use crate::traffic_client::{Target, TrafficClient, payload};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

/// More than the buffers of two sockets.
pub(crate) const MESSAGES: usize = 96;
const LENGTH: usize = 128 << 10;

/// Opens a WebSocket, sends all messages, and reads as many as `allowed` says until it has all.
pub(crate) async fn run(
    number: usize,
    target: Target,
    mut allowed: watch::Receiver<usize>,
) -> Result<TrafficClient, String> {
    let target = Target { receive_buffer: Some(64 << 10), ..target };
    let failed = |error: std::io::Error| format!("slow reader {number}: {error}");
    let mut client = TrafficClient::open(number, &target).await.map_err(failed)?;
    let (frames, sink) = (&mut client.frames, &mut client.sink);
    let message = |sequence: usize| {
        Frame::new(FINAL | BINARY, payload(number, u32::try_from(sequence).unwrap_or_default(), LENGTH))
    };
    let write = async {
        for sequence in 0..MESSAGES {
            let mut bytes = Vec::new();
            message(sequence).write(Some([0; 4]), &mut bytes);
            sink.write_all(&bytes).await?;
        }
        sink.flush().await
    };
    let read = async {
        for sequence in 0..MESSAGES {
            // The sender lives as long as the test.
            let _ = allowed.wait_for(|allowed| *allowed > sequence).await;
            if frames.next().await? != message(sequence) {
                return Err(std::io::Error::other(format!("message {sequence} differs")));
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read).map_err(failed)?;
    client.counts.binary = MESSAGES as u64;
    Ok(client)
}
