//! The files a pattern such as `conf.d/*.yaml` names: `*` and `?` within one part of a path.

use moongate_sdk::Problem;
use std::path::{Component, Path, PathBuf};

/// The files, sorted. A name without wildcards is taken as it is, and must exist; a pattern may name
/// nothing. Hidden files are only found by patterns that begin with a dot.
pub(super) fn files(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, Problem> {
    let literal = base.join(pattern);
    if !is_wild(pattern) {
        return match literal.is_file() {
            true => Ok(vec![literal]),
            false => Err(Problem::new(format!("there is no file `{}`", literal.display()))),
        };
    }
    let mut found = vec![PathBuf::new()];
    for component in literal.components() {
        found = match component {
            Component::Normal(part) if is_wild(&part.to_string_lossy()) => {
                let part = part.to_string_lossy();
                found.iter().flat_map(|directory| matching(directory, &part)).collect()
            }
            other => found.into_iter().map(|directory| directory.join(other)).collect(),
        };
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The entries of a directory that match; none when it cannot be read.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
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
    use super::*;

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
}
