//! Lines by a template of the operator, as `{client} {method} {status}`: parsed with the configuration, filled in
//! without an allocation.

use super::entry::Entry;
use super::escape;
use super::field::{Field, FieldValue};
use super::timestamp::Timestamp;
use moongate_config::Problem;

/// A text with fields in braces; `{{` and `}}` are literal braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Field(Field),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// An unknown field, an unmatched brace, a text without a field, a line break or another control character.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(control) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(Problem::new(format!("a log line cannot contain the control character {control:?}")));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                plain.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let inside = from.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside else {
                let brace = &from[..1];
                return Err(Problem::new(format!("unmatched `{brace}`"))
                    .help(format!("write `{brace}{brace}` for a literal brace")));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into_bytes().into()));
            }
            parts.push(Part::Field(field(name)?));
            rest = after;
        }
        if parts.is_empty() {
            return Err(Problem::new("the template has no field")
                .help("an example: `{client} {method} {path} {status}`"));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into_bytes().into()));
        }
        Ok(Self(parts.into()))
    }

    /// Appends the line of `entry`; `-` for a field without a value.
    pub(super) fn write(&self, line: &mut Vec<u8>, stamp: &Timestamp, entry: &Entry<'_>) {
        for part in &self.0 {
            let field = match part {
                Part::Text(text) => {
                    line.extend_from_slice(text);
                    continue;
                }
                Part::Field(field) => field,
            };
            match field.value(entry) {
                FieldValue::Absent | FieldValue::Notes(_) => line.push(b'-'),
                FieldValue::Time => line.extend_from_slice(stamp.rfc3339()),
                FieldValue::Text(text) => escape::quoted(line, text),
                FieldValue::Address(address) => escape::address(line, address),
                FieldValue::Number(number) => escape::decimal(line, number),
                FieldValue::Milliseconds(time) => escape::milliseconds(line, time),
                FieldValue::Trace(trace) => line.extend_from_slice(&trace.digits()),
            }
        }
        line.push(b'\n');
    }
}

fn field(name: &str) -> Result<Field, Problem> {
    if name == Field::Plugins.name() {
        return Err(Problem::new("a template cannot contain the notes of plugins")
            .help("`plugins` is an object, which JSON lines have: `fields: [time, plugins, …]`"));
    }
    Field::ALL.into_iter().find(|field| field.name() == name).ok_or_else(|| {
        Problem::new(format!("unknown field `{{{name}}}`"))
            .suggest(name, Field::ALL.map(Field::name))
            .help("docs/reference/access-log.md lists the fields")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn refused(text: &str) -> Problem {
        Template::parse(text).unwrap_err()
    }

    #[test]
    fn texts_and_fields_alternate() {
        let template = Template::parse("{{{client}}}\t{status}č").unwrap();
        let text = |text: &str| Part::Text(text.as_bytes().into());
        let parts =
            [text("{"), Part::Field(Field::Client), text("}\t"), Part::Field(Field::Status), text("č")];
        assert_eq!(*template.0, parts);
    }

    #[test]
    fn a_template_that_cannot_be_meant_is_refused() {
        for (text, message) in [
            ("", "the template has no field"),
            ("{{client}}", "the template has no field"),
            ("{client", "unmatched `{`"),
            ("{client}}", "unmatched `}`"),
            ("{client}\n", "a log line cannot contain the control character '\\n'"),
            ("{client}\u{1b}", "a log line cannot contain the control character '\\u{1b}'"),
            ("{}", "unknown field `{}`"),
            ("{plugins}", "a template cannot contain the notes of plugins"),
        ] {
            assert_eq!(refused(text).message, message, "{text:?}");
        }
        let near = refused("{stauts}");
        assert_eq!(
            (&*near.message, near.label.as_deref()),
            ("unknown field `{stauts}`", Some("did you mean `status`?"))
        );
    }
}
