//! Glob patterns of `include`, such as `conf.d/*.yaml`: `*`, `?` and `[…]` within one path segment.
//!
//! Only an absent name is no match. An existing entry that cannot be examined is a problem: routes and access
//! rules must not disappear because of a directory's permissions.

use glob::{MatchOptions, Pattern};
use moongate_config::{Problem, Problems, regular_file};
use std::io::{Error, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// Hidden files match only patterns that start with a dot.
const HIDDEN: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files, sorted. A name without wildcards must exist; a pattern may match nothing. Hidden files match
/// only patterns that start with a dot.
pub(super) fn files(base: &Path, pattern: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let whole = base.join(pattern);
    if !is_wild(pattern) {
        return match regular_file(&whole) {
            Ok(()) => vec![whole],
            Err(error) if error.kind() == ErrorKind::NotFound => {
                problems.push(Problem::new(format!("file `{}` does not exist", whole.display())));
                Vec::new()
            }
            Err(error) => {
                problems.push(unreadable(&whole, &error));
                Vec::new()
            }
        };
    }
    if let Some(problem) = unsupported(pattern) {
        problems.push(problem);
        return Vec::new();
    }
    // The directory of the including file is literal, even with wildcard characters.
    let mut found = vec![if Path::new(pattern).is_absolute() { PathBuf::new() } else { base.to_owned() }];
    let mut components = Path::new(pattern).components().peekable();
    let mut place = Place::Written;
    while let Some(component) = components.next() {
        let wild = match component {
            Component::Normal(part) if is_wild(&part.to_string_lossy()) => {
                match Pattern::new(&part.to_string_lossy()) {
                    Ok(part) => Some(part),
                    Err(error) => {
                        problems.push(Problem::new(format!("invalid pattern `{pattern}`: {}", error.msg)));
                        return Vec::new();
                    }
                }
            }
            _ => None,
        };
        found = match &wild {
            Some(part) => {
                found.iter().flat_map(|directory| matching(directory, part, place, problems)).collect()
            }
            None => found.into_iter().map(|directory| directory.join(component)).collect(),
        };
        if wild.is_some() {
            place = Place::Matched;
        }
        if matches!(place, Place::Matched) {
            let wanted = if components.peek().is_some() { Wanted::Directory } else { Wanted::File };
            found.retain(|path| is_match(path, wanted, problems));
        }
    }
    found.sort();
    found
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Shell patterns that are not supported. As literal characters they would silently match nothing.
fn unsupported(pattern: &str) -> Option<Problem> {
    let problem = |message: &str, help: &str| Some(Problem::new(message.to_owned()).help(help.to_owned()));
    if pattern.contains(['{', '}']) {
        return problem("`{…}` is not supported in an include pattern", "write a list of patterns");
    }
    if pattern.contains("**") {
        return problem(
            "`**` is not supported in an include pattern",
            "write `*` for each directory, as in `conf.d/*/*.yaml`",
        );
    }
    None
}

fn unreadable(path: &Path, error: &Error) -> Problem {
    Problem::new(format!("`{}` cannot be read: {error}", path.display()))
}

/// The origin of a directory's name.
#[derive(Clone, Copy)]
enum Place {
    /// The part of the pattern before its first wildcard.
    Written,
    /// A wildcard.
    Matched,
}

/// The required type of a name.
#[derive(Clone, Copy)]
enum Wanted {
    /// A directory: another segment of the pattern follows.
    Directory,
    /// A file: the last segment.
    File,
}

/// Whether a name that a wildcard found matches. A file in place of a directory does not match, nor does an
/// entry that was removed meanwhile.
fn is_match(path: &Path, wanted: Wanted, problems: &mut Problems) -> bool {
    let absent = |error: &Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if path.symlink_metadata().is_err_and(|error| absent(&error)) {
        return false;
    }
    if matches!(wanted, Wanted::Directory) && path.metadata().is_ok() {
        return path.is_dir();
    }
    match regular_file(path) {
        Ok(()) => true,
        Err(error) => {
            problems.push(unreadable(path, &error));
            false
        }
    }
}

/// The matching entries of a directory.
fn matching(directory: &Path, pattern: &Pattern, place: Place, problems: &mut Problems) -> Vec<PathBuf> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = std::fs::read_dir(listed).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = match (entries, place) {
        (Ok(entries), _) => entries,
        (Err(error), Place::Written)
            if error.kind() == ErrorKind::NotFound && !is_behind_dangling_link(listed) =>
        {
            let problem = Problem::warning(format!("directory `{}` does not exist", listed.display()));
            problems.push(problem.help("the pattern matches no files"));
            return Vec::new();
        }
        (Err(error), _) => {
            problems.push(unreadable(listed, &error));
            return Vec::new();
        }
    };
    let names = entries.into_iter().map(|entry| entry.file_name());
    let fitting = names.filter(|name| pattern.matches_with(&name.to_string_lossy(), HIDDEN));
    fitting.map(|name| directory.join(name)).collect()
}

/// Whether a path is absent because of a dangling symbolic link in it.
fn is_behind_dangling_link(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
    existing.is_some_and(|ancestor| ancestor.metadata().is_err())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn wildcards_are_those_of_glob() {
        let folder = tempfile::tempdir().unwrap();
        // Wildcard characters in the directory's own name are literal.
        let base = folder.path().join("q?[x]*");
        for directory in [base.clone(), folder.path().join("qa[x]b"), base.join("d")] {
            fs::create_dir(directory).unwrap();
        }
        for file in ["q?[x]*/d/10-a.yaml", "q?[x]*/d/b.yaml", "q?[x]*/d/.h.yaml", "qa[x]b/stray.yaml"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let seen = |pattern: &str| {
            let mut problems = Problems::default();
            let found = files(&base, pattern, &mut problems);
            let found: Vec<_> =
                found.iter().map(|path| path.strip_prefix(&base).unwrap().display().to_string()).collect();
            (found.join(" "), problems.0.into_iter().map(|problem| problem.message).collect::<String>())
        };
        for (pattern, expected) in [
            ("d/*.yaml", "d/10-a.yaml d/b.yaml"),
            ("d/[0-9]*.yaml", "d/10-a.yaml"),
            ("d/[!0-9]*.yaml", "d/b.yaml"),
            ("d/?.yaml", "d/b.yaml"),
            ("[a-z]/b.yaml", "d/b.yaml"),
            ("d/.*.yaml", "d/.h.yaml"),
            ("*.yaml", ""),
        ] {
            assert_eq!(seen(pattern), (expected.to_owned(), String::new()), "{pattern}");
        }
        let absolute = format!("{}/*.yaml", base.join("d").display());
        assert!(seen(&absolute).1.is_empty(), "the wildcards of an absolute pattern are all wildcards");
        for pattern in ["d/*.{yaml,yml}", "**/*.yaml", "d/[*.yaml", "d/a{b}"] {
            assert!(seen(pattern).1.contains("pattern"), "{pattern}: {:?}", seen(pattern));
        }
    }

    #[test]
    fn an_unreadable_entry_is_a_problem_and_an_absent_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for directory in ["d", "d/dir.yaml", "e", "t", "t/a", "t/b", "t/c", "l"] {
            fs::create_dir(at(directory)).unwrap();
        }
        for file in ["d/good.yaml", "t/README", "t/a/x.yaml"] {
            fs::write(at(file), "").unwrap();
        }
        for (link, target) in [
            ("d/dangling.yaml", "nothing"),
            ("d/loop.yaml", "loop.yaml"),
            ("t/c/x.yaml", "nothing"),
            ("gone", "nothing"),
            ("l/gone", "nothing"),
            ("back", "gone/further"),
            ("good", "t"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let seen = |pattern: &str| {
            let mut problems = Problems::default();
            let found = files(folder.path(), pattern, &mut problems);
            let found =
                found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string());
            let errors =
                problems.0.iter().filter(|problem| problem.severity == moongate_config::Severity::Error);
            (found.collect::<Vec<_>>().join(" "), errors.count(), problems.0.len())
        };
        let expect = |pattern: &str, found: &str, errors: usize, all: usize| {
            assert_eq!(seen(pattern), (found.to_owned(), errors, all), "{pattern}");
        };
        expect("e/*.yaml", "", 0, 0);
        expect("d/none-*.yaml", "", 0, 0);
        expect("none/*.yaml", "", 0, 1);
        expect("d/*.yaml", "d/good.yaml", 3, 3);
        expect("gone/*.yaml", "", 1, 1);
        expect("gone/conf.d/*.yaml", "", 1, 1);
        expect("gone/../d/conf.d/*.yaml", "", 1, 1);
        expect("back/a/b/*.yaml", "", 1, 1);
        expect("good/a/*.yaml", "good/a/x.yaml", 0, 0);
        expect("good/none/*.yaml", "", 0, 1);
        expect("d/good.yaml/*.yaml", "", 1, 1);
        // A file beside directories, and a directory without the file, do not match; a dangling link does.
        expect("t/*/x.yaml", "t/a/x.yaml", 1, 1);
        expect("l/*/x.yaml", "", 1, 1);
        expect("t/*/none-*", "", 0, 0);
        expect("d/dangling.yaml", "", 1, 1);
        expect("d/missing.yaml", "", 1, 1);
        expect("d/dir.yaml", "", 1, 1);
    }
}
