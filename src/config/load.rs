//! From files to a [`Spec`]: YAML, environment, includes, types. What the names in it mean, and
//! whether they exist, is not ours: that is compiling.

mod env;
mod error_recovery;
mod foreign_names;
mod glob;
mod include;
mod mapping_keys;
mod setting_places;
mod source_spans;
mod yaml;
mod yaml_errors;

#[cfg(test)]
mod tests;

use super::model::Config;
use crate::diagnostics::Sources;
use moongate_config::{Problem, Problems, Value};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The environment as the loader sees it: a name's value, if it is set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A configuration that reads as one.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub spec: Config,
    /// The files it came from, for reports.
    pub sources: Sources,
    /// Advice that does not refuse it.
    pub warnings: Problems,
    /// The tree it was read from: merged, with the environment's values.
    pub value: Value,
}

/// A configuration that does not.
#[derive(Debug)]
pub struct Refused {
    /// All that is wrong, by place.
    pub problems: Problems,
    /// The files, as far as they could be read.
    pub sources: Sources,
    /// What remains without the problems, when something does: for finding more of them only.
    pub rest: Option<Box<Config>>,
}

impl Refused {
    /// Adds what compiling the rest found. What it says of a whole is left out where a part of that could not
    /// be read: it may be untrue of what was meant.
    pub fn also(&mut self, mut more: Problems) {
        more.0.retain(|problem| !self.problems.0.iter().any(|known| is_within(known, problem)));
        self.problems.extend(more);
    }
}

/// Whether a problem is about a part of what another one is about.
fn is_within(part: &Problem, whole: &Problem) -> bool {
    let (Some(part), Some(whole)) = (&part.place, &whole.place) else { return false };
    let below = part.path.strip_prefix(&*whole.path);
    !whole.path.is_empty() && below.is_some_and(|below| below.starts_with(['.', '[']))
}

/// Reads a configuration file and what it includes, with the process's environment.
///
/// # Errors
/// Everything that is wrong with the files themselves: unreadable, not YAML, unknown or repeated
/// keys, wrong types, variables that are not set.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let env = |name: &str| std::env::var(name).ok();
    let mut loader = include::Loader::new(&env);
    let tree = loader.file(path);
    finish(tree, loader.problems, loader.sources, &env)
}

/// Reads a configuration from a text that has no file; it cannot include any.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &str, text: &str, env: &Env<'_>) -> Result<Loaded, Refused> {
    let mut loader = include::Loader::new(env);
    let tree = loader.text(name, text);
    finish(tree, loader.problems, loader.sources, env)
}

fn finish(
    tree: Option<Value>,
    mut problems: Problems,
    sources: Sources,
    env: &Env<'_>,
) -> Result<Loaded, Refused> {
    let mut spec = None;
    let mut value = None;
    if let Some(mut tree) = tree {
        let named = source_spans::name(&mut tree, "", env);
        // A value that is wrong already need not be wrong twice.
        let known: HashSet<_> = problems.0.iter().chain(&named.0).filter_map(spot).collect();
        match tree.read() {
            Ok(read) => spec = Some(read),
            Err(mut found) => {
                found.0.retain(|problem| !spot(problem).is_some_and(|spot| known.contains(&spot)));
                found.0.iter_mut().for_each(foreign_names::advise);
                problems.extend(found);
            }
        }
        problems.extend(named);
        value = Some(tree);
    }
    problems.0.sort_by(|a, b| a.place.cmp(&b.place));
    match (spec, value) {
        (Some(spec), Some(value)) if !problems.refuse() => {
            Ok(Loaded { spec, sources, warnings: problems, value })
        }
        (_, value) => {
            let rest = value.and_then(|tree| error_recovery::rest(&tree, &problems)).map(Box::new);
            Err(Refused { problems, sources, rest })
        }
    }
}

/// Where a problem points, whatever way led there.
fn spot(problem: &Problem) -> Option<(Arc<str>, u32, u32)> {
    problem.place.as_ref().map(|place| (place.file.clone(), place.line, place.column))
}
