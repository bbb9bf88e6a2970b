//! Value tree under construction: open collections, anchors for aliases, and limits on depth and size.

use crate::config::load::setting_paths::push_key;
use crate::config::load::yaml_errors;
use moongate_config::{Key, Place, Problem, Problems, Value, ValueKind};
use serde_saphyr::granit_parser::Span;
use std::collections::HashMap;
use std::sync::Arc;

/// The nesting limit; code that walks the tree may recurse this deep.
pub(super) const DEPTH_MAX: usize = 64;
/// The limit on values of one file with every alias expanded, against "billion laughs".
const NODES_MAX: usize = 2_000_000;

/// The value of an anchor, for its aliases.
struct AnchoredNode {
    value: Value,
    nodes: usize,
    depth: usize,
}

/// A list or mapping under construction.
pub(super) struct Open {
    pub(super) place: Place,
    pub(super) shown: Shown,
    pub(super) anchor: usize,
    /// Values before this collection, to compute its size at its end.
    pub(super) nodes_before: usize,
    pub(super) depth: usize,
    pub(super) content: Content,
}

/// The part of a list or mapping that a report underlines.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// The whole flow collection `{ … }`, if it is on one line.
    Whole,
    /// The key above a block.
    ByItsKey,
    /// The first line of a block in a list.
    ByItsFirst,
}

/// The content of a collection so far.
pub(super) enum Content {
    List(Vec<Value>),
    Map { entries: Vec<(Key, Value)>, key: Option<Key> },
}

/// Builds the tree from finished values, the innermost first.
pub(super) struct Builder {
    file: Arc<str>,
    /// The shared empty path: paths are assigned to the whole tree at the end.
    no_path: Arc<str>,
    pub(super) open: Vec<Open>,
    anchors: HashMap<usize, AnchoredNode>,
    pub(super) root: Option<Value>,
    pub(super) documents: usize,
    pub(super) nodes: usize,
    pub(super) problems: Problems,
}

impl Builder {
    pub(super) fn new(file: &Arc<str>) -> Self {
        Self {
            file: file.clone(),
            no_path: Arc::from(""),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            nodes: 0,
            problems: Problems::default(),
        }
    }

    /// Expands an alias within the limits.
    pub(super) fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Problem> {
        let place = self.place(span);
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.complain(Problem::new("an alias cannot refer to an anchor that contains it"), &place, None);
            return self.attach(Value::null(place), 1);
        };
        let (nodes, depth) = (anchored.nodes, anchored.depth);
        if self.open.len() + depth > DEPTH_MAX {
            return Err(yaml_errors::too_deep().at(&place));
        }
        if self.nodes + nodes > NODES_MAX {
            return Err(too_many().at(&place));
        }
        if let Some(parent) = self.open.last_mut() {
            parent.depth = parent.depth.max(depth);
        }
        let value = Value { place, kind: anchored.value.kind.clone() };
        self.attach(value, nodes)
    }

    /// Adds a finished value to its parent.
    pub(super) fn attach(&mut self, value: Value, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(too_many().at(&value.place));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(value),
            Content::Map { entries, key } => match key.take() {
                Some(key) => entries.push((key, value)),
                None => self.key(value),
            },
        }
        Ok(())
    }

    /// Takes a value in the position of a key.
    fn key(&mut self, value: Value) {
        let place = value.place;
        let text = match value.kind {
            ValueKind::Scalar { text, .. } => text,
            _ => {
                self.complain(yaml_errors::odd_key(), &place, None);
                String::new()
            }
        };
        if let Some(Content::Map { key, .. }) = self.open.last_mut().map(|open| &mut open.content) {
            *key = Some(Key { place, text });
        }
    }

    /// Keeps a value for later aliases; `0` means no anchor.
    pub(super) fn remember(&mut self, anchor: usize, value: &Value, nodes: usize, depth: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, AnchoredNode { value: value.clone(), nodes, depth });
        }
    }

    /// Reports a problem in the open collection, at `key` if given.
    pub(super) fn complain(&mut self, problem: Problem, place: &Place, key: Option<&str>) {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map { key: Some(key), .. } => push_key(&mut path, &key.text),
                Content::Map { key: None, .. } => {}
            }
        }
        if let Some(key) = key {
            push_key(&mut path, key);
        }
        self.problems.push(problem.at(&Place { path: Arc::from(path), ..place.clone() }));
    }

    pub(super) fn place(&self, span: &Span) -> Place {
        Place {
            file: self.file.clone(),
            line: narrow(span.start.line()),
            column: narrow(span.start.col() + 1),
            width: narrow(span.len()).max(1),
            path: self.no_path.clone(),
        }
    }
}

fn too_many() -> Problem {
    Problem::new(format!("more than {NODES_MAX} values, with aliases expanded"))
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
