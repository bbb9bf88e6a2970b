//! Durations (`500ms`, `30s`, `1h`) and sizes (`64KiB`, `1MiB`) as an operator writes them.

use std::time::Duration;

/// A length of time, written `500ms`, `30s`, `5m`, `1h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A number of bytes, written `512`, `64KiB`, `1MiB` or `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);
