//! The files a pattern such as `conf.d/*.yaml` names: `*` and `?` within one part of a path.
//!
//! Only a name that is not there does not match. What is there and cannot be looked at is a problem: the
//! entries of a configuration, guards among them, must not vanish with a directory's permissions.

use moongate_sdk::{Problem, Problems, regular_file};
use std::io::{Error, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// The files, sorted. A name without wildcards is taken as it is, and must exist; a pattern may name
/// nothing. Hidden files are only found by patterns that begin with a dot.
pub(super) fn files(base: &Path, pattern: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let whole = base.join(pattern);
    if !is_wild(pattern) {
        return match regular_file(&whole) {
            Ok(()) => vec![whole],
            Err(error) if error.kind() == ErrorKind::NotFound => {
                problems.push(Problem::new(format!("there is no file `{}`", whole.display())));
                Vec::new()
            }
            Err(error) => {
                problems.push(unreadable(&whole, &error));
                Vec::new()
            }
        };
    }
    let mut found = vec![PathBuf::new()];
    let mut components = whole.components().peekable();
    let mut place = Place::Written;
    while let Some(component) = components.next() {
        let wild = match component {
            Component::Normal(part) if is_wild(&part.to_string_lossy()) => Some(part.to_string_lossy()),
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
    text.contains(['*', '?'])
}

fn unreadable(path: &Path, error: &Error) -> Problem {
    Problem::new(format!("`{}` cannot be read: {error}", path.display()))
}

/// Where a directory's name is from.
#[derive(Clone, Copy)]
enum Place {
    /// The pattern, before its first wildcard.
    Written,
    /// A wildcard.
    Matched,
}

/// What a name must be to match.
#[derive(Clone, Copy)]
enum Wanted {
    /// Another part of the pattern follows.
    Directory,
    /// It is the last part.
    File,
}

/// Whether what a wildcard found matches. A file between directories does not, and neither does what was removed
/// meanwhile.
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

/// The entries of a directory that match.
fn matching(directory: &Path, pattern: &str, place: Place, problems: &mut Problems) -> Vec<PathBuf> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = std::fs::read_dir(listed).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = match (entries, place) {
        (Ok(entries), _) => entries,
        (Err(error), Place::Written) if error.kind() == ErrorKind::NotFound && !listed.is_symlink() => {
            let problem = Problem::warning(format!("there is no directory `{}`", listed.display()));
            problems.push(problem.help("the pattern matches no file"));
            return Vec::new();
        }
        (Err(error), _) => {
            problems.push(unreadable(listed, &error));
            return Vec::new();
        }
    };
    let names = entries.into_iter().map(|entry| entry.file_name());
    let fitting = names.filter(|name| {
        let name = name.to_string_lossy();
        (pattern.starts_with('.') || !name.starts_with('.')) && fits(pattern, &name)
    });
    fitting.map(|name| directory.join(name)).collect()
}

/// Whether `name` fits `pattern`: on a mismatch the last `*` takes one character more, so the work
/// is at most the product of both lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in
            [("*.yaml", "a.yaml"), ("*", ""), ("a?c", "abc"), ("*a*b*", "xxaxxbxx"), ("a*", "a")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.yaml", "a.yml"), ("?", ""), ("a?c", "ac"), ("*ab", "abc")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_there_and_cannot_be_read_is_a_problem_and_what_is_absent_is_none() {
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
        ] {
            symlink(target, at(link)).unwrap();
        }
        let seen = |pattern: &str| {
            let mut problems = Problems::default();
            let found = files(folder.path(), pattern, &mut problems);
            let found =
                found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string());
            let errors =
                problems.0.iter().filter(|problem| problem.severity == moongate_sdk::Severity::Error);
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
