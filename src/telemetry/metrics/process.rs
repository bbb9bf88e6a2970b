//! Process metrics from /proc, read at a scrape. Without /proc, these metrics are absent.

use super::exposition::Exposition;
use super::names;
use std::fs;
use std::sync::OnceLock;

/// Ticks per second of CPU and start times in /proc (USER_HZ), the same on every supported architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Values of the process; `None` for one that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessValues {
    /// CPU time, user and system, in seconds.
    pub cpu: Option<f64>,
    /// Resident memory in bytes.
    pub memory: Option<f64>,
    /// Threads.
    pub threads: Option<f64>,
    /// The limit on open descriptors.
    pub max_descriptors: Option<f64>,
    /// Open descriptors.
    pub descriptors: Option<f64>,
    /// The start in Unix seconds.
    pub started: Option<f64>,
}

impl ProcessValues {
    /// Reads the values of this process.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu: cpu_seconds(&stat),
            memory: field(&status, "VmRSS:").map(|kib| kib * 1024.0),
            threads: field(&status, "Threads:"),
            max_descriptors: field(&limits, "Max open files"),
            descriptors: open_files(),
            started: started(&stat),
        }
    }
}

/// Adds the metrics that can be read.
pub(super) fn collect(scrape: &mut Exposition) {
    let values = ProcessValues::read();
    if let Some(seconds) = values.cpu {
        scrape.counter(&names::PROCESS_CPU, &[], seconds);
    }
    for (family, value) in [
        (&names::PROCESS_RESIDENT, values.memory),
        (&names::PROCESS_THREADS, values.threads),
        (&names::PROCESS_MAX_FDS, values.max_descriptors),
        (&names::PROCESS_OPEN_FDS, values.descriptors),
        (&names::PROCESS_START, values.started),
    ] {
        if let Some(value) = value {
            scrape.gauge(family, &[], value);
        }
    }
}

/// A field of /proc/self/stat after the command name, which may contain spaces and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    // The state is field 3 of proc(5) and the first after the name.
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn started(stat: &str) -> Option<f64> {
    // Read once: the boot time is constant, and /proc/stat grows with the number of cores.
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    let boot = *BOOT.get_or_init(|| field(&fs::read_to_string("/proc/stat").ok()?, "btime"));
    Some(boot? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// The number after `name` at the start of a line; none for `unlimited`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    // Since Linux 6.2 the directory's size is the number of its entries; before, it is 0 and the entries are
    // counted.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64),
        count => Some(count as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 4200 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn unlimited_and_missing_fields_are_none() {
        assert_eq!(field("Max open files            1024   4096 files\n", "Max open files"), Some(1024.0));
        assert_eq!(field("Max open files            unlimited   x\n", "Max open files"), None);
        assert_eq!(field("", "VmRSS:"), None);
    }
}
