//! Move of the open WebSockets to the new process, in batches: each batch is stopped, sent, and confirmed before the next.

use super::channel::{HandoverChannel, LONGEST_MESSAGE, LONGEST_PART, MOST_DESCRIPTORS};
use super::fault_point::{self, Step};
use super::message::{Message, Refusal, SecretState};
use crate::proxy::MovedTunnel;
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

/// The size up to which WebSockets share a message: bytes that wait for a slow reader may be many, and so may those of a
/// URL.
const SHARED: usize = LONGEST_PART - (1 << 10);

/// The size beyond which a WebSocket stays.
const LARGEST: usize = LONGEST_MESSAGE - (1 << 10);

/// The time limit for the workers to stop a batch, and the pause after which those that have stopped are moved.
const LONGEST_STOP: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// The time limit for the new process to continue a batch.
const LONGEST_ADOPTION: Duration = Duration::from_secs(30);

/// The number of passes: for WebSockets that were opened meanwhile, and for those in the middle of a TLS record.
pub(super) const PASSES: usize = 5;

/// The number of passes after the commit: for WebSockets of connections that were accepted before.
pub(super) const LAST_PASSES: usize = 2;

/// The time for the rest of a record to arrive.
const RECORD_PAUSE: Duration = Duration::from_millis(20);

const _: () = assert!(2 * BATCH <= MOST_DESCRIPTORS);

/// The result of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct MoveCounts {
    /// WebSockets that the new process continues.
    pub(in crate::server) moved: usize,
    /// WebSockets that could not move.
    pub(in crate::server) left: usize,
}

/// Moves WebSockets in batches.
pub(super) struct Mover<'a> {
    channel: &'a HandoverChannel,
    tunnels: &'a Registry,
    moved: usize,
    /// Those that were tried.
    seen: HashSet<u64>,
    /// Those that the new process cannot continue.
    refused: HashSet<u64>,
}

/// A stopped WebSocket and its message.
struct Prepared {
    departure: Departure,
    state: SecretState,
}

impl<'a> Mover<'a> {
    /// For the WebSockets of this process.
    pub(super) fn new(channel: &'a HandoverChannel, tunnels: &'a Registry) -> Self {
        Self { channel, tunnels, moved: 0, seen: HashSet::new(), refused: HashSet::new() }
    }

    /// The result so far.
    pub(super) fn counts(&self) -> MoveCounts {
        MoveCounts { moved: self.moved, left: self.seen.len() - self.moved }
    }

    /// Moves every open WebSocket that can move.
    ///
    /// # Errors
    /// That of the channel, which ends the move: the others stay.
    pub(super) fn move_all(&mut self, passes: usize) -> io::Result<()> {
        for pass in 0..passes {
            let ids: Vec<_> =
                self.tunnels.unasked().into_iter().filter(|id| !self.refused.contains(id)).collect();
            if pass > 0 && !ids.is_empty() {
                std::thread::sleep(RECORD_PAUSE);
            }
            self.seen.extend(ids.iter().copied());
            for batch in ids.chunks(BATCH) {
                self.stop_and_move(batch)
                    .inspect_err(|error| warn!(error:%; "WebSockets not moved to the new process"))?;
            }
        }
        Ok(())
    }

    /// Stops the WebSockets of a batch and moves them. Those that cannot move continue.
    fn stop_and_move(&mut self, ids: &[u64]) -> io::Result<()> {
        let (order, departures) = mpsc::channel();
        self.tunnels.depart(ids, &order);
        drop(order);
        let until = Instant::now() + LONGEST_STOP;
        let mut stopped = Vec::with_capacity(ids.len());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match departures.recv_timeout(left.min(PAUSE)) {
                Ok(departure) => stopped.push(departure),
                // Every other one has dropped its order.
                Err(RecvTimeoutError::Disconnected) => return self.move_batch(stopped),
                // The stopped ones do not wait for a worker that is busy, and not at all for one that hangs.
                Err(RecvTimeoutError::Timeout) => {
                    self.move_batch(std::mem::take(&mut stopped))?;
                    if left.is_zero() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends a batch in as many messages as it needs.
    fn move_batch(&mut self, stopped: Vec<Departure>) -> io::Result<()> {
        let (mut batch, mut size) = (Vec::new(), 0);
        for departure in stopped {
            // A departure that is dropped continues here.
            let Some(websocket) = MovedTunnel::of(&departure) else { continue };
            let Ok(state) = serde_json::to_value(&websocket).map(SecretState) else { continue };
            let length = state.length();
            if length > LARGEST {
                // It would be as large in the next pass.
                self.refused.insert(departure.id);
                continue;
            }
            if size + length > SHARED {
                self.send(std::mem::take(&mut batch))?;
                size = 0;
            }
            size += length;
            batch.push(Prepared { departure, state });
        }
        self.send(batch)
    }

    /// Sends WebSockets, and waits for the confirmation of each.
    fn send(&mut self, mut batch: Vec<Prepared>) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        fault_point::reach(Step::OldStopped);
        let websockets = batch.iter_mut().map(|prepared| std::mem::take(&mut prepared.state)).collect();
        {
            let sockets = batch.iter().flat_map(|prepared| &prepared.departure.sockets);
            let descriptors: Vec<_> = sockets.map(AsFd::as_fd).collect();
            self.channel.send(Message::Websockets { websockets }, &descriptors)?;
        }
        fault_point::reach(Step::OldSent);
        let adopted: HashSet<u64> = loop {
            match self.channel.receive(LONGEST_ADOPTION) {
                Ok((Message::Adopted { ids, refused }, _)) => {
                    refused.iter().for_each(log_refusal);
                    self.refused.extend(refused.iter().map(|refusal| refusal.id));
                    break ids.into_iter().collect();
                }
                Ok(_) => {}
                Err(error) => {
                    // It may have them, and may have relayed some bytes: they must not be served twice. Without it they
                    // end.
                    for Prepared { departure, .. } in batch {
                        // A tunnel that is gone waits for nothing.
                        let _ = departure.confirm.send(true);
                    }
                    return Err(error);
                }
            }
        };
        for Prepared { departure, .. } in batch {
            let is_moved = adopted.contains(&departure.id);
            self.moved += usize::from(is_moved);
            // A tunnel that is gone waits for nothing.
            let _ = departure.confirm.send(is_moved);
        }
        fault_point::reach(Step::OldReleased);
        Ok(())
    }
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
    websockets: Vec<SecretState>,
    descriptors: Vec<OwnedFd>,
) -> (Vec<(MovedTunnel, [OwnedFd; 2])>, Vec<Refusal>) {
    let (mut read, mut refused) = (Vec::with_capacity(websockets.len()), Vec::new());
    let mut descriptors = descriptors.into_iter();
    for mut state in websockets {
        let websocket = std::mem::take(&mut state.0);
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
