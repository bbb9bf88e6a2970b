//! Text and conditions with nginx's variables as templates and as expressions (CEL).

use crate::cel_text::{Part, grouped, literal, no_equivalent, parts, regex_text};
use crate::maps::Maps;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The deepest nesting of maps whose sources are maps.
const DEEPEST_MAP: usize = 8;

/// The most parts of one text after its variables have been replaced.
const EXPANSIONS: usize = 10_000;

/// The meaning of variables at one place.
#[derive(Clone, Debug)]
pub(crate) struct Variables<'a> {
    /// The variables of `map` and `geo`.
    pub(crate) maps: &'a Maps,
    /// Variables with a fixed value here: of `set`, `$server_name`, `$server_port`, `$proxy_host`.
    pub(crate) constants: BTreeMap<String, String>,
}

impl Variables<'_> {
    /// The text with constants inserted.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut budget = EXPANSIONS;
        self.expand_within(text, 0, &mut budget)
    }

    fn expand_within(&self, text: &str, depth: usize, budget: &mut usize) -> String {
        let mut out = String::new();
        for part in parts(text) {
            // Variables that refer to each other could grow without end.
            let Some(rest) = budget.checked_sub(1) else { break };
            *budget = rest;
            match part {
                Part::Literal(text) => out.push_str(&text),
                Part::Variable(name) => match self.constants.get(&name) {
                    Some(value) if depth < DEEPEST_MAP => {
                        out.push_str(&self.expand_within(value, depth + 1, budget));
                    }
                    _ => {
                        let _ = write!(out, "${{{name}}}");
                    }
                },
            }
            if out.len() > 64 << 10 {
                break;
            }
        }
        out
    }

    /// The text with placeholders of our templates.
    ///
    /// # Errors
    /// The first variable without an equivalent.
    pub(crate) fn template(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        for part in parts(&self.expand(text)) {
            match part {
                Part::Literal(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Part::Variable(name) => match placeholder(&name) {
                    Some(placeholder) => out.push_str(placeholder),
                    None => {
                        let _ = write!(out, "{{cel: {}}}", self.variable(&name, 0)?);
                    }
                },
            }
        }
        Ok(out)
    }

    /// The text as an expression of type text.
    ///
    /// # Errors
    /// The first variable without an equivalent.
    pub(crate) fn expression(&self, text: &str) -> Result<String, String> {
        self.expression_within(text, 0)
    }

    fn expression_within(&self, text: &str, depth: usize) -> Result<String, String> {
        let parts = parts(&self.expand(text));
        let mut terms = Vec::new();
        for part in parts {
            terms.push(match part {
                Part::Literal(text) => literal(&text),
                Part::Variable(name) => self.variable(&name, depth)?,
            });
        }
        Ok(if terms.is_empty() { literal("") } else { terms.join(" + ") })
    }

    /// A variable as an expression of type text.
    fn variable(&self, name: &str, depth: usize) -> Result<String, String> {
        if let Some(map) = self.maps.get(name) {
            if depth >= DEEPEST_MAP {
                return Err(name.to_owned());
            }
            let source = self.expression_within(&map.source, depth + 1)?;
            return map.expression(&source, |value| self.expression_within(value, depth + 1));
        }
        variable(name).ok_or_else(|| name.to_owned())
    }
}

/// The placeholder of a variable.
fn placeholder(name: &str) -> Option<&'static str> {
    Some(match name {
        "remote_addr" => "{client_ip}",
        "host" => "{host}",
        "scheme" => "{scheme}",
        "request_method" => "{method}",
        "request_id" => "{request_id}",
        "args" | "query_string" => "{query}",
        _ => return None,
    })
}

/// A variable of nginx as an expression.
fn variable(name: &str) -> Option<String> {
    let fixed = match name {
        "remote_addr" | "binary_remote_addr" | "proxy_protocol_addr" => "request.client_ip",
        "realip_remote_addr" => "request.peer_ip",
        "host" => "request.host",
        "scheme" => "request.scheme",
        "request_method" => "request.method",
        "uri" | "document_uri" => "request.path",
        "request_uri" => r#"request.raw_path + (request.query == "" ? "" : "?" + request.query)"#,
        "args" | "query_string" => "request.query",
        "is_args" => r#"(request.query == "" ? "" : "?")"#,
        "https" => r#"(request.scheme == "https" ? "on" : "")"#,
        "request_id" => "request.id",
        "server_protocol" => "request.version",
        "ssl_protocol" => "request.tls.version",
        "ssl_cipher" => "request.tls.cipher",
        "ssl_server_name" => "request.tls.server_name",
        "ssl_client_s_dn" => "request.tls.client.subject",
        "ssl_client_i_dn" => "request.tls.client.issuer",
        "ssl_client_serial" => "request.tls.client.serial",
        "status" => "string(response.status)",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.to_owned());
    }
    let by_name = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    if let Some(field) = by_name("http_") {
        return Some(format!("request.headers[{}]", literal(&field.replace('_', "-"))));
    }
    if let Some(field) = by_name("sent_http_") {
        return Some(format!("response.headers[{}]", literal(&field.replace('_', "-"))));
    }
    if let Some(cookie) = by_name("cookie_") {
        return Some(format!("request.cookies[{}]", literal(cookie)));
    }
    by_name("arg_").map(|parameter| format!("request.params[{}]", literal(parameter)))
}

/// The condition of an `if`, as an expression of type bool.
///
/// # Errors
/// Why it has no equivalent.
pub(crate) fn condition(arguments: &[&str], variables: &Variables<'_>) -> Result<String, String> {
    let mut words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    if let Some(first) = words.first_mut() {
        *first = first.strip_prefix('(').unwrap_or(first).to_owned();
    }
    if let Some(last) = words.last_mut()
        && let Some(open) = last.strip_suffix(')')
    {
        *last = open.to_owned();
    }
    // Spaces and quotes beside the parentheses make words of their own; an empty value in the middle is one.
    if words.first().is_some_and(String::is_empty) && words.len() > 1 {
        words.remove(0);
    }
    if words.last().is_some_and(String::is_empty) && words.len() > 3 {
        words.pop();
    }
    if words.len() == 2 && words[1].is_empty() {
        words.pop();
    }
    let unknown = |name: String| no_equivalent(&name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [subject] => {
            let value = variables.expression(subject).map_err(unknown)?;
            Ok(format!("!(({value}) in [\"\", \"0\"])"))
        }
        [subject, operator, value] => {
            let subject = grouped(variables.expression(subject).map_err(unknown)?);
            match *operator {
                "=" | "!=" => {
                    let value = grouped(variables.expression(value).map_err(unknown)?);
                    let operator = if *operator == "=" { "==" } else { "!=" };
                    Ok(format!("{subject} {operator} {value}"))
                }
                "~" | "~*" | "!~" | "!~*" => {
                    let pattern = regex_text(value, operator.ends_with('*'))?;
                    let not = if operator.starts_with('!') { "!" } else { "" };
                    Ok(format!("{not}{subject}.matches({})", literal(&pattern)))
                }
                other => Err(format!("the operator `{other}` has no equivalent")),
            }
        }
        _ => Err("tests of files have no equivalent".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn variables(maps: &Maps) -> Variables<'_> {
        Variables { maps, constants: BTreeMap::from([("backend".to_owned(), "http://a:1".to_owned())]) }
    }

    #[test]
    fn text_with_variables_becomes_a_template() {
        let maps = Maps::default();
        let variables = variables(&maps);
        for (text, template) in [
            ("$remote_addr", "{client_ip}"),
            ("a{b}", "a{{b}}"),
            ("${backend}/x", "http://a:1/x"),
            ("$http_x_team", "{cel: request.headers[\"x-team\"]}"),
            ("$scheme://$host/$", "{scheme}://{host}/$"),
        ] {
            assert_eq!(variables.template(text).unwrap(), template);
        }
        assert_eq!(variables.template("$nowhere").unwrap_err(), "nowhere");
    }

    #[test]
    fn conditions_become_expressions() {
        let maps = Maps::default();
        let variables = variables(&maps);
        for (words, expression) in [
            (&["($scheme", "!=", "https)"][..], "request.scheme != \"https\""),
            (&["($http_x", "=", "", ")"], "request.headers[\"x\"] == \"\""),
            (&["(", "$host", "=", "a", ")"], "request.host == \"a\""),
            (&["($http_user_agent", "~*", "bot)"], "request.headers[\"user-agent\"].matches(\"(?i)bot\")"),
            (&["($arg_x)"], "!((request.params[\"x\"]) in [\"\", \"0\"])"),
        ] {
            assert_eq!(condition(words, &variables).unwrap(), expression);
        }
        assert!(condition(&["(-f", "$request_filename)"], &variables).is_err());
        assert!(condition(&["($host", "~", "(?!x)a)"], &variables).is_err());
    }
}
