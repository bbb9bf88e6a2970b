//! The effective configuration without its secrets, for the admin API.

use super::load::Loaded;
use super::print::print_changed;
use regex::Regex;
use serde_yaml::Value;
use std::sync::LazyLock;

/// What a secret is replaced by.
const MASK: &str = "(secret)";

/// A setting whose name contains one of these is a secret, with everything in it.
static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        "(?i)api[-_]?key|authorization|credential|passphrase|passwd|password|private[-_]key|secret|signature|token",
    )
    .ok()
});

/// Settings that are secrets under exactly this name. Those of `users` have passwords or their hashes as values; the `key`
/// of an `external_account` is a key and no file. `Cookie` is a header field; `cookie` in lower case is the name of one.
const SECRET_NAMES: [&str; 5] = ["keys", "users", "Cookie", "Set-Cookie", "external_account"];

/// Names of no secret, although [`SECRETS`] matches them.
const SHOWN_NAMES: [&str; 1] = ["token_from"];

/// A value from the environment is masked from this length on; a shorter one would also match unrelated text.
const SHORTEST: usize = 4;

/// Writes a configuration as [`super::print`] does. Secrets are masked: settings with such a name, the header fields of
/// `tracing`, user names in URLs with their passwords, and every value from the environment, which is shown as its
/// variable.
pub fn print_masked(loaded: &Loaded) -> String {
    let mut environment: Vec<_> =
        loaded.environment.iter().filter(|(_, value)| value.len() >= SHORTEST).collect();
    // The longest first: a value that contains another one is masked as a whole.
    environment.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    print_changed(&loaded.spec, |tree| mask(tree, "", &environment))
}

fn mask(tree: &mut Value, parent: &str, environment: &[&(String, String)]) {
    match tree {
        Value::String(text) => mask_text(text, environment),
        Value::Sequence(items) => items.iter_mut().for_each(|item| mask(item, parent, environment)),
        Value::Mapping(entries) => {
            for (name, value) in entries {
                let name = name.as_str().unwrap_or_default();
                if is_secret(name, parent) { hide(value) } else { mask(value, name, environment) }
            }
        }
        Value::Tagged(tagged) => mask(&mut tagged.value, parent, environment),
        // A number may be a secret too, such as a PIN from the environment.
        Value::Number(number) => {
            let text = number.to_string();
            if let Some((name, _)) = environment.iter().find(|(_, value)| *value == text) {
                *tree = Value::String(format!("${{{name}}}"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_secret(name: &str, parent: &str) -> bool {
    SECRET_NAMES.contains(&name)
        // Collectors have credentials in header fields of any name.
        || (parent == "tracing" && name == "headers")
        // Without the expression, which always compiles, everything is a secret.
        || (!SHOWN_NAMES.contains(&name) && SECRETS.as_ref().is_none_or(|secrets| secrets.is_match(name)))
}

/// Replaces every value below a secret setting.
fn hide(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Sequence(items) => items.iter_mut().for_each(hide),
        Value::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| hide(value)),
        other => *other = Value::String(MASK.to_owned()),
    }
}

fn mask_text(text: &mut String, environment: &[&(String, String)]) {
    if environment.iter().any(|(_, value)| text.contains(value.as_str())) {
        *text = with_variables(text, environment);
    }
    hide_user(text);
}

/// Shows values from the environment as their variables, in one pass: a replacement is not replaced again.
fn with_variables(text: &str, environment: &[&(String, String)]) -> String {
    let mut rest = text;
    let mut masked = String::new();
    while !rest.is_empty() {
        let found = environment.iter().find(|(_, value)| rest.starts_with(value.as_str()));
        let taken = match found {
            Some((name, value)) => {
                masked.extend(["${", name, "}"]);
                value.len()
            }
            None => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                masked.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    masked
}

/// Replaces the user information of a URL (RFC 3986 §3.2.1).
fn hide_user(text: &mut String) {
    let authority = text.find("://").map(|at| at + 3);
    if let Some(start) = authority {
        let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
        if let Some(at) = text[start..end].rfind('@') {
            text.replace_range(start..start + at, MASK);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::super::load_text;
    use super::*;

    #[test]
    fn secrets_are_masked_and_everything_else_is_shown() {
        let yaml = r#"
admin: { address: 127.0.0.1:9901, token: "swordfish" }
listeners:
  - address: 127.0.0.1:8443
    tls: { acme: { domains: [a.example], email: [a@a.example], external_account: { id: kid, key: c3dvcmQ } } }
tracing: { otlp: "http://127.0.0.1:4318", headers: { x-team: hive } }
routes:
  - path: /
    upstream: ["${BACKEND}"]
    plugins:
      - { kind: basic_auth, realm: here, users: { ann: "hash-of-ann" } }
      - { kind: headers, request: { set: { X-Vault-Token: hush, X-Kind: plain, X-Both: "${SHORT}-${LONG}" } } }
      - { kind: forward_auth, url: "http://user:pass@auth.example/check" }
"#;
        let env = |name: &str| {
            let values = [("BACKEND", "10.1.2.3:8081"), ("LONG", "prod-9f8e7d6c"), ("SHORT", "prod")];
            values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let loaded = load_text("test.yaml", yaml, &env).unwrap();
        let text = print_masked(&loaded);
        for secret in
            ["swordfish", "hive", "hash-of-ann", "hush", "user:pass", "10.1.2.3", "c3dvcmQ", "9f8e7d6c"]
        {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for shown in [
            "127.0.0.1:9901",
            "realm: here",
            "x-team: (secret)",
            "ann: (secret)",
            "X-Kind: plain",
            "SHORT",
            "LONG",
            "BACKEND",
            "auth.example/check",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }
}
