//! Changes of a request by plugins: its method and its target.

use http::Method;

/// Changes of a request by plugins.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Path and query to the backend.
    pub target: Option<String>,
    /// That path as it is matched, where it differs.
    pub(crate) matched: Option<String>,
    /// The method to the backend.
    pub method: Option<Method>,
}

impl Edits {
    /// The changed path as it is matched; `None` when no plugin changed it.
    pub fn matched_path(&self) -> Option<&str> {
        let target = self.target.as_deref()?;
        Some(self.matched.as_deref().unwrap_or(split(target).0))
    }
}

/// Path and query of a target.
pub(crate) fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}
