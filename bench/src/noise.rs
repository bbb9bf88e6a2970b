//! Interference on the bench's CPUs: another bench, whose end is awaited, and other processes, whose CPU time is
//! measured.

use crate::Outcome;
use crate::machine::{self, Seats};
use crate::process::cpu_of;
use crate::stop::Stop;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time limit of waiting for another bench.
const PATIENCE: Duration = Duration::from_mins(15);

/// The lock of a running bench: one per machine.
pub(crate) struct BenchLock(
    #[allow(dead_code, reason = "held for its name, which ends with it")] UnixListener,
);

impl BenchLock {
    /// Waits for another bench to end.
    pub(crate) fn take(stop: &Stop) -> Outcome<Self> {
        // An abstract socket name vanishes with its process, even after a crash; a lock file would stay.
        let name = SocketAddr::from_abstract_name("moongate-bench")?;
        let began = Instant::now();
        let mut reported = false;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self(listener)),
                Err(e) if e.kind() != ErrorKind::AddrInUse => return Err(e.into()),
                Err(_) if began.elapsed() > PATIENCE => return Err("another bench is still running".into()),
                Err(_) if !reported => eprintln!("another bench is running; waiting for its end"),
                Err(_) => {}
            }
            reported = true;
            stop.check()?;
            sleep(Duration::from_millis(500));
        }
    }
}

/// The start of an observation of other processes.
pub(crate) struct Strangers {
    at: Instant,
    busy: Duration,
    own: Duration,
    seats: Seats,
}

impl Strangers {
    /// Starts now.
    pub(crate) fn watch(seats: Seats) -> Self {
        let own = cpu_of(std::process::id()).total();
        Self { at: Instant::now(), busy: machine::busy(&seats.cpus()), own, seats }
    }

    /// The share of one CPU that other processes used on the bench's CPUs.
    pub(crate) fn share(&self) -> f64 {
        let now = Self::watch(self.seats);
        let (busy, own) = (now.busy.saturating_sub(self.busy), now.own.saturating_sub(self.own));
        busy.saturating_sub(own).as_secs_f64() / (now.at - self.at).as_secs_f64()
    }
}
