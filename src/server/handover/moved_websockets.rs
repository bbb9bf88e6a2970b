//! Move of the open WebSockets to the new process, in batches: each batch is stopped, sent, and confirmed before the next.

use super::channel::{HandoverChannel, LONGEST_MESSAGE, MOST_DESCRIPTORS};
use super::message::{Message, Refusal};
use crate::proxy::MovedWebSocket;
use crate::tunnel::{Departure, Registry};
use log::warn;
use moongate_sdk::log_throttle;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// WebSockets of a batch. A small one stops each of them for a short time only.
const BATCH: usize = 32;

/// The size of the WebSockets of a message: bytes that wait for a slow reader may be many, and so may those of a URL.
const LARGEST: usize = LONGEST_MESSAGE - (1 << 10);

/// The time limit for the workers to stop a batch, and the pause after which those that have stopped are moved.
const LONGEST_STOP: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// The time limit for the new process to continue a batch.
const LONGEST_ADOPTION: Duration = Duration::from_secs(30);

/// The number of times that WebSockets which were opened meanwhile are moved too.
const PASSES: usize = 3;

const _: () = assert!(2 * BATCH <= MOST_DESCRIPTORS);

/// The result of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct MoveCounts {
    /// WebSockets that the new process continues.
    pub(in crate::server) moved: usize,
    /// WebSockets that could not move.
    pub(in crate::server) left: usize,
}

/// Moves every open WebSocket that can move. An error ends the move: the others stay.
pub(super) fn move_all(channel: &HandoverChannel, tunnels: &Registry) -> MoveCounts {
    let (mut moved, mut seen) = (0, HashSet::new());
    for _ in 0..PASSES {
        let ids: Vec<_> = tunnels.unasked().into_iter().filter(|id| seen.insert(*id)).collect();
        for batch in ids.chunks(BATCH) {
            if let Err(error) = stop_and_move(channel, tunnels, batch, &mut moved) {
                warn!(error:%; "WebSockets not moved to the new process");
                return MoveCounts { moved, left: seen.len() - moved };
            }
        }
    }
    MoveCounts { moved, left: seen.len() - moved }
}

/// Stops the WebSockets of a batch and moves them. Those that cannot move continue.
fn stop_and_move(
    channel: &HandoverChannel,
    tunnels: &Registry,
    ids: &[u64],
    moved: &mut usize,
) -> io::Result<()> {
    let (order, departures) = mpsc::channel();
    tunnels.depart(ids, &order);
    drop(order);
    let until = Instant::now() + LONGEST_STOP;
    let mut stopped = Vec::with_capacity(ids.len());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match departures.recv_timeout(left.min(PAUSE)) {
            Ok(departure) => stopped.push(departure),
            // Every other one has dropped its order.
            Err(RecvTimeoutError::Disconnected) => {
                *moved += move_batch(channel, stopped)?;
                return Ok(());
            }
            // The stopped ones do not wait for a worker that is busy, and not at all for one that hangs.
            Err(RecvTimeoutError::Timeout) => {
                *moved += move_batch(channel, std::mem::take(&mut stopped))?;
                if left.is_zero() {
                    return Ok(());
                }
            }
        }
    }
}

/// A stopped WebSocket and its message.
struct Prepared {
    departure: Departure,
    state: serde_json::Value,
}

/// Sends a batch in as many messages as it needs.
fn move_batch(channel: &HandoverChannel, stopped: Vec<Departure>) -> io::Result<usize> {
    let (mut moved, mut batch, mut size) = (0, Vec::new(), 0);
    for departure in stopped {
        // A departure that is dropped continues here.
        let Some(websocket) = MovedWebSocket::of(&departure) else { continue };
        let Ok(state) = serde_json::to_value(&websocket) else { continue };
        let length = state.to_string().len();
        if length > LARGEST {
            continue;
        }
        if size + length > LARGEST {
            moved += send(channel, std::mem::take(&mut batch))?;
            size = 0;
        }
        size += length;
        batch.push(Prepared { departure, state });
    }
    Ok(moved + send(channel, batch)?)
}

/// Sends WebSockets, and waits for the confirmation of each.
fn send(channel: &HandoverChannel, batch: Vec<Prepared>) -> io::Result<usize> {
    if batch.is_empty() {
        return Ok(0);
    }
    let websockets = batch.iter().map(|prepared| prepared.state.clone()).collect();
    {
        let sockets = batch.iter().flat_map(|prepared| &prepared.departure.sockets);
        let descriptors: Vec<_> = sockets.map(AsFd::as_fd).collect();
        channel.send(Message::Websockets { websockets }, &descriptors)?;
    }
    let adopted: HashSet<u64> = loop {
        match channel.receive(LONGEST_ADOPTION) {
            Ok((Message::Adopted { ids, refused }, _)) => {
                refused.iter().for_each(log_refusal);
                break ids.into_iter().collect();
            }
            Ok(_) => {}
            Err(error) => {
                // It may have them, and may have relayed some bytes: they must not be served twice. Without it they end.
                for Prepared { departure, .. } in batch {
                    // A tunnel that is gone waits for nothing.
                    let _ = departure.confirm.send(true);
                }
                return Err(error);
            }
        }
    };
    let mut moved = 0;
    for Prepared { departure, .. } in batch {
        let is_moved = adopted.contains(&departure.id);
        moved += usize::from(is_moved);
        // A tunnel that is gone waits for nothing.
        let _ = departure.confirm.send(is_moved);
    }
    Ok(moved)
}

fn log_refusal(refusal: &Refusal) {
    const MESSAGE: &str = "WebSocket not moved to the new process";
    let reason = refusal.reason.as_str();
    if log_throttle::admit(log::Level::Warn, MESSAGE, &[reason]) {
        warn!(reason; "{MESSAGE}");
    }
}

/// The WebSockets of a message with their sockets, and those that cannot be read.
pub(super) fn read(
    websockets: Vec<serde_json::Value>,
    descriptors: Vec<OwnedFd>,
) -> (Vec<(MovedWebSocket, [OwnedFd; 2])>, Vec<Refusal>) {
    let (mut read, mut refused) = (Vec::with_capacity(websockets.len()), Vec::new());
    let mut descriptors = descriptors.into_iter();
    for websocket in websockets {
        let id = websocket.get("id").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let sockets = descriptors.next().zip(descriptors.next());
        match (serde_json::from_value(websocket), sockets) {
            (Ok(websocket), Some((client, backend))) => read.push((websocket, [client, backend])),
            (Ok(_), None) => refused.push(Refusal { id, reason: "no descriptors were left".to_owned() }),
            (Err(error), _) => refused.push(Refusal { id, reason: error.to_string() }),
        }
    }
    (read, refused)
}
