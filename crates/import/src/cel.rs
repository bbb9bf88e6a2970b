//! Text and conditions with nginx's variables as templates and as expressions (CEL).

use crate::cel_text::{NoEquivalent, Part, grouped, literal, parts, regex_text};
use crate::maps::{LONGEST_EXPRESSION, Maps};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The deepest nesting of maps whose sources are maps.
const DEEPEST_MAP: usize = 8;

/// The longest text with the values of variables, in bytes.
const LONGEST_TEXT: usize = 64 << 10;

/// The most conditions on which a variable of `set` depends: expressions have at most 32 levels.
const MOST_CASES: usize = 24;

/// The value of a variable of `set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// Text with variables.
    Text(String),
    /// Texts with conditions, of which the first that holds decides. The last one has no condition.
    Cases(Vec<(Option<String>, String)>),
    /// An expression of type text.
    Expression(String),
    /// Why there is no equivalent.
    Unknown(NoEquivalent),
}

/// The meaning of variables at one place.
#[derive(Clone, Debug)]
pub(crate) struct Variables<'a> {
    /// The variables of `map` and `geo`.
    pub(crate) maps: &'a Maps,
    /// The variables of `set`, and those with a fixed value here: `$server_name`, `$server_port`, `$proxy_host`.
    assigned: BTreeMap<String, Assigned>,
    /// Whether the response is known.
    has_response: bool,
}

impl<'a> Variables<'a> {
    /// The variables of requests.
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self { maps, assigned: BTreeMap::new(), has_response: false }
    }

    /// The same variables, with those of the response.
    pub(crate) fn with_response(&self) -> Self {
        Self { has_response: true, ..self.clone() }
    }

    /// The value of a variable of `set`.
    pub(crate) fn assigned(&self, name: &str) -> Option<&Assigned> {
        self.assigned.get(name)
    }

    /// Gives a variable a fixed value.
    pub(crate) fn define(&mut self, name: &str, value: String) {
        self.assigned.insert(name.to_owned(), Assigned::Text(value));
    }

    /// Gives a variable a value, as `set` does.
    pub(crate) fn assign(&mut self, name: &str, value: &str) -> &Assigned {
        self.define_unset(name);
        let text = self.expand(value);
        let value = if text.len() > LONGEST_TEXT {
            Assigned::Unknown(NoEquivalent::Reason("the text would be too long".to_owned()))
        } else if self.is_plain(&text) {
            Assigned::Text(text)
        } else {
            computed(self.expression(&text))
        };
        self.assigned.entry(name.to_owned()).insert_entry(value).into_mut()
    }

    /// Gives a variable a value under a condition, as `set` in an `if` does.
    pub(crate) fn assign_if(
        &mut self,
        condition: &Result<String, NoEquivalent>,
        name: &str,
        value: &str,
    ) -> &Assigned {
        self.define_unset(name);
        let value = self.value_if(condition, name, value);
        self.assigned.entry(name.to_owned()).insert_entry(value).into_mut()
    }

    /// A variable that only `set` gives a value is empty before.
    fn define_unset(&mut self, name: &str) {
        if !self.assigned.contains_key(name) && variable(name).is_none() && self.maps.get(name).is_none() {
            self.define(name, String::new());
        }
    }

    fn value_if(&self, condition: &Result<String, NoEquivalent>, name: &str, value: &str) -> Assigned {
        let condition = match condition {
            Ok(condition) => condition,
            Err(why) => return Assigned::Unknown(why.clone()),
        };
        let text = self.expand(value);
        let old = self.assigned.get(name).cloned().unwrap_or_else(|| Assigned::Text(String::new()));
        let mut cases = match &old {
            Assigned::Unknown(why) => return Assigned::Unknown(why.clone()),
            Assigned::Text(text) => vec![(None, text.clone())],
            Assigned::Cases(cases) => cases.clone(),
            Assigned::Expression(_) => Vec::new(),
        };
        if self.is_plain(&text) && !cases.is_empty() && cases.len() < MOST_CASES {
            cases.insert(0, (Some(condition.clone()), text));
            return Assigned::Cases(cases);
        }
        computed(self.expression(&text).and_then(|new| {
            let old = match old {
                Assigned::Expression(old) => old,
                Assigned::Text(old) => self.expression(&old)?,
                _ => self.variable(name, 0)?,
            };
            Ok(format!("({condition} ? {} : {})", grouped(new), grouped(old)))
        }))
    }

    /// Why a text has no value: the first variable that nothing defines.
    pub(crate) fn first_undefined(&self, text: &str) -> Option<NoEquivalent> {
        parts(text).into_iter().find_map(|part| match part {
            Part::Variable(name) if !self.assigned.contains_key(&name) && !self.maps.is_defined(&name) => {
                Some(undefined(&name))
            }
            _ => None,
        })
    }

    /// Whether no variable of a text depends on a condition.
    fn is_plain(&self, text: &str) -> bool {
        !parts(text).iter().any(|part| match part {
            Part::Variable(name) => {
                self.assigned.get(name).is_some_and(|value| !matches!(value, Assigned::Text(_)))
            }
            Part::Literal(_) => false,
        })
    }

    /// The text with the values of variables that are text.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Literal(text) => out.push_str(&text),
                Part::Variable(name) => match self.assigned.get(&name) {
                    Some(Assigned::Text(value)) => out.push_str(value),
                    _ => {
                        let _ = write!(out, "${{{name}}}");
                    }
                },
            }
            // Variables that contain others could grow without end.
            if out.len() > LONGEST_TEXT {
                break;
            }
        }
        out
    }

    /// The text with placeholders of our templates.
    ///
    /// # Errors
    /// The first variable without an equivalent.
    pub(crate) fn template(&self, text: &str) -> Result<String, NoEquivalent> {
        let mut out = String::new();
        for part in parts(&self.expand(text)) {
            match part {
                Part::Literal(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Part::Variable(name) => match placeholder(&name) {
                    Some(placeholder) if !self.assigned.contains_key(&name) => out.push_str(placeholder),
                    _ => {
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
    pub(crate) fn expression(&self, text: &str) -> Result<String, NoEquivalent> {
        self.expression_within(text, 0)
    }

    fn expression_within(&self, text: &str, depth: usize) -> Result<String, NoEquivalent> {
        let mut terms = Vec::new();
        let mut length = 0;
        for part in parts(&self.expand(text)) {
            let term = match part {
                Part::Literal(text) => literal(&text),
                Part::Variable(name) => self.variable(&name, depth)?,
            };
            length += term.len();
            if length > LONGEST_EXPRESSION {
                return Err(NoEquivalent::Reason("the expression would be too long".to_owned()));
            }
            terms.push(term);
        }
        Ok(if terms.is_empty() { literal("") } else { terms.join(" + ") })
    }

    /// A variable as an expression of type text.
    fn variable(&self, name: &str, depth: usize) -> Result<String, NoEquivalent> {
        let unknown = || NoEquivalent::Variable(name.to_owned());
        if depth >= DEEPEST_MAP {
            return Err(unknown());
        }
        match self.assigned.get(name) {
            Some(Assigned::Expression(expression)) => return Ok(expression.clone()),
            Some(Assigned::Unknown(why)) => return Err(why.clone()),
            Some(Assigned::Cases(cases)) => return self.cases(cases, depth),
            // The text refers to a variable before its value.
            Some(Assigned::Text(_)) => return Err(unknown()),
            None => {}
        }
        if let Some(map) = self.maps.get(name) {
            let source = self.expression_within(&map.source, depth + 1)?;
            let expression = map.expression(&source, |value| self.expression_within(value, depth + 1))?;
            self.maps.note_use(name);
            return Ok(expression);
        }
        match variable(name) {
            Some(expression) if self.has_response || !expression.contains("response.") => Ok(expression),
            None if !self.maps.is_defined(name) => Err(undefined(name)),
            _ => Err(unknown()),
        }
    }

    fn cases(&self, cases: &[(Option<String>, String)], depth: usize) -> Result<String, NoEquivalent> {
        let mut expression = literal("");
        for (condition, text) in cases.iter().rev() {
            let value = grouped(self.expression_within(text, depth + 1)?);
            expression = match condition {
                Some(condition) => format!("{condition} ? {value} : {expression}"),
                None => value,
            };
            if expression.len() > LONGEST_EXPRESSION {
                return Err(NoEquivalent::Reason("the expression would be too long".to_owned()));
            }
        }
        Ok(grouped(expression))
    }
}

/// Why a variable that no directive defines has no equivalent.
fn undefined(name: &str) -> NoEquivalent {
    NoEquivalent::Reason(format!("no `map` or `set` of the files read defines `${name}`; import nginx.conf"))
}

fn computed(expression: Result<String, NoEquivalent>) -> Assigned {
    match expression {
        Ok(expression) if expression.len() > LONGEST_EXPRESSION => {
            Assigned::Unknown(NoEquivalent::Reason("the expression would be too long".to_owned()))
        }
        Ok(expression) => Assigned::Expression(expression),
        Err(why) => Assigned::Unknown(why),
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
        // An invalid certificate fails the handshake.
        "ssl_client_verify" => r#"(request.tls.client.fingerprint == "" ? "NONE" : "SUCCESS")"#,
        "content_type" => r#"request.headers["content-type"]"#,
        "content_length" => r#"request.headers["content-length"]"#,
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
pub(crate) fn condition(arguments: &[&str], variables: &Variables<'_>) -> Result<String, NoEquivalent> {
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
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [subject] => {
            let value = variables.expression(subject)?;
            Ok(format!("!(({value}) in [\"\", \"0\"])"))
        }
        [subject, operator, value] => {
            let subject = grouped(variables.expression(subject)?);
            match *operator {
                "=" | "!=" => {
                    let value = grouped(variables.expression(value)?);
                    let operator = if *operator == "=" { "==" } else { "!=" };
                    Ok(format!("{subject} {operator} {value}"))
                }
                "~" | "~*" | "!~" | "!~*" => {
                    let pattern = regex_text(value, operator.ends_with('*'))?;
                    let not = if operator.starts_with('!') { "!" } else { "" };
                    Ok(format!("{not}{subject}.matches({})", literal(&pattern)))
                }
                other => Err(NoEquivalent::Reason(format!("the operator `{other}` has no equivalent"))),
            }
        }
        _ => Err(NoEquivalent::Reason("tests of files have no equivalent".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn variables(maps: &Maps) -> Variables<'_> {
        let mut variables = Variables::new(maps);
        variables.define("backend", "http://a:1".to_owned());
        variables
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
        assert_eq!(variables.template("$nowhere").unwrap_err(), undefined("nowhere"));
        assert_eq!(variables.template("$pid").unwrap_err(), NoEquivalent::Variable("pid".to_owned()));
        assert!(variables.template("$status").is_err());
        assert_eq!(variables.with_response().template("$status").unwrap(), "{cel: string(response.status)}");
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

    #[test]
    fn a_variable_keeps_the_conditions_of_its_values() {
        let maps = Maps::default();
        let mut variables = variables(&maps);
        variables.assign("x", "0");
        let bad = condition(&["($http_x", "~", "bad)"], &variables);
        variables.assign_if(&bad, "x", "1");
        assert_eq!(
            condition(&["($x", "=", "1)"], &variables).unwrap(),
            r#"(request.headers["x"].matches("bad") ? "1" : "0") == "1""#
        );
        // The value is that of the moment.
        variables.assign("y", "a$x");
        variables.assign("x", "2");
        assert_eq!(variables.expand("$x"), "2");
        assert_eq!(
            variables.expression("$y").unwrap(),
            r#""a" + (request.headers["x"].matches("bad") ? "1" : "0")"#
        );
        variables.assign_if(&Ok("true".to_owned()), "new", "${new}P");
        variables.assign_if(&Ok("false".to_owned()), "new", "${new}C");
        assert_eq!(
            variables.expression("$new").unwrap(),
            r#"(false ? ((true ? "P" : "") + "C") : (true ? "P" : ""))"#
        );
        let unknown = condition(&["($nowhere)"], &variables);
        variables.assign_if(&unknown, "x", "1");
        assert!(variables.expression("$x").is_err());
    }
}
