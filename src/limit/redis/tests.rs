//! Tests of the settings of a store.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use moongate_sdk::testing::settings;
use serde_json::{Value, json};

fn refusal(written: &Value) -> String {
    match build(&settings(written.clone())) {
        Ok(_) => panic!("{written} was taken"),
        Err(problems) => problems.0[0].message.to_string(),
    }
}

#[test]
fn every_form_of_servers_is_taken() {
    for (written, server) in [
        (json!({ "url": "redis://127.0.0.1:6379" }), "redis://127.0.0.1:6379"),
        (
            json!({ "url": "rediss://cache.example:6380/2", "deadline": "50ms" }),
            "rediss://cache.example:6380/2",
        ),
        (json!({ "url": "redis+unix:///run/redis.sock" }), "redis+unix:///run/redis.sock"),
        (
            json!({ "sentinel": { "servers": ["10.0.0.1:26379", "[::1]:26379"], "master": "main" }, "user": "a", "password": "b" }),
            "sentinel main (10.0.0.1:26379, [::1]:26379)",
        ),
        (json!({ "cluster": ["10.0.0.1:6379"], "tls": {} }), "cluster (10.0.0.1:6379)"),
    ] {
        let parts =
            build(&settings(written.clone())).unwrap_or_else(|problems| panic!("{written}: {problems:?}"));
        assert_eq!(parts.client.server(), server);
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let parts = build(&settings(json!({ "url": "redis://127.0.0.1" }))).unwrap();
    let expected = StoreSettings {
        deadline: Duration::from_millis(20),
        on_failure: OnFailure::Local,
        key_prefix: "moongate:".to_owned(),
    };
    assert_eq!(parts.settings, expected);
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    let url = "redis://127.0.0.1";
    for (written, expected) in [
        (json!({}), "a store has one of `url`, `sentinel` and `cluster`"),
        (json!({ "url": url, "cluster": ["a:1"] }), "a store has one of `url`, `sentinel` and `cluster`"),
        (json!({ "url": "http://127.0.0.1" }), "`http://127.0.0.1` is not the URL of a store"),
        (json!({ "url": "redis://:secret@127.0.0.1" }), "the URL of a store must have no credentials"),
        (
            json!({ "url": "redis://127.0.0.1?protocol=resp3" }),
            "`redis://127.0.0.1?protocol=resp3` has parameters",
        ),
        (json!({ "url": url, "tls": {} }), "`tls` needs a URL with TLS"),
        (json!({ "url": url, "deadline": "0s" }), "`deadline` must be 1ms to 5s"),
        (json!({ "url": url, "user": "a" }), "`user` needs `password` or `password_file`"),
        (
            json!({ "url": url, "password_file": "does/not/exist" }),
            "cannot read `does/not/exist`: No such file or directory (os error 2)",
        ),
        (json!({ "cluster": [] }), "`cluster` is empty"),
        (json!({ "cluster": ["a"] }), "`a` is not a server"),
        (json!({ "sentinel": { "servers": ["a:0"], "master": "m" } }), "`a:0` is not a server"),
        (json!({ "sentinel": { "servers": ["a:1"], "master": "" } }), "`master` is empty"),
        (json!({ "url": url, "on_failur": "open" }), "unknown key `on_failur`"),
    ] {
        assert_eq!(refusal(&written), expected, "{written}");
    }
}

#[test]
fn a_password_is_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hush\n").unwrap();
    let written = settings(json!({ "password_file": path }));
    let file =
        Some(Placed { value: path.to_str().unwrap().to_owned(), place: moongate_config::Place::nowhere() });
    let mut problems = Problems::default();
    let read = Credentials::read(&written, [&None, &None, &file], &mut problems);
    assert_eq!((read.password.as_deref(), problems.refuse()), (Some("hush"), false));
}

#[test]
fn a_bad_certificate_is_found_without_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let message = refusal(&json!({ "url": "rediss://127.0.0.1", "tls": { "ca": path } }));
    assert!(message.starts_with("the store cannot be used"), "{message}");
}
