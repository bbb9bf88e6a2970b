//! The resources of the machine: CPUs, open files, free ports, busy time.

use crate::Outcome;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// The CPUs of gateway, backend and load.
#[derive(Clone, Copy)]
pub(crate) struct CpuPlacement {
    /// The gateway under test, alone.
    pub(crate) gateway: usize,
    /// The backend of all gateways.
    pub(crate) backend: usize,
    /// The load. On a machine with two CPUs it shares the CPU of the backend.
    pub(crate) load: usize,
}

impl CpuPlacement {
    /// Chooses the first CPUs that this process may use, and pins the process to the CPU of the load.
    pub(crate) fn pin() -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut available = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let (Some(gateway), Some(backend)) = (available.next(), available.next()) else {
            return Err("two CPUs are needed: one for the gateway, one for backend and load".into());
        };
        let load = available.next().unwrap_or(backend);
        let mut load_only = CpuSet::new();
        load_only.set(load);
        sched_setaffinity(None, &load_only)?;
        Ok(Self { gateway, backend, load })
    }

    /// The CPUs in use, each once.
    pub(crate) fn cpus(self) -> Vec<usize> {
        let mut cpus = vec![self.gateway, self.backend, self.load];
        cpus.dedup();
        cpus
    }
}

/// Raises the limit of open files to its maximum, for this process and its children.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // The bench needs no more, and HAProxy sizes tables by the limit.
    let target = limit.maximum.unwrap_or(u64::MAX).min(65_536);
    let raised = Rlimit { current: Some(target), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => target,
        Err(_) => limit.current.unwrap_or(1024),
    }
}

/// Distinct loopback addresses on which no process listens at this moment.
pub(crate) fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    // The listeners stay open until all ports are known: a released port may be assigned again.
    let mut listeners = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}

/// The time for which these CPUs were busy since the machine started.
pub(crate) fn busy(cpus: &[usize]) -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().filter_map(|line| {
        let (cpu, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
        cpus.contains(&cpu.parse().ok()?).then_some(fields)
    });
    // Columns: user nice system idle iowait irq softirq steal. Guest times are included in the first two.
    let busy = |fields: &str| -> u64 {
        let fields = fields.split_whitespace().filter_map(|field| field.parse::<u64>().ok()).enumerate();
        fields.take(8).filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum()
    };
    let ticks: u64 = fields.map(busy).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A one-line description of the machine.
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
