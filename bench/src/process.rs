//! The processes of a gateway: started on one CPU, measured as a tree, ended by id. All figures come from /proc, so
//! that every gateway is measured the same way.

use crate::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time limit for a process to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// CPU time of a tree of processes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// In user space.
    pub(crate) user: Duration,
    /// In the kernel, including soft interrupts of its own sends.
    pub(crate) system: Duration,
}

impl Cpu {
    /// The CPU time used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// The sum of both.
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

/// A started process with its descendants, ended on drop.
pub(crate) struct Process {
    child: Child,
    name: String,
    /// The process that has taken over from the child, which has ended.
    successor: Option<u32>,
}

impl Process {
    /// Starts `command` on one CPU, with its output in a file.
    pub(crate) fn start(name: &str, cpu: usize, command: &Command, log: &fs::File) -> Outcome<Self> {
        let child = on_cpu(cpu, command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .map_err(|e| format!("{name} does not start: {e}"))?;
        Ok(Self::of(name, child))
    }

    /// Wraps a started child.
    pub(crate) fn of(name: &str, child: Child) -> Self {
        Self { child, name: name.to_owned(), successor: None }
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// From now on it is another process, to which this one hands over.
    pub(crate) fn succeed(&mut self, id: u32) -> Outcome<()> {
        let until = Instant::now() + GRACE;
        while self.has_running_root() && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
        if self.has_running_root() {
            return Err(format!("{} does not end after its handover", self.name).into());
        }
        self.successor = Some(id);
        self.check()
    }

    fn has_running_root(&mut self) -> bool {
        match self.successor {
            Some(id) => Stat::read(id).is_some(),
            None => matches!(self.child.try_wait(), Ok(None)),
        }
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        if self.successor.is_some() {
            return match self.has_running_root() {
                true => Ok(()),
                false => Err(format!("{} ended after its handover", self.name).into()),
            };
        }
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} ended: {status}", self.name).into()),
            None => Ok(()),
        }
    }

    /// Sends a signal to the process itself.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(send(self.id(), signal)?)
    }

    /// CPU time so far of the process, its threads and its descendants, including ended ones.
    pub(crate) fn cpu(&self) -> Cpu {
        cpu_of(self.id())
    }

    /// The ids of the process and its running descendants.
    pub(crate) fn tree_ids(&self) -> Vec<u32> {
        tree(self.id()).iter().map(|stat| stat.id).collect()
    }

    /// Proportional set size of the tree in bytes: its memory, with shared pages divided among their users.
    pub(crate) fn pss(&self) -> Outcome<u64> {
        let mut sum = 0;
        for stat in tree(self.id()) {
            let path = format!("/proc/{}/smaps_rollup", stat.id);
            let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
            let kib = text
                .lines()
                .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
            sum += kib.unwrap_or(0) * 1024;
        }
        Ok(sum)
    }

    /// Ends the tree: SIGINT to its root, then SIGKILL to the remaining processes.
    fn end(&mut self) {
        if !self.has_running_root() {
            return;
        }
        let members = tree(self.id());
        let _ = self.signal(Signal::INT);
        let until = Instant::now() + GRACE;
        while self.has_running_root() && Instant::now() < until {
            sleep(Duration::from_millis(5));
        }
        for member in &members {
            // The start time tells a remaining process from a new one with the same id.
            if Stat::read(member.id).is_some_and(|now| now.started == member.started) {
                let _ = send(member.id, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU time so far of a process and its descendants, including ended ones.
pub(crate) fn cpu_of(root: u32) -> Cpu {
    let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    let sum = |of: fn(&Stat) -> u32, members: &[Stat]| tick * members.iter().map(of).sum::<u32>();
    let members = tree(root);
    Cpu { user: sum(|stat| stat.user, &members), system: sum(|stat| stat.system, &members) }
}

/// The same command, pinned to one CPU; its children inherit the affinity.
pub(crate) fn on_cpu(cpu: usize, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.arg("-c").arg(cpu.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            pinned.env(name, value);
        }
    }
    pinned
}

fn send(id: u32, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    kill_process(pid, signal)
}

/// A process from /proc/ID/stat; times in clock ticks, including those of reaped children.
struct Stat {
    id: u32,
    parent: u32,
    user: u32,
    system: u32,
    started: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold any byte; the fields count from its end, beginning with number 3.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = |own: usize, reaped: usize| u32::try_from(field(own)? + field(reaped)?).ok();
        Some(Self {
            id,
            parent: u32::try_from(field(4)?).ok()?,
            user: ticks(14, 16)?,
            system: ticks(15, 17)?,
            started: field(22)?,
        })
    }
}

/// The process and its running descendants.
fn tree(root: u32) -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for stat in ids.filter_map(Stat::read) {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut members: Vec<Stat> = Stat::read(root).into_iter().collect();
    let mut at = 0;
    while let Some(member) = members.get(at) {
        members.extend(children.remove(&member.id).unwrap_or_default());
        at += 1;
    }
    members
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_tree_is_measured_and_ended_as_a_whole() {
        let child = Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().unwrap();
        let process = Process::of("sh", child);
        let until = Instant::now() + Duration::from_secs(10);
        while tree(process.id()).len() < 2 && Instant::now() < until {
            std::thread::yield_now();
        }
        let members: Vec<u32> = tree(process.id()).iter().map(|stat| stat.id).collect();
        assert_eq!(members.len(), 2);
        assert!(process.pss().unwrap() > 0);
        drop(process);
        while members.iter().any(|id| Stat::read(*id).is_some()) && Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(members.iter().all(|id| Stat::read(*id).is_none()));
    }
}
