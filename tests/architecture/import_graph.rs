//! Graph of the imports between the modules of one crate, read from its sources.
//!
//! The modules are those that `mod` lines reach from the crate's root; what stands behind `#[cfg(test)]` is not read. A
//! path through a re-export is an import of the module that defines the item.

use super::{blank, is_word, without_tests, word};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The names of a module from the crate's root down; the root's is empty.
type ModulePath = Vec<String>;

/// An import: the module that imports and the module that defines what is imported.
type Import = (ModulePath, ModulePath);

/// The most re-exports that a path is followed through.
const LONGEST_CHAIN: usize = 8;

/// The modules of a crate.
#[derive(Default)]
pub(crate) struct Sources {
    code: BTreeMap<ModulePath, String>,
}

/// Sibling modules that import each other, directly or through others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cycle {
    /// Where they are.
    pub(crate) parent: ModulePath,
    /// Their names, in order.
    pub(crate) members: Vec<String>,
    /// The imports among them.
    pub(crate) edges: BTreeSet<Import>,
}

impl Sources {
    /// Reads a crate from its root file on.
    pub(crate) fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.read_module(Vec::new(), root, root.parent().unwrap());
        sources
    }

    /// Those of a made-up crate: modules as in `a::b` with their code; the root's name is empty.
    pub(crate) fn of(modules: &[(&str, &str)]) -> Self {
        let path = |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { code: modules.iter().map(|(name, code)| (path(name), without_tests(&blank(code)))).collect() }
    }

    /// `folder` is where the files of its children are.
    fn read_module(&mut self, path: ModulePath, file: &Path, folder: &Path) {
        let code = without_tests(&blank(&fs::read_to_string(file).unwrap()));
        for (at, name) in declared(&code) {
            let inline = scopes(&code).into_iter().any(|(range, _)| range.contains(&at));
            assert!(!inline, "{}: a `mod` line inside of a module", file.display());
            let child = [path.as_slice(), std::slice::from_ref(&name)].concat();
            let (flat, nested) = (folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs"));
            self.read_module(child, if flat.exists() { &flat } else { &nested }, &folder.join(&name));
        }
        self.code.insert(path, code);
    }

    /// The cycles among siblings, in folders of every depth.
    pub(crate) fn cycles(&self) -> Vec<Cycle> {
        let imports = self.imports();
        let parents: BTreeSet<_> =
            self.code.keys().filter(|path| !path.is_empty()).map(|path| &path[..path.len() - 1]).collect();
        parents.into_iter().flat_map(|parent| cycles_below(parent, &imports)).collect()
    }

    /// How many modules there are.
    pub(crate) fn len(&self) -> usize {
        self.code.len()
    }

    fn imports(&self) -> BTreeSet<Import> {
        let exports = Exports::of(self);
        let mut imports = BTreeSet::new();
        for (path, code) in &self.code {
            for item in exports.paths(path, code) {
                imports.insert((path.clone(), exports.definer(item)));
            }
        }
        imports
    }
}

/// What the modules of a crate name and re-export.
struct Exports<'s> {
    sources: &'s Sources,
    /// A name that a `use` line brings in, and what it stands for.
    names: BTreeMap<ModulePath, ModulePath>,
    /// The modules of which another one re-exports everything.
    globs: BTreeMap<ModulePath, Vec<ModulePath>>,
}

impl<'s> Exports<'s> {
    fn of(sources: &'s Sources) -> Self {
        let mut exports = Self { sources, names: BTreeMap::new(), globs: BTreeMap::new() };
        for (path, code) in &sources.code {
            for import in uses(code) {
                let Some(target) = exports.absolute(&scope(path, code, import.at), &import.path) else {
                    continue;
                };
                match (import.name.as_str(), import.is_public) {
                    ("*", true) => exports.globs.entry(path.clone()).or_default().push(target),
                    ("*", false) => {}
                    (name, _) => {
                        drop(exports.names.insert([path.as_slice(), &[name.to_owned()]].concat(), target));
                    }
                }
            }
        }
        exports
    }

    /// Every path of a module's code that leads to another place of the crate, from the root on.
    fn paths(&self, path: &ModulePath, code: &str) -> Vec<ModulePath> {
        let uses = uses(code);
        let mut found: Vec<_> = uses
            .iter()
            .filter_map(|import| self.absolute(&scope(path, code, import.at), &import.path))
            .collect();
        // In the code itself a path may also begin with a module that a `use` line named.
        for (at, segments) in written_paths(code) {
            let first = [path.as_slice(), &segments[..1]].concat();
            match self.names.get(&first) {
                Some(named) => found.push([named.as_slice(), &segments[1..]].concat()),
                None => found.extend(self.absolute(&scope(path, code, at), &segments)),
            }
        }
        found
    }

    /// A path from the root on; `None` when it leads out of the crate.
    fn absolute(&self, module: &[String], segments: &[String]) -> Option<ModulePath> {
        let first = segments.first()?;
        let (mut at, mut rest) = (module, segments);
        match first.as_str() {
            "crate" => return Some(segments[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at = &at[..at.len().checked_sub(1)?];
                    rest = &rest[1..];
                }
            }
            _ if self.sources.code.contains_key(&[module, std::slice::from_ref(first)].concat()) => {}
            _ => return None,
        }
        Some([at, rest].concat())
    }

    /// The module that defines what a path names.
    fn definer(&self, mut item: ModulePath) -> ModulePath {
        for _ in 0..LONGEST_CHAIN {
            match self.followed(&item) {
                Some(next) if next != item => item = next,
                _ => break,
            }
        }
        while !item.is_empty() && !self.sources.code.contains_key(&item) {
            item.pop();
        }
        item
    }

    /// The path with its first re-export replaced by what that stands for.
    fn followed(&self, item: &[String]) -> Option<ModulePath> {
        for end in 1..=item.len() {
            let (prefix, rest) = (&item[..end], &item[end..]);
            if self.sources.code.contains_key(prefix) {
                continue;
            }
            let (name, module) = prefix.split_last()?;
            // A function may have the name of a module that its file imports.
            if self.sources.code.get(module).is_some_and(|code| defines(code, name)) {
                return None;
            }
            if let Some(target) = self.names.get(prefix) {
                return Some([target.as_slice(), rest].concat());
            }
            let target = self.globs.get(module)?.iter().find(|target| self.has(target, name))?;
            return Some([target.as_slice(), std::slice::from_ref(name), rest].concat());
        }
        None
    }

    /// Whether a module defines or re-exports a name.
    fn has(&self, module: &[String], name: &String) -> bool {
        let inside = [module, std::slice::from_ref(name)].concat();
        self.names.contains_key(&inside)
            || self.sources.code.get(module).is_some_and(|code| defines(code, name))
    }
}

/// A leaf of a `use` line.
struct Use {
    at: usize,
    is_public: bool,
    path: Vec<String>,
    /// What it is called from here on; `*` for everything.
    name: String,
}

fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (at, _) in words(code, "use") {
        let Some(end) = code[at..].find(';') else { continue };
        let before = code[..at].trim_end();
        let is_public = before.ends_with("pub") || before.ends_with(')');
        for (path, name) in leaves(&[], &code[at + "use".len()..at + end]) {
            found.push(Use { at, is_public, path, name });
        }
    }
    found
}

/// The paths of a use tree, and the name of each.
fn leaves(before: &[String], tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let before = [before, &segments(head)].concat();
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        return split_group(group).into_iter().flat_map(|part| leaves(&before, part)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = [before, &segments(path)].concat();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let last = path.last().cloned().unwrap_or_default();
    if last == "*" {
        path.pop();
    }
    let name = if alias.is_empty() { last } else { alias.trim().to_owned() };
    if path.is_empty() { Vec::new() } else { vec![(path, name)] }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// The parts of a group, apart by the commas that stand in no group of its own.
fn split_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// Every path of two or more segments, `use` lines included as far as they have no group.
fn written_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let start = code[..at].rfind(|c| !is_word(c)).map_or(0, |before| before + 1);
        // Only the beginning of a path: not what comes behind another `::`, a macro's `$crate`, or a method's type.
        if start == at || code[..start].ends_with([':', '$', '>', '.']) {
            continue;
        }
        let mut path = vec![code[start..at].to_owned()];
        let mut rest = &code[at..];
        while let Some(next) = rest.strip_prefix("::").map(word).filter(|next| !next.is_empty()) {
            rest = &rest["::".len() + next.len()..];
            path.push(next);
        }
        if path.len() > 1 {
            found.push((start, path));
        }
    }
    found
}

/// The places where a word stands by itself, with the word.
fn words<'w>(code: &str, what: &'w str) -> Vec<(usize, &'w str)> {
    let alone = |at: usize| !code[..at].ends_with(is_word) && !code[at + what.len()..].starts_with(is_word);
    code.match_indices(what).map(|(at, _)| (at, what)).filter(|(at, _)| alone(*at)).collect()
}

/// The names behind `mod` lines, with their places.
fn declared(code: &str) -> Vec<(usize, String)> {
    let named = |(at, keyword): (usize, &str)| {
        let rest = code[at + keyword.len()..].trim_start();
        let name = word(rest);
        rest[name.len()..].trim_start().starts_with(';').then_some((at, name))
    };
    words(code, "mod").into_iter().filter_map(named).collect()
}

/// The modules that stand in the file itself, with what they span.
fn scopes(code: &str) -> Vec<(std::ops::Range<usize>, String)> {
    let mut found = Vec::new();
    for (at, keyword) in words(code, "mod") {
        let rest = code[at + keyword.len()..].trim_start();
        let name = word(rest);
        if name.is_empty() || !rest[name.len()..].trim_start().starts_with('{') {
            continue;
        }
        let mut depth = 0;
        let end = code[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            *c == '}' && depth == 0
        });
        found.push((at..end.map_or(code.len(), |(end, _)| at + end), name));
    }
    found
}

/// The module that a place of a file is in.
fn scope(file: &[String], code: &str, at: usize) -> ModulePath {
    let inside = scopes(code).into_iter().filter(|(range, _)| range.contains(&at)).map(|(_, name)| name);
    file.iter().cloned().chain(inside).collect()
}

/// Whether a code defines an item of this name, outside of every block.
fn defines(code: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 8] = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
    let is_item = |at: usize| {
        let before = code[..at].trim_end();
        KEYWORDS.iter().any(|keyword| before.ends_with(keyword) && before.len() < at)
    };
    let depth = |at: usize| code[..at].matches('{').count() - code[..at].matches('}').count();
    words(code, name).into_iter().any(|(at, _)| is_item(at) && depth(at) == 0)
}

/// The cycles among the children of one module.
fn cycles_below(parent: &[String], imports: &BTreeSet<Import>) -> Vec<Cycle> {
    let child = |path: &'_ ModulePath| path.strip_prefix(parent)?.first().cloned();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in imports {
        if let (Some(from), Some(to)) = (child(from), child(to))
            && from != to
        {
            graph.entry(from).or_default().insert(to);
        }
    }
    let reached: BTreeMap<_, _> = graph.keys().map(|from| (from, reachable(&graph, from))).collect();
    let mut cycles: Vec<Cycle> = Vec::new();
    for (from, reached_from) in &reached {
        let is_member = |other: &&String| {
            reached_from.contains(*other) && reached.get(*other).is_some_and(|back| back.contains(*from))
        };
        let members: Vec<_> = graph.keys().filter(is_member).cloned().collect();
        if members.is_empty() || cycles.iter().any(|cycle| cycle.members == members) {
            continue;
        }
        let inside = |path: &ModulePath| child(path).is_some_and(|name| members.contains(&name));
        let edges =
            imports.iter().filter(|(from, to)| inside(from) && inside(to) && child(from) != child(to));
        cycles.push(Cycle { parent: parent.to_vec(), edges: edges.cloned().collect(), members });
    }
    cycles
}

/// What a module imports, directly or through others.
fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<String> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        for other in graph.get(next).into_iter().flatten() {
            if reached.insert(other.clone()) {
                open.push(other);
            }
        }
    }
    reached
}

impl std::fmt::Display for Cycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parent = if self.parent.is_empty() { "the root".to_owned() } else { self.parent.join("::") };
        let mut edges = String::new();
        for (from, to) in &self.edges {
            write!(edges, "\n    {} imports {}", from.join("::"), to.join("::"))?;
        }
        write!(f, "below {parent}, {} import each other:{edges}", self.members.join(", "))
    }
}
