//! Claims about targets before and after.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use moongate_sdk::Verdict;
use moongate_sdk::testing::{Visit, settings};
use serde_json::{Value, json};

fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    build(&settings(written))
}

fn rewritten(written: &Value, target: &str) -> String {
    let plugin = plugin(written.clone()).unwrap();
    let mut visit = Visit::new(target);
    match visit.ask(&*plugin) {
        Verdict::Continue => visit.see(|exchange| match exchange.query() {
            Some(query) => format!("{}?{query}", exchange.path()),
            None => exchange.path().to_owned(),
        }),
        Verdict::Respond(reply) => reply.status.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prefix_goes_by_whole_segments() {
    let written = json!({ "strip_prefix": ["/api/", "/api/v1"] });
    for (target, expected) in [
        ("/api/users?x=1", "/users?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/apis/users", "/apis/users"),
        ("/x/api", "/x/api"),
        ("/api/v1/x", "/v1/x"),
        ("/api/api", "/api"),
    ] {
        assert_eq!(rewritten(&written, target), expected, "{target}");
    }
    assert_eq!(rewritten(&json!({ "strip_prefix": "/a" }), "/a/b"), "/b");
}

#[test]
fn prefixes_and_replacements_follow_each_other() {
    let written = json!({
        "strip_prefix": "/old",
        "replace": [
            { "regex": "^/u/([0-9]+)(?P<rest>.*)$", "with": "/users/${1}x${rest}" },
            { "regex": "x", "with": "$$" },
        ],
        "add_prefix": "/v2/",
    });
    assert_eq!(rewritten(&written, "/old/u/42/x"), "/v2/users/42$/$");
    assert_eq!(rewritten(&written, "/u/no"), "/v2/u/no");
    assert_eq!(rewritten(&json!({ "replace": [{ "regex": "^/", "with": "" }] }), "/a"), "/a");
    assert_eq!(rewritten(&json!({ "replace": [{ "regex": "^.*$", "with": "" }] }), "/a"), "/");
}

#[test]
fn a_query_is_set_and_removed_however_it_is_escaped() {
    let written = json!({ "query": {
        "set": { "client": "{client_ip}", "a b": "x&y=z?{path}" },
        "remove": ["debug"],
    } });
    assert_eq!(
        rewritten(&written, "/p?debug=1&x=1&cl%69ent=forged&%64ebug&a+b=2&debugger=1"),
        "/p?x=1&debugger=1&a%20b=x%26y%3Dz%3F%2Fp&client=127.0.0.1"
    );
    assert_eq!(rewritten(&json!({ "query": { "remove": ["x"] } }), "/p?x=1&x"), "/p");
    assert_eq!(rewritten(&json!({ "query": { "remove": ["x"] } }), "/p"), "/p");
}

#[test]
fn nothing_is_edited_when_nothing_changes() {
    let plugin = plugin(json!({ "strip_prefix": "/api" })).unwrap();
    let mut visit = Visit::new("/other?x");
    visit.ask(&*plugin);
    assert!(visit.running.edits().is_none());
}

#[test]
fn a_replacement_that_climbs_is_400() {
    let written = json!({ "replace": [{ "regex": "x", "with": "" }] });
    for target in ["/.x./etc", "/a/.x./b", "/.x", "/%x2e./b", "/.x.;a/b", "/.x.%3Ba/b", "/a/.x.%3b"] {
        assert_eq!(rewritten(&written, target), "400 Bad Request", "{target}");
    }
    assert_eq!(rewritten(&written, "/a.x./..x.b"), "/a../...b");
}

#[test]
fn what_could_not_be_meant_is_refused() {
    for (bad, message) in [
        (json!({}), "`rewrite` changes nothing"),
        (json!({ "strip_prefix": "api" }), "`api` is no prefix of a path"),
        (json!({ "strip_prefix": "/" }), "`/` is no prefix of a path"),
        (json!({ "add_prefix": "/ä" }), "`/ä` cannot stand in a path"),
        (json!({ "add_prefix": "/a?b" }), "`/a?b` cannot stand in a path"),
        (json!({ "replace": [{ "regex": "(", "with": "x" }] }), "`(` is not a regular expression"),
        (json!({ "replace": [{ "regex": "a", "with": "/a?b" }] }), "`/a?b` cannot stand in a path"),
        (json!({ "replace": [{ "regex": "(a)", "with": "$2" }] }), "the expression has no group `2`"),
        (json!({ "replace": [{ "regex": "(a)", "with": "$1x" }] }), "the expression has no group `1x`"),
        (json!({ "query": { "set": { "a": "{nope}" } } }), "unknown placeholder `{nope}`"),
    ] {
        assert_eq!(plugin(bad).err().unwrap().0[0].message, message);
    }
    let problems = plugin(json!({ "replace": [{ "regex": "(a)", "with": "$1x" }] })).err().unwrap();
    assert_eq!(problems.0[0].label.as_deref(), Some("write `$${1}x`"));
}
