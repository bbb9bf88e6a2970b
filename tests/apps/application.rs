//! An application as a process: installed by `make apps`, started on a loopback address of its own, ended
//! with its children.

use crate::support::eventually::within;
use crate::support::{Response, Wire};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The time limit of a start. Several applications start in parallel, and compile or unpack on their first
/// start.
pub(crate) const START: Duration = Duration::from_secs(180);

/// How long an application may take to end after SIGTERM before it is killed.
const END: Duration = Duration::from_secs(10);

/// A file below the repository's root.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the application tests.
pub(crate) fn own_file(name: &str) -> PathBuf {
    root("tests/apps/files").join(name)
}

/// Returns whether all of these paths exist, relative to the repository's root or absolute. A skipped test is
/// reported.
pub(crate) fn installed(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !root(program).exists()).collect();
    if !missing.is_empty() {
        #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
        {
            eprintln!("{test} is not run: {missing:?} is missing; `.ci/tools apps` installs it");
        }
    }
    missing.is_empty()
}

/// The response to a GET, if a server listens there and sends valid HTTP.
pub(crate) fn answer(address: SocketAddr, target: &str) -> Option<Response> {
    TcpStream::connect(address).ok()?;
    let mut wire = Wire::connect(address);
    wire.try_send(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).ok()?;
    wire.try_response("GET").ok()
}

/// The addresses and the directory of one test.
pub(crate) struct Place {
    ip: Ipv4Addr,
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        // Distinct from those of the ACME tests, which begin at 64.
        let process = std::process::id().to_le_bytes()[0] / 8 + 16;
        let ip = Ipv4Addr::new(127, process, NEXT.fetch_add(1, Ordering::Relaxed), 1);
        Self { ip, folder: tempfile::tempdir().unwrap() }
    }

    /// An address without a listener.
    pub(crate) fn address(&self) -> SocketAddr {
        TcpListener::bind((self.ip, 0)).unwrap().local_addr().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and creates its directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A command with this directory as its home and working directory.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(root(program.as_ref().to_str().unwrap()));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; returns its output. Panics if it fails.
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command:?}: {}\n{printed}\n{said}", output.status);
        printed
    }

    /// Starts an application and waits until it is ready.
    pub(crate) fn start(&self, command: &mut Command, ready: impl FnMut() -> bool) -> Application {
        let name = Path::new(command.get_program()).file_name().unwrap().to_str().unwrap().to_owned();
        let log = self.path(&format!("{name}.log"));
        let output = File::create(&log).unwrap();
        // A process group of its own, so that its children end with it.
        let child = command
            .process_group(0)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut application = Application { child, name, log };
        application.await_ready(ready);
        application
    }
}

/// A running application.
pub(crate) struct Application {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Application {
    fn await_ready(&mut self, mut ready: impl FnMut() -> bool) {
        within(START, &format!("{} is ready", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it was ready", self.name);
            }
            ready().then_some(())
        });
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    fn signal(&self, name: &str) {
        // It may have ended already.
        let _ = Command::new("kill")
            .args([&format!("-{name}"), "--", &format!("-{}", self.child.id())])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "the log of a failed test belongs to its report")]
            {
                let log = self.log();
                let tail: Vec<_> = log.lines().rev().take(60).collect();
                eprintln!("--- the log of {}", self.name);
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
                eprintln!("---");
            }
        }
        self.signal("TERM");
        let start = std::time::Instant::now();
        while start.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Remaining processes of the group: children that ignore SIGTERM.
        self.signal("KILL");
        let _ = self.child.wait();
    }
}
