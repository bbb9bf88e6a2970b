//! Registry entries of the extension points: balancers, probes and plugins are tables of [`Kind`].

use crate::{Problem, Problems, Settings};
use schemars::{Schema, SchemaGenerator};

/// A value of `kind:` in the configuration.
pub struct Kind<T: ?Sized> {
    /// Its name in the configuration.
    pub name: &'static str,
    /// A sentence for `moongate kinds`.
    pub about: &'static str,
    /// The JSON Schema of its settings, for editors.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Builds it from its settings. Pure: reads only files that its settings name; no network, clock or task.
    pub build: fn(&Settings) -> Result<Box<T>, Problems>,
}

// Manual: a derive would require `T: Clone`, but a kind does not hold a `T`.
impl<T: ?Sized> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Kind<T> {}

impl<T: ?Sized> Kind<T> {
    /// The kind with that name in a table, or a problem that suggests a similar one.
    pub fn find<'a>(table: &'a [Kind<T>], what: &str, name: &str) -> Result<&'a Kind<T>, Problem> {
        table.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let known: Vec<_> = table.iter().map(|kind| kind.name).collect();
            Problem::new(format!("unknown {what} `{name}`"))
                .suggest(name, known.iter().copied())
                .help(format!("known: {}", known.join(", ")))
        })
    }
}
