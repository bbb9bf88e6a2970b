//! Settings of one entry of a kind, with the files that they name. A kind reads its own settings with
//! [`Settings::read`] into a plain serde type.

use crate::{FileRecord, Files, Place, Placed, Problem, Problems, Value};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The settings of one entry of a kind: the mapping without its `kind:` key (and without the keys
/// that belong to the entry rather than to the kind, as `name` and `when` of a plugin).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The mapping.
    pub value: Value,
    name: Arc<str>,
    files: Files,
}

/// The name, and what was read beside the settings, are no part of them.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Settings {
    /// The settings in `value`, which is a mapping.
    pub fn new(value: Value) -> Self {
        Self { value, name: Arc::from(""), files: Files::default() }
    }

    /// The same, for the entry of that name, noting in `files` what [`Settings::file`] reads.
    #[must_use]
    pub fn noting(&self, name: &str, files: &Files) -> Self {
        Self { value: self.value.clone(), name: name.into(), files: files.clone() }
    }

    /// The entry's name, for logs and metrics of the plugin's own: what the operator called it, or its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a file that the settings name; a relative path begins at the file it is written in. The
    /// instance that is built from it is kept over reloads only as long as the file says the same.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than `limit` bytes.
    pub fn file(&self, path: &Placed<String>, limit: u64) -> Result<FileRecord, Problem> {
        self.files.read(path, limit)
    }

    /// Reads the settings into a serde type. Unknown keys, wrong types and missing keys come back
    /// as problems with places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        self.value.read()
    }

    /// Where the entry was written.
    pub fn place(&self) -> &Place {
        &self.value.place
    }
}
