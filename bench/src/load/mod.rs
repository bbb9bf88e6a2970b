//! The load: many connections on one thread, each with one thing in flight (a closed loop), or fed by the
//! clock (`paced`). What a gateway answers wrongly, or not at all, ends the measurement as an error.

pub(crate) mod paced;
pub(crate) mod pages;
pub(crate) mod short_connections;
pub(crate) mod short_websockets;
pub(crate) mod sockets;
pub(crate) mod streams;

use crate::conn::{Conn, Ready, SCRATCH, Watch};
use crate::stop::Stop;
use std::io;
use std::time::{Duration, Instant};

/// The silence after which a gateway counts as stuck.
const STALL: Duration = Duration::from_secs(5);

/// How often a waiting load looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// One connection of a closed loop, opened before it gets here.
pub(crate) trait Client {
    /// Its socket.
    fn line(&mut self) -> &mut Conn;

    /// Begins the first operation.
    fn start(&mut self) -> io::Result<()>;

    /// Reads what has come, begins the next operation when one is complete, and says how many were.
    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance>;
}

/// What one look at a connection brought.
#[derive(Clone, Copy, Default)]
pub(crate) struct Advance {
    /// Operations completed.
    pub(crate) done: u64,
    /// The client has a new socket, which has to be watched.
    pub(crate) renewed: bool,
}

/// Operations, and the time they took.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// Operations completed.
    pub(crate) operations: u64,
    /// Between the first and the last moment.
    pub(crate) elapsed: Duration,
}

/// A closed loop of any kind of client.
pub(crate) trait Load {
    /// Runs for so long. Operations in flight at the end are completed by the next call.
    fn drive(&mut self, duration: Duration) -> io::Result<Tally>;
}

/// A crowd of clients of one kind.
pub(crate) struct Crowd<C> {
    clients: Vec<C>,
    watch: Watch,
    scratch: Vec<u8>,
    stop: Stop,
}

impl<C: Client> Crowd<C> {
    /// Opens `count` clients one after the other, then begins the first operation of each.
    pub(crate) fn open(
        count: usize,
        stop: &Stop,
        mut open: impl FnMut(usize) -> io::Result<C>,
    ) -> io::Result<Self> {
        let watch = Watch::new()?;
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            stop.check()?;
            let mut client = open(number)?;
            client.line().unblock()?;
            watch.add(client.line().watched(), number as u64)?;
            client.start()?;
            clients.push(client);
        }
        Ok(Self { clients, watch, scratch: vec![0; SCRATCH], stop: stop.clone() })
    }

    /// Runs until so many operations are complete.
    pub(crate) fn complete(&mut self, wanted: u64) -> io::Result<()> {
        let (mut done, mut last) = (0, Instant::now());
        while done < wanted {
            let now = self.turn(LOOK)?;
            done += now;
            last = alive(now, last)?;
        }
        Ok(())
    }

    /// Answers what comes for so long: pings, for connections that are idle.
    pub(crate) fn attend(&mut self, duration: Duration) -> io::Result<()> {
        let until = Instant::now() + duration;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.turn(left.min(LOOK))?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<u64> {
        self.stop.check()?;
        let mut done = 0;
        for at in 0..self.watch.wait(Some(timeout))? {
            done += self.look(self.watch.ready(at))?;
        }
        Ok(done)
    }

    fn look(&mut self, ready: Ready) -> io::Result<u64> {
        let number = ready.number as usize;
        let client = &mut self.clients[number];
        client.line().note(ready);
        if !client.line().flush()? {
            return Ok(0);
        }
        let advance = client.advance(&mut self.scratch)?;
        if advance.renewed {
            client.line().unblock()?;
            self.watch.add(client.line().watched(), ready.number)?;
        }
        Ok(advance.done)
    }
}

impl<C: Client> Load for Crowd<C> {
    fn drive(&mut self, duration: Duration) -> io::Result<Tally> {
        let began = Instant::now();
        let (mut operations, mut last) = (0, began);
        loop {
            let done = self.turn(LOOK)?;
            operations += done;
            last = alive(done, last)?;
            let elapsed = began.elapsed();
            if elapsed >= duration {
                return Ok(Tally { operations, elapsed });
            }
        }
    }
}

/// The moment of the last progress.
fn alive(done: u64, last: Instant) -> io::Result<Instant> {
    match done {
        0 if last.elapsed() > STALL => {
            Err(io::Error::other(format!("nothing was answered for {} s", STALL.as_secs())))
        }
        0 => Ok(last),
        _ => Ok(Instant::now()),
    }
}
