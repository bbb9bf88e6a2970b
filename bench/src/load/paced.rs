//! Echoes at a fixed rate, for latency. Every message has a due time and does not wait for earlier echoes. Its
//! latency counts from the due time even if the sender is late, so a stall counts for every message that it
//! delays (no coordinated omission).

use crate::conn::{Conn, EpollSet, READ_SIZE, ReadOutcome};
use crate::frames::{self, BINARY};
use crate::http::ROUTES;
use crate::load::websockets::{MessageReceiver, handshake};
use crate::stop::Stop;
use crate::transport::Transport;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// The timeout of the last echoes.
const LAST_ECHO_TIMEOUT: Duration = Duration::from_secs(5);

/// Open WebSockets, used in turn.
pub(crate) struct PacedLoad {
    sockets: Vec<PacedWebSocket>,
    epoll: EpollSet,
    message: Vec<u8>,
    scratch: Vec<u8>,
    stop: Stop,
}

struct PacedWebSocket {
    conn: Conn,
    receiver: MessageReceiver,
    /// The due times of the messages in flight, oldest first.
    due: VecDeque<Instant>,
}

/// A message that was echoed.
#[derive(Clone, Copy)]
pub(crate) struct TimedEcho {
    /// When it was due.
    pub(crate) due: Instant,
    /// The time from then to its echo.
    pub(crate) latency: Duration,
}

impl PacedLoad {
    /// Opens `count` WebSockets for messages of `size` bytes.
    pub(crate) fn open(transport: &Transport, count: usize, size: usize, stop: &Stop) -> io::Result<Self> {
        let epoll = EpollSet::new()?;
        let mut message = Vec::new();
        frames::put_masked(&mut message, BINARY, &vec![b'l'; size]);
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            stop.check()?;
            let (conn, receiver) = handshake(transport, number % ROUTES)?;
            conn.set_nonblocking()?;
            epoll.add(conn.socket(), number as u64)?;
            sockets.push(PacedWebSocket { conn, receiver, due: VecDeque::new() });
        }
        Ok(Self { sockets, epoll, message, scratch: vec![0; READ_SIZE], stop: stop.clone() })
    }

    /// Sends `rate` messages per second for this long and returns the latency of each, sorted. Calls `on_iteration`
    /// with the elapsed time in every iteration.
    pub(crate) fn run(
        &mut self,
        rate: u32,
        duration: Duration,
        on_iteration: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Vec<Duration>> {
        let echoes = self.run_timed(rate, duration, on_iteration)?;
        let mut latencies: Vec<_> = echoes.into_iter().map(|echo| echo.latency).collect();
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// As [`PacedLoad::run`], with the due time of each message.
    pub(crate) fn run_timed(
        &mut self,
        rate: u32,
        duration: Duration,
        mut on_iteration: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Vec<TimedEcho>> {
        let began = Instant::now();
        let total = (f64::from(rate) * duration.as_secs_f64()) as u64;
        let due = |number: u64| began + Duration::from_secs_f64(number as f64 / f64::from(rate));
        let (mut sent, mut echoes) = (0, Vec::with_capacity(total as usize));
        while (echoes.len() as u64) < total {
            self.stop.check()?;
            on_iteration(began.elapsed())?;
            let now = Instant::now();
            while sent < total && due(sent) <= now {
                self.send(sent, due(sent))?;
                sent += 1;
            }
            if sent == total && now > due(total) + LAST_ECHO_TIMEOUT {
                let lost = total - echoes.len() as u64;
                return Err(io::Error::other(format!("{lost} of {total} messages were not echoed")));
            }
            let wait = if sent < total {
                due(sent).saturating_duration_since(Instant::now())
            } else {
                LAST_ECHO_TIMEOUT
            };
            self.receive(wait.min(LAST_ECHO_TIMEOUT), &mut echoes)?;
        }
        Ok(echoes)
    }

    fn send(&mut self, number: u64, due: Instant) -> io::Result<()> {
        let at = number as usize % self.sockets.len();
        let socket = &mut self.sockets[at];
        socket.due.push_back(due);
        socket.conn.send(&self.message)
    }

    fn receive(&mut self, timeout: Duration, echoes: &mut Vec<TimedEcho>) -> io::Result<()> {
        for at in 0..self.epoll.wait(Some(timeout))? {
            let event = self.epoll.event(at);
            let socket = &mut self.sockets[event.token as usize];
            socket.conn.record_event(event);
            socket.conn.flush()?;
            socket.receive(&mut self.scratch, echoes)?;
        }
        Ok(())
    }
}

impl PacedWebSocket {
    fn receive(&mut self, scratch: &mut [u8], echoes: &mut Vec<TimedEcho>) -> io::Result<()> {
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed a WebSocket")),
            };
            let now = Instant::now();
            self.receiver.receive(&mut scratch[..length], &mut self.conn)?;
            for _ in 0..std::mem::take(&mut self.receiver.messages) {
                let due =
                    self.due.pop_front().ok_or_else(|| io::Error::other("an echo without a message"))?;
                echoes.push(TimedEcho { due, latency: now.saturating_duration_since(due) });
            }
            if self.receiver.closed {
                return Err(io::Error::other("the gateway sent a Close frame"));
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
