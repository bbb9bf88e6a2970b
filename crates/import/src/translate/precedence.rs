//! Precedence of a server's locations, as in `ngx_http_core_find_location`, by conditions and the order of routes.
//!
//! nginx takes the longest prefix at each level of nesting. Regular expressions of the innermost level are tried first;
//! those of a level are not tried if its chosen prefix is `^~`. In the gateway any regular expression wins over any
//! prefix, so that nested ones need conditions, and prefixes below `^~` become regular expressions before others. A prefix
//! of the gateway has whole segments; where nginx's are not and may refuse requests, they become regular expressions
//! after others.

use super::paths::LocationPath;
use crate::cel_text::literal;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

/// A location in its level.
pub(super) struct Place {
    pub(super) path: LocationPath,
    /// The number of the location around it.
    pub(super) parent: Option<usize>,
    /// Whether it may refuse requests.
    pub(super) may_refuse: bool,
}

impl Place {
    /// Its prefix, if that ends within a segment: a route's prefix has whole segments.
    fn open_prefix(&self) -> Option<&str> {
        match &self.path {
            LocationPath::Prefix { path, .. } => Some(path.as_str()).filter(|path| !path.ends_with('/')),
            _ => None,
        }
    }
}

/// How a location competes with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Precedence {
    /// Whether any request reaches it.
    pub(super) is_reached: bool,
    /// Conditions beside its path.
    pub(super) conditions: Vec<String>,
    /// Whether a prefix is written as a regular expression.
    pub(super) is_regex_route: bool,
    /// The order among the routes of the server; equal ones are as in the file.
    pub(super) rank: Rank,
}

/// A group, the depth or the length, of which the larger comes first, the number of the outermost expression around it,
/// and the number of expressions around it, of which more come first.
pub(super) type Rank = (u8, Reverse<usize>, usize, Reverse<usize>);

/// The prefixes of one level with the numbers of their locations.
type Prefixes<'p> = BTreeMap<&'p str, usize>;

struct Levels<'p> {
    places: &'p [Place],
    prefixes: HashMap<Option<usize>, Prefixes<'p>>,
    exact: HashSet<(Option<usize>, &'p str)>,
    has_regexes: bool,
    /// Whether prefixes that end within a segment are exact, since one of them may refuse requests. Then, the prefixes of
    /// all levels that requests reach.
    reached: Option<BTreeMap<&'p str, usize>>,
}

/// The precedence of every location.
pub(super) fn of(places: &[Place]) -> Vec<Precedence> {
    let mut prefixes: HashMap<Option<usize>, Prefixes<'_>> = HashMap::new();
    let mut exact = HashSet::new();
    for (number, place) in places.iter().enumerate() {
        if let LocationPath::Prefix { path, .. } = &place.path {
            prefixes.entry(place.parent).or_default().entry(path).or_insert(number);
        }
        if let LocationPath::Exact(path) = &place.path {
            exact.insert((place.parent, path.as_str()));
        }
    }
    let is_regex = |place: &Place| place.parent.is_none() && matches!(place.path, LocationPath::Regex(_));
    let has_regexes = places.iter().any(is_regex);
    let mut levels = Levels { places, prefixes, exact, has_regexes, reached: None };
    if places.iter().any(|place| place.may_refuse && place.open_prefix().is_some()) {
        let mut reached = BTreeMap::new();
        for (number, place) in places.iter().enumerate() {
            if let LocationPath::Prefix { path, .. } = &place.path
                && levels.is_reached(path, &levels.chain(number))
            {
                reached.entry(path.as_str()).or_insert(number);
            }
        }
        levels.reached = Some(reached);
    }
    (0..places.len()).map(|number| levels.precedence(number)).collect()
}

impl Levels<'_> {
    fn precedence(&self, number: usize) -> Precedence {
        let chain = self.chain(number);
        let rank = (2, Reverse(0), number, Reverse(0));
        match &self.places[number].path {
            LocationPath::Named(_) => Precedence { is_reached: true, rank, ..Precedence::default() },
            LocationPath::Regex(_) => self.regex(number, &chain),
            LocationPath::Exact(path) => {
                let is_outer =
                    chain.iter().any(|around| self.exact.contains(&(self.places[*around].parent, path)));
                let is_reached = !is_outer && self.is_reached(path, &chain);
                Precedence { is_reached, rank, ..Precedence::default() }
            }
            LocationPath::Prefix { path, .. } => self.prefix(number, path, &chain),
        }
    }

    /// The locations around one, the innermost first.
    fn chain(&self, number: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut at = self.places[number].parent;
        while let Some(parent) = at {
            chain.push(parent);
            at = self.places[parent].parent;
        }
        chain
    }

    /// Whether no longer prefix beside a location around it is chosen for this path.
    fn is_reached(&self, path: &str, chain: &[usize]) -> bool {
        chain.iter().all(|around| match &self.places[*around].path {
            LocationPath::Prefix { path: outer, .. } => {
                path.starts_with(outer.as_str())
                    && !self.is_taken(path, outer.len(), self.places[*around].parent)
            }
            // nginx refuses other paths within.
            _ => false,
        })
    }

    /// Whether a level has a prefix of this path longer than `length`.
    fn is_taken(&self, path: &str, length: usize, level: Option<usize>) -> bool {
        let Some(prefixes) = self.prefixes.get(&level) else { return false };
        path.char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .filter(|end| *end > length)
            .any(|end| prefixes.contains_key(&path[..end]))
    }

    fn prefix(&self, number: usize, path: &str, chain: &[usize]) -> Precedence {
        let outermost = chain.last().copied().unwrap_or(number);
        let stops = matches!(self.places[outermost].path, LocationPath::Prefix { stops_regex: true, .. });
        let is_first = stops && self.has_regexes;
        let mut conditions = Vec::new();
        if is_first {
            // Longer ones that are no regular expressions themselves.
            for (longer, other) in self.extensions(path, None) {
                if matches!(self.places[other].path, LocationPath::Prefix { stops_regex: false, .. }) {
                    conditions.push(is_not_below(longer));
                }
            }
        }
        // One that ends within a segment comes after the expressions, and the longer ones come before it.
        let is_last = !is_first && self.reached.is_some() && !path.ends_with('/');
        if is_last {
            let longer = self.reached.iter().flat_map(|reached| below(reached, path));
            let longer = longer.filter(|(longer, _)| longer.ends_with('/')).collect();
            conditions.extend(shortest(longer).into_iter().map(is_not_below));
        }
        Precedence {
            is_reached: self.is_reached(path, chain),
            conditions,
            is_regex_route: is_first || is_last,
            rank: match (is_first, is_last) {
                (true, _) => (1, Reverse(path.len()), 0, Reverse(0)),
                (_, true) => (3, Reverse(path.len()), 0, Reverse(0)),
                _ => (2, Reverse(0), number, Reverse(0)),
            },
        }
    }

    /// The longer prefixes of a level below a path.
    fn extensions<'s>(&'s self, path: &'s str, level: Option<usize>) -> Vec<(&'s str, usize)> {
        let Some(prefixes) = self.prefixes.get(&level) else { return Vec::new() };
        below(prefixes, path).collect()
    }

    fn regex(&self, number: usize, chain: &[usize]) -> Precedence {
        let mut conditions = Vec::new();
        let mut is_reached = true;
        // One within another is tried directly before it, those within a prefix before those of the levels around it.
        let is_regex = |around: &&usize| matches!(self.places[**around].path, LocationPath::Regex(_));
        let regexes: Vec<usize> = chain.iter().take_while(is_regex).copied().collect();
        let group = if regexes.len() == chain.len() { 2 } else { 0 };
        let rank = (
            group,
            Reverse(chain.len() - regexes.len()),
            regexes.last().copied().unwrap_or(number),
            Reverse(regexes.len()),
        );
        for (depth, around) in chain.iter().enumerate() {
            let outer = &self.places[*around];
            match &outer.path {
                LocationPath::Regex(pattern) => {
                    conditions.push(format!("request.path.matches({})", literal(pattern)));
                    if outer.parent.is_some() {
                        conditions.extend(self.stopped(outer.parent));
                    }
                }
                LocationPath::Prefix { path, .. } => {
                    let innermost =
                        chain[..depth].iter().find_map(|inner| self.places[*inner].path.literal());
                    if innermost.is_none() {
                        conditions.push(format!("request.path.startsWith({})", literal(path)));
                    }
                    let inner = innermost.unwrap_or(path);
                    is_reached &= !self.is_taken(inner, path.len(), outer.parent);
                    conditions
                        .extend(shortest(self.extensions(inner, outer.parent)).into_iter().map(is_not_below));
                }
                LocationPath::Exact(_) | LocationPath::Named(_) => is_reached = false,
            }
        }
        if let [around, ..] = chain {
            conditions.extend(self.stopped(Some(*around)));
        }
        Precedence { is_reached, conditions, is_regex_route: false, rank }
    }

    /// The conditions under which no `^~` prefix of a level is chosen in it.
    fn stopped(&self, level: Option<usize>) -> Vec<String> {
        let Some(prefixes) = self.prefixes.get(&level) else { return Vec::new() };
        let stops = |number: &usize| {
            matches!(self.places[*number].path, LocationPath::Prefix { stops_regex: true, .. })
        };
        let mut conditions = Vec::new();
        for (path, _) in prefixes.iter().filter(|(_, number)| stops(number)) {
            let longer = shortest(self.extensions(path, level));
            let exceptions: String = longer
                .iter()
                .map(|longer| format!(" || request.path.startsWith({})", literal(longer)))
                .collect();
            conditions.push(format!("({}{exceptions})", is_not_below(path)));
        }
        conditions
    }
}

/// The longer prefixes below a path.
fn below<'s>(prefixes: &'s Prefixes<'_>, path: &'s str) -> impl Iterator<Item = (&'s str, usize)> {
    let after = (Bound::Excluded(path), Bound::Unbounded);
    let longer = prefixes.range::<str, _>(after).take_while(move |(longer, _)| longer.starts_with(path));
    longer.map(|(longer, number)| (*longer, *number))
}

/// The paths that are not below another one of them.
fn shortest(mut paths: Vec<(&str, usize)>) -> Vec<&str> {
    let mut last: Option<&str> = None;
    paths.retain(|(path, _)| {
        let is_below = last.is_some_and(|last| path.starts_with(last));
        if !is_below {
            last = Some(path);
        }
        !is_below
    });
    paths.into_iter().map(|(path, _)| path).collect()
}

fn is_not_below(path: &str) -> String {
    format!("!request.path.startsWith({})", literal(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    /// The conditions of locations, each with the number of the one around it. `-` is never reached.
    fn conditions(locations: &[(&[&str], Option<usize>)]) -> Vec<String> {
        let places: Vec<Place> = locations
            .iter()
            .map(|(words, parent)| Place {
                path: LocationPath::read(words).unwrap(),
                parent: *parent,
                may_refuse: true,
            })
            .collect();
        let short = |text: &str| text.replace("request.path.", "").replace("startsWith", "in");
        of(&places)
            .into_iter()
            .map(|found| match found.is_reached {
                true => short(&found.conditions.join(" && ")),
                false => "-".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_nested_expression_concerns_the_requests_of_its_location() {
        assert_eq!(
            conditions(&[
                (&["/public/"], None),
                (&["~", "a$"], Some(0)),
                (&["/public/x/"], None),
                (&["/public/x/y/"], None),
                (&["~", "b$"], None),
                (&["~", "c$"], Some(4)),
            ]),
            ["", r#"in("/public/") && !in("/public/x/")"#, "", "", "", r#"matches("b$")"#]
        );
    }

    #[test]
    fn a_prefix_that_stops_expressions_excepts_longer_ones() {
        assert_eq!(
            conditions(&[
                (&["^~", "/a/"], None),
                (&["/a/admin/"], None),
                (&["^~", "/a/b/"], None),
                (&["~", "x$"], None),
                (&["/a/n/"], Some(0)),
            ]),
            [r#"!in("/a/admin/")"#, "", "", "", ""]
        );
        // A nested one stops those of its own level.
        assert_eq!(
            conditions(&[
                (&["/a/"], None),
                (&["^~", "/a/b/"], Some(0)),
                (&["/a/b/c/"], Some(0)),
                (&["~", "x$"], Some(0)),
            ])[3],
            r#"in("/a/") && (!in("/a/b/") || in("/a/b/c/"))"#
        );
    }

    #[test]
    fn a_location_that_another_one_covers_is_not_reached() {
        assert_eq!(
            conditions(&[
                (&["/a/"], None),
                (&["/a/b/c/"], Some(0)),
                (&["/a/b/"], None),
                (&["=", "/a/b/d"], Some(0)),
                (&["/a/e/"], Some(0)),
                (&["=", "/a/f"], Some(0)),
                (&["=", "/a/f"], None),
            ]),
            ["", "-", "", "-", "", "-", ""]
        );
    }

    #[test]
    fn a_prefix_that_ends_within_a_segment_excepts_longer_ones() {
        let locations: &[(&[&str], Option<usize>)] = &[
            (&["/a"], None),
            (&["/ab/"], None),
            (&["/abc"], None),
            (&["/a/x/"], Some(0)),
            (&["/a/x/y/"], Some(0)),
        ];
        assert_eq!(conditions(locations), [r#"!in("/a/x/") && !in("/ab/")"#, "", "", "", ""]);
    }
}
