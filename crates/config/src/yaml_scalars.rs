//! The type of an unquoted scalar without a requested type: YAML 1.2's core schema. `yes`, `off` and `010` are
//! text. A reader that requests a type does not use this module.

/// The meaning of an unquoted scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum YamlScalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number without sign.
    Unsigned(u64),
    /// A whole number below zero.
    Signed(i64),
    /// A number with a point or an exponent.
    Float(f64),
    /// Anything else.
    Text,
}

impl YamlScalar {
    /// The meaning of `text`.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "true" => return Self::Bool(true),
            "false" => return Self::Bool(false),
            _ => {}
        }
        // `inf`, `nan` and similar words are text, and most words end here.
        if !text.bytes().next().is_some_and(|first| first.is_ascii_digit() || b"+-.".contains(&first)) {
            return Self::Text;
        }
        if let Some(number) = whole(text) {
            if let Ok(number) = u64::try_from(number) {
                return Self::Unsigned(number);
            }
            if let Ok(number) = i64::try_from(number) {
                return Self::Signed(number);
            }
        }
        float(text).map_or(Self::Text, Self::Float)
    }

    /// Whether a plain scalar with this text would read as something other than text, so that quotes change its
    /// meaning.
    pub(crate) fn differs_when_quoted(text: &str) -> bool {
        Self::of(text) != Self::Text || matches!(text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// The meaning, if writing it back yields exactly `text`: `10`, but not `010` or `1.50`.
    pub(crate) fn exact(text: &str) -> Option<Self> {
        let plain = Self::of(text);
        let written = match plain {
            Self::Bool(_) | Self::Text => return Some(plain),
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
        };
        (written == text).then_some(plain)
    }
}

/// A whole decimal number, if it is one.
pub(crate) fn whole(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A finite decimal number, if it is one.
pub(crate) fn float(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let shaped = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && digits.bytes().next().is_some_and(|first| first.is_ascii_digit() || first == b'.');
    if !shaped {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        for text in
            ["yes", "off", "nan", ".inf", "1.2.3", "10s", "127.0.0.1:80", "-", "+", ".", "0x10", "1_000", ""]
        {
            assert_eq!(YamlScalar::of(text), YamlScalar::Text, "{text}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_recognised() {
        assert_eq!(YamlScalar::of("true"), YamlScalar::Bool(true));
        assert_eq!(YamlScalar::of("010"), YamlScalar::Unsigned(10));
        assert_eq!(YamlScalar::of("-3"), YamlScalar::Signed(-3));
        assert_eq!(YamlScalar::of("1e3"), YamlScalar::Float(1000.0));
        assert_eq!(YamlScalar::of("99999999999999999999"), YamlScalar::Float(1e20));
    }

    #[test]
    fn only_the_usual_spelling_is_exact() {
        assert_eq!(YamlScalar::exact("0.5"), Some(YamlScalar::Float(0.5)));
        for text in ["010", "1.50", "1e3", "+1", ".5", "99999999999999999999"] {
            assert_eq!(YamlScalar::exact(text), None, "{text}");
        }
    }
}
