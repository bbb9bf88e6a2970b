//! Who else is on our CPUs: another bench, which we wait for, and strangers, whose time we measure.

use crate::Outcome;
use crate::machine::{self, Seats};
use crate::process::cpu_of;
use crate::stop::Stop;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long another bench is waited for.
const PATIENCE: Duration = Duration::from_mins(15);

/// Held while a bench runs: one at a time on a machine.
pub(crate) struct BenchLock(
    #[allow(dead_code, reason = "held for its name, which ends with it")] UnixListener,
);

impl BenchLock {
    /// Waits for another bench to end.
    pub(crate) fn take(stop: &Stop) -> Outcome<Self> {
        // An abstract name vanishes with its holder, however that ends; a lock file would stay.
        let name = SocketAddr::from_abstract_name("moongate-bench")?;
        let began = Instant::now();
        let mut told = false;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self(listener)),
                Err(e) if e.kind() != ErrorKind::AddrInUse => return Err(e.into()),
                Err(_) if began.elapsed() > PATIENCE => return Err("another bench is still running".into()),
                Err(_) if !told => eprintln!("another bench is running; waiting for its end"),
                Err(_) => {}
            }
            told = true;
            stop.check()?;
            sleep(Duration::from_millis(500));
        }
    }
}

/// A moment, from which on strangers are watched.
pub(crate) struct Strangers {
    at: Instant,
    busy: Duration,
    own: Duration,
    seats: Seats,
}

impl Strangers {
    /// From now on.
    pub(crate) fn watch(seats: Seats) -> Self {
        let own = cpu_of(std::process::id()).total();
        Self { at: Instant::now(), busy: machine::busy(&seats.cpus()), own, seats }
    }

    /// The share of one CPU that was busy on our seats with what is not ours.
    pub(crate) fn share(&self) -> f64 {
        let now = Self::watch(self.seats);
        let (busy, own) = (now.busy.saturating_sub(self.busy), now.own.saturating_sub(self.own));
        busy.saturating_sub(own).as_secs_f64() / (now.at - self.at).as_secs_f64()
    }
}
