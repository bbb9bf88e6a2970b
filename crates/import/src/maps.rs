//! `map`, `geo` and `split_clients`: variables whose value depends on another one.

use crate::cel_text::{NoEquivalent, grouped, literal, marked_regex};
use crate::reader::Directive;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The most entries of a map that is part of an expression: expressions have at most 32 levels.
const LARGEST_MAP: usize = 24;

/// The longest expression in bytes.
pub(crate) const LONGEST_EXPRESSION: usize = 4096;

/// A `map` or a `geo`.
#[derive(Clone, Debug)]
pub(crate) struct MapVariable {
    /// The text that is looked up.
    pub(crate) source: String,
    /// Patterns with their values, in the order in which they are tried.
    entries: Vec<(Pattern, String)>,
    /// The value if no pattern matches.
    default: String,
    /// Why it cannot be translated.
    problem: Option<NoEquivalent>,
}

#[derive(Clone, Debug)]
enum Pattern {
    /// Text in lower case: nginx compares without regard to case.
    Text(String),
    /// The end of a host, in lower case.
    End(String),
    /// The beginning of a host, in lower case.
    Start(String),
    Regex(String),
    Network(String),
}

/// The maps of a configuration by their variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maps {
    variables: BTreeMap<String, MapVariable>,
    /// The variables that translated directives use.
    used: RefCell<BTreeSet<String>>,
    /// The variables that any directive of the files defines.
    defined: BTreeSet<String>,
}

impl Maps {
    /// The map with that variable.
    pub(crate) fn get(&self, variable: &str) -> Option<&MapVariable> {
        self.variables.get(variable)
    }

    /// Notes that a translated directive has the values of the map.
    pub(crate) fn note_use(&self, variable: &str) {
        self.used.borrow_mut().insert(variable.to_owned());
    }

    /// Whether a translated directive has the values of the map.
    pub(crate) fn is_used(&self, directive: &Directive) -> bool {
        self.used.borrow().contains(&variable_of(directive))
    }

    /// Reads the maps of the `http` level. `failed` are the numbers of includes that were not read.
    pub(crate) fn read(directives: &[Directive], failed: &BTreeSet<usize>) -> Self {
        let mut variables = BTreeMap::new();
        for directive in directives {
            let map = match (directive.name.as_str(), directive.arguments.len()) {
                ("map", 2) => MapVariable::map(directive, failed),
                ("geo", 1) => MapVariable::geo("$remote_addr".to_owned(), directive, failed),
                ("geo", 2) => MapVariable::geo(directive.argument(0).to_owned(), directive, failed),
                _ => continue,
            };
            variables.insert(variable_of(directive), map);
        }
        let mut defined = BTreeSet::new();
        define(directives, &mut defined);
        Self { variables, used: RefCell::default(), defined }
    }

    /// Whether a variable is nginx's own, or a directive of the files defines it.
    pub(crate) fn is_defined(&self, variable: &str) -> bool {
        self.variables.contains_key(variable) || self.defined.contains(variable) || is_of_nginx(variable)
    }
}

/// Adds the variables that directives define, also by named groups of regular expressions.
fn define(directives: &[Directive], defined: &mut BTreeSet<String>) {
    for directive in directives {
        let name = directive.name.as_str();
        let defines = ["map", "geo", "split_clients"].contains(&name)
            || name.starts_with("set")
            || name.ends_with("_set");
        // `geoip2` has a block with the names.
        let words = std::iter::once(name).chain(directive.texts());
        for (number, word) in words.enumerate() {
            if let Some(variable) = word.strip_prefix('$').filter(|_| defines || number == 0) {
                defined.insert(variable.to_owned());
            }
            for group in word.split("(?").skip(1) {
                let group = group.strip_prefix('P').unwrap_or(group);
                if let Some((name, _)) = group.strip_prefix('<').and_then(|group| group.split_once('>')) {
                    defined.insert(name.to_owned());
                }
            }
        }
        define(directive.children(), defined);
    }
}

/// Whether nginx or a usual module has a variable of that name.
fn is_of_nginx(name: &str) -> bool {
    const STARTS: [&str; 36] = [
        "ancient_browser",
        "arg",
        "binary_remote_addr",
        "body_bytes_sent",
        "bytes_",
        "connection_time",
        "connections_",
        "content_",
        "cookie_",
        "date_",
        "document_",
        "fastcgi_",
        "geoip",
        "gzip_ratio",
        "host",
        "http_",
        "http2",
        "http3",
        "https",
        "is_args",
        "jwt_",
        "limit_",
        "modern_browser",
        "msec",
        "nginx_version",
        "pid",
        "pipe",
        "proxy_",
        "query_string",
        "realip_",
        "realpath_root",
        "remote_",
        "request",
        "secure_link",
        "sent_",
        "server_",
    ];
    const MORE: [&str; 13] = [
        "ssl_",
        "status",
        "tcpinfo_",
        "time_",
        "uid_",
        "upstream_",
        "uri",
        "scheme",
        "session_",
        "slice_range",
        "invalid_referer",
        "memcached_key",
        "protocol",
    ];
    // A capture of a regular expression.
    name.bytes().all(|byte| byte.is_ascii_digit())
        || ["connection", "connection_requests", "hostname", "spdy"].contains(&name)
        || STARTS.iter().chain(&MORE).any(|start| name.starts_with(start))
}

/// The variable of a `map` or a `geo`: the last argument.
fn variable_of(directive: &Directive) -> String {
    let last = directive.arguments.last().map_or("", |argument| &argument.text);
    last.trim_start_matches('$').to_owned()
}

/// Whether a map chooses the `Connection` field of WebSocket handshakes, in any of its spellings.
pub(crate) fn is_upgrade_map(directive: &Directive) -> bool {
    directive.name == "map" && directive.argument(0) == "$http_upgrade"
}

impl MapVariable {
    fn map(directive: &Directive, failed: &BTreeSet<usize>) -> Self {
        let mut map = Self {
            source: directive.argument(0).to_owned(),
            entries: Vec::new(),
            default: String::new(),
            problem: None,
        };
        let has_hosts = directive.children().iter().any(|entry| entry.name == "hostnames");
        let (mut ends, mut starts, mut regexes) = (Vec::new(), Vec::new(), Vec::new());
        for entry in directive.children() {
            let value = entry.argument(0).to_owned();
            match entry.name.as_str() {
                "default" => map.default = value,
                "volatile" | "hostnames" if entry.arguments.is_empty() => {}
                "include" => map.include(entry, failed),
                name => {
                    let text = name.strip_prefix('\\').unwrap_or(name).to_ascii_lowercase();
                    if let Some(pattern) = marked_regex(name) {
                        match pattern {
                            Ok(pattern) => regexes.push((Pattern::Regex(pattern), value)),
                            Err(problem) => map.problem = Some(problem),
                        }
                    } else if let Some(domain) = text.strip_prefix('.').filter(|_| has_hosts) {
                        map.entries.push((Pattern::Text(domain.to_owned()), value.clone()));
                        ends.push((Pattern::End(text), value));
                    } else if let Some(end) = text.strip_prefix('*').filter(|_| has_hosts) {
                        ends.push((Pattern::End(end.to_owned()), value));
                    } else if let Some(start) = text.strip_suffix('*').filter(|_| has_hosts) {
                        starts.push((Pattern::Start(start.to_owned()), value));
                    } else {
                        map.entries.push((Pattern::Text(text), value));
                    }
                }
            }
        }
        // Text is looked up first, then the longest end and the longest beginning; regular expressions are tried last.
        let length = |(pattern, _): &(Pattern, String)| Reverse(pattern.length());
        ends.sort_by_key(length);
        starts.sort_by_key(length);
        map.entries.extend(ends);
        map.entries.extend(starts);
        map.entries.extend(regexes);
        map
    }

    /// The contents of an included file follow its `include`, if the file was read.
    fn include(&mut self, include: &Directive, failed: &BTreeSet<usize>) {
        if failed.contains(&include.id) {
            let reason = format!("the entries of `{}` are not known", include.argument(0));
            self.problem = Some(NoEquivalent::Reason(reason));
        }
    }

    fn geo(source: String, directive: &Directive, failed: &BTreeSet<usize>) -> Self {
        let mut map = Self { source, entries: Vec::new(), default: String::new(), problem: None };
        let mut networks = Vec::new();
        for entry in directive.children() {
            let value = entry.argument(0).to_owned();
            match entry.name.as_str() {
                "default" => map.default = value,
                "include" => map.include(entry, failed),
                "ranges" | "delete" | "proxy" | "proxy_recursive" => {
                    map.problem = Some(NoEquivalent::Reason(format!("`{}` has no equivalent", entry.name)));
                }
                network => {
                    let bits = network.split_once('/').and_then(|(_, bits)| bits.parse::<u32>().ok());
                    let address = network.split('/').next().unwrap_or_default();
                    if address.parse::<std::net::IpAddr>().is_err() {
                        map.problem = Some(NoEquivalent::Reason(format!("`{network}` is not a network")));
                    }
                    let whole = if address.contains(':') { 128 } else { 32 };
                    let bits = bits.unwrap_or(whole);
                    networks.push((bits, Pattern::Network(format!("{address}/{bits}")), value));
                }
            }
        }
        // The smallest network decides.
        networks.sort_by_key(|(bits, ..)| Reverse(*bits));
        map.entries = networks.into_iter().map(|(_, pattern, value)| (pattern, value)).collect();
        map
    }

    /// The different values, the default last, each with the condition under which the map has it. `None` is the
    /// condition of the default.
    pub(crate) fn cases(&self, source: &str) -> Result<Vec<(Option<String>, String)>, NoEquivalent> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let mut cases: Vec<(Option<String>, String)> = Vec::new();
        for (pattern, value) in &self.entries {
            cases.push((Some(pattern.test(source)), value.clone()));
        }
        cases.push((None, self.default.clone()));
        Ok(cases)
    }

    /// The value as an expression; `value_of` translates a value of the map.
    ///
    /// # Errors
    /// A variable without an equivalent, or why the map cannot be translated.
    pub(crate) fn expression(
        &self,
        source: &str,
        value_of: impl Fn(&str) -> Result<String, NoEquivalent>,
    ) -> Result<String, NoEquivalent> {
        let reason = |reason: String| Err(NoEquivalent::Reason(reason));
        let mut expression = value_of(&self.default)?;
        let cases = self.cases(source)?;
        if cases.len() > LARGEST_MAP {
            return reason(format!("a map of more than {LARGEST_MAP} entries has no equivalent"));
        }
        for (test, value) in cases.iter().rev() {
            let Some(test) = test else { continue };
            expression = format!("{test} ? {} : {}", grouped(value_of(value)?), grouped_ternary(&expression));
            if expression.len() > LONGEST_EXPRESSION {
                return reason("the expression of the map would be too long".to_owned());
            }
        }
        Ok(format!("({expression})"))
    }
}

/// A chain of `?:` needs no parentheses on its right side.
fn grouped_ternary(expression: &str) -> String {
    if expression.contains(" ? ") { expression.to_owned() } else { grouped(expression.to_owned()) }
}

impl Pattern {
    fn test(&self, source: &str) -> String {
        let source = grouped(source.to_owned());
        // A host and a scheme have no capitals.
        let has_case = |text: &str| {
            text.bytes().any(|byte| byte.is_ascii_alphabetic())
                && !["request.host", "request.scheme"].contains(&source.as_str())
        };
        let folded =
            |text: &str| if has_case(text) { format!("{source}.lowerAscii()") } else { source.clone() };
        match self {
            Self::Text(text) => format!("{} == {}", folded(text), literal(text)),
            Self::End(end) => format!("{}.endsWith({})", folded(end), literal(end)),
            Self::Start(start) => format!("{}.startsWith({})", folded(start), literal(start)),
            Self::Regex(pattern) => format!("{source}.matches({})", literal(pattern)),
            Self::Network(network) => format!("cidr({}).containsIP({source})", literal(network)),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Text(text) | Self::End(text) | Self::Start(text) => text.len(),
            Self::Regex(text) | Self::Network(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn test(pattern: &Pattern) -> String {
        pattern.test("request.headers[\"x\"]")
    }

    #[test]
    fn text_is_compared_without_regard_to_case() {
        for (pattern, expected) in [
            (Pattern::Text("admin".to_owned()), r#"request.headers["x"].lowerAscii() == "admin""#),
            (Pattern::Text("1".to_owned()), r#"request.headers["x"] == "1""#),
            (Pattern::End(".a".to_owned()), r#"request.headers["x"].lowerAscii().endsWith(".a")"#),
            (Pattern::Regex("^A".to_owned()), r#"request.headers["x"].matches("^A")"#),
        ] {
            assert_eq!(test(&pattern), expected);
        }
        assert_eq!(Pattern::Text("a".to_owned()).test("request.host"), r#"request.host == "a""#);
    }
}
