//! Paths of locations: nginx's modifiers in the forms of routes.

use crate::cel_text::{NoEquivalent, regex_text};

/// The path that a location matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocationPath {
    /// `/a/`: a prefix. `stops_regex` is `^~`.
    Prefix { path: String, stops_regex: bool },
    /// `= /a`.
    Exact(String),
    /// `~ a` or `~* a`, in the syntax of our expressions.
    Regex(String),
    /// `@name`.
    Named(String),
}

impl LocationPath {
    /// Reads the arguments of `location`.
    ///
    /// # Errors
    /// Why the path has no equivalent.
    pub(super) fn read(arguments: &[&str]) -> Result<Self, NoEquivalent> {
        let (modifier, path) = match arguments {
            [modifier, path] => (*modifier, *path),
            // The modifier may touch the path, as in `=/a`.
            [word] => ["=", "^~", "~*", "~"]
                .iter()
                .find_map(|modifier| Some((*modifier, word.strip_prefix(modifier)?)))
                .unwrap_or(("", word)),
            _ => {
                let why = "a location has a modifier and a path";
                return Err(NoEquivalent::Reason(why.to_owned()));
            }
        };
        match modifier {
            "=" => Ok(Self::Exact(encoded(path))),
            "" if path.starts_with('@') => Ok(Self::Named(path.to_owned())),
            "" => Ok(Self::Prefix { path: encoded(path), stops_regex: false }),
            "^~" => Ok(Self::Prefix { path: encoded(path), stops_regex: true }),
            "~" => regex_text(path, false).map(Self::Regex),
            "~*" => regex_text(path, true).map(Self::Regex),
            other => Err(NoEquivalent::Reason(format!("`{other}` is not a modifier of a location"))),
        }
    }

    /// The path as a route writes it, a prefix as a regular expression if it must win over others; `None` if it
    /// matches every path.
    pub(super) fn written(&self, as_regex: bool) -> Option<String> {
        match self {
            Self::Prefix { path, .. } if as_regex => Some(format!("~^{}", regex::escape(path))),
            Self::Prefix { path, .. } if path == "/" => None,
            Self::Prefix { path, .. } => Some(path.clone()),
            Self::Exact(path) => Some(format!("={path}")),
            Self::Regex(pattern) => Some(format!("~{pattern}")),
            Self::Named(_) => None,
        }
    }

    /// The text of a prefix or an exact path.
    pub(super) fn literal(&self) -> Option<&str> {
        match self {
            Self::Prefix { path, .. } | Self::Exact(path) => Some(path),
            Self::Regex(_) | Self::Named(_) => None,
        }
    }

    /// A short name: the segments of the path.
    pub(super) fn name(&self) -> String {
        let text = match self {
            Self::Prefix { path, .. } | Self::Exact(path) => path,
            Self::Regex(pattern) => pattern,
            Self::Named(name) => name,
        };
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_' && c != '-');
        let mut name = String::new();
        for word in words.map(|word| word.trim_matches(['.', '-', '_'])).filter(|word| !word.is_empty()) {
            if name.len() + word.len() > 40 {
                break;
            }
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(word);
        }
        name
    }
}

/// A path with the characters encoded that a request cannot contain.
fn encoded(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        match c {
            ' ' | '#' | '?' | '"' | '<' | '>' | '`' | '{' | '}' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("%{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn locations_become_paths_of_routes() {
        for (arguments, written, name) in [
            (&["/a/b/"][..], Some("~^/a/b/"), "a-b"),
            (&["=", "/a"], Some("=/a"), "a"),
            (&["=/a"], Some("=/a"), "a"),
            (&["^~", "/a.b/"], Some("~^/a\\.b/"), "a.b"),
            (&["~*", "\\.php$"], Some("~(?i)\\.php$"), "php"),
        ] {
            let path = LocationPath::read(arguments).unwrap();
            assert_eq!(path.written(true).as_deref(), written, "{arguments:?}");
            assert_eq!(path.name().trim_start_matches("i-"), name, "{arguments:?}");
        }
        for (arguments, written) in [(&["/"][..], None), (&["^~", "/a.b/"], Some("/a.b/"))] {
            assert_eq!(LocationPath::read(arguments).unwrap().written(false).as_deref(), written);
        }
        assert!(LocationPath::read(&["~", "(?=x)"]).is_err());
    }
}
