//! Fixtures: each configuration becomes the file beside it, and every directive has a finding.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

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
