//! Names of the result that are used once.

use std::collections::{BTreeSet, HashMap};

/// Names that are in use.
#[derive(Debug, Default)]
pub(crate) struct UniqueNames {
    known: BTreeSet<String>,
    /// The next number for each name that was wanted again.
    next: HashMap<String, usize>,
}

impl UniqueNames {
    /// The name itself if it is new, otherwise with the next free number: `web`, `web-2`.
    pub(crate) fn unique(&mut self, name: String) -> String {
        if self.known.insert(name.clone()) {
            return name;
        }
        let next = self.next.entry(name.clone()).or_insert(2);
        loop {
            let numbered = format!("{name}-{next}");
            *next += 1;
            if self.known.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once() {
        let mut names = UniqueNames::default();
        let given: Vec<String> =
            ["a", "a-2", "a", "a", "b"].iter().map(|name| names.unique((*name).to_owned())).collect();
        assert_eq!(given, ["a", "a-2", "a-3", "a-4", "b"]);
    }
}
