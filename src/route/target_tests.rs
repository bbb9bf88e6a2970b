//! Claims about targets; the properties hold for any bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
use super::{Authority, BadTarget, PathRules, Target};
use crate::spec::EscapedSlashes;
use http::Method;
use proptest::prelude::*;

const KEEP: PathRules = PathRules { merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };

fn get(raw: &[u8]) -> Result<Target<'_>, BadTarget> {
    Target::parse(raw, &Method::GET, Some("h"), PathRules::default())
}

#[test]
fn an_ordinary_target_borrows() {
    for raw in
        ["/", "/a/b?x=1", "/.well-known/x", "/a%20b", "/a.b/c..d/...", "/a;v=1/@x:y,!$&'()*+=~_-?", "/?a%"]
    {
        let target = get(raw.as_bytes()).unwrap();
        assert!(!target.is_rewritten(), "{raw}");
        assert_eq!(target.forwarded(), raw);
    }
}

#[test]
fn a_path_has_one_spelling() {
    for (raw, normal) in [
        ("/%61%2Db/%7e", "/a-b/~"),
        ("/%c3%9f", "/%C3%9F"),
        ("/ß?ß", "/%C3%9F?%C3%9F"),
        ("//a///b//", "/a/b/"),
        ("/a|b\"[]", "/a%7Cb%22%5B%5D"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/a//b?x=//y", "/a/b?x=//y"),
    ] {
        let target = get(raw.as_bytes()).unwrap();
        assert_eq!(target.forwarded(), normal, "{raw}");
        assert!(target.is_rewritten() || raw == normal, "{raw}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let ambiguous = [
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e",
        "/%2E%2e/",
        "/.%2e",
        "/..;/a",
        "/a/.;x=1",
        "/a/..;x=1/b",
        "/a/..;",
        "/a/.%2e;x/b",
        "/a;x/../b",
        "/%2E;/b",
        "/..%3b/",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "//..",
        "/a//../b",
    ];
    for raw in ambiguous {
        assert_eq!(get(raw.as_bytes()).map_err(BadTarget::token), Err("ambiguous_path"), "{raw}");
    }
    let bad = [
        "",
        "admin",
        "%20/admin",
        "foo:bar",
        "*",
        "?x",
        "/a b",
        "/a\0",
        "/a\x7f",
        "/a#b",
        "/?a#b",
        "/? ",
        "/%",
        "/%2",
        "/%zz",
        "/%00",
        "ftp://h/",
        "http:/h",
        "http:///",
        "http://",
        "http://u@h/",
        "http://a b/",
        "http://h:x/",
        "http://h#",
        "http://h:99999/",
        "h:80",
    ];
    for raw in bad {
        assert_eq!(get(raw.as_bytes()).map_err(BadTarget::token), Err("bad_request"), "{raw}");
    }
}

#[test]
fn kept_slashes_bring_no_dot_segment_forth() {
    let parse = |raw: &'static str| Target::parse(raw.as_bytes(), &Method::GET, None, KEEP);
    assert_eq!(parse("/a%2fb%5c\\c//d").unwrap().path(), "/a%2Fb%5C%5Cc//d");
    for raw in ["/a/..%2fb", "/a%2f..", "/a%2F%2e/b", "/a%5c..%5cb", "/a\\..", "/..\\a"] {
        assert_eq!(parse(raw), Err(BadTarget::DotSegment), "{raw}");
    }
}

#[test]
fn parameters_are_forwarded_and_left_out_for_matching() {
    for (raw, path, bare) in [
        ("/ip;a=b/x?c;d", "/ip;a=b/x", "/ip/x"),
        ("/a%3bx", "/a%3Bx", "/a"),
        ("//a;x//b", "/a;x/b", "/a/b"),
        ("/;/admin", "/;/admin", "/admin"),
        ("http://h/a;x", "/a;x", "/a"),
    ] {
        let target = get(raw.as_bytes()).unwrap();
        assert_eq!((target.path(), target.bare_path()), (path, bare), "{raw}");
        assert!(target.has_parameters());
    }
    let target = get(b"/a?b;c").unwrap();
    assert!(!target.has_parameters() && target.bare_path() == "/a");
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let target = get(b"HTTP://Example.com:8080/a?b").unwrap();
    assert_eq!((target.forwarded(), target.host()), ("/a?b", Some("Example.com")));
    assert_eq!(target.authority().map(|a| (a.as_str(), a.port())), Some(("Example.com:8080", Some(8080))));
    assert!(target.is_rewritten());
    assert_eq!(get(b"http://h").unwrap().forwarded(), "/");
    assert_eq!(get(b"https://h?a").unwrap().forwarded(), "/?a");
    assert_eq!((get(b"/a?").unwrap().query(), get(b"/a").unwrap().query()), (Some(""), None));
}

#[test]
fn a_star_is_for_options_alone() {
    let options = |raw: &'static [u8]| Target::parse(raw, &Method::OPTIONS, None, PathRules::default());
    assert_eq!(options(b"*").unwrap().path(), "*");
    assert_eq!(options(b"http://h").unwrap().forwarded(), "*");
    assert_eq!(options(b"http://h/").unwrap().forwarded(), "/");
    assert_eq!(Target::parse(b"h:80", &Method::CONNECT, None, PathRules::default()), Err(BadTarget::Form));
}

#[test]
fn a_bad_host_is_refused_also_beside_an_absolute_target() {
    let bad = [
        "",
        " ",
        "a b",
        "a/b",
        "a,b",
        "u@h",
        "a:b",
        "a:0",
        "a:65536",
        "a:80:80",
        "a:+1",
        "[::1",
        "[::g]",
        "[::1]x",
        "::1",
        "[fe80::1%25eth0]",
        "a%41",
        ".",
        "a..b",
        "ä",
        ":80",
        "a\\b",
        "a?b",
    ];
    for host in bad {
        for raw in [&b"/"[..], b"http://h/"] {
            let target = Target::parse(raw, &Method::GET, Some(host), PathRules::default());
            assert_eq!(target, Err(BadTarget::Host), "{host}");
        }
    }
    for host in ["a", "a:1", "a:", "A.b.", "127.0.0.1:80", "[::1]", "[::1]:65535", "a_b.c-d"] {
        assert!(Authority::parse(host).is_ok(), "{host}");
    }
}

fn rules() -> impl Strategy<Value = PathRules> {
    (any::<bool>(), any::<bool>()).prop_map(|(merge_slashes, keep)| PathRules {
        merge_slashes,
        escaped_slashes: if keep { EscapedSlashes::Keep } else { EscapedSlashes::Reject },
    })
}

/// Bytes that look like targets, so that most runs get past the first check.
fn targets() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "/", "/", ".", "..", "%2e", "%2F", "%5c", "\\", "a", "%61", "%c3", "ß", ";", "%3b", "?", "%", "%25",
        "|", "#",
    ];
    let piece = proptest::sample::select(pieces.to_vec());
    let built = proptest::collection::vec(piece, 0..12).prop_map(|pieces| {
        let mut raw = b"/".to_vec();
        pieces.iter().for_each(|piece| raw.extend_from_slice(piece.as_bytes()));
        raw
    });
    prop_oneof![4 => built, 1 => any::<Vec<u8>>()]
}

/// What a backend makes of a path that decodes everything, backslashes and path parameters included.
fn resolves_upwards(path: &str) -> bool {
    let text = path.replace("%2F", "/").replace("%5C", "/").replace("%3B", ";").replace("%2E", ".");
    let mut names = text.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or(segment));
    names.any(|name| name == "." || name == "..")
}

proptest! {
    #[test]
    fn the_form_is_final_and_safe(raw in targets(), rules in rules()) {
        if let Ok(target) = Target::parse(&raw, &Method::GET, Some("h"), rules) {
            let forwarded = target.forwarded();
            prop_assert!(forwarded.is_ascii() && !forwarded.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
            prop_assert!(target.path().starts_with('/') && !resolves_upwards(target.path()));
            let bare = target.bare_path();
            prop_assert!(bare.starts_with('/') && !resolves_upwards(bare) && !bare.contains(';') && !bare.contains("%3B"));
            prop_assert!(!rules.merge_slashes || !bare.contains("//"));
            prop_assert!(!rules.merge_slashes || !target.path().contains("//"));
            let again = Target::parse(forwarded.as_bytes(), &Method::GET, Some("h"), rules);
            let again = again.expect("what is forwarded is accepted");
            prop_assert!(!again.is_rewritten());
            prop_assert_eq!((again.path(), again.query()), (target.path(), target.query()));
        }
    }

    #[test]
    fn no_bytes_and_no_host_panic(raw in any::<Vec<u8>>(), host in any::<String>(), rules in rules()) {
        for method in [Method::GET, Method::OPTIONS, Method::CONNECT] {
            let _ = Target::parse(&raw, &method, Some(&host), rules);
        }
    }
}
