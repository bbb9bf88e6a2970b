//! Threads, tasks and time: pools for blocking calls, supervision of long-lived tasks, and a coarse clock.

pub mod blocking_pool;
pub mod clock;
pub mod supervision;
