//! Handover to a new process of the gateway, as for another binary: the running process starts it, passes its
//! listening sockets, waits until it is ready, and then drains. A new process that fails before it is ready changes
//! nothing.
//!
//! Both talk over a socket pair that only they have. Messages are JSON with a version, and descriptors are passed beside
//! them (SCM_RIGHTS).

mod channel;
mod counts;
mod fault_point;
mod message;
mod moved_websockets;
mod new_process;
mod old_process;

pub(super) use message::{ProcessState, SecretKey, SecretState, Succession};
pub(super) use moved_websockets::MoveCounts;
pub(super) use new_process::{NewProcess, UpgradeFailure};
pub(super) use old_process::OldProcess;
