//! `map`, `geo` and `split_clients`: variables whose value depends on another one.

use crate::cel_text::{grouped, literal, regex_text};
use crate::reader::Directive;
use std::collections::BTreeMap;

/// The most entries of a map that is part of an expression: expressions have at most 32 levels.
const LARGEST_MAP: usize = 24;

/// The longest expression in bytes.
const LONGEST_EXPRESSION: usize = 4096;

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
    problem: Option<String>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Text(String),
    Regex(String),
    Network(String),
}

/// The maps of a configuration by their variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maps(BTreeMap<String, MapVariable>);

impl Maps {
    /// The map with that variable.
    pub(crate) fn get(&self, variable: &str) -> Option<&MapVariable> {
        self.0.get(variable)
    }

    /// Reads the maps of the `http` level.
    pub(crate) fn read(directives: &[Directive]) -> Self {
        let mut maps = BTreeMap::new();
        for directive in directives {
            let variable = |index: usize| directive.argument(index).trim_start_matches('$').to_owned();
            match (directive.name.as_str(), directive.arguments.len()) {
                ("map", 2) => {
                    maps.insert(variable(1), MapVariable::map(directive));
                }
                ("geo", 1) => {
                    maps.insert(variable(0), MapVariable::geo("$remote_addr".to_owned(), directive));
                }
                ("geo", 2) => {
                    maps.insert(variable(1), MapVariable::geo(directive.argument(0).to_owned(), directive));
                }
                _ => {}
            }
        }
        Self(maps)
    }
}

/// Whether a map chooses the `Connection` field of WebSocket handshakes, in any of its spellings.
pub(crate) fn is_upgrade_map(directive: &Directive) -> bool {
    directive.name == "map" && directive.argument(0) == "$http_upgrade"
}

impl MapVariable {
    fn map(directive: &Directive) -> Self {
        let mut map = Self {
            source: directive.argument(0).to_owned(),
            entries: Vec::new(),
            default: String::new(),
            problem: None,
        };
        let mut regexes = Vec::new();
        for entry in directive.children() {
            let value = entry.argument(0).to_owned();
            match entry.name.as_str() {
                "default" => map.default = value,
                "hostnames" => map.problem = Some("`hostnames` has no equivalent".to_owned()),
                "volatile" | "include" => {}
                name => {
                    if let Some(pattern) = name.strip_prefix('~') {
                        let (pattern, ignore_case) =
                            pattern.strip_prefix('*').map_or((pattern, false), |pattern| (pattern, true));
                        match regex_text(pattern, ignore_case) {
                            Ok(pattern) => regexes.push((Pattern::Regex(pattern), value)),
                            Err(problem) => map.problem = Some(problem),
                        }
                    } else {
                        let text = name.strip_prefix('\\').unwrap_or(name);
                        map.entries.push((Pattern::Text(text.to_owned()), value));
                    }
                }
            }
        }
        // Text is looked up before regular expressions are tried.
        map.entries.extend(regexes);
        map
    }

    fn geo(source: String, directive: &Directive) -> Self {
        let mut map = Self { source, entries: Vec::new(), default: String::new(), problem: None };
        let mut networks = Vec::new();
        for entry in directive.children() {
            let value = entry.argument(0).to_owned();
            match entry.name.as_str() {
                "default" => map.default = value,
                "include" => {}
                "ranges" | "delete" | "proxy" | "proxy_recursive" => {
                    map.problem = Some(format!("`{}` has no equivalent", entry.name));
                }
                network => {
                    let bits = network.split_once('/').and_then(|(_, bits)| bits.parse::<u32>().ok());
                    let address = network.split('/').next().unwrap_or_default();
                    if address.parse::<std::net::IpAddr>().is_err() {
                        map.problem = Some(format!("`{network}` is not a network"));
                    }
                    let whole = if address.contains(':') { 128 } else { 32 };
                    let bits = bits.unwrap_or(whole);
                    networks.push((bits, Pattern::Network(format!("{address}/{bits}")), value));
                }
            }
        }
        // The smallest network decides.
        networks.sort_by_key(|(bits, ..)| std::cmp::Reverse(*bits));
        map.entries = networks.into_iter().map(|(_, pattern, value)| (pattern, value)).collect();
        map
    }

    /// The different values, the default last, each with the condition under which the map has it. `None` is the
    /// condition of the default.
    pub(crate) fn cases(&self, source: &str) -> Result<Vec<(Option<String>, String)>, String> {
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
    /// The name of a variable without an equivalent, or why the map cannot be translated.
    pub(crate) fn expression(
        &self,
        source: &str,
        value_of: impl Fn(&str) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut expression = value_of(&self.default)?;
        let cases = self.cases(source)?;
        if cases.len() > LARGEST_MAP {
            return Err(format!("a map of more than {LARGEST_MAP} entries has no equivalent"));
        }
        for (test, value) in cases.iter().rev() {
            let Some(test) = test else { continue };
            expression = format!("{test} ? {} : {}", grouped(value_of(value)?), grouped_ternary(&expression));
            if expression.len() > LONGEST_EXPRESSION {
                return Err("the expression of the map would be too long".to_owned());
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
        match self {
            Self::Text(text) => format!("{source} == {}", literal(text)),
            Self::Regex(pattern) => format!("{source}.matches({})", literal(pattern)),
            Self::Network(network) => format!("cidr({}).containsIP({source})", literal(network)),
        }
    }
}
