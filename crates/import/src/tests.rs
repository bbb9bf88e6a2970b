//! Fixtures: each configuration becomes the file beside it, and every directive has a finding.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod access;
mod findings;

use super::*;
use std::fs;

/// Writes the expected files anew.
const BLESS: &str = "BLESS";

fn fixtures() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    found.sort();
    found
}

fn imported(text: &str) -> Imported {
    import_nginx_text("nginx.conf", text, &mut Files::default()).unwrap()
}

/// The outcome and the reasons of the first directive of that name.
fn finding(imported: &Imported, name: &str) -> (Outcome, String) {
    let found = imported.findings.iter().find(|finding| finding.name == name).expect(name);
    (found.outcome, found.reasons.join("; "))
}

#[test]
fn fixtures_become_the_expected_files() {
    let mut wrong = Vec::new();
    for path in fixtures() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let result = import_nginx_text(&name, &text, &mut Files::default()).unwrap();
        let expected = path.with_extension("yaml");
        if std::env::var_os(BLESS).is_some() {
            fs::write(&expected, &result.yaml).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != result.yaml {
            wrong.push(format!("{name} becomes\n{}", result.yaml));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_directive_has_a_finding() {
    for path in fixtures() {
        let text = fs::read_to_string(&path).unwrap();
        let source = reader::read_text("nginx.conf", &text, &mut Files::default()).unwrap();
        let result = import(&source, &Paths::default());
        assert_eq!(result.findings.len(), source.count, "{}", path.display());
        for finding in &result.findings {
            assert!(!finding.reasons.is_empty(), "{}: {}", path.display(), finding.line);
        }
    }
}

#[test]
fn the_configuration_of_two_backends_is_complete() {
    let text = include_str!("../fixtures/howto.conf");
    let result = imported(text);
    assert!(result.is_complete(), "{:?}", result.findings);
    assert_eq!(result.count(Outcome::NotTranslated) + result.count(Outcome::Changed), 0);
}

#[test]
fn the_innermost_fields_replace_the_outer_ones() {
    let result = imported(
        "proxy_set_header X-Outer 1; add_header X-A 1; server { listen 80; location / { proxy_set_header X-Inner 2; \
         proxy_set_header Host $host; add_header X-B 2; proxy_pass http://127.0.0.1:1; } }",
    );
    assert!(result.yaml.contains("X-Inner") && result.yaml.contains("X-B"), "{}", result.yaml);
    assert!(!result.yaml.contains("X-Outer") && !result.yaml.contains("X-A"), "{}", result.yaml);
    assert_eq!(finding(&result, "add_header").0, Outcome::Implied);
}

#[test]
fn unknown_directives_are_reported() {
    let result = imported("server { listen 80; frobnicate on; location / { proxy_pass http://a:1; } }");
    assert_eq!(finding(&result, "frobnicate").0, Outcome::NotTranslated);
    assert!(!result.is_complete());
    assert!(result.yaml.contains("# - nginx.conf:1 frobnicate on"), "{}", result.yaml);
}

#[test]
fn a_text_with_control_characters_stays_in_its_comment() {
    let result = imported("server { listen 80; frobnicate \"a\nroutes: [x]\"; return 200 \"x\"; }");
    assert!(!result.yaml.contains("\nroutes: [x]"), "{}", result.yaml);
}

#[test]
fn a_route_whose_authentication_is_not_translated_is_closed() {
    for control in ["auth_request /nowhere;", "auth_basic realm;"] {
        let text =
            format!("server {{ listen 80; location /a/ {{ {control} proxy_pass http://127.0.0.1:1; }} }}");
        let result = imported(&text);
        assert!(result.yaml.contains("kind: respond, status: 403"), "{}", result.yaml);
        assert!(!result.is_complete());
    }
}

#[test]
fn hidden_files_stay_denied() {
    let result = imported(
        "server { listen 80; location ~ /\\.(?!well-known) { deny all; } location / { proxy_pass http://127.0.0.1:1; } }",
    );
    assert!(result.yaml.contains("path: '~/\\.'"), "{}", result.yaml);
    assert!(result.yaml.contains(r#"!request.path.matches("/\\.(?:well-known)")"#), "{}", result.yaml);
    assert!(result.yaml.contains("status: 403"), "{}", result.yaml);
}

/// A small generator: the same inputs in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

#[test]
fn damaged_files_never_panic_and_lose_no_directive() {
    let texts: Vec<String> = fixtures().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let words: Vec<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    let mut numbers = Numbers(1);
    let mut read = 0;
    for round in 0..3000 {
        let mut damaged: Vec<&str> = texts[round % texts.len()].split_whitespace().collect();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(damaged.len());
            match numbers.below(3) {
                0 => {
                    damaged.remove(at);
                }
                1 => damaged[at] = words[numbers.below(words.len())],
                _ => damaged.insert(at, words[numbers.below(words.len())]),
            }
        }
        // Comments would hide the rest of the line.
        let text = damaged.into_iter().filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
        let Ok(source) = reader::read_text("nginx.conf", &text, &mut Files::default()) else { continue };
        read += 1;
        assert_eq!(import(&source, &Paths::default()).findings.len(), source.count, "{text}");
    }
    assert!(read > 500, "{read}");
}

#[test]
fn variables_that_refer_to_each_other_end() {
    let sets: String = ["a b", "b c", "c d", "d a"]
        .iter()
        .map(|pair| {
            let (name, other) = pair.split_once(' ').unwrap();
            format!("set ${name} \"{}\";", format!("${{{other}}}").repeat(50))
        })
        .collect();
    let result = imported(&format!("server {{ listen 80; {sets} location / {{ proxy_pass http://$a; }} }}"));
    assert_eq!(finding(&result, "proxy_pass").0, Outcome::NotTranslated);
}
