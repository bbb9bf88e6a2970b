//! Settings in the operator's spelling: a tree of values with their places.
//!
//! The YAML loader builds the tree, so no other module handles YAML. A kind reads its settings with
//! [`Settings::read`] into a serde type, which returns all problems with their places at once.
//!
//! A type with several shapes is an enum whose variants are named after them. Its serde name begins with `$shape `
//! and describes what is expected. Unlike an untagged enum it keeps places and reports the problem inside the shape
//! that was written:
//!
//! ```
//! # use moongate_config::Placed;
//! #[derive(serde::Deserialize)]
//! #[serde(rename = "$shape a name or a list of names")]
//! enum Names {
//!     #[serde(rename = "scalar")]
//!     One(Placed<String>),
//!     #[serde(rename = "list")]
//!     Many(Vec<Placed<String>>),
//! }
//! ```
//!
//! The shapes are `null`, `scalar`, `list` and `map`.

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

/// The name and the files that were read are not compared.
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

    /// The same for the entry of that name; `files` records what [`Settings::file`] reads.
    #[must_use]
    pub fn noting(&self, name: &str, files: &Files) -> Self {
        Self { value: self.value.clone(), name: name.into(), files: files.clone() }
    }

    /// The entry's name, for the plugin's own logs and metrics: the operator's name for it, or its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a file that the settings name; a relative path starts at the file that contains it. A reload keeps the
    /// instance only while the file is unchanged.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than `limit` bytes.
    pub fn file(&self, path: &Placed<String>, limit: u64) -> Result<FileRecord, Problem> {
        self.files.read(path, limit)
    }

    /// Reads the settings into a serde type. Unknown keys, wrong types and missing keys are reported as problems
    /// with places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        self.value.read()
    }

    /// The place of the entry.
    pub fn place(&self) -> &Place {
        &self.value.place
    }

    /// The place of a setting's value; that of the entry without the setting.
    pub fn place_of(&self, setting: &str) -> &Place {
        self.value.get(setting).map_or(self.place(), |value| &value.place)
    }
}
