//! A program of `tests/browser/`: run by Node.js with a time limit, in a process group of its own.

use crate::chromium::{installed, skipped};
use crate::support::eventually::within;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Far above the duration of any program; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(300);

/// One of each folder of packages.
const PACKAGES: [&str; 2] = [
    "target/browser/node_modules/playwright-core/package.json",
    "examples/sockjs/node_modules/sockjs/package.json",
];

/// playwright-core requires it.
const OLDEST_NODE: u32 = 20;

/// A browser uses all processors while it starts, and programs measure times: they run one by one.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn folder() -> PathBuf {
    root().join("tests/browser")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `tests/browser/NAME` to its end. Panics with its output if it fails.
pub(crate) fn run(test: &str, name: &str) {
    let packages = PACKAGES.map(|package| root().join(package));
    let Some(chromium) = installed(test, &packages.each_ref().map(PathBuf::as_path)) else { return };
    if node().is_none_or(|version| version < OLDEST_NODE) {
        return skipped(test, &format!("Node.js {OLDEST_NODE} or newer is missing"));
    }
    // A failed test does not fail the others.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let output = tempfile::NamedTempFile::new().unwrap();
    let file = File::create(output.path()).unwrap();
    let child = Command::new("node")
        .arg(folder().join(name))
        .env("MOONGATE", env!("CARGO_BIN_EXE_moongate"))
        .env("CHROMIUM", chromium)
        .env_remove("MOONGATE_URL")
        .env_remove("RUST_LOG")
        .env_remove("NODE_OPTIONS")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let mut program = Program { child, name, output: output.path() };
    let status = within(LIMIT, &format!("{name} ends"), || program.child.try_wait().unwrap());
    assert!(status.success(), "{name}: {status}");
}

/// The major version of Node.js.
fn node() -> Option<u32> {
    let output = Command::new("node").args(["--print", "process.versions.node"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.split('.').next()?.parse().ok()
}

/// A running program.
struct Program<'a> {
    child: Child,
    name: &'a str,
    output: &'a Path,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // Its gateways and backends are in its group. Chromium ends when the pipe to the program is closed.
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", self.child.id())])
            .stderr(Stdio::null())
            .status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = fs::read(self.output).unwrap_or_default();
            #[allow(clippy::print_stderr, reason = "the output of a failed program belongs to its report")]
            {
                eprintln!("--- the output of {}\n{}\n---", self.name, String::from_utf8_lossy(&output));
            }
        }
    }
}
