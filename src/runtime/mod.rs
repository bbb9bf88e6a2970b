//! Threads, tasks, time and bytes as text: pools for blocking calls, supervision of long-lived tasks, a coarse clock, and timers
//! that share one of the runtime.

pub(crate) mod base64_bytes;
pub(crate) mod blocking_pool;
pub(crate) mod clock;
pub(crate) mod shared_secrets;
pub(crate) mod supervision;
pub(crate) mod worker_timer;
