//! Load on the CPUs of the bench by other processes: a lock against a second bench, and the CPU time of the others.

use crate::Outcome;
use crate::machine::{self, CpuPlacement};
use crate::process::cpu_of;
use crate::stop::Stop;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time limit of waiting for the lock.
const TIMEOUT: Duration = Duration::from_mins(15);

/// The lock of a running bench, one per machine: two benches would disturb each other.
pub(crate) struct BenchLock(
    #[allow(dead_code, reason = "the socket holds the lock until it is dropped")] UnixListener,
);

impl BenchLock {
    /// Waits for another bench to end.
    pub(crate) fn acquire(stop: &Stop) -> Outcome<Self> {
        // An abstract socket name vanishes with its process, even after a crash; a lock file would stay.
        let name = SocketAddr::from_abstract_name("moongate-bench")?;
        let began = Instant::now();
        let mut reported = false;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self(listener)),
                Err(e) if e.kind() != ErrorKind::AddrInUse => return Err(e.into()),
                Err(_) if began.elapsed() > TIMEOUT => return Err("another bench is still running".into()),
                Err(_) if !reported => eprintln!("another bench is running; waiting for its end"),
                Err(_) => {}
            }
            reported = true;
            stop.check()?;
            sleep(Duration::from_millis(500));
        }
    }
}

/// CPU time of other processes since a moment.
pub(crate) struct OtherProcesses {
    at: Instant,
    busy: Duration,
    own: Duration,
    placement: CpuPlacement,
}

impl OtherProcesses {
    /// Starts now.
    pub(crate) fn observe(placement: CpuPlacement) -> Self {
        let own = cpu_of(std::process::id()).total();
        Self { at: Instant::now(), busy: machine::busy(&placement.cpus()), own, placement }
    }

    /// The share of one CPU that other processes used on the bench's CPUs.
    pub(crate) fn cpu_share(&self) -> f64 {
        let now = Self::observe(self.placement);
        let (busy, own) = (now.busy.saturating_sub(self.busy), now.own.saturating_sub(self.own));
        busy.saturating_sub(own).as_secs_f64() / (now.at - self.at).as_secs_f64()
    }
}
