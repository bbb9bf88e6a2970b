//! Log lines of filters, with a rate limit per entry.

use moongate_sdk::LineLimit;

/// The maximum length of a line, in bytes.
const LENGTH: usize = 4096;

/// The log of one entry.
#[derive(Debug, Default)]
pub(crate) struct Logs(LineLimit);

impl Logs {
    /// Writes a line, unless the limit of this second is exceeded.
    pub(crate) fn write(&self, plugin: &str, level: log::Level, text: &[u8]) {
        if !log::log_enabled!(level) {
            return;
        }
        let Some(left_out) = self.0.admit() else { return };
        if left_out > 0 {
            log::warn!(plugin, lines = left_out; "filter log lines dropped");
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(LENGTH)]);
        log::log!(level, plugin; "{}", text.escape_debug());
    }
}
