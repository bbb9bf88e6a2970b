//! A file whose next open blocks, as on a hung file system. A write lease (fcntl(2), Linux) blocks the
//! opening process until it is released or `/proc/sys/fs/lease-break-time` (45 s) has passed.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "no crate that is here has leases")]

use super::eventually;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

const F_SETSIG: i32 = 10;
const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;

/// Blocks every open of the file until dropped.
pub(crate) struct HungFile(File);

impl HungFile {
    /// No other process may have it open.
    pub(crate) fn hold(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let hung = Self(file);
        // The notification of a waiting opener: SIGIO would end the test, SIGURG is ignored.
        assert_eq!(hung.control(F_SETSIG, libc::SIGURG), 0);
        // Another process may be reading it at this moment.
        eventually("the lease is had", || (hung.control(F_SETLEASE, libc::F_WRLCK) == 0).then_some(()));
        hung
    }

    fn control(&self, command: i32, argument: i32) -> i32 {
        // Neither command takes a pointer.
        unsafe { libc::fcntl(self.0.as_raw_fd(), command, argument) }
    }

    /// Waits until an open of the file blocks.
    pub(crate) fn await_opener(&self) {
        eventually("somebody opens the file", || {
            (self.control(F_GETLEASE, 0) != libc::F_WRLCK).then_some(())
        });
    }
}
