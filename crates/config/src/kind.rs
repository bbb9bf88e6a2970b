//! The one shape of every extension point: balancers, probes and plugins are tables of [`Kind`].

use crate::{Problem, Problems, Settings};
use schemars::{Schema, SchemaGenerator};

/// One choice that an operator can write behind `kind:`.
pub struct Kind<T: ?Sized> {
    /// What the operator writes.
    pub name: &'static str,
    /// One sentence for `moongate kinds`.
    pub about: &'static str,
    /// The JSON Schema of its settings, for editors.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Builds it from its settings. Pure: no file, network or clock.
    pub build: fn(&Settings) -> Result<Box<T>, Problems>,
}

// By hand: a derive would ask the same of `T`, and a kind only names what it builds.
impl<T: ?Sized> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Kind<T> {}

impl<T: ?Sized> Kind<T> {
    /// The kind of that name in a table, or a problem that names what was likely meant.
    pub fn find<'a>(table: &'a [Kind<T>], what: &str, name: &str) -> Result<&'a Kind<T>, Problem> {
        table.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let known: Vec<_> = table.iter().map(|kind| kind.name).collect();
            Problem::new(format!("unknown {what} `{name}`"))
                .suggest(name, known.iter().copied())
                .help(format!("known: {}", known.join(", ")))
        })
    }
}
