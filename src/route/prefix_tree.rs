//! Path prefixes as a tree of segments: one walk finds the longest match, and links lead to shorter ones.

use foldhash::fast::RandomState;
use std::collections::HashMap;

/// A node of the tree: one prefix of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

/// The trees of all hosts, in one vector.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    children: HashMap<Box<str>, NodeId, RandomState>,
    /// The nearest shorter prefix with rules, so that the way up skips empty nodes.
    shorter: Option<NodeId>,
    prefix: Box<str>,
    rules: Vec<u32>,
}

/// One prefix of a path, with its rules.
pub(super) struct Prefix<'t> {
    pub(super) text: &'t str,
    pub(super) rules: &'t [u32],
}

impl Tree {
    /// Adds a root: the prefix `/` of another host.
    pub(super) fn root(&mut self) -> NodeId {
        self.node("")
    }

    /// Adds a rule below `root`.
    pub(super) fn add(&mut self, root: NodeId, prefix: &str, rule: u32) {
        let mut node = root;
        let mut end = 0;
        for segment in prefix.split('/').skip(1) {
            end += 1 + segment.len();
            node = match self.at(node).children.get(segment) {
                Some(child) => *child,
                None => {
                    let child = self.node(&prefix[..end]);
                    self.nodes[node.0 as usize].children.insert(segment.into(), child);
                    child
                }
            };
        }
        self.nodes[node.0 as usize].rules.push(rule);
    }

    /// Sorts the rules of every node into lookup order, and links nodes to shorter prefixes.
    pub(super) fn finish(&mut self, order: impl Fn(&mut Vec<u32>)) {
        // A child has a higher index than its parent, so one pass is enough.
        for index in 0..self.nodes.len() {
            order(&mut self.nodes[index].rules);
            let node = &self.nodes[index];
            let shorter =
                if node.rules.is_empty() { node.shorter } else { u32::try_from(index).ok().map(NodeId) };
            let children: Vec<_> = node.children.values().copied().collect();
            for child in children {
                self.nodes[child.0 as usize].shorter = shorter;
            }
        }
    }

    /// The prefixes of a path that have rules (and possibly one without), longest first.
    pub(super) fn prefixes(&self, root: NodeId, path: &str) -> impl Iterator<Item = Prefix<'_>> {
        let deepest = path.strip_prefix('/').map(|rest| self.deepest(root, rest));
        std::iter::successors(deepest, |node| self.at(*node).shorter).map(|node| {
            let node = self.at(node);
            Prefix { text: &node.prefix, rules: &node.rules }
        })
    }

    fn deepest(&self, root: NodeId, mut rest: &str) -> NodeId {
        let mut node = root;
        loop {
            let children = &self.at(node).children;
            if children.is_empty() {
                return node;
            }
            let (segment, tail) = match rest.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (rest, None),
            };
            let Some(child) = children.get(segment) else { return node };
            node = *child;
            let Some(tail) = tail else { return node };
            rest = tail;
        }
    }

    fn node(&mut self, prefix: &str) -> NodeId {
        // Four billion nodes would need a configuration larger than any memory.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node {
            children: HashMap::default(),
            shorter: None,
            prefix: prefix.into(),
            rules: Vec::new(),
        });
        id
    }

    fn at(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
}
