//! Output of log lines: a file or a standard stream, without further buffering.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Retries of a full non-blocking pipe before its lines are dropped.
const STALLS: u32 = 100;
const STALL: Duration = Duration::from_millis(10);

/// The configured target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdout,
    Stderr,
    File(PathBuf),
}

/// An open target.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    file: File,
    /// Whether the last write ended within a line.
    torn: bool,
}

/// A failed write, and the number of lost lines.
#[derive(Debug)]
pub(super) struct WriteFailure {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Target {
    pub(super) fn new(path: &str) -> Self {
        match path {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            file => Self::File(file.into()),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Opens the target for appending. A new file is readable by its owner and group only: it has addresses
    /// and queries.
    ///
    /// O_NONBLOCK makes a named pipe without a reader an error, instead of blocking a start or a reload.
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            Self::Stderr => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
            Self::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .custom_flags(libc::O_NONBLOCK)
                .open(path),
        }
    }

    /// Checks that the target can be opened, without creating it. A FIFO is not opened: its reader would see
    /// an end.
    ///
    /// # Errors
    /// The reason why it cannot be opened.
    pub(super) fn check(&self) -> io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        match path.metadata() {
            Ok(found) if found.is_file() => OpenOptions::new().append(true).open(path).map(drop),
            Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(_) => Ok(()),
            // Opening creates the file, also through a symbolic link.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let link = fs::read_link(path).map(|target| folder.join(target));
                let made = link.as_deref().unwrap_or(path);
                let folder = made.parent().filter(|folder| !folder.as_os_str().is_empty());
                match folder.unwrap_or(Path::new(".")).metadata() {
                    Ok(found) if found.is_dir() => Ok(()),
                    Ok(_) => Err(ErrorKind::NotADirectory.into()),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The target as configured.
    pub(super) fn name(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Stdout => "stdout".into(),
            Self::Stderr => "stderr".into(),
            Self::File(path) => path.to_string_lossy(),
        }
    }
}

impl Sink {
    pub(super) fn new(target: Target, file: File) -> Self {
        Self { target, file, torn: false }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Continues in `file`, at the start of a line.
    pub(super) fn exchange(&mut self, file: File) {
        self.file = file;
        self.torn = false;
    }

    /// Writes complete lines. Lines that cannot be written are dropped, so that a full disk never fills the
    /// memory.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        if self.torn {
            // The file ends within a line; a line feed separates it from the next line.
            put(&mut self.file, b"\n").map_err(|(_, error)| failed(lines, error))?;
            self.torn = false;
        }
        put(&mut self.file, lines).map_err(|(written, error)| {
            self.torn = written > 0 && lines[written - 1] != b'\n';
            let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            failed(&lines[whole..], error)
        })
    }
}

fn failed(lost: &[u8], error: io::Error) -> WriteFailure {
    WriteFailure { lines: lost.iter().filter(|byte| **byte == b'\n').count() as u64, error }
}

/// `write_all` that returns the number of bytes written, and that retries a full pipe.
fn put(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let (mut written, mut stalls) = (0, 0);
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => (written, stalls) = (written + count, 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && stalls < STALLS => {
                stalls += 1;
                thread::sleep(STALL);
            }
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    /// Accepts a few bytes per write, and then fails.
    struct Small {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(3).min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_writes_continue_at_their_end() {
        let mut small = Small { room: 100, taken: Vec::new() };
        put(&mut small, b"one\ntwo\n").unwrap();
        assert_eq!(small.taken, b"one\ntwo\n");
        let (written, error) = put(&mut Small { room: 5, taken: Vec::new() }, b"one\ntwo\n").unwrap_err();
        assert_eq!((written, error.kind()), (5, ErrorKind::StorageFull));
    }

    #[test]
    fn a_check_finds_what_opening_would_and_creates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("new", at("link")).unwrap();
        std::os::unix::fs::symlink("none/new", at("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let names = ["file", "new", "link", "", "none/new", "dangling", "loop", "file/through"];
        let checked = names.map(|name| Target::File(at(name)).check().is_ok());
        assert!(!at("new").exists());
        let opened = names.map(|name| Target::File(at(name)).open().is_ok());
        assert_eq!(checked, opened);
        assert_eq!(checked, [true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn a_failing_disk_counts_its_lines() {
        let target = Target::new("/dev/full");
        let file = target.open().unwrap();
        let failed = Sink::new(target, file).write(b"one\ntwo\n").unwrap_err();
        assert_eq!(failed.lines, 2);
    }
}
