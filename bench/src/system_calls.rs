//! System calls of a gateway, counted by strace, which is attached to its processes for a while.

use crate::Outcome;
use crate::process::Process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time limit until strace is attached to all processes.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The calls of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallCount {
    /// The name of the system call.
    pub(crate) name: String,
    /// The number of calls.
    pub(crate) calls: u64,
}

/// strace, attached to the processes of a gateway.
pub(crate) struct Strace {
    process: Process,
    summary: PathBuf,
}

impl Strace {
    /// Whether strace can be started.
    pub(crate) fn is_installed() -> bool {
        let version = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    }

    /// Attaches to all processes and threads of a gateway. strace runs on `cpu`, its files are in `directory`.
    ///
    /// # Errors
    /// The kernel does not allow it, as for ordinary users with kernel.yama.ptrace_scope=1.
    pub(crate) fn attach(gateway: &Process, cpu: usize, directory: &Path) -> Outcome<Self> {
        let (summary, log) = (directory.join("strace"), directory.join("strace.log"));
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(&summary);
        let traced = gateway.tree_ids();
        for id in &traced {
            command.args(["-p", &id.to_string()]);
        }
        let mut process = Process::start("strace", cpu, &command, &fs::File::create(&log)?)?;
        let until = Instant::now() + ATTACH_TIMEOUT;
        while !traced.iter().all(|id| is_traced(*id)) {
            if process.check().is_err() || Instant::now() > until {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(log.lines().next().unwrap_or("strace did not attach").to_owned().into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Self { process, summary })
    }

    /// Detaches and returns the calls since [`Strace::attach`], the most frequent first.
    pub(crate) fn detach(self) -> Outcome<Vec<CallCount>> {
        drop(self.process);
        Ok(parse(&fs::read_to_string(&self.summary)?))
    }
}

/// Whether all threads of a process are traced.
fn is_traced(id: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
    threads.filter_map(Result::ok).all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|value| value.trim() != "0"))
    })
}

/// The table of `strace -c`. Its columns are: % time, seconds, usecs/call, calls, errors (may be empty), syscall.
fn parse(summary: &str) -> Vec<CallCount> {
    let mut counts: Vec<CallCount> = summary
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (name, calls) = (columns.last()?, columns.get(3)?.parse().ok()?);
            (*name != "total").then(|| CallCount { name: (*name).to_owned(), calls })
        })
        .collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.calls));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_the_summary_of_strace() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 62.50    0.000500           5       100           sendto
 37.50    0.000300           1       250        50 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000800           2       350        50 total
";
        let count = |name: &str, calls| CallCount { name: name.to_owned(), calls };
        assert_eq!(parse(summary), [count("recvfrom", 250), count("sendto", 100)]);
    }
}
