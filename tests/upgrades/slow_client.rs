//! Slow readers: they send without pause and read only what they are allowed to, so that the gateway has bytes that they
//! do not take.

use crate::frame_stream::{BINARY, FINAL, Frame, FrameReader};
use crate::traffic_client::{Target, TrafficClient, payload};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// More than the buffers of two sockets.
pub(crate) const MESSAGES: usize = 96;
const LENGTH: usize = 128 << 10;

/// Opens a WebSocket to an echo, sends all messages, and reads as many as `allowed` says until it has all.
pub(crate) async fn run(
    number: usize,
    target: Target,
    allowed: watch::Receiver<usize>,
) -> Result<TrafficClient, String> {
    let target = Target { receive_buffer: Some(64 << 10), ..target };
    let failed = |error: io::Error| format!("slow reader {number}: {error}");
    let mut client = TrafficClient::open(number, &target).await.map_err(failed)?;
    exchange([number; 2], &mut client.frames, &mut client.sink, Some([0; 4]), allowed)
        .await
        .map_err(failed)?;
    client.counts.binary = MESSAGES as u64;
    Ok(client)
}

/// Sends all messages of one number, and reads those of another, of which `allowed` says how many may be read.
pub(crate) async fn exchange(
    [sent, expected]: [usize; 2],
    frames: &mut FrameReader<impl AsyncRead + Unpin>,
    sink: &mut (impl AsyncWrite + Unpin),
    key: Option<[u8; 4]>,
    mut allowed: watch::Receiver<usize>,
) -> io::Result<()> {
    let write = async {
        for sequence in 0..MESSAGES {
            let mut bytes = Vec::new();
            message(sent, sequence).write(key, &mut bytes);
            sink.write_all(&bytes).await?;
        }
        sink.flush().await
    };
    let read = async {
        for sequence in 0..MESSAGES {
            // The sender lives as long as the test.
            let _ = allowed.wait_for(|allowed| *allowed > sequence).await;
            if frames.next().await? != message(expected, sequence) {
                return Err(io::Error::other(format!("message {sequence} differs")));
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read).map(drop)
}

fn message(number: usize, sequence: usize) -> Frame {
    // There are few messages.
    Frame::new(FINAL | BINARY, payload(number, sequence as u32, LENGTH))
}
