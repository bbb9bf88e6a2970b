//! Messages, bytes and ping round trips of a route's WebSockets at one endpoint.

use super::websocket_labels::{Direction, Opcode};
use std::ops::{Add, AddAssign};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of messages and bytes.
#[derive(Debug, Default)]
pub(super) struct TrafficCounts {
    messages: [[AtomicU64; Opcode::ALL.len()]; Direction::ALL.len()],
    bytes: [AtomicU64; Direction::ALL.len()],
}

/// The values of [`TrafficCounts`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Messages and control frames, by [`Direction`] and [`Opcode`].
    pub messages: [[u64; Opcode::ALL.len()]; Direction::ALL.len()],
    /// Bytes on the wire, by [`Direction`].
    pub bytes: [u64; Direction::ALL.len()],
}

/// The number of round trips and their sum in microseconds.
#[derive(Debug, Default)]
pub(super) struct RoundTripSum {
    count: AtomicU64,
    micros: AtomicU64,
}

impl TrafficCounts {
    pub(super) fn add_messages(&self, direction: Direction, opcode: Opcode, count: u64) {
        self.messages[direction as usize][opcode as usize].fetch_add(count, Relaxed);
    }

    pub(super) fn add_bytes(&self, direction: Direction, count: u64) {
        self.bytes[direction as usize].fetch_add(count, Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            messages: Direction::ALL.map(|direction| {
                Opcode::ALL.map(|opcode| self.messages[direction as usize][opcode as usize].load(Relaxed))
            }),
            bytes: Direction::ALL.map(|direction| self.bytes[direction as usize].load(Relaxed)),
        }
    }
}

impl Traffic {
    /// Text and binary messages of one direction.
    pub(crate) fn data_messages(&self, direction: Direction) -> u64 {
        let messages = &self.messages[direction as usize];
        messages[Opcode::Text as usize] + messages[Opcode::Binary as usize]
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(mut self, more: Self) -> Self {
        self += more;
        self
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        let sum = self.messages.as_flattened_mut().iter_mut().zip(more.messages.as_flattened());
        sum.for_each(|(sum, more)| *sum += more);
        self.bytes.iter_mut().zip(more.bytes).for_each(|(sum, more)| *sum += more);
    }
}

impl RoundTripSum {
    pub(super) fn add(&self, after: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn read(&self) -> (u64, Duration) {
        (self.count.load(Relaxed), Duration::from_micros(self.micros.load(Relaxed)))
    }
}
