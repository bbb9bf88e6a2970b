//! Conversion of a scalar's text to the requested type.

use super::error::ReadError;
use super::reader::Reader;
use crate::yaml_scalars::{self, YamlScalar};
use crate::{Problem, Quotes, ValueKind};

/// Longer texts are truncated in messages: the line itself is shown below them.
const SHOWN_MAX: usize = 40;

impl<'a> Reader<'a> {
    /// The text of a scalar, in any form.
    pub(crate) fn text(self) -> Result<&'a str, ReadError> {
        match &self.node.kind {
            ValueKind::Scalar { text, .. } => Ok(text),
            _ => Err(self.wrong("text")),
        }
    }

    /// A whole number in the range of `T`.
    pub(crate) fn whole<T: TryFrom<i128>>(self, least: i128, most: i128) -> Result<T, ReadError> {
        let text = self.unquoted("a whole number")?;
        let number = yaml_scalars::whole(text).ok_or_else(|| self.wrong("a whole number"))?;
        T::try_from(number).map_err(|_| {
            let problem = Problem::new(format!("`{}` is out of range", truncated(text)));
            ReadError::new(problem.label(format!("from {least} to {most}")))
        })
    }

    /// A number with or without a fraction.
    pub(crate) fn fraction(self) -> Result<f64, ReadError> {
        yaml_scalars::float(self.unquoted("a number")?).ok_or_else(|| self.wrong("a number"))
    }

    /// `true` or `false`.
    pub(crate) fn truth(self) -> Result<bool, ReadError> {
        let text = self.unquoted("`true` or `false`")?;
        match YamlScalar::of(text) {
            YamlScalar::Bool(truth) => Ok(truth),
            _ => Err(ReadError::new(match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => self.wrong_problem("`true` or `false`").label("write `true`"),
                "no" | "off" | "n" | "false" => {
                    self.wrong_problem("`true` or `false`").label("write `false`")
                }
                _ => self.wrong_problem("`true` or `false`"),
            })),
        }
    }

    /// An error: the value has the wrong type.
    pub(crate) fn wrong(self, expected: &str) -> ReadError {
        ReadError::new(self.wrong_problem(expected))
    }

    /// A scalar in place of a list.
    pub(crate) fn list_of_one(self) -> ReadError {
        let problem = self.wrong_problem("a list");
        ReadError::new(match &self.node.kind {
            ValueKind::Scalar { text, .. } => problem.label(format!("write a list: `[{}]`", truncated(text))),
            _ => problem,
        })
    }

    fn wrong_problem(self, expected: &str) -> Problem {
        Problem::new(format!("expected {expected}, found {}", self.found()))
    }

    fn unquoted(self, expected: &str) -> Result<&'a str, ReadError> {
        match &self.node.kind {
            ValueKind::Scalar { text, quotes: Quotes::Absent | Quotes::AroundVariable } => Ok(text),
            ValueKind::Scalar { text, .. } if YamlScalar::of(text) != YamlScalar::Text => {
                Err(ReadError::new(self.wrong_problem(expected).label("without the quotes")))
            }
            _ => Err(self.wrong(expected)),
        }
    }

    fn found(self) -> String {
        match &self.node.kind {
            ValueKind::Null => "nothing".to_owned(),
            ValueKind::Scalar { text, quotes: Quotes::Absent } => format!("`{}`", truncated(text)),
            ValueKind::Scalar { text, .. } => format!("the text `{:?}`", truncated(text)),
            ValueKind::List(_) => "a list".to_owned(),
            ValueKind::Map(_) => "a mapping".to_owned(),
        }
    }
}

fn truncated(text: &str) -> String {
    let cut = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c });
    let mut truncated: String = cut.collect();
    if truncated.len() < text.len() {
        truncated.push('…');
    }
    truncated
}
