//! Settings of an entry as the host of its instances uses them.

use std::collections::HashSet;
use std::time::Duration;

/// The settings as the host uses them.
pub(crate) struct ModuleSettings {
    /// The entry's name, for logs and metrics.
    pub(crate) name: Box<str>,
    pub(crate) root_id: Box<str>,
    pub(crate) vm_id: Box<str>,
    /// The plugin configuration.
    pub(crate) config: Box<[u8]>,
    pub(crate) cpu: Duration,
    /// Bytes.
    pub(crate) memory: usize,
    /// Bytes.
    pub(crate) body: usize,
    pub(crate) upstreams: HashSet<String>,
    pub(crate) per_request: bool,
    pub(crate) websocket: bool,
}
