//! What filters say, in the gateway's log: at most so many lines a second for each entry.

use moongate_sdk::LineLimit;

/// Bytes of a line.
const LENGTH: usize = 4096;

/// The tap of one entry.
#[derive(Debug, Default)]
pub(crate) struct Logs(LineLimit);

impl Logs {
    /// Writes a line, unless the filter said too much in this second.
    pub(crate) fn say(&self, plugin: &str, level: log::Level, text: &[u8]) {
        if !log::log_enabled!(level) {
            return;
        }
        let Some(left_out) = self.0.admit() else { return };
        if left_out > 0 {
            log::warn!(plugin, lines = left_out; "a filter says too much; lines were left out");
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(LENGTH)]);
        log::log!(level, plugin; "{}", text.escape_debug());
    }
}
