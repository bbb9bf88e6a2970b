//! Tests of accepted and rejected credentials.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use moongate_sdk::testing::{TestExchange, settings};
use serde_json::{Value, json};

/// The hashes of `sesame`, a slow one and a fast one.
const SLOW: &str = "$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O";
const FAST: &str = "{SHA}/7xrJLhaC5TwofIMFW4M2fv28u4=";

fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    build(&settings(written))
}

fn visit(user: &str, password: &str) -> TestExchange {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    TestExchange::new("/").field("authorization", &format!("Basic {encoded}"))
}

fn enters(plugin: &dyn Plugin, mut visit: TestExchange) -> bool {
    match visit.request_headers(plugin) {
        Verdict::Continue => true,
        Verdict::Respond(reply) if reply.status == 401 => {
            assert!(reply.headers[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic realm=\""));
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_right_password_passes_repeatedly() {
    let fast = format!("{{SHA}}{}", STANDARD.encode(<sha1::Sha1 as sha1::Digest>::digest("sesame")));
    let plugin = plugin(json!({ "users": { "ada": SLOW, "eve": fast } })).unwrap();
    for _ in 0..2 {
        for (user, password, fine) in [
            ("ada", "sesame", true),
            ("eve", "sesame", true),
            ("ada", "Sesame", false),
            ("eve", "", false),
            ("bob", "sesame", false),
            ("Ada", "sesame", false),
            ("", "sesame", false),
        ] {
            assert_eq!(enters(&*plugin, visit(user, password)), fine, "{user}:{password}");
        }
    }
}

#[test]
fn a_known_password_does_not_wait_and_a_wrong_one_still_does() {
    let plugin = plugin(json!({ "users": { "ada": SLOW } })).unwrap();
    let waits = |user, password| {
        visit(user, password)
            .with_exchange(|exchange| matches!(plugin.request_headers(exchange), Flow::Wait(_)))
    };
    assert!(waits("ada", "sesame") && waits("nobody", "sesame"));
    assert!(enters(&*plugin, visit("ada", "sesame")));
    assert!(!waits("ada", "sesame"));
    assert!(waits("ada", "sesam") && waits("nobody", "sesame") && waits("ad", "asesame"));
}

#[test]
fn invalid_credentials_are_challenged() {
    let plugin = plugin(json!({ "users": { "ada": SLOW } })).unwrap();
    assert!(enters(
        &*plugin,
        TestExchange::new("/").field("authorization", &format!("bAsIc  {}", STANDARD.encode("ada:sesame")))
    ));
    let twice = visit("ada", "sesame").field("authorization", "Bearer x");
    assert!(!enters(&*plugin, twice));
    assert!(!enters(&*plugin, TestExchange::new("/")));
    let long = "a".repeat(LONGEST_PASSWORD + 1);
    assert!(!enters(&*plugin, visit("ada", &long)));
    for text in
        ["Basic", "Basic ", "Basic !", "Basic YWRh", "Bearer YWRhOnNlc2FtZQ==", "Basic /zpzZXNhbWU=", ""]
    {
        assert!(!enters(&*plugin, TestExchange::new("/").field("authorization", text)), "{text}");
    }
}

#[test]
fn the_backend_gets_the_name_and_need_not_get_the_password() {
    let written = json!({ "users": { "ada": SLOW }, "remove_header": true, "user_header": "X-User" });
    let plugin = plugin(written).unwrap();
    // First by the hash pool, then from the cache.
    for _ in 0..2 {
        let mut visit = visit("ada", "sesame").field("x-user", "forged");
        visit.request_headers(&*plugin);
        assert!(!visit.request.contains_key("authorization"));
        assert_eq!(visit.request["x-user"], "ada");
        let note = &visit.running.notes()[0];
        assert_eq!((&*note.key, note.value.as_str()), ("user", "ada"));
    }
}

#[test]
fn a_file_is_read_as_htpasswd_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("# ours\n\nada:{SLOW}\r\neve:$apr1$saltsalt$1wcO0UXrrrYuRqru5simD1:Eve\n"))
        .unwrap();
    let both = plugin(json!({ "file": file, "users": { "bob": SLOW } })).unwrap();
    assert!(["ada", "eve", "bob"].iter().all(|user| enters(&*both, visit(user, "sesame"))));
    std::fs::write(&file, format!("ada:{SLOW}\nada:{SLOW}\nbob\neve:x\n")).unwrap();
    let problems = plugin(json!({ "file": file })).err().unwrap();
    let lines: Vec<_> =
        problems.0.iter().map(|problem| problem.message.split(" of").next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4"]);
}

#[test]
fn a_realm_is_quoted() {
    let plugin = plugin(json!({ "users": { "ada": SLOW }, "realm": "a \"b\" \\" })).unwrap();
    let reply = TestExchange::new("/").expect_reply(&*plugin);
    assert_eq!(reply.headers[WWW_AUTHENTICATE], r#"Basic realm="a \"b\" \\", charset="UTF-8""#);
}

#[test]
fn settings_without_a_valid_user_are_refused() {
    for bad in [
        json!({}),
        json!({ "users": {} }),
        json!({ "users": { "ada": "sesame" } }),
        json!({ "users": { "a:b": SLOW } }),
        json!({ "users": { "": SLOW } }),
        json!({ "users": { "ada": FAST.replace('=', "") } }),
        json!({ "users": { "ada": SLOW }, "realm": "a\nb" }),
        json!({ "users": { "ada": SLOW }, "user_header": "Authorization" }),
        json!({ "users": { "ada": SLOW }, "user_header": "Connection" }),
        json!({ "file": "not/there" }),
    ] {
        assert!(plugin(bad.clone()).is_err(), "{bad}");
    }
}
