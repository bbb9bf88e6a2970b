//! The load: many connections on one thread, each with one operation in flight (a closed loop), or at a fixed rate
//! (`paced`). A wrong or missing response ends the measurement with an error.

pub(crate) mod event_streams;
pub(crate) mod http2_streams;
pub(crate) mod keepalive_gets;
pub(crate) mod paced;
pub(crate) mod paced_gets;
pub(crate) mod short_connections;
pub(crate) mod short_websockets;
pub(crate) mod transfers;
pub(crate) mod websockets;

use crate::conn::{Conn, EpollSet, READ_SIZE, ReadOutcome, ReadyEvent};
use crate::stop::Stop;
use std::io;
use std::time::{Duration, Instant};

/// The time without progress after which a gateway counts as stuck.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval at which a waiting load checks the stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One connection of a closed loop, already open.
pub(crate) trait Client {
    /// Its socket.
    fn conn(&mut self) -> &mut Conn;

    /// Begins the first operation.
    fn start(&mut self) -> io::Result<()>;

    /// Reads available bytes and begins the next operation when one is complete.
    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress>;
}

/// The outcome of one pass over a connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Operations completed.
    pub(crate) completed: u64,
    /// Whether the client has a new socket, which must be registered.
    pub(crate) reconnected: bool,
}

/// Operations and their duration.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// Operations completed.
    pub(crate) operations: u64,
    /// The time from start to end.
    pub(crate) elapsed: Duration,
}

/// A closed loop of any kind of client.
pub(crate) trait Load {
    /// Runs for this long. The next call completes operations still in flight.
    fn run(&mut self, duration: Duration) -> io::Result<Tally>;
}

/// Connections that stay open without operations.
pub(crate) trait IdleLoad {
    /// Serves the connections for this long by replying to pings.
    fn serve_idle(&mut self, duration: Duration) -> io::Result<()>;
}

/// Clients of one kind.
pub(crate) struct ClosedLoop<C> {
    clients: Vec<C>,
    epoll: EpollSet,
    scratch: Vec<u8>,
    stop: Stop,
}

impl<C: Client> ClosedLoop<C> {
    /// Opens `count` clients one after another, then begins the first operation of each.
    pub(crate) fn open(
        count: usize,
        stop: &Stop,
        mut open: impl FnMut(usize) -> io::Result<C>,
    ) -> io::Result<Self> {
        let epoll = EpollSet::new()?;
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            stop.check()?;
            let mut client = open(number)?;
            client.conn().set_nonblocking()?;
            epoll.add(client.conn().socket(), number as u64)?;
            client.start()?;
            clients.push(client);
        }
        Ok(Self { clients, epoll, scratch: vec![0; READ_SIZE], stop: stop.clone() })
    }

    /// Runs until this many operations are complete.
    ///
    /// # Errors
    /// More are complete.
    pub(crate) fn run_until_completed(&mut self, wanted: u64) -> io::Result<()> {
        let (mut done, mut last) = (0, Instant::now());
        while done < wanted {
            let now = self.poll_once(POLL_INTERVAL)?;
            done += now;
            last = check_stall(now, last)?;
        }
        if done > wanted {
            return Err(io::Error::other("the gateway sent something twice"));
        }
        Ok(())
    }

    fn poll_once(&mut self, timeout: Duration) -> io::Result<u64> {
        self.stop.check()?;
        let mut done = 0;
        for at in 0..self.epoll.wait(Some(timeout))? {
            done += self.handle_event(self.epoll.event(at))?;
        }
        Ok(done)
    }

    fn handle_event(&mut self, event: ReadyEvent) -> io::Result<u64> {
        let number = event.token as usize;
        let client = &mut self.clients[number];
        client.conn().record_event(event);
        if !client.conn().flush()? {
            return Ok(0);
        }
        let progress = client.advance(&mut self.scratch)?;
        if progress.reconnected {
            client.conn().set_nonblocking()?;
            self.epoll.add(client.conn().socket(), event.token)?;
        }
        Ok(progress.completed)
    }
}

impl<C: Client> Load for ClosedLoop<C> {
    fn run(&mut self, duration: Duration) -> io::Result<Tally> {
        let began = Instant::now();
        let (mut operations, mut last) = (0, began);
        loop {
            let done = self.poll_once(POLL_INTERVAL)?;
            operations += done;
            last = check_stall(done, last)?;
            let elapsed = began.elapsed();
            if elapsed >= duration {
                return Ok(Tally { operations, elapsed });
            }
        }
    }
}

impl<C: Client> IdleLoad for ClosedLoop<C> {
    fn serve_idle(&mut self, duration: Duration) -> io::Result<()> {
        let until = Instant::now() + duration;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.poll_once(left.min(POLL_INTERVAL))?;
        }
        Ok(())
    }
}

/// Returns the time of the last progress.
///
/// # Errors
/// There was none for [`STALL_TIMEOUT`].
fn check_stall(completed: u64, last: Instant) -> io::Result<Instant> {
    match completed {
        0 if last.elapsed() > STALL_TIMEOUT => {
            Err(io::Error::other(format!("no response for {} s", STALL_TIMEOUT.as_secs())))
        }
        0 => Ok(last),
        _ => Ok(Instant::now()),
    }
}

/// Reads from a blocking connection until `find` finds something in all bytes.
pub(crate) fn read_until<T>(conn: &mut Conn, find: impl Fn(&[u8]) -> io::Result<Option<T>>) -> io::Result<T> {
    let (mut received, mut piece) = (Vec::new(), vec![0; READ_SIZE / 16]);
    loop {
        match conn.read(&mut piece)? {
            ReadOutcome::Drained(0) => return Err(io::ErrorKind::TimedOut.into()),
            ReadOutcome::Data(length) | ReadOutcome::Drained(length) => {
                received.extend_from_slice(&piece[..length]);
            }
            ReadOutcome::Eof => return Err(io::Error::other("the gateway closed before its response")),
        }
        if let Some(found) = find(&received)? {
            return Ok(found);
        }
    }
}
