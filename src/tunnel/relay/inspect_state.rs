//! State of a direction whose messages are shown to an inspector.

use crate::tunnel::messages::{PluginClose, Reassembler};

/// Few directions have it: it is apart so that the others stay small.
#[derive(Debug, Default)]
pub(super) struct InspectState {
    pub(super) stage: Option<Reassembler>,
    /// Why the inspector ends the tunnel, until that is done.
    pub(super) plugin_close: Option<PluginClose>,
    /// The code and reason of a Close frame of the gateway.
    pub(super) given: Box<str>,
}
