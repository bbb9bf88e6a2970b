//! Threads, tasks and time: pools for blocking calls, supervision of long-lived tasks, and a coarse clock.

pub(crate) mod blocking_pool;
pub(crate) mod clock;
pub(crate) mod supervision;
