//! An access log in a file of the test, read line by line.

use super::eventually;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct AccessLog(TempDir);

impl AccessLog {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The key of the configuration.
    pub(crate) fn yaml(&self) -> String {
        format!("access_log: {{ path: '{}' }}\n", self.0.path().join("access.log").display())
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path().join("access.log")).unwrap_or_default();
        // The last line may be incomplete.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the first matching line.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("a line of {what}"), || self.lines().into_iter().find(&wanted))
    }

    /// Waits for the line of the first request to this path.
    pub(crate) fn of(&self, path: &str) -> Value {
        self.wait(path, |line| line["path"] == path)
    }
}
