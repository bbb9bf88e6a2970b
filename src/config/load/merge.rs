//! Merging of trees: those of included files, and of the documents of sources.
//!
//! Lists are appended, the first tree's own entries first; mappings are merged, and a name in two trees is a problem.

use super::setting_paths::push_key;
use moongate_config::{Key, Place, Problem, Problems, Value, ValueKind};
use std::collections::HashMap;
use std::sync::Arc;

/// Merges another tree into `tree`.
pub(super) fn merge(tree: &mut Value, other: Value, problems: &mut Problems) {
    let (ValueKind::Map(entries), ValueKind::Map(others)) = (&mut tree.kind, other.kind) else { return };
    for (key, value) in others {
        let Some((first, mine)) = entries.iter_mut().find(|(mine, _)| mine.text == key.text) else {
            entries.push((key, value));
            continue;
        };
        match (&mut mine.kind, value.kind) {
            (_, ValueKind::Null) => {}
            (mine @ ValueKind::Null, kind) => *mine = kind,
            (ValueKind::List(mine), ValueKind::List(more)) => mine.extend(more),
            (ValueKind::Map(mine), ValueKind::Map(more)) => merge_names(&key.text, mine, more, problems),
            _ => problems.push(in_two_files(&key, &key.text, first)),
        }
    }
}

fn merge_names(
    section: &str,
    mine: &mut Vec<(Key, Value)>,
    more: Vec<(Key, Value)>,
    problems: &mut Problems,
) {
    let known: HashMap<String, usize> =
        mine.iter().enumerate().map(|(index, (key, _))| (key.text.clone(), index)).collect();
    for (key, value) in more {
        match known.get(&key.text) {
            None => mine.push((key, value)),
            Some(index) => {
                let mut path = section.to_owned();
                push_key(&mut path, &key.text);
                problems.push(in_two_files(&key, &path, &mine[*index].0));
            }
        }
    }
}

fn in_two_files(key: &Key, path: &str, first: &Key) -> Problem {
    let Place { file, line, column, .. } = &first.place;
    let place = Place { path: Arc::from(path), ..key.place.clone() };
    Problem::new(format!("`{}` is defined in two files", key.text))
        .help(format!("first defined at {file}:{line}:{column}"))
        .at(&place)
}
