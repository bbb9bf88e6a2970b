//! The effective configuration without its secrets, for the admin API.

use super::load::Loaded;
use super::print::print_changed;
use serde_yaml::Value;

/// What a secret is replaced by.
const MASK: &str = "(secret)";

/// A setting whose name contains one of these is a secret, with everything in it.
const SECRETS: [&str; 9] = [
    "authorization",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "api_key",
    "api-key",
];

/// Settings that are secrets under exactly this name. Those of `users` have passwords or their hashes as values.
const SECRET_NAMES: [&str; 3] = ["token", "keys", "users"];

/// A value from the environment is masked from this length on; a shorter one would also match unrelated text.
const SHORTEST: usize = 4;

/// Writes a configuration as [`super::print`] does. Secrets are masked: settings with such a name, the header fields of
/// `tracing`, user names in URLs with their passwords, and every value from the environment, which is shown as its
/// variable.
pub fn print_masked(loaded: &Loaded) -> String {
    print_changed(&loaded.spec, |tree| {
        // Collectors have credentials in fields of any name.
        if let Some(headers) = tree.get_mut("tracing").and_then(|tracing| tracing.get_mut("headers")) {
            hide(headers);
        }
        mask(tree, &loaded.environment);
    })
}

fn mask(tree: &mut Value, environment: &[(String, String)]) {
    match tree {
        Value::String(text) => mask_text(text, environment),
        Value::Sequence(items) => items.iter_mut().for_each(|item| mask(item, environment)),
        Value::Mapping(entries) => {
            for (name, value) in entries {
                if name.as_str().is_some_and(is_secret) { hide(value) } else { mask(value, environment) }
            }
        }
        Value::Tagged(tagged) => mask(&mut tagged.value, environment),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&&*name) || SECRETS.iter().any(|part| name.contains(part))
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

fn mask_text(text: &mut String, environment: &[(String, String)]) {
    for (name, value) in environment {
        if value.len() >= SHORTEST && text.contains(value) {
            *text = text.replace(value, &format!("${{{name}}}"));
        }
    }
    // The user information of a URL (RFC 3986 §3.2.1).
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
tracing: { otlp: "http://127.0.0.1:4318", headers: { x-team: hive } }
routes:
  - path: /
    upstream: ["${BACKEND}"]
    plugins:
      - { kind: basic_auth, realm: here, users: { ann: "hash-of-ann" } }
      - { kind: headers, set: { Authorization: "Bearer hush", X-Kind: plain } }
      - { kind: forward_auth, url: "http://user:pass@auth.example/check" }
"#;
        let env = |name: &str| (name == "BACKEND").then(|| "10.1.2.3:8081".to_owned());
        let loaded = load_text("test.yaml", yaml, &env).unwrap();
        let text = print_masked(&loaded);
        for secret in ["swordfish", "hive", "hash-of-ann", "hush", "user:pass", "10.1.2.3"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for shown in [
            "127.0.0.1:9901",
            "realm: here",
            "x-team: (secret)",
            "ann: (secret)",
            "X-Kind: plain",
            "BACKEND",
            "auth.example/check",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }
}
