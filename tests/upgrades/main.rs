//! Upgrades of the real binary under load and with faults: thousands of WebSockets in traffic, processes that die at
//! every step, upgrades during reloads, drains and storms, and limits of descriptors. A test binary of its own: it needs
//! most of the machine, and cargo runs test binaries one after the other.

// SCM_RIGHTS, /proc and the signals are Linux's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod descriptors;
mod disturbances;
mod echo_server;
mod end_guard;
#[cfg(debug_assertions)]
mod faults;
mod faulty_gateway;
mod frame_stream;
mod full_buffers;
#[cfg(debug_assertions)]
mod managed;
mod many_listeners;
mod older_state;
mod order;
mod slow_client;
#[allow(dead_code, unused_imports, reason = "the gateway's own tests use more of it")]
#[path = "../it/support/mod.rs"]
mod support;
mod traffic;
mod traffic_client;

/// One test at a time: each has load of its own, and would starve the others.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Waits until no other test of this binary runs.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
