//! Inheritance of nginx's directives: the innermost level that has a directive decides, for all of its name.

use crate::reader::Directive;
use std::collections::HashMap;
use std::rc::Rc;

/// The levels around a place: `http`, `server`, `location`, innermost last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope<'a> {
    levels: Vec<Rc<Level<'a>>>,
}

/// The directives of one block. The names are an index: a large `http` block is searched for every location.
#[derive(Debug)]
struct Level<'a> {
    directives: &'a [Directive],
    by_name: HashMap<&'a str, Vec<&'a Directive>>,
}

impl<'a> Level<'a> {
    fn new(directives: &'a [Directive]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Directive>> = HashMap::new();
        for directive in directives {
            by_name.entry(&directive.name).or_default().push(directive);
        }
        Self { directives, by_name }
    }

    fn named(&self, name: &str) -> &[&'a Directive] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

impl<'a> Scope<'a> {
    /// The scope of one level.
    pub(crate) fn of(level: &'a [Directive]) -> Self {
        Self { levels: vec![Rc::new(Level::new(level))] }
    }

    /// The scope of a block within this one.
    pub(crate) fn within(&self, level: &'a [Directive]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(Rc::new(Level::new(level)));
        Self { levels }
    }

    /// The directives of that name that apply here.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a Directive> {
        let found = self.levels.iter().rev().map(|level| level.named(name)).find(|found| !found.is_empty());
        found.map(<[_]>::to_vec).unwrap_or_default()
    }

    /// The directive of that name that applies here.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Directive> {
        self.levels.iter().rev().find_map(|level| level.named(name).last().copied())
    }

    /// The directives of any of these names at the innermost level that has one, in the order of the file.
    pub(crate) fn any_of(&self, names: &[&str]) -> Vec<&'a Directive> {
        for level in self.levels.iter().rev() {
            let mut found: Vec<&Directive> =
                names.iter().flat_map(|name| level.named(name).iter().copied()).collect();
            if !found.is_empty() {
                found.sort_by_key(|directive| directive.id);
                return found;
            }
        }
        Vec::new()
    }

    /// The directives of the innermost level.
    pub(crate) fn own(&self) -> &'a [Directive] {
        self.levels.last().map(|level| level.directives).unwrap_or_default()
    }

    /// The directive of that name at the innermost level: handlers are not inherited.
    pub(crate) fn own_directive(&self, name: &str) -> Option<&'a Directive> {
        self.levels.last().and_then(|level| level.named(name).last().copied())
    }

    /// The directives of the levels within the outermost one, `http`, the innermost level first.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &'a Directive> {
        self.levels.iter().skip(1).rev().flat_map(|level| level.directives)
    }

    /// The directives of the outermost level, `http`, with a wanted name.
    pub(crate) fn outermost(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&'a Directive> {
        let Some(level) = self.levels.first() else { return Vec::new() };
        let mut names: Vec<_> = level.by_name.keys().filter(|name| is_wanted(name)).collect();
        names.sort_unstable();
        names.into_iter().flat_map(|name| level.named(name).iter().copied()).collect()
    }

    /// Whether a directive that applies here is `on`, or another given word.
    pub(crate) fn is(&self, name: &str, word: &str) -> bool {
        self.find(name).is_some_and(|directive| directive.argument(0) == word)
    }
}
