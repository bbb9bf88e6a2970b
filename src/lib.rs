//! Moongate.

pub mod spec;
