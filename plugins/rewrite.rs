//! Path and query rewriting for the backend, and mapping of redirects and cookies of its responses; routing comes
//! before it.
//!
//! Prefixes and expressions match the normalized path, like routes, so that no spelling bypasses them. A prefix is
//! removed from the path as sent, and the rest stays as sent; a replacement writes the path anew. The result is
//! checked again, because a replacement can create a `..` segment.

mod response_mapping;
mod substitution;
#[cfg(test)]
mod substitution_tests;
#[cfg(test)]
mod tests;

use crate::common;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use indexmap::IndexMap;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_expr::Template;
use moongate_sdk::{
    BadPath, Exchange, Flow, Phases, Plugin, Reply, Response, SegmentParameters, read_path, strip_path_prefix,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use regex::Regex;
use response_mapping::{FieldMapping, Mapping, ResponseMapping};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use substitution::{RewriteSubstitution, Substitution, SubstitutionUse};

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "rewrite",
    about: "Changes path and query before forwarding",
    schema: <RewriteSettings as JsonSchema>::json_schema,
    build,
};

/// All but the unreserved characters (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The help for a reverse mapping of nothing.
const REVERSED: &str = "write `strip_prefix` or `add_prefix` too, or `{ from: …, to: … }` as its value";

/// The settings, in the order of their application.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RewriteSettings {
    /// Removes this prefix of whole segments, or the first matching one of a list. `/api` is not a prefix of
    /// `/apis`. Default none.
    strip_prefix: Option<Prefixes>,
    /// Redirects (301) a GET or HEAD of the stripped prefix itself, `/api`, to `/api/`, as relative links require.
    /// Other methods and WebSocket handshakes are forwarded as `/`. Default true.
    add_slash: Option<Placed<bool>>,
    /// Replaces matches of regular expressions in the path. Default none.
    #[serde(default)]
    replace: Vec<RewriteReplacement>,
    /// Adds this prefix before the path. Default none.
    add_prefix: Option<Placed<String>>,
    /// Maps Location, Content-Location and Refresh of responses back: with `true`, `/login` becomes `/api/login`. A
    /// mapping with `from` and `to`, or a list of them, replaces text instead. Default false.
    rewrite_location: Option<ResponseRewrite>,
    /// Maps the `Path` of cookies in responses back: with `true`, `/` becomes `/api`. A mapping with `from` and `to`, or
    /// a list of them, replaces text instead. Default false.
    rewrite_cookie_path: Option<ResponseRewrite>,
    /// Replaces the `Domain` of cookies in responses: a mapping with `from` and `to`, or a list of them. Default none.
    rewrite_cookie_domain: Option<Substitutions>,
    /// Changes the query. Default none.
    #[serde(default)]
    query: RewriteQuery,
}

/// Prefixes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape a prefix or a list of prefixes")]
#[schemars(untagged, rename = "RewritePrefixes")]
enum Prefixes {
    /// One.
    #[serde(rename = "scalar")]
    One(Placed<String>),
    /// The first matching one.
    #[serde(rename = "list")]
    Many(Vec<Placed<String>>),
}

/// The mapping of a field in responses.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape `true`, `false`, a mapping with `from` and `to`, or a list of them")]
#[schemars(untagged, rename = "RewriteResponse")]
enum ResponseRewrite {
    /// Whether the changes of the path are reversed.
    #[serde(rename = "scalar")]
    Reverse(Placed<bool>),
    /// One replacement.
    #[serde(rename = "map")]
    One(RewriteSubstitution),
    /// The first replacement that matches.
    #[serde(rename = "list")]
    Many(Vec<RewriteSubstitution>),
}

/// Replacements.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape a mapping with `from` and `to`, or a list of them")]
#[schemars(untagged, rename = "RewriteSubstitutions")]
enum Substitutions {
    /// One.
    #[serde(rename = "map")]
    One(RewriteSubstitution),
    /// The first that matches.
    #[serde(rename = "list")]
    Many(Vec<RewriteSubstitution>),
}

/// A replacement.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RewriteReplacement {
    /// Selects every match of this regular expression in the path. Required.
    regex: Placed<String>,
    /// Inserts this text. `$1`, `$${1}` and `$${name}` are groups, `$$$$` is a `$`. Required.
    with: Placed<String>,
}

/// Changes of the query.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RewriteQuery {
    /// Replaces all parameters of a name. Values have placeholders and are escaped. Default none.
    set: IndexMap<String, Placed<String>>,
    /// Removes parameters of these names, in any escaping. Default none.
    remove: Vec<Placed<String>>,
}

/// The stripped prefixes from the client on (a convention of Traefik, Spring and ASP.NET).
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

struct Rewrite {
    strip: Vec<Box<str>>,
    add_slash: bool,
    reverse: ResponseMapping,
    replace: Vec<Replacement>,
    add: Box<str>,
    set: Vec<(Parameter, Template)>,
    remove: Vec<Parameter>,
}

struct Replacement {
    regex: Regex,
    with: Box<str>,
}

/// A query parameter: its decoded name for comparison, and its written form.
struct Parameter {
    name: Box<str>,
    escaped: Box<str>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: RewriteSettings = settings.read()?;
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
    needs_a_prefix(&written, &mut problems);
    let reverse = response_mapping(&written, &mut problems);
    if problems.refuse() {
        return Err(problems);
    }
    if strip.is_empty()
        && replace.is_empty()
        && add.is_none()
        && set.is_empty()
        && remove.is_empty()
        && !reverse.substitutes()
    {
        let problem = Problem::new("`rewrite` changes nothing").at(settings.place());
        return Err(problem.help("write `strip_prefix`, `replace`, `add_prefix` or `query`").into());
    }
    let add_slash = written.add_slash.is_none_or(|add| add.value);
    Ok(Box::new(Rewrite { strip, add_slash, reverse, replace, add: add.unwrap_or_default(), set, remove }))
}

/// The mapping of responses.
fn response_mapping(written: &RewriteSettings, problems: &mut Problems) -> ResponseMapping {
    let mut read = |list: &[RewriteSubstitution], of| -> Vec<_> {
        list.iter().filter_map(|written| problems.keep(Substitution::read(written, of))).collect()
    };
    let mut field = |written: &Option<ResponseRewrite>, of| match written {
        None => FieldMapping::Off,
        Some(ResponseRewrite::Reverse(is_on)) if is_on.value => FieldMapping::Reverse,
        Some(ResponseRewrite::Reverse(_)) => FieldMapping::Off,
        Some(ResponseRewrite::One(one)) => FieldMapping::Substitute(read(std::slice::from_ref(one), of)),
        Some(ResponseRewrite::Many(many)) => FieldMapping::Substitute(read(many, of)),
    };
    let location = field(&written.rewrite_location, SubstitutionUse::Reference);
    let cookie_path = field(&written.rewrite_cookie_path, SubstitutionUse::CookiePath);
    let cookie_domain = match &written.rewrite_cookie_domain {
        None => Vec::new(),
        Some(Substitutions::One(one)) => read(std::slice::from_ref(one), SubstitutionUse::CookieDomain),
        Some(Substitutions::Many(many)) => read(many, SubstitutionUse::CookieDomain),
    };
    ResponseMapping { location, cookie_path, cookie_domain }
}

/// Reports settings about a prefix without a prefix.
fn needs_a_prefix(written: &RewriteSettings, problems: &mut Problems) {
    let switch = |written: &Option<ResponseRewrite>| match written {
        Some(ResponseRewrite::Reverse(switch)) => Some(switch.place.clone()),
        _ => None,
    };
    let add_slash = written.add_slash.as_ref().map(|switch| switch.place.clone());
    let strips = written.strip_prefix.is_some();
    let either = strips || written.add_prefix.is_some();
    for (key, setting, is_met, help) in [
        ("add_slash", add_slash, strips, "write `strip_prefix` too"),
        ("rewrite_location", switch(&written.rewrite_location), either, REVERSED),
        ("rewrite_cookie_path", switch(&written.rewrite_cookie_path), either, REVERSED),
    ] {
        if let (Some(place), false) = (setting, is_met) {
            let problem = Problem::new(format!("`{key}` without a prefix has no effect"));
            problems.push(problem.help(help).at(&place));
        }
    }
}

/// A prefix without the slash at its end.
fn prefix(written: &Placed<String>) -> Result<Box<str>, Problems> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
    let text = written.trim_end_matches('/');
    let problem = if !written.starts_with('/') || text.is_empty() {
        Problem::new(format!("`{}` is not a path prefix", written.value))
            .help("a prefix is written as `/api`")
    } else if !text.bytes().all(fits) {
        Problem::new(format!("`{}` is not allowed in a path", written.value))
            .help("write other characters as they are sent: `%C3%A4` for `ä`")
    } else {
        return Ok(text.into());
    };
    Err(problem.at(&written.place).into())
}

/// A prefix of normalized paths.
fn matched_prefix(written: &Placed<String>) -> Result<Box<str>, Problems> {
    let text = prefix(written)?;
    let problem = match read_path(text.as_bytes()) {
        Ok(reading) if !reading.has_escaped_slash => return Ok(reading.path.into()),
        Ok(_) => Problem::new(format!("no path begins with `{text}`: `%2F` and `%5C` are read as `/`"))
            .help("write `/` in its place"),
        Err(_) => Problem::new(format!("`{text}` is not a path prefix"))
            .help("a prefix has no segment `.` or `..`, and `%25` stands for a percent sign"),
    };
    Err(problem.at(&written.place).into())
}

fn replacement(written: &RewriteReplacement) -> Result<Replacement, Problems> {
    let regex = common::regex(&written.regex)?;
    let with = &written.with;
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    if !with.bytes().all(fits) {
        let problem = Problem::new(format!("`{}` is not allowed in a path", with.value)).at(&with.place);
        return Err(problem.help("parameters of the query are set with `query: { set: … }`").into());
    }
    groups(&regex, with).map_err(|problem| problem.at(&with.place))?;
    Ok(Replacement { regex, with: with.as_str().into() })
}

/// Checks that every referenced group exists; a missing one would be empty.
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

    /// Whether a `name=value` of a query is this parameter, in any escaping.
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
    /// The stripped prefix of a path, by its place in the list, and the rest.
    fn strip<'p>(&self, path: &'p str, parameters: SegmentParameters) -> Option<(usize, Cow<'p, str>)> {
        let mut prefixes = self.strip.iter().enumerate();
        prefixes.find_map(|(index, prefix)| Some((index, strip_path_prefix(path, prefix, parameters)?)))
    }

    fn path<'p>(&self, path: &'p str, parameters: SegmentParameters) -> Cow<'p, str> {
        let mut path = match self.strip(path, parameters) {
            None => Cow::Borrowed(path),
            Some((_, rest)) if rest.is_empty() => Cow::Borrowed("/"),
            Some((_, rest)) => rest,
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

/// Whether a backend could read one of the segments as `..`.
fn has_dot_dot(path: &str) -> bool {
    read_path(path.as_bytes()) == Err(BadPath::DotSegment)
}

/// The prefix that was stripped from this request's path.
#[derive(Default)]
struct StrippedPrefix(Option<usize>);

/// Adds a stripped prefix to X-Forwarded-Prefix, after those of trusted proxies.
fn forward_prefix(exchange: &mut Exchange<'_>, prefix: &str) {
    let before = exchange.headers.get_all(&X_FORWARDED_PREFIX).iter().filter_map(|value| value.to_str().ok());
    let mut whole = String::new();
    for part in before.flat_map(|value| value.split(',')) {
        whole.push_str(part.trim_ascii().trim_end_matches('/'));
    }
    whole.push_str(prefix);
    // A prefix of the settings and field values are valid in a field.
    if let Ok(value) = HeaderValue::try_from(whole) {
        exchange.headers.set(&X_FORWARDED_PREFIX, value);
    }
}

/// The redirect from the prefix itself to the same path with a slash.
fn to_folder(prefix: &str, query: Option<&str>) -> Option<Reply> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{prefix}/{query}")).ok()?;
    Some(Reply::new(StatusCode::MOVED_PERMANENTLY).header(header::LOCATION, location))
}

impl Plugin for Rewrite {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: !self.reverse.is_empty(), ..Phases::default() }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let stripped = exchange.state::<StrippedPrefix>().0;
        // With `strip_prefix`, the added prefix stands for the stripped one; without it, for the root.
        let client = match stripped.and_then(|index| self.strip.get(index)) {
            Some(prefix) => Some(&**prefix),
            None => self.strip.is_empty().then_some(""),
        };
        let forwarded = exchange.headers.get(&X_FORWARDED_PREFIX).and_then(|value| value.to_str().ok());
        let forwarded = forwarded.filter(|_| client != Some("")).map(str::to_owned);
        let mapping =
            client.map(|client| Mapping { client, backend: &self.add, forwarded: forwarded.as_deref() });
        self.reverse.apply(mapping, exchange, response);
        Flow::Continue
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let parameters = exchange.segment_parameters();
        let stripped = self.strip(exchange.path(), parameters).map(|(index, rest)| (index, rest.is_empty()));
        if let Some((index, is_whole)) = stripped {
            let prefix = &self.strip[index];
            let is_read = matches!(*exchange.method(), Method::GET | Method::HEAD);
            if is_whole
                && self.add_slash
                && is_read
                && !exchange.request.is_websocket
                && let Some(reply) = to_folder(prefix, exchange.query())
            {
                return reply.into();
            }
            forward_prefix(exchange, prefix);
            if !self.reverse.is_empty() {
                exchange.state::<StrippedPrefix>().0 = Some(index);
            }
        }
        let edited = self.edits_queries().then(|| self.query(exchange));
        let query = edited.as_ref().map_or(exchange.query(), Option::as_deref);
        let path = self.path(exchange.path(), parameters);
        if path == exchange.path() && query == exchange.query() {
            return Flow::Continue;
        }
        let has_dot_dot = matches!(path, Cow::Owned(_)) && has_dot_dot(&path);
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        match exchange.set_target(&target) {
            Ok(()) if !has_dot_dot => Flow::Continue,
            _ => exchange.refuse(StatusCode::BAD_REQUEST, "bad_target").into(),
        }
    }
}
