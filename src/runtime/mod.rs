//! Threads, tasks and time: pools for blocking calls, supervision of long-lived tasks, a clock that is read once a poll.

pub mod blocking_pool;
pub mod clock;
pub mod supervision;
