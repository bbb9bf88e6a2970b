//! Event streams (SSE) that all receive the same event. A publish request, through the gateway too, makes the backend
//! send an event to every stream. The next one follows when all streams have received the event. The operations are
//! received events.

use crate::conn::{Conn, ReadOutcome};
use crate::http::{self, ROUTES};
use crate::load::{Client, ClosedLoop, Load, Progress, Tally, read_until};
use crate::stop::Stop;
use crate::transport::Transport;
use std::io;
use std::time::{Duration, Instant};

/// The number of event streams in every case.
pub(crate) const STREAMS: usize = 1000;

/// An open event stream.
pub(crate) struct EventStream(Conn);

impl EventStream {
    /// Connects and waits for the first event; `number` selects the route.
    pub(crate) fn open(transport: &Transport, number: usize) -> io::Result<Self> {
        let mut conn = Conn::connect(transport)?;
        conn.send(&http::event_stream_request(number % ROUTES))?;
        read_until(&mut conn, |bytes| {
            let Some(end) = http::head_end(bytes)? else { return Ok(None) };
            http::check_ok(&bytes[..end])?;
            Ok((http::count_events(&bytes[end..]) > 0).then_some(()))
        })?;
        Ok(Self(conn))
    }
}

impl Client for EventStream {
    fn conn(&mut self) -> &mut Conn {
        &mut self.0
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let (length, last) = match self.0.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed an event stream")),
            };
            progress.completed += http::count_events(&scratch[..length]);
            if last {
                return Ok(progress);
            }
        }
    }
}

/// Event streams, and the blocking connection of the publish requests.
pub(crate) struct Broadcast {
    streams: ClosedLoop<EventStream>,
    publisher: Conn,
}

impl Broadcast {
    /// Opens the streams one after another.
    pub(crate) fn open(transport: &Transport, stop: &Stop) -> io::Result<Self> {
        let streams = ClosedLoop::open(STREAMS, stop, |number| EventStream::open(transport, number))?;
        Ok(Self { streams, publisher: Conn::connect(transport)? })
    }

    fn publish(&mut self) -> io::Result<()> {
        self.publisher.send(&http::publish_request())?;
        read_until(&mut self.publisher, http::response_length)?;
        self.streams.run_until_completed(STREAMS as u64)
    }
}

impl Load for Broadcast {
    fn run(&mut self, duration: Duration) -> io::Result<Tally> {
        let began = Instant::now();
        let mut operations = 0;
        while began.elapsed() < duration {
            self.publish()?;
            operations += STREAMS as u64;
        }
        Ok(Tally { operations, elapsed: began.elapsed() })
    }
}
