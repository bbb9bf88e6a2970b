//! Replacements of text in redirects and cookies of a backend's response, as nginx's `proxy_redirect`,
//! `proxy_cookie_domain` and `proxy_cookie_path` describe them.

use crate::common;
use moongate_config::{Placed, Problem, Problems};
use moongate_expr::Template;
use moongate_sdk::Exchange;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

/// A replacement as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RewriteSubstitution {
    /// Selects values that begin with this text (a domain: that are equal to it), or `~regex` that matches. Required.
    pub(super) from: Placed<String>,
    /// Replaces that text. It may have placeholders. After a `~regex` it replaces the whole value; `$1`, `$${1}` and
    /// `$${name}` are groups, `$$$$` is a `$`. Required.
    pub(super) to: Placed<String>,
}

/// What a replacement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubstitutionUse {
    /// A URI reference.
    Reference,
    /// The Path attribute of a cookie.
    CookiePath,
    /// The Domain attribute of a cookie.
    CookieDomain,
}

/// A replacement. Of several, the first that matches is applied.
pub(super) enum Substitution {
    /// The beginning of a value.
    Prefix(Box<str>, Template),
    /// A whole value in lower case.
    Whole(Box<str>, Template),
    /// A whole value in which the regex matches; groups of the match are inserted.
    Regex(Regex, Box<str>),
}

impl Substitution {
    /// Reads a replacement.
    ///
    /// # Errors
    /// An empty `from`, a `to` that cannot be in the value, a regex that is invalid or too large, and an unknown group.
    pub(super) fn read(written: &RewriteSubstitution, of: SubstitutionUse) -> Result<Self, Problems> {
        let RewriteSubstitution { from, to } = written;
        let is_cookie = of != SubstitutionUse::Reference;
        if is_cookie && to.contains(';') {
            let problem = Problem::new(format!("`{}` is not allowed in an attribute of a cookie", to.value));
            return Err(problem.help("`;` separates attributes").at(&to.place).into());
        }
        if is_cookie && to.is_empty() {
            return Err(Problem::new("`to` is empty: an attribute needs a value").at(&to.place).into());
        }
        if let Some(pattern) = from.strip_prefix('~') {
            let pattern = Placed { value: pattern.to_owned(), place: from.place.clone() };
            let regex = common::regex(&pattern)?;
            super::groups(&regex, to).map_err(|problem| problem.at(&to.place))?;
            return Ok(Self::Regex(regex, to.as_str().into()));
        }
        let text = if of == SubstitutionUse::CookieDomain { from.trim_start_matches('.') } else { from };
        if text.is_empty() {
            let problem = Problem::new("`from` is empty: it would match every value");
            return Err(problem.help("write the text that is replaced, or `~regex`").at(&from.place).into());
        }
        let to = Template::parse(to).map_err(|problem| problem.at(&to.place))?;
        Ok(match of {
            SubstitutionUse::CookieDomain => Self::Whole(text.to_ascii_lowercase().into(), to),
            SubstitutionUse::Reference | SubstitutionUse::CookiePath => Self::Prefix(text.into(), to),
        })
    }

    /// The value after the replacement; `None` if it does not match, or an inserted value cannot be in a field.
    fn apply(&self, value: &str, exchange: &mut Exchange<'_>) -> Option<String> {
        let (to, rest) = match self {
            Self::Prefix(from, to) => (to, value.strip_prefix(&**from)?),
            Self::Whole(from, to) if value == &**from => (to, ""),
            Self::Whole(..) => return None,
            Self::Regex(regex, to) => {
                let mut replaced = String::new();
                regex.captures(value)?.expand(to, &mut replaced);
                return Some(replaced);
            }
        };
        let to = to.fill(exchange)?;
        Some(format!("{}{rest}", to.to_str().ok()?))
    }
}

/// A value after the first replacement that matches; `None` if none does.
pub(super) fn substitute(list: &[Substitution], value: &str, exchange: &mut Exchange<'_>) -> Option<String> {
    list.iter().find_map(|each| each.apply(value, exchange))
}
