//! Includes: a file and all files that it includes, merged into one tree.
//!
//! Top-level keys that start with `x-` hold anchors and are otherwise ignored.

use super::{Env, merge, yaml};
use crate::config::OneOrMany;
use crate::diagnostics::Sources;
use moongate_config::{Key, Place, Placed, Problem, Problems, Value, ValueKind};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The size limit of a file.
const FILE_MAX: u64 = 16 << 20;
/// The limit on included files, against a wrong pattern.
const FILES_MAX: usize = 10_000;

pub(super) struct Loader<'a> {
    env: &'a Env<'a>,
    /// The open files, the innermost last.
    open: Vec<PathBuf>,
    done: HashSet<PathBuf>,
    pub(super) sources: Sources,
    pub(super) problems: Problems,
}

impl<'a> Loader<'a> {
    pub(super) fn new(env: &'a Env<'a>) -> Self {
        let (sources, problems) = (Sources::default(), Problems::default());
        Self { env, open: Vec::new(), done: HashSet::new(), sources, problems }
    }

    /// The tree of a file with its includes.
    pub(super) fn file(&mut self, path: &Path) -> Option<Value> {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(problem) => {
                let place = Place { file: name_of(path), ..Place::nowhere() };
                self.problems.push(problem.at(&place));
                return None;
            }
        };
        self.tree(path, text)
    }

    /// The tree of text without a file.
    pub(super) fn text(&mut self, name: &str, text: &str) -> Option<Value> {
        let (mut tree, include) = self.parse(&Arc::from(name), text.into())?;
        if let Some((key, _)) = include {
            self.problems
                .push(Problem::new("`include` needs a configuration file").at(&named(&key.place, "include")));
        }
        if tree.kind == ValueKind::Null {
            tree.kind = ValueKind::Map(Vec::new());
        }
        Some(tree)
    }

    fn tree(&mut self, path: &Path, text: String) -> Option<Value> {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (mut tree, include) = self.parse(&name_of(path), text)?;
        self.done.insert(canonical.clone());
        self.open.push(canonical);
        if let Some((_, value)) = include {
            for (file, place) in self.included(path, value) {
                if let Some(other) = self.child(&file, &place) {
                    merge::merge(&mut tree, other, &mut self.problems);
                }
            }
        }
        self.open.pop();
        Some(tree)
    }

    /// The mapping of a file, and its `include` entry separately.
    fn parse(&mut self, name: &Arc<str>, text: String) -> Option<(Value, Option<(Key, Value)>)> {
        // Editors on Windows write a byte-order mark; it has no meaning in UTF-8.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let tree = yaml::read(name, &text, &mut self.problems);
        self.sources.insert(name.clone(), text);
        let mut tree = tree?;
        match &mut tree.kind {
            ValueKind::Map(entries) => {
                entries.retain(|(key, _)| !key.text.starts_with("x-"));
                let include = entries.iter().position(|(key, _)| key.text == "include");
                let include = include.map(|index| entries.remove(index));
                Some((tree, include))
            }
            ValueKind::Null => {
                tree.kind = ValueKind::Map(Vec::new());
                Some((tree, None))
            }
            _ => {
                let problem = Problem::new("a configuration must be a mapping with keys such as `routes:`");
                self.problems.push(problem.at(&tree.place));
                None
            }
        }
    }

    /// The files of an `include` entry, in order, each with its place.
    fn included(&mut self, from: &Path, mut value: Value) -> Vec<(PathBuf, Place)> {
        let problems = super::setting_paths::name(&mut value, "include", self.env);
        if problems.refuse() {
            self.problems.extend(problems);
            return Vec::new();
        }
        let Some(patterns) = self.problems.keep(value.read::<Option<OneOrMany<Placed<String>>>>()) else {
            return Vec::new();
        };
        let patterns = match patterns {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        let base = from.parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for Placed { value: pattern, place } in patterns {
            let mut problems = Problems::default();
            let found = super::glob::files(base, &pattern, &mut problems);
            files.extend(found.into_iter().map(|file| (file, place.clone())));
            self.problems.extend(problems.at(&place));
        }
        files
    }

    fn child(&mut self, file: &Path, place: &Place) -> Option<Value> {
        let shown = file.display();
        let canonical = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let problem = if self.open.contains(&canonical) {
            Problem::new(format!("`{shown}` includes itself"))
        } else if self.done.contains(&canonical) {
            Problem::new(format!("`{shown}` is included twice"))
        } else if self.done.len() >= FILES_MAX {
            Problem::new(format!("more than {FILES_MAX} included files"))
        } else {
            match read_text(file) {
                Ok(text) => return self.tree(file, text),
                Err(problem) => problem,
            }
        };
        self.problems.push(problem.at(place));
        None
    }
}

fn named(place: &Place, path: &str) -> Place {
    Place { path: Arc::from(path), ..place.clone() }
}

fn name_of(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy().as_ref())
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| Problem::new(format!("`{shown}` cannot be read: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Problem::new(format!("`{shown}` is larger than {} MiB", FILE_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::new(format!("`{shown}` is not UTF-8 text"))
            .help(format!("the first invalid byte is in line {line}"))
    })
}
