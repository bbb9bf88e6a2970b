//! Inheritance of nginx's directives: the innermost level that has a directive decides, for all of its name.

use crate::reader::Directive;

/// The levels around a place: `http`, `server`, `location`, innermost last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope<'a> {
    levels: Vec<&'a [Directive]>,
}

impl<'a> Scope<'a> {
    /// The scope of one level.
    pub(crate) fn of(level: &'a [Directive]) -> Self {
        Self { levels: vec![level] }
    }

    /// The scope of a block within this one.
    pub(crate) fn within(&self, level: &'a [Directive]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(level);
        Self { levels }
    }

    /// The directives of that name that apply here.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a Directive> {
        let named = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level.iter().filter(|directive| directive.name == name).collect()
        };
        self.levels.iter().rev().map(named).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The directive of that name that applies here.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).pop()
    }

    /// The directives of any of these names at the innermost level that has one, in the order of the file.
    pub(crate) fn any_of(&self, names: &[&str]) -> Vec<&'a Directive> {
        let named = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level.iter().filter(|directive| names.contains(&directive.name.as_str())).collect()
        };
        self.levels.iter().rev().map(named).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The directives of the innermost level.
    pub(crate) fn own(&self) -> &'a [Directive] {
        self.levels.last().copied().unwrap_or_default()
    }

    /// The directive of that name at the innermost level: handlers are not inherited.
    pub(crate) fn own_directive(&self, name: &str) -> Option<&'a Directive> {
        self.own().iter().rfind(|directive| directive.name == name)
    }

    /// Whether a directive that applies here is `on`, or another given word.
    pub(crate) fn is(&self, name: &str, word: &str) -> bool {
        self.find(name).is_some_and(|directive| directive.argument(0) == word)
    }
}
