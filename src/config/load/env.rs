//! Environment variables in values: `${NAME}`, `${NAME:-default}`, and `$$` for a dollar.

use super::Env;
use moongate_config::{Problem, Quotes, Value, ValueKind};

/// Expands the variables of a scalar. A lone `$` stays: regular expressions end with it.
pub(super) fn substitute(value: &mut Value, env: &Env<'_>) -> Result<(), Problem> {
    let ValueKind::Scalar { text, quotes } = &value.kind else { return Ok(()) };
    if !text.contains('$') {
        return Ok(());
    }
    let replaced = expand(text, env).map_err(|problem| problem.at(&value.place))?;
    let has_variable = text.replace("$$", "").contains("${");
    // An unquoted scalar is typed by its expanded text, which may be null.
    value.kind = match (replaced.as_str(), *quotes) {
        ("" | "~" | "null" | "Null" | "NULL", Quotes::Absent) => ValueKind::Null,
        (_, Quotes::Present) if has_variable => {
            ValueKind::Scalar { text: replaced, quotes: Quotes::AroundVariable }
        }
        (_, quotes) => ValueKind::Scalar { text: replaced, quotes },
    };
    Ok(())
}

fn expand(text: &str, env: &Env<'_>) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(inside) = from.strip_prefix("${") {
            let (written, after) = inside
                .split_once('}')
                .ok_or_else(|| Problem::new("`${` is not closed").help("write `$$` for a dollar"))?;
            out.push_str(&look_up(written, env)?);
            rest = after;
        } else {
            out.push('$');
            rest = from.strip_prefix('$').unwrap_or_default();
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(written: &str, env: &Env<'_>) -> Result<String, Problem> {
    let (name, default) = match written.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (written, None),
    };
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !word || name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return Err(Problem::new(format!("`{name}` is not a valid variable name"))
            .help("write `${NAME}` or `${NAME:-default}`, or `$$` for a dollar"));
    }
    // As in a shell, the default of `:-` also replaces an empty value.
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Problem::new(format!("environment variable `{name}` is not set"))
            .label(format!("`${{{name}:-default}}` sets a default"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollars() {
        let cases = [
            ("a:${PORT}/${PORT}", "a:8080/8080"),
            ("${NOPE:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NOPE:-}", ""),
            ("$$", "$"),
            ("$${PORT}", "${PORT}"),
            ("^/api$", "^/api$"),
            ("$1", "$1"),
        ];
        for (written, meant) in cases {
            assert_eq!(expand(written, &env).unwrap(), meant, "{written}");
        }
        for written in ["${NOPE}", "${", "${}", "${1}", "${a b}", "x${PORT"] {
            expand(written, &env).unwrap_err();
        }
    }

    #[test]
    fn an_unquoted_scalar_stays_unquoted() {
        let scalar = |text: &str| ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Absent };
        let mut value = Value { place: Place::nowhere(), kind: scalar("${PORT}") };
        substitute(&mut value, &env).unwrap();
        assert_eq!(value.read::<u16>().unwrap(), 8080);
        value.kind = scalar("${EMPTY}");
        substitute(&mut value, &env).unwrap();
        assert_eq!(value.kind, ValueKind::Null);
    }

    #[test]
    fn a_quoted_variable_has_the_type_of_its_setting() {
        let read = |written: &str| {
            let kind = ValueKind::Scalar { text: written.to_owned(), quotes: Quotes::Present };
            let mut value = Value { place: Place::nowhere(), kind };
            substitute(&mut value, &env).unwrap();
            value
        };
        let port = read("${PORT}");
        assert_eq!(port.read::<u16>().unwrap(), 8080);
        assert_eq!(port.read::<String>().unwrap(), "8080");
        assert_eq!(port.read::<serde_json::Value>().unwrap(), serde_json::json!("8080"));
        assert_eq!(read("${PORT}0").read::<u32>().unwrap(), 80800);
        assert!(read("${NOPE:-true}").read::<bool>().unwrap());
        assert_eq!(read("${NOPE:-0.5}").read::<f64>().unwrap(), 0.5);
        assert_eq!(read("${EMPTY}").read::<String>().unwrap(), "");
        let message = |written: &str| read(written).read::<u16>().unwrap_err().0[0].clone();
        // Without a variable, a quoted scalar stays text.
        assert_eq!(message("$$1").message, "expected a whole number, found the text `\"$1\"`");
        assert!(read("${NOPE:-x}").read::<u16>().is_err());
    }
}
