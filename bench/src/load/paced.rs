//! Echoes at an offered rate, for latency. Every message has the moment at which it is due; it is sent then,
//! whether or not the answers of earlier ones are back, and its latency counts from that moment even when
//! the sender was late: a stall shows in every message it delayed (no coordinated omission).

use crate::conn::{Conn, Got, SCRATCH, Watch};
use crate::frames::{self, BINARY};
use crate::http::ROUTES;
use crate::load::sockets::{Inbox, shake_hands};
use crate::stop::Stop;
use crate::transport::Road;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// How long the last answers may take.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Open WebSockets that take turns.
pub(crate) struct Paced {
    sockets: Vec<Socket>,
    watch: Watch,
    message: Vec<u8>,
    scratch: Vec<u8>,
    stop: Stop,
}

struct Socket {
    line: Conn,
    inbox: Inbox,
    /// When the messages in flight were due, oldest first.
    due: VecDeque<Instant>,
}

impl Paced {
    /// Opens `count` WebSockets for messages of `size` bytes.
    pub(crate) fn open(road: &Road, count: usize, size: usize, stop: &Stop) -> io::Result<Self> {
        let watch = Watch::new()?;
        let mut message = Vec::new();
        frames::put_masked(&mut message, BINARY, &vec![b'l'; size]);
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            stop.check()?;
            let (line, inbox) = shake_hands(road, number % ROUTES)?;
            line.unblock()?;
            watch.add(line.watched(), number as u64)?;
            sockets.push(Socket { line, inbox, due: VecDeque::new() });
        }
        Ok(Self { sockets, watch, message, scratch: vec![0; SCRATCH], stop: stop.clone() })
    }

    /// Offers `rate` messages a second for so long and returns the latency of each, sorted. `every` is
    /// called about once a turn with the time since the beginning.
    pub(crate) fn drive(
        &mut self,
        rate: u32,
        duration: Duration,
        mut every: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Vec<Duration>> {
        let began = Instant::now();
        let total = (f64::from(rate) * duration.as_secs_f64()) as u64;
        let due = |number: u64| began + Duration::from_secs_f64(number as f64 / f64::from(rate));
        let (mut sent, mut latencies) = (0, Vec::with_capacity(total as usize));
        while (latencies.len() as u64) < total {
            self.stop.check()?;
            every(began.elapsed())?;
            let now = Instant::now();
            while sent < total && due(sent) <= now {
                self.send(sent, due(sent))?;
                sent += 1;
            }
            if sent == total && now > due(total) + STRAGGLERS {
                let lost = total - latencies.len() as u64;
                return Err(io::Error::other(format!("{lost} of {total} messages were not answered")));
            }
            let wait =
                if sent < total { due(sent).saturating_duration_since(Instant::now()) } else { STRAGGLERS };
            self.receive(wait.min(STRAGGLERS), &mut latencies)?;
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn send(&mut self, number: u64, due: Instant) -> io::Result<()> {
        let at = number as usize % self.sockets.len();
        let socket = &mut self.sockets[at];
        socket.due.push_back(due);
        socket.line.send(&self.message)
    }

    fn receive(&mut self, timeout: Duration, latencies: &mut Vec<Duration>) -> io::Result<()> {
        for at in 0..self.watch.wait(Some(timeout))? {
            let ready = self.watch.ready(at);
            let socket = &mut self.sockets[ready.number as usize];
            socket.line.note(ready);
            socket.line.flush()?;
            socket.receive(&mut self.scratch, latencies)?;
        }
        Ok(())
    }
}

impl Socket {
    fn receive(&mut self, scratch: &mut [u8], latencies: &mut Vec<Duration>) -> io::Result<()> {
        loop {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return Err(io::Error::other("the gateway closed a WebSocket")),
            };
            let now = Instant::now();
            self.inbox.take(&mut scratch[..length], &mut self.line)?;
            for _ in 0..std::mem::take(&mut self.inbox.messages) {
                let due = self.due.pop_front().ok_or_else(|| io::Error::other("an echo of nothing"))?;
                latencies.push(now.saturating_duration_since(due));
            }
            if self.inbox.closed {
                return Err(io::Error::other("the gateway sent a Close"));
            }
            if last {
                return Ok(());
            }
        }
    }
}

/// The latency that `share` (0 to 1) of the sorted latencies do not exceed.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_millis(500));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_millis(990));
        assert_eq!(quantile(&sorted, 0.999), Duration::from_millis(999));
        assert_eq!(quantile(&sorted[..1], 0.5), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
