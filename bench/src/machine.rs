//! What the machine offers: which CPUs, how many descriptors, and how quiet it is.

use crate::Outcome;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// Who runs where.
#[derive(Clone, Copy)]
pub(crate) struct Seats {
    /// The gateway under test, alone.
    pub(crate) gateway: usize,
    /// The backend.
    pub(crate) backend: usize,
    /// The load: beside the backend when there are but two CPUs.
    pub(crate) load: usize,
}

impl Seats {
    /// Takes the first CPUs this process may use, and moves to the load's.
    pub(crate) fn take() -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut free = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let (Some(gateway), Some(backend)) = (free.next(), free.next()) else {
            return Err("two CPUs are needed: one for the gateway, one for backend and load".into());
        };
        let load = free.next().unwrap_or(backend);
        let mut own = CpuSet::new();
        own.set(load);
        sched_setaffinity(None, &own)?;
        Ok(Self { gateway, backend, load })
    }

    /// The CPUs in use, each once.
    pub(crate) fn cpus(self) -> Vec<usize> {
        let mut cpus = vec![self.gateway, self.backend, self.load];
        cpus.dedup();
        cpus
    }
}

/// Raises the limit of open files as far as it goes, for us and for all that we start.
pub(crate) fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Beyond this nothing here needs more, and HAProxy sizes tables by it.
    let most = limit.maximum.unwrap_or(u64::MAX).min(65_536);
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(1024),
    }
}

/// Addresses on loopback that nobody listens on at this moment, no two the same.
pub(crate) fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    // Held until all are known: a port that is let go may come again.
    let mut held = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

/// How long these CPUs together have not been idle since the machine started.
pub(crate) fn busy(cpus: &[usize]) -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ours = text.lines().filter_map(|line| {
        let (cpu, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
        cpus.contains(&cpu.parse().ok()?).then_some(fields)
    });
    // user nice system idle iowait irq softirq steal; guest times are in the first two already.
    let busy = |fields: &str| -> u64 {
        let fields = fields.split_whitespace().filter_map(|field| field.parse::<u64>().ok()).enumerate();
        fields.take(8).filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum()
    };
    let ticks: u64 = ours.map(busy).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// One line on the machine.
pub(crate) fn description() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |name: &str| -> Vec<&str> {
        let named =
            cpus.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == name);
        named.map(|(_, value)| value.trim()).collect()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = values("model name").first().copied().unwrap_or("unknown").to_owned();
    format!("{} CPUs ({model}), Linux {}", values("processor").len(), kernel.trim())
}
