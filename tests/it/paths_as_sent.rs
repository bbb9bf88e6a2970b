//! Paths are matched in their most permissive interpretation, and forwarded with the received bytes.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, eventually};

fn get(gateway: &Gateway, target: &[u8]) -> crate::support::Response {
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat();
    ask(gateway.web(), request)
}

#[test]
fn what_programs_send_reaches_the_backend_unchanged() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ path: /pkg, upstream: ['{a}'] }}]"));
    for target in [
        "/pkg/@scope%2fname",
        "/pkg%2Fname",
        "/pkg//object///key",
        "//pkg/x",
        "/%70kg/a%5cb",
        "/pkg/a\\b",
        "/pkg/{id}|[x]^\"y\"",
        "/pkg?q={'a':[1|2]}`^\\",
        "/pkg/ß?q=ß",
        "/pkg;v=1//x",
    ] {
        a.forget();
        let response = get(&gateway, target.as_bytes());
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        assert_eq!(a.seen()[0].target(), target);
    }
    // Characters that Pingora's URIs do not allow are forwarded in encoded form.
    for (target, arrives) in [("/pkg/<a>`", "/pkg/%3Ca%3E%60"), ("/pkg?\"<a>\"", "/pkg?%22%3Ca%3E%22")] {
        a.forget();
        assert_eq!(get(&gateway, target.as_bytes()).status, 200, "{target}");
        assert_eq!(a.seen()[0].target(), arrives);
    }
    a.forget();
    assert_eq!(get(&gateway, b"/pkg/\xe9?\xff").status, 200);
    assert!(a.seen()[0].line().starts_with("GET /pkg/\u{fffd}?\u{fffd} "), "{}", a.seen()[0].head);
}

#[test]
fn no_spelling_walks_round_a_guard() {
    let a = Origin::named("a");
    let refuse = "kind: respond, status: 403, body: refused";
    let gateway = Gateway::start(&format!(
        "routes:
  - upstream: ['{a}']
    plugins: [{{ {refuse}, when: 'request.path.startsWith(\"/secret\")' }}]
  - {{ path: /guarded, upstream: ['{a}'], plugins: [{{ {refuse} }}] }}
  - {{ path: /raw, upstream: ['{a}'], plugins: [{{ {refuse}, when: 'request.raw_path.contains(\"%2F\")' }}] }}"
    ));
    for name in ["secret", "guarded"] {
        for target in [
            format!("/{name}"),
            format!("//{name}"),
            format!("/%2F{name}"),
            format!("/%2f/{name}%2Fx"),
            format!("/\\{name}"),
            format!("/%5c{name}%5cx"),
            format!("/%{:02x}{}", name.as_bytes()[0], &name[1..]),
            format!("/;x/{name};y"),
            format!("http://a//{name}"),
        ] {
            let response = get(&gateway, target.as_bytes());
            assert_eq!((response.status, response.text().as_str()), (403, "refused"), "{target}");
        }
    }
    assert_eq!(a.count(), 0);
    assert_eq!(get(&gateway, b"/raw%2Fx").status, 403);
    assert_eq!(get(&gateway, b"/raw/x").status, 200);
}

#[test]
fn a_route_overrides_the_server_and_a_refusal_names_the_setting() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = Gateway::start(&format!(
        "server: {{ escaped_slashes: reject, merge_slashes: rewrite }}
access_log: {{ path: '{}' }}
routes:
  - {{ name: strict, upstream: ['{a}'] }}
  - {{ path: /open, escaped_slashes: match, merge_slashes: match, upstream: ['{a}'] }}",
        log.display()
    ));
    for target in ["/a%2fb", "/a%5Cb", "/a\\b"] {
        let response = get(&gateway, target.as_bytes());
        assert_eq!(response.status, 400, "{target}");
        let text = response.text();
        assert!(text.contains("ambiguous_path") && text.contains("escaped_slashes: match"), "{text}");
    }
    assert_eq!(a.count(), 0);
    assert_eq!(get(&gateway, b"/open%2fb//c").status, 200);
    assert_eq!(a.seen()[0].target(), "/open%2fb//c");
    a.forget();
    assert_eq!(get(&gateway, b"/a//b").status, 200);
    assert_eq!(a.seen()[0].target(), "/a/b");
    let line = eventually("the line is written", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.lines().find(|line| line.contains("/a%2fb")).map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["error"], &line["route"]), (&"ambiguous_path".into(), &"strict".into()));
    assert!(line["error_detail"].as_str().unwrap().contains("`escaped_slashes: match`"), "{line}");
}

#[test]
fn a_prefix_is_stripped_from_what_was_sent() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes:
  - path: /api/v1
    upstream: ['{a}']
    plugins: [{{ kind: rewrite, strip_prefix: /api/v1 }}]
  - path: /old
    upstream: ['{a}']
    plugins: [{{ kind: rewrite, replace: [{{ regex: '^/old/(.*)$', with: '/new/$1' }}] }}]"
    ));
    for (target, arrives) in [
        ("/api/v1/@s%2fn//x", "/@s%2fn//x"),
        ("/api%2Fv1%2fx%2fy", "/x%2fy"),
        ("//api//v1/x?y=//", "/x?y=//"),
        ("/api/v1/", "/"),
        ("//old/a%2Fb", "/new/a/b"),
    ] {
        a.forget();
        assert_eq!(get(&gateway, target.as_bytes()).status, 200, "{target}");
        assert_eq!(a.seen()[0].target(), arrives, "{target}");
    }
}
