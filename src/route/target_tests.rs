//! Tests of targets; the properties hold for any bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
use super::{Authority, BadTarget, Target, carried, is_carried, origin_form};
use http::Method;
use proptest::prelude::*;

fn get(raw: &[u8]) -> Result<Target<'_>, BadTarget> {
    Target::parse(raw, &Method::GET, Some("h"))
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
fn a_path_is_matched_in_normal_form_and_forwarded_as_sent() {
    for (raw, matched, forwarded) in [
        ("/%61%2Db/%7e", "/a-b/~", "/%61%2Db/%7e"),
        ("/%c3%9f", "/%C3%9F", "/%c3%9f"),
        ("//a///b//", "/a/b/", "//a///b//"),
        ("/@scope%2fname", "/@scope/name", "/@scope%2fname"),
        ("/a%5Cb\\c", "/a/b/c", "/a%5Cb\\c"),
        ("/a|b\"[]{}^", "/a%7Cb%22%5B%5D%7B%7D%5E", "/a|b\"[]{}^"),
        ("/%252e%252e/", "/%252e%252e/", "/%252e%252e/"),
        ("/a//b?x=//y%2f", "/a/b", "/a//b?x=//y%2f"),
    ] {
        let target = get(raw.as_bytes()).unwrap();
        assert_eq!((target.bare_path(), target.forwarded()), (matched, forwarded), "{raw}");
        assert!(!target.is_rewritten(), "{raw}");
        assert_eq!(target.raw_path(), raw.split('?').next().unwrap());
    }
}

#[test]
fn bytes_that_are_invalid_in_a_uri_are_encoded() {
    for (raw, text, raw_path) in
        [("/ß?ß", "/%C3%9F?%C3%9F", "/ß"), ("/a<b>`?\"<>`", "/a%3Cb%3E%60?%22%3C%3E`", "/a<b>`")]
    {
        let target = get(raw.as_bytes()).unwrap();
        assert_eq!((target.forwarded(), target.raw_path()), (text, raw_path));
        assert!(target.is_rewritten());
    }
    assert_eq!(get(b"/a\xff\xc3\x9f").unwrap().raw_path(), "/a%FFß");
}

#[test]
fn ambiguous_targets_are_refused() {
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
        "/a%2f..",
        "/a%5C..%5Cb",
        "/..\\b",
        "//..",
        "/a//../b",
    ];
    for raw in ambiguous {
        assert_eq!(get(raw.as_bytes()), Err(BadTarget::DotSegment), "{raw}");
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
        let refused = get(raw.as_bytes()).unwrap_err();
        assert!(!matches!(refused, BadTarget::DotSegment | BadTarget::TooLong), "{raw}");
    }
}

#[test]
fn parameters_are_forwarded_and_ignored_for_matching() {
    for (raw, forwarded, read, bare) in [
        ("/ip;a=b/x?c;d", "/ip;a=b/x", "/ip;a=b/x", "/ip/x"),
        ("/a%3bx", "/a%3bx", "/a%3Bx", "/a"),
        ("//a;x//b", "//a;x//b", "/a;x/b", "/a/b"),
        ("/a;x%2fb", "/a;x%2fb", "/a;x/b", "/a/b"),
        ("/;/admin", "/;/admin", "/;/admin", "/admin"),
        ("http://h/a;x", "/a;x", "/a;x", "/a"),
    ] {
        let target = get(raw.as_bytes()).unwrap();
        assert_eq!((target.path(), target.read_path(), target.bare_path()), (forwarded, read, bare), "{raw}");
        assert!(target.has_parameters());
    }
    let target = get(b"/a?b;c").unwrap();
    assert!(!target.has_parameters() && target.bare_path() == "/a");
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let target = get(b"HTTP://Example.com:8080/a?b").unwrap();
    assert_eq!((target.forwarded(), target.host()), ("/a?b", Some("Example.com")));
    assert_eq!(target.authority().map(|a| a.as_str()), Some("Example.com:8080"));
    assert!(target.is_rewritten());
    assert_eq!(get(b"http://h").unwrap().forwarded(), "/");
    assert_eq!(get(b"https://h?a").unwrap().forwarded(), "/?a");
    assert_eq!((get(b"/a?").unwrap().query(), get(b"/a").unwrap().query()), (Some(""), None));
}

#[test]
fn a_star_is_for_options_only() {
    let options = |raw: &'static [u8]| Target::parse(raw, &Method::OPTIONS, None);
    assert_eq!(options(b"*").unwrap().path(), "*");
    assert_eq!(options(b"http://h").unwrap().forwarded(), "*");
    assert_eq!(options(b"http://h/").unwrap().forwarded(), "/");
    assert_eq!(Target::parse(b"h:80", &Method::CONNECT, None), Err(BadTarget::Form));
}

#[test]
fn a_bad_host_is_refused_also_beside_an_absolute_target() {
    let bad = [
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
            let target = Target::parse(raw, &Method::GET, Some(host));
            assert_eq!(target, Err(BadTarget::Host), "{host}");
        }
    }
    for host in ["a", "a:1", "a:", "A.b.", "127.0.0.1:80", "[::1]", "[::1]:65535", "a_b.c-d"] {
        assert!(Authority::parse(host).is_ok(), "{host}");
    }
}

/// Bytes similar to targets, so that most cases pass the first check.
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

/// The result of a backend that decodes everything, backslashes and path parameters included.
fn resolves_upwards(path: &str) -> bool {
    let text = path.replace("%2F", "/").replace("%5C", "/").replace("%3B", ";").replace("%2E", ".");
    let mut names = text.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or(segment));
    names.any(|name| name == "." || name == "..")
}

proptest! {
    #[test]
    fn the_reading_is_stable_and_safe_and_the_bytes_stay(raw in targets()) {
        if let Ok(target) = get(&raw) {
            let forwarded = target.forwarded();
            prop_assert!(forwarded.is_ascii() && !forwarded.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
            let bare = target.bare_path();
            prop_assert!(bare.starts_with('/') && !resolves_upwards(bare) && !bare.contains(';') && !bare.contains("%3B"));
            prop_assert!(!bare.contains("//") && !bare.contains("%2F") && !bare.contains('\\'));
            prop_assert!(!resolves_upwards(&target.path().to_ascii_uppercase()));
            let read = target.read_path().to_owned();
            let again = Target::parse(read.as_bytes(), &Method::GET, Some("h")).expect("a reading is a path");
            prop_assert_eq!((again.read_path(), again.path()), (&*read, &*read));
            if is_carried(&raw) && raw.is_ascii() && raw[0] == b'/' {
                prop_assert_eq!(forwarded.as_bytes(), &raw);
            }
            let given = origin_form(&raw, b"GET").expect("a target has an origin-form");
            prop_assert!(is_carried(&given));
            let held = http::uri::PathAndQuery::try_from(&*String::from_utf8_lossy(&given));
            prop_assert!(held.is_ok());
            let given = Target::parse(&given, &Method::GET, Some("h")).expect("what is given is accepted");
            prop_assert_eq!((given.forwarded(), given.bare_path()), (forwarded, bare));
        }
    }

    #[test]
    fn a_guarded_path_is_recognized_in_every_spelling(spelling in guarded()) {
        if let Ok(target) = get(spelling.as_bytes()) {
            let bare = target.bare_path();
            prop_assert!(bare == "/admin" || bare.starts_with("/admin/"), "{} is {}", spelling, bare);
        }
    }

    #[test]
    fn no_bytes_and_no_host_panic(raw in any::<Vec<u8>>(), host in any::<String>()) {
        for method in [Method::GET, Method::OPTIONS, Method::CONNECT] {
            let _ = Target::parse(&raw, &method, Some(&host));
            let _ = (origin_form(&raw, method.as_str().as_bytes()), carried(&raw));
        }
    }
}

/// Spellings of paths below `/admin`.
fn guarded() -> impl Strategy<Value = String> {
    let slashes = proptest::sample::select(vec!["/", "//", "%2F", "%2f", "\\", "%5c", "/%2F", "/;x/"]);
    let name = proptest::sample::select(vec!["admin", "%61dmin", "adm%69n", "admin;x", "ad%6Din%3Bv=1"]);
    (slashes.clone(), name, slashes, "[a-z]{0,3}").prop_map(|(first, name, second, rest)| {
        let first = if first.starts_with('/') { first.to_owned() } else { format!("/{first}") };
        format!("{first}{name}{second}{rest}")
    })
}
