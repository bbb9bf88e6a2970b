//! Configuration loader: YAML, environment variables, includes and types. References between names are
//! checked when the configuration is compiled.

mod document;
mod env;
mod foreign_names;
mod glob;
mod include;
mod mapping_keys;
mod merge;
mod prune_invalid;
mod setting_paths;
mod setting_places;
mod yaml;
mod yaml_errors;

#[cfg(test)]
mod tests;

pub use document::{Document, load_document, with_documents};
pub use foreign_names::advise;

use super::endpoint::{AnnouncedEntry, EndpointEntry};
use super::model::Config;
use crate::diagnostics::Sources;
use moongate_config::{Placed, Problem, Problems, Value, ValueKind};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The environment: the value of a variable, if it is set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A loaded configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub spec: Config,
    /// The source files, for reports.
    pub sources: Sources,
    /// Warnings, which do not refuse the configuration.
    pub warnings: Problems,
    /// The merged source tree, with environment variables expanded.
    pub value: Value,
    /// The variables that values were taken from, with what they contained.
    pub environment: Vec<(String, String)>,
}

/// A refused configuration.
#[derive(Debug)]
pub struct Refused {
    /// All problems, by place.
    pub problems: Problems,
    /// The source files that could be read.
    pub sources: Sources,
    /// The configuration without its invalid parts, if any: only for finding further problems.
    pub rest: Option<Box<Config>>,
}

impl Refused {
    /// Adds the problems from compiling the rest. A problem about a whole value is dropped if a part of the
    /// value could not be read: it may be false for the intended value.
    pub fn also(&mut self, mut more: Problems) {
        more.0.retain(|problem| !self.problems.0.iter().any(|known| is_within(known, problem)));
        self.problems.extend(more);
    }
}

/// Whether one problem is about a part of another problem's value.
fn is_within(part: &Problem, whole: &Problem) -> bool {
    let (Some(part), Some(whole)) = (&part.place, &whole.place) else { return false };
    let below = part.path.strip_prefix(&*whole.path);
    !whole.path.is_empty() && below.is_some_and(|below| below.starts_with(['.', '[']))
}

/// Reads a configuration file and its includes, with the environment of the process.
///
/// # Errors
/// All problems of the files: unreadable files, invalid YAML, unknown or duplicate keys, wrong types and
/// unset variables.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let used = UsedVariables::default();
    let env = |name: &str| used.record(name, std::env::var(name).ok());
    let mut loader = include::Loader::new(&env);
    let tree = loader.file(path);
    finish(tree, loader.problems, loader.sources, &env, &used)
}

/// Reads a configuration from text; `include` is an error.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &str, text: &str, env: &Env<'_>) -> Result<Loaded, Refused> {
    let used = UsedVariables::default();
    let env = |name: &str| used.record(name, env(name));
    let mut loader = include::Loader::new(&env);
    let tree = loader.text(name, text);
    finish(tree, loader.problems, loader.sources, &env, &used)
}

/// A refused list.
#[derive(Debug)]
pub struct RefusedList {
    /// All problems, by place.
    pub problems: Problems,
    /// The text, for reports.
    pub sources: Sources,
}

/// Reads a list of endpoints from text: YAML, and so JSON too. Environment variables are not expanded.
///
/// # Errors
/// All problems of the text, with their places.
pub fn load_endpoints(name: &str, text: &str) -> Result<(Vec<Placed<EndpointEntry>>, Sources), RefusedList> {
    let (name, mut problems, mut sources) = (Arc::from(name), Problems::default(), Sources::default());
    let tree = yaml::read(&name, text, &mut problems);
    sources.insert(name, text.to_owned());
    // A tool may have emptied the file, and not written it yet.
    if let Some(empty) = tree.as_ref().filter(|tree| matches!(tree.kind, ValueKind::Null)) {
        problems.push(Problem::new("the list is empty").help("write `[]` for no endpoint").at(&empty.place));
    }
    let read = tree.and_then(|tree| problems.keep(tree.read::<Vec<Placed<EndpointEntry>>>()));
    match read {
        Some(entries) if !problems.refuse() => Ok((entries, sources)),
        _ => Err(RefusedList { problems, sources }),
    }
}

/// Reads one endpoint that a source announces. Environment variables are not expanded.
///
/// # Errors
/// All problems of the text, with their places.
pub fn load_announced(name: &str, text: &str) -> Result<Placed<AnnouncedEntry>, Problems> {
    let mut problems = Problems::default();
    let tree = yaml::read(&Arc::from(name), text, &mut problems);
    let read = tree.and_then(|tree| problems.keep(tree.read::<Placed<AnnouncedEntry>>()));
    read.filter(|_| !problems.refuse()).ok_or(problems)
}

/// The variables that a configuration uses.
#[derive(Default)]
struct UsedVariables(RefCell<BTreeMap<String, String>>);

impl UsedVariables {
    fn record(&self, name: &str, value: Option<String>) -> Option<String> {
        if let Some(value) = &value {
            self.0.borrow_mut().insert(name.to_owned(), value.clone());
        }
        value
    }
}

fn finish(
    tree: Option<Value>,
    mut problems: Problems,
    sources: Sources,
    env: &Env<'_>,
    used: &UsedVariables,
) -> Result<Loaded, Refused> {
    let mut spec = None;
    let mut value = None;
    if let Some(mut tree) = tree {
        let named = setting_paths::name(&mut tree, "", env);
        // An invalid value is reported once.
        let known: HashSet<_> = problems.0.iter().chain(&named.0).filter_map(spot).collect();
        match tree.read() {
            Ok(read) => spec = Some(read),
            Err(mut found) => {
                found.0.retain(|problem| !spot(problem).is_some_and(|spot| known.contains(&spot)));
                foreign_names::advise(&mut found, &[], None);
                problems.extend(found);
            }
        }
        problems.extend(named);
        value = Some(tree);
    }
    problems.0.sort_by(|a, b| a.place.cmp(&b.place));
    match (spec, value) {
        (Some(spec), Some(value)) if !problems.refuse() => {
            let environment = used.0.take().into_iter().collect();
            Ok(Loaded { spec, sources, warnings: problems, value, environment })
        }
        (_, value) => {
            let rest = value.and_then(|tree| prune_invalid::rest(&tree, &problems)).map(Box::new);
            Err(Refused { problems, sources, rest })
        }
    }
}

/// The position of a problem, without its path.
fn spot(problem: &Problem) -> Option<(Arc<str>, u32, u32)> {
    problem.place.as_ref().map(|place| (place.file.clone(), place.line, place.column))
}
