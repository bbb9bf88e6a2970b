//! Gateway whose program a test replaces, so that the next process has a fault or a limit. Faults are those of
//! `src/server/handover/fault_point.rs`.

use crate::support::gateway::BINARY;
use crate::support::{Gateway, eventually};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The variable with the fault of a process.
const FAULT: &str = "MOONGATE_TEST_HANDOVER_FAULT";

/// A gateway and its programs.
pub(crate) struct FaultyGateway {
    pub(crate) gateway: Gateway,
    folder: TempDir,
}

/// What a process does before it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before<'a> {
    Nothing,
    /// Sets its fault, as `SIGKILL NewReady`.
    Fault(&'a str),
    /// Limits its descriptors.
    Limit(usize),
}

impl Before<'_> {
    fn script(self, program: &Path) -> String {
        let before = match self {
            Self::Nothing => format!("unset {FAULT}"),
            Self::Fault(fault) => format!("export {FAULT}='{fault}'"),
            Self::Limit(descriptors) => format!("unset {FAULT}; ulimit -n {descriptors}"),
        };
        format!("#!/bin/sh\n{before}\nexec '{}' \"$@\"\n", program.display())
    }
}

impl FaultyGateway {
    /// Starts a gateway, as [`Gateway::start`].
    pub(crate) fn start(before: Before<'_>, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Self::prepare(&folder, before);
        Self { gateway: Gateway::start_binary(&start, yaml), folder }
    }

    /// Starts a gateway, as [`Gateway::start_whole`].
    pub(crate) fn start_whole(before: Before<'_>, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Self::prepare(&folder, before);
        Self { gateway: Gateway::start_binary_whole(&start, yaml), folder }
    }

    /// Starts a gateway as a service manager does, whose variables these are.
    pub(crate) fn start_managed(before: Before<'_>, variables: &[(&str, &str)], yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Self::prepare(&folder, before);
        let gateway = Gateway::start_binary_with_all(&start, variables, yaml);
        Self { gateway, folder }
    }

    fn prepare(folder: &TempDir, before: Before<'_>) -> PathBuf {
        let (program, start) = (folder.path().join("first"), folder.path().join("start"));
        link(&program);
        write(&start, &before.script(&program));
        start
    }

    /// Replaces the program of the next process, which writes its ID to a file before it starts.
    pub(crate) fn replace(&self, before: Before<'_>) {
        let second = self.folder.path().join("second");
        link(&second);
        // It may be that of an upgrade before.
        let _ = fs::remove_file(self.started_file());
        let note = format!("#!/bin/sh\necho $$ > '{}'\n", self.started_file().display());
        write(&self.folder.path().join("first"), &before.script(&second).replacen("#!/bin/sh\n", &note, 1));
    }

    /// Replaces the programs of all processes by those without a fault.
    pub(crate) fn repair(&self) {
        for name in ["first", "second"] {
            write(&self.folder.path().join(name), &Before::Nothing.script(Path::new(BINARY)));
        }
    }

    /// The ID of the process that an upgrade has started since the program was replaced. The old process may be killed
    /// before it logs it.
    pub(crate) fn started(&self) -> u32 {
        eventually("the new process starts", || {
            fs::read_to_string(self.started_file()).ok()?.strip_suffix('\n')?.parse().ok()
        })
    }

    fn started_file(&self) -> PathBuf {
        self.folder.path().join("started")
    }
}

fn link(program: &PathBuf) {
    // It may be that of an upgrade before.
    let _ = fs::remove_file(program);
    fs::hard_link(BINARY, program).or_else(|_| fs::copy(BINARY, program).map(drop)).unwrap();
}

/// Replaces a program, as a package does.
fn write(program: &Path, script: &str) {
    let draft = program.with_extension("draft");
    fs::write(&draft, script).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, program).unwrap();
}

/// Sends a signal to a process, by its name.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// Waits until a process has stopped itself.
pub(crate) fn await_stop(pid: u32) {
    await_state(pid, " T");
}

/// Ends a process whose parent does not collect it, and waits until its descriptors are closed: until then it could still
/// be sent something.
pub(crate) fn kill(pid: u32) {
    signal("KILL", pid);
    await_state(pid, " Z");
    // The first thread may end before the others.
    eventually("every thread has ended", || {
        (fs::read_dir(format!("/proc/{pid}/task")).ok()?.count() == 1).then_some(())
    });
}

fn await_state(pid: u32, state: &str) {
    eventually(&format!("the process is in the state{state}"), || {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        status.rsplit(')').next()?.starts_with(state).then_some(())
    });
}
