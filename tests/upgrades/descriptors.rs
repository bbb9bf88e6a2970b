//! Limits and counts of descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors that neither the test nor the gateway uses for WebSockets.
const OTHERS: u64 = 600;

/// Raises the soft limit of this process and of those that it starts, and returns how many WebSockets it allows: each
/// has two descriptors here, as client and as backend, and two in the gateway. At most `wanted`.
pub(crate) fn websockets_within_limit(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let allowed = maximum.map_or(u64::MAX, |maximum| maximum.saturating_sub(OTHERS) / 2);
    let count = usize::try_from(allowed).map_or(wanted, |allowed| allowed.min(wanted));
    if count < wanted {
        #[allow(clippy::print_stderr, reason = "the report of the test must say that it is smaller")]
        {
            eprintln!("the hard limit of descriptors allows {count} of {wanted} WebSockets");
        }
    }
    count
}

/// The open descriptors of a process.
pub(crate) fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
