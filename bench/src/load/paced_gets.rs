//! GETs at a fixed rate over keep-alive connections, for latency. As in [`super::paced`], the latency of a request counts
//! from its due time.

use crate::conn::{Conn, EpollSet, READ_SIZE, ReadOutcome};
use crate::http;
use crate::stop::Stop;
use crate::transport::Transport;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// The time limit of the last responses.
const LAST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keep-alive connections, used in turn.
pub(crate) struct PacedGets {
    clients: Vec<PacedClient>,
    epoll: EpollSet,
    request: Vec<u8>,
    scratch: Vec<u8>,
    stop: Stop,
}

struct PacedClient {
    conn: Conn,
    response: Vec<u8>,
    /// The due times of the requests in flight, oldest first. A request waits for the response before it.
    due: VecDeque<Instant>,
    is_asked: bool,
}

impl PacedGets {
    /// Opens `count` connections.
    pub(crate) fn open(transport: &Transport, count: usize, stop: &Stop) -> io::Result<Self> {
        let epoll = EpollSet::new()?;
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            let conn = Conn::connect(transport)?;
            conn.set_nonblocking()?;
            epoll.add(conn.socket(), number as u64)?;
            clients.push(PacedClient { conn, response: Vec::new(), due: VecDeque::new(), is_asked: false });
        }
        let request = http::get_request(0, "");
        Ok(Self { clients, epoll, request, scratch: vec![0; READ_SIZE], stop: stop.clone() })
    }

    /// Sends `rate` requests per second for this long and returns the latency of each, sorted. Calls `on_iteration` with
    /// the elapsed time in every iteration.
    pub(crate) fn run(
        &mut self,
        rate: u32,
        duration: Duration,
        mut on_iteration: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Vec<Duration>> {
        let began = Instant::now();
        let total = (f64::from(rate) * duration.as_secs_f64()) as u64;
        let due = |number: u64| began + Duration::from_secs_f64(number as f64 / f64::from(rate));
        let (mut sent, mut latencies) = (0, Vec::with_capacity(total as usize));
        while (latencies.len() as u64) < total {
            self.stop.check()?;
            on_iteration(began.elapsed())?;
            let now = Instant::now();
            while sent < total && due(sent) <= now {
                let at = sent as usize % self.clients.len();
                self.clients[at].due.push_back(due(sent));
                self.clients[at].ask(&self.request)?;
                sent += 1;
            }
            if sent == total && now > due(total) + LAST_RESPONSE_TIMEOUT {
                let lost = total - latencies.len() as u64;
                return Err(io::Error::other(format!("{lost} of {total} requests had no response")));
            }
            let next = if sent < total { due(sent) } else { now + LAST_RESPONSE_TIMEOUT };
            self.receive(next.saturating_duration_since(Instant::now()), &mut latencies)?;
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn receive(&mut self, timeout: Duration, latencies: &mut Vec<Duration>) -> io::Result<()> {
        for at in 0..self.epoll.wait(Some(timeout))? {
            let event = self.epoll.event(at);
            let client = &mut self.clients[event.token as usize];
            client.conn.record_event(event);
            client.conn.flush()?;
            client.receive(&mut self.scratch, &self.request, latencies)?;
        }
        Ok(())
    }
}

impl PacedClient {
    /// Sends the next request unless one is in flight.
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        if self.is_asked || self.due.is_empty() {
            return Ok(());
        }
        self.is_asked = true;
        self.conn.send(request)
    }

    fn receive(
        &mut self,
        scratch: &mut [u8],
        request: &[u8],
        latencies: &mut Vec<Duration>,
    ) -> io::Result<()> {
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => {
                    return Err(io::Error::other("the gateway closed a keep-alive connection"));
                }
            };
            self.response.extend_from_slice(&scratch[..length]);
            if let Some(end) = http::response_length(&self.response)? {
                self.response.drain(..end);
                self.is_asked = false;
                let due = self.due.pop_front();
                let due = due.ok_or_else(|| io::Error::other("a response without a request"))?;
                latencies.push(due.elapsed());
                self.ask(request)?;
            }
            if last {
                return Ok(());
            }
        }
    }
}
