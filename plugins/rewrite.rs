//! Changes path and query on the way to the backend; the route was chosen before.
//!
//! Prefixes and expressions look at the path in its widest reading, by which the route was found: no spelling of it
//! slips past them. A prefix is taken from the path as it was sent, and the rest stays as it was sent; a replacement
//! writes the path anew. What comes out is looked at again, for a replacement can make `..` of what was none.

use crate::parts;
use http::StatusCode;
use indexmap::IndexMap;
use moongate_sdk::{
    BadPath, Exchange, Flow, Kind, Phases, Placed, Plugin, Problem, Problems, Settings, Template, read_path,
    strip_path_prefix,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "rewrite",
    about: "Changes path and query on the way to the backend.",
    schema: <Written as JsonSchema>::json_schema,
    build,
};

/// All but the unreserved characters (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The settings, in the order in which they are applied.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A prefix that is taken away: `/api` makes `/api/users` to `/users` and `/api` to `/`. Whole segments
    /// alone: `/apis` stays. Of a list, the first that fits.
    strip_prefix: Option<Prefixes>,
    /// Replacements in the path, one after another.
    #[serde(default)]
    replace: Vec<WrittenReplacement>,
    /// A prefix that is put before the path: `/v2` makes `/users` to `/v2/users`.
    add_prefix: Option<Placed<String>>,
    /// What changes in the query.
    #[serde(default)]
    query: WrittenQuery,
}

/// Prefixes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape a prefix or a list of prefixes")]
#[schemars(untagged, rename = "RewritePrefixes")]
enum Prefixes {
    /// One.
    #[serde(rename = "scalar")]
    One(Placed<String>),
    /// The first that fits.
    #[serde(rename = "list")]
    Many(Vec<Placed<String>>),
}

/// What is replaced by what.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenReplacement {
    /// A regular expression; every place of the path that fits is replaced.
    regex: Placed<String>,
    /// What stands there then; `$1` and `$${name}` are groups. (A `${…}` alone is the environment's in every
    /// value, and `$$` a single `$`.)
    with: Placed<String>,
}

/// What changes in the query.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WrittenQuery {
    /// Parameters that replace all of their name, with the placeholders of `headers`. They are escaped.
    set: IndexMap<String, Placed<String>>,
    /// Parameters that are removed.
    remove: Vec<Placed<String>>,
}

struct Rewrite {
    strip: Vec<Box<str>>,
    replace: Vec<Replacement>,
    add: Box<str>,
    set: Vec<(Parameter, Template)>,
    remove: Vec<Parameter>,
}

struct Replacement {
    regex: Regex,
    with: Box<str>,
}

/// A query's parameter: its name as it is compared, and as it is written.
struct Parameter {
    name: Box<str>,
    escaped: Box<str>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: Written = settings.read()?;
    let mut problems = Problems::default();
    let strip = match &written.strip_prefix {
        None => &[][..],
        Some(Prefixes::One(one)) => std::slice::from_ref(one),
        Some(Prefixes::Many(many)) => many,
    };
    let strip: Vec<_> = strip.iter().filter_map(|text| problems.keep(matched_prefix(text))).collect();
    let add = written.add_prefix.as_ref().and_then(|text| problems.keep(prefix(text)));
    let replace: Vec<_> =
        written.replace.iter().filter_map(|written| problems.keep(replacement(written))).collect();
    let mut set = Vec::new();
    for (name, value) in &written.query.set {
        let template = Template::parse(value).map_err(|problem| problem.at(&value.place).into());
        set.extend(problems.keep(template).map(|template| (Parameter::new(name), template)));
    }
    let remove: Vec<_> = written.query.remove.iter().map(|name| Parameter::new(name)).collect();
    if problems.refuse() {
        return Err(problems);
    }
    if strip.is_empty() && replace.is_empty() && add.is_none() && set.is_empty() && remove.is_empty() {
        let problem = Problem::new("`rewrite` changes nothing").at(settings.place());
        return Err(problem.help("write `strip_prefix`, `replace`, `add_prefix` or `query`").into());
    }
    Ok(Box::new(Rewrite { strip, replace, add: add.unwrap_or_default(), set, remove }))
}

/// A prefix without the slash at its end.
fn prefix(written: &Placed<String>) -> Result<Box<str>, Problems> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
    let text = written.trim_end_matches('/');
    let problem = if !written.starts_with('/') || text.is_empty() {
        Problem::new(format!("`{}` is no prefix of a path", written.value))
            .help("a prefix is written as `/api`")
    } else if !text.bytes().all(fits) {
        Problem::new(format!("`{}` cannot stand in a path", written.value))
            .help("write other characters as they are sent: `%C3%A4` for `ä`")
    } else {
        return Ok(text.into());
    };
    Err(problem.at(&written.place).into())
}

/// A prefix of paths in their widest reading.
fn matched_prefix(written: &Placed<String>) -> Result<Box<str>, Problems> {
    let text = prefix(written)?;
    let problem = match read_path(text.as_bytes()) {
        Ok(reading) if !reading.has_escaped_slash => return Ok(reading.path.into()),
        Ok(_) => Problem::new(format!("no path begins with `{text}`: `%2F` and `%5C` are read as `/`"))
            .help("write `/` in its place"),
        Err(_) => Problem::new(format!("`{text}` is no prefix of a path"))
            .help("a prefix has no segment `.` or `..`, and `%25` stands for a percent sign"),
    };
    Err(problem.at(&written.place).into())
}

fn replacement(written: &WrittenReplacement) -> Result<Replacement, Problems> {
    let regex = parts::regex(&written.regex)?;
    let with = &written.with;
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    if !with.bytes().all(fits) {
        let problem = Problem::new(format!("`{}` cannot stand in a path", with.value)).at(&with.place);
        return Err(problem.help("parameters of the query are set with `query: { set: … }`").into());
    }
    groups(&regex, with).map_err(|problem| problem.at(&with.place))?;
    Ok(Replacement { regex, with: with.as_str().into() })
}

/// Whether every group that is asked for exists; a missing one would be filled in as nothing.
fn groups(regex: &Regex, with: &str) -> Result<(), Problem> {
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            rest = behind;
            continue;
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, behind) = braced.unwrap_or_else(|| rest.split_at(end));
        let known = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|known| known == name),
        };
        if !known {
            let problem = Problem::new(format!("the expression has no group `{name}`"));
            let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            return Err(match name.split_at(digits) {
                ("", _) => problem.help("write `$$$$` for a `$`"),
                (number, text) => problem.label(format!("write `$${{{number}}}{text}`")),
            });
        }
        rest = behind;
    }
    Ok(())
}

impl Parameter {
    fn new(name: &str) -> Self {
        let escaped = percent_encode(name.as_bytes(), ESCAPED).to_string();
        Self { name: name.into(), escaped: escaped.into() }
    }

    /// Whether a `name=value` of a query is this parameter, however it is escaped.
    fn is(&self, pair: &str) -> bool {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        if name == &*self.name {
            return true;
        }
        if !name.contains(['%', '+']) {
            return false;
        }
        let spaced = name.replace('+', " ");
        percent_decode(spaced.as_bytes()).eq(self.name.bytes())
    }
}

impl Rewrite {
    fn path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let rest = self.strip.iter().find_map(|prefix| strip_path_prefix(path, prefix));
        let mut path = match rest {
            None => Cow::Borrowed(path),
            Some(rest) if rest.is_empty() => Cow::Borrowed("/"),
            Some(rest) => rest,
        };
        for Replacement { regex, with } in &self.replace {
            let read = read_path(path.as_bytes()).map_or(Cow::Borrowed(&*path), |reading| reading.path);
            if let Cow::Owned(replaced) = regex.replace_all(&read, &**with) {
                path = Cow::Owned(replaced);
            }
        }
        match (&*self.add, path.starts_with('/')) {
            ("", true) => path,
            (add, true) => Cow::Owned(format!("{add}{path}")),
            (add, false) => Cow::Owned(format!("{add}/{path}")),
        }
    }

    /// Whether queries are changed at all.
    fn edits_queries(&self) -> bool {
        !self.set.is_empty() || !self.remove.is_empty()
    }

    fn query(&self, exchange: &mut Exchange<'_>) -> Option<String> {
        let goes = |pair: &str| {
            self.set.iter().map(|(name, _)| name).chain(&self.remove).any(|parameter| parameter.is(pair))
        };
        let old = exchange.query().unwrap_or_default().to_owned();
        let mut pairs: Vec<Cow<'_, str>> =
            old.split('&').filter(|pair| !pair.is_empty() && !goes(pair)).map(Cow::Borrowed).collect();
        for (parameter, template) in &self.set {
            if let Some(value) = template.fill(exchange) {
                let value = percent_encode(value.as_bytes(), ESCAPED);
                pairs.push(Cow::Owned(format!("{}={value}", parameter.escaped)));
            }
        }
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }
}

/// Whether a backend could read one of the segments as the way up.
fn climbs(path: &str) -> bool {
    read_path(path.as_bytes()) == Err(BadPath::DotSegment)
}

impl Plugin for Rewrite {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let edited = self.edits_queries().then(|| self.query(exchange));
        let query = edited.as_ref().map_or(exchange.query(), Option::as_deref);
        let path = self.path(exchange.path());
        if path == exchange.path() && query == exchange.query() {
            return Flow::Continue;
        }
        let climbs = matches!(path, Cow::Owned(_)) && climbs(&path);
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        match exchange.set_target(&target) {
            Ok(()) if !climbs => Flow::Continue,
            _ => exchange.refuse(StatusCode::BAD_REQUEST, "bad_target").into(),
        }
    }
}

#[cfg(test)]
mod tests;
