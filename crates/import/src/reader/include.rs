//! Files of an nginx configuration: `include` with patterns, relative to the prefix.

use super::{DEEPEST, Directive, SyntaxError, parse};
use moongate_config::read_regular_file;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read.
const LARGEST: u64 = 16 << 20;

/// The most files that are read.
const MOST_FILES: usize = 2000;

/// The files that were read, with their texts, for excerpts.
#[derive(Clone, Debug, Default)]
pub struct Files(pub Vec<(Arc<str>, String)>);

/// An include that could not be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedInclude {
    /// The number of the directive.
    pub(crate) id: usize,
    /// Why.
    pub(crate) reason: String,
}

/// A read configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The directives. The contents of an included file follow its `include`.
    pub(crate) directives: Vec<Directive>,
    /// The number of directives.
    pub(crate) count: usize,
    /// Includes that could not be followed.
    pub(crate) failed: Vec<FailedInclude>,
}

/// Why a configuration could not be read.
#[derive(Clone, Debug)]
pub(crate) enum ReadError {
    /// The file itself cannot be read.
    Unreadable(String),
    /// The syntax is wrong.
    Syntax(SyntaxError),
}

/// Reads a file and what it includes. `prefix` is the directory of relative includes.
///
/// # Errors
/// The file cannot be read, or the syntax of a file is wrong.
pub(crate) fn read_file(path: &Path, prefix: &Path, files: &mut Files) -> Result<Source, ReadError> {
    let text = read_text_file(path).map_err(ReadError::Unreadable)?;
    read(&path.display().to_string(), text, Some(prefix), files)
}

/// Reads a text; its includes fail.
///
/// # Errors
/// The syntax is wrong.
pub(crate) fn read_text(name: &str, text: &str, files: &mut Files) -> Result<Source, SyntaxError> {
    read(name, text.to_owned(), None, files).map_err(|error| match error {
        ReadError::Syntax(error) => error,
        ReadError::Unreadable(message) => SyntaxError { message, place: moongate_config::Place::nowhere() },
    })
}

fn read(name: &str, text: String, prefix: Option<&Path>, files: &mut Files) -> Result<Source, ReadError> {
    let mut reading = Reading { prefix, files, source: Source::default() };
    let directives = reading.text(name, text, 0).map_err(ReadError::Syntax)?;
    reading.source.directives = directives;
    Ok(reading.source)
}

struct Reading<'a> {
    prefix: Option<&'a Path>,
    files: &'a mut Files,
    source: Source,
}

impl Reading<'_> {
    fn text(&mut self, name: &str, text: String, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
        let parsed = parse(name, &text, &mut self.source.count);
        self.files.0.push((name.into(), text));
        self.follow(parsed?, depth)
    }

    /// Inserts the contents of included files after their directives.
    fn follow(&mut self, directives: Vec<Directive>, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
        let mut followed = Vec::with_capacity(directives.len());
        for mut directive in directives {
            if let Some(block) = directive.block.take() {
                directive.block = Some(self.follow(block, depth)?);
            }
            let is_include = directive.name == "include" && directive.block.is_none();
            followed.push(directive);
            let Some(directive) = followed.last().filter(|_| is_include) else { continue };
            let id = directive.id;
            match self.included_files(directive.argument(0), depth) {
                Ok(paths) => {
                    for path in paths {
                        match read_text_file(&path) {
                            Ok(text) => {
                                let inner = self.text(&path.display().to_string(), text, depth + 1)?;
                                followed.extend(inner);
                            }
                            Err(reason) => self.source.failed.push(FailedInclude { id, reason }),
                        }
                    }
                }
                Err(reason) => self.source.failed.push(FailedInclude { id, reason }),
            }
        }
        Ok(followed)
    }

    fn included_files(&self, pattern: &str, depth: usize) -> Result<Vec<PathBuf>, String> {
        let prefix = self.prefix.ok_or("the text has no directory")?;
        if depth >= DEEPEST || self.files.0.len() >= MOST_FILES {
            return Err("too many files are included; does a file include itself?".to_owned());
        }
        // `./` before every path would be in every line of the report.
        let shown = |path: PathBuf| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
        let whole = shown(prefix.join(pattern));
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![whole]);
        }
        // The prefix is literal, whatever its characters.
        let prefix = glob::Pattern::escape(&prefix.to_string_lossy());
        let whole = Path::new(&prefix).join(pattern);
        let found = glob::glob(&whole.to_string_lossy()).map_err(|error| error.msg.to_owned())?;
        found.map(|path| path.map(shown)).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
    }
}

fn read_text_file(path: &Path) -> Result<String, String> {
    let bytes = read_regular_file(path, LARGEST)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    // Comments in other encodings are common, and must not prevent an import.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn paths_of_the_working_directory_have_no_dot() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("nginx.conf");
        std::fs::write(&main, "include fixtures/howto.conf; include fixtures/howto.con?;").unwrap();
        let mut files = Files::default();
        // Tests run in the directory of the package.
        let source = read_file(&main, Path::new("."), &mut files).unwrap();
        assert!(source.failed.is_empty(), "{:?}", source.failed);
        let names: Vec<&str> = files.0.iter().skip(1).map(|(name, _)| &**name).collect();
        assert_eq!(names, ["fixtures/howto.conf", "fixtures/howto.conf"]);
    }
}
