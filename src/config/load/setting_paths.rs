//! Paths of all values of a tree, and the expansion of environment variables.

use super::{Env, env};
use moongate_config::{Problems, Value, ValueKind};
use std::fmt::Write;
use std::sync::Arc;

/// Sets the path of every value below `path`; returns a problem for each missing variable.
pub(super) fn name(tree: &mut Value, path: &str, env: &Env<'_>) -> Problems {
    let mut problems = Problems::default();
    walk(tree, &mut path.to_owned(), Some(env), &mut problems);
    problems
}

/// Sets the path of every value; environment variables are not expanded.
pub(super) fn name_only(tree: &mut Value) {
    walk(tree, &mut String::new(), None, &mut Problems::default());
}

// The recursion is bounded: the YAML builder limits the depth.
fn walk(value: &mut Value, path: &mut String, env: Option<&Env<'_>>, problems: &mut Problems) {
    value.place.path = Arc::from(path.as_str());
    if let Some(Err(problem)) = env.map(|env| env::substitute(value, env)) {
        problems.push(problem);
        value.kind = ValueKind::Null;
    }
    let length = path.len();
    match &mut value.kind {
        ValueKind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                // Writing to a String cannot fail.
                let _ = write!(path, "[{index}]");
                walk(item, path, env, problems);
                path.truncate(length);
            }
        }
        ValueKind::Map(entries) => {
            for (key, value) in entries {
                push_key(path, &key.text);
                key.place.path = Arc::from(path.as_str());
                walk(value, path, env, problems);
                path.truncate(length);
            }
        }
        ValueKind::Null | ValueKind::Scalar { .. } => {}
    }
}

/// Appends `.key`, or `["a key"]` unless the key is a single word.
pub(super) fn push_key(path: &mut String, key: &str) {
    let word = key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if !word || key.is_empty() {
        let _ = write!(path, "[{key:?}]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}
