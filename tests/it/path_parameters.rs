//! Path parameters (`/a;x=1/b`): routing, conditions, plugins, and the target at the backend.

use crate::support::h2::{self, Client};
use crate::support::h2ws;
use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, moongate};

/// A gateway with HTTP/1 and HTTP/2 on one port.
fn gateway(rest: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n{rest}"
    ))
}

/// The status and body of a GET in each version.
fn in_every_version(gateway: &Gateway, target: &str) -> Vec<(u16, String)> {
    let mut found: Vec<_> = ["1.0", "1.1"]
        .iter()
        .map(|version| {
            let head = format!("GET {target} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
            let response = ask(gateway.web(), head);
            (response.status, response.text())
        })
        .collect();
    let response = Client::connect(gateway.web()).ask(h2::get(target), &[]);
    found.push((response.status.as_u16(), response.text()));
    found
}

#[test]
fn no_parameter_slips_past_a_route_and_all_are_forwarded() {
    let (open, guarded) = (Origin::named("open"), Origin::named("guarded"));
    let gateway = gateway(&format!(
        "routes:
  - {{ path: /, upstream: ['{open}'] }}
  - {{ path: [/admin/, =/exact, '~^/v[12]$'], upstream: ['{guarded}'] }}"
    ));
    for target in [
        "/admin;x",
        "/admin;",
        "/admin;a=b;c=d/users;e",
        "/admin%3Bx/users",
        "/;x/admin",
        "/;/;/admin/x",
        "/exact;jsessionid=1",
        "/v1;x",
        "/admin;x?a;b",
    ] {
        guarded.forget();
        for (status, text) in in_every_version(&gateway, target) {
            assert_eq!((status, text.as_str()), (200, "guarded"), "{target}");
        }
        assert!(
            guarded.seen().iter().all(|seen| seen.target() == target),
            "{target} is forwarded as it came"
        );
    }
    for target in ["/admins;x", "/x;/admin", "/x?/admin;x"] {
        for (status, text) in in_every_version(&gateway, target) {
            assert_eq!((status, text.as_str()), (200, "open"), "{target}");
        }
    }
}

#[test]
fn a_dot_segment_with_parameters_is_ambiguous_for_every_route() {
    let open = Origin::named("open");
    for policy in ["ignore", "keep", "reject"] {
        let gateway = gateway(&format!("routes: [{{ path_parameters: {policy}, upstream: ['{open}'] }}]"));
        for target in
            ["/a/..;/b", "/a/..;x=1/b", "/a/..%3b/b", "/a/.;x/b", "/a/%2e%2e;x", "/..;x", "/a;x/../b"]
        {
            for (status, text) in in_every_version(&gateway, target) {
                assert!(
                    status == 400 && text.contains("ambiguous_path"),
                    "{policy} {target}: {status} {text}"
                );
            }
        }
    }
    assert_eq!(open.count(), 0);
}

#[test]
fn a_route_may_keep_parameters_or_refuse_them() {
    let (kept, strict) = (Origin::named("kept"), Origin::named("strict"));
    let gateway = gateway(&format!(
        "routes:
  - {{ path: '/map;v=2/', path_parameters: keep, upstream: ['{kept}'] }}
  - {{ path: /strict/, path_parameters: reject, upstream: ['{strict}'] }}"
    ));
    for (target, status, text) in [
        ("/map;v=2/x", 200, "kept"),
        ("/map/x", 404, "no_route"),
        ("/map;v=3/x", 404, "no_route"),
        ("/strict/x", 200, "strict"),
        ("/strict/x;y", 400, "ambiguous_path"),
        ("/strict;y/x", 400, "ambiguous_path"),
        ("/strict/x%3by", 400, "ambiguous_path"),
        ("/strict/x?a;b", 200, "strict"),
    ] {
        for (got, said) in in_every_version(&gateway, target) {
            assert!(got == status && said.contains(text), "{target}: {got} {said}");
        }
    }
    assert!(strict.seen().iter().all(|seen| !seen.line().contains("/x;")));
}

/// A guard on the path of a request, in each place with a condition.
#[test]
fn conditions_see_the_path_that_is_matched() {
    let origin = Origin::named("a");
    let refuse = "kind: respond, status: 403, body: refused";
    let keys = "'request.path == \"/admin\"'";
    let gateway = gateway(&format!(
        "routes:
  - {{ name: guarded, host: a, upstream: ['{origin}'], plugins: [{{ {refuse}, when: {keys} }}] }}
  - {{ name: by_route, host: b, when: {keys}, upstream: ['{origin}'], plugins: [{{ {refuse} }}] }}
  - {{ name: others, host: b, upstream: ['{origin}'] }}
  - name: rewritten
    host: c
    upstream: ['{origin}']
    plugins: [{{ kind: rewrite, strip_prefix: /old }}, {{ {refuse}, when: {keys} }}]
  - {{ name: keeps, host: d, path_parameters: keep, upstream: ['{origin}'], plugins: [{{ {refuse}, when: {keys} }}] }}"
    ));
    let status = |host: &str, target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        ask(gateway.web(), head).status
    };
    for host in ["a", "b"] {
        for target in ["/admin", "/admin;x", "/admin%3bx", "/;x/admin", "/admin;"] {
            assert_eq!(status(host, target), 403, "{host} {target}");
        }
        assert_eq!(status(host, "/other;/admin"), 200, "{host}");
    }
    for target in ["/old/admin", "/old/admin;x", "/old/;y/admin;x"] {
        assert_eq!(status("c", target), 403, "{target}");
    }
    assert_eq!((status("d", "/admin"), status("d", "/admin;x")), (403, 200), "it asked for that");
}

#[test]
fn a_handshake_has_no_other_path() {
    let (open, guarded) = (Origin::named("open"), Origin::named("guarded"));
    let gateway = gateway(&format!(
        "routes:
  - {{ path: /, upstream: ['{open}'] }}
  - {{ path: /ws/, upstream: ['{guarded}'], plugins: [{{ kind: respond, status: 403, body: no }}] }}"
    ));
    for target in ["/ws;x", "/ws;x/y", "/;a/ws", "/ws%3bx"] {
        assert_eq!(Socket::open_with(gateway.web(), target, &[]).err(), Some(403), "{target}");
        let refused = h2ws::Client::plain(gateway.web()).open_with(target, &[]).err();
        assert_eq!(refused.map(|response| response.status().as_u16()), Some(403), "{target} over HTTP/2");
    }
    Socket::open(gateway.web(), "/x;/ws").echo("open");
}

#[test]
fn templates_redirects_and_services_get_the_path_that_is_theirs() {
    let origin = Origin::named("a");
    let auth = Origin::named("auth");
    let gateway = gateway(&format!(
        "upstreams: {{ auth: {{ endpoints: ['{auth}'] }} }}
routes:
  - host: a
    upstream: ['{origin}']
    plugins:
      - {{ kind: forward_auth, upstream: auth, path: /ask }}
      - {{ kind: headers, request: {{ set: {{ X-Path: '{{path}}', X-Matched: '{{cel: request.path}}' }} }} }}
  - {{ host: b, upstream: ['{origin}'], plugins: [{{ kind: redirect, https: true }}] }}"
    ));
    let get = |host: &str| {
        ask(gateway.web(), format!("GET /s;id=1/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    assert_eq!(get("a").status, 200);
    let seen = &origin.seen()[0];
    assert_eq!((seen.field("x-path"), seen.field("x-matched")), (Some("/s;id=1/x"), Some("/s/x")));
    assert_eq!(auth.seen()[0].field("x-forwarded-uri"), Some("/s/x"), "it decides as the gateway does");
    assert_eq!(get("b").field("location"), Some("https://b/s;id=1/x"));
}

#[test]
fn an_explanation_shows_which_form_was_matched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let text = "routes:
  - { name: plain, path: /ip/, upstream: ['127.0.0.1:1'] }
  - { name: kept, path: '/map;v=1/', path_parameters: keep, upstream: ['127.0.0.1:1'] }
  - { name: strict, path: /strict/, path_parameters: reject, upstream: ['127.0.0.1:1'] }";
    std::fs::write(&file, text).unwrap();
    let explain = |url: &str| {
        let output = moongate(&["check", "-c", file.to_str().unwrap(), "--explain", "GET", url]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for (url, code, said) in [
        ("http://a/ip;a=b/x", 0, "plain: any host, prefix /ip"),
        ("http://a/ip;a=b/x", 0, "matched as /ip/x, forwarded as /ip;a=b/x"),
        ("http://a/map;v=1/x", 0, "matched and forwarded as /map;v=1/x"),
        ("http://a/strict/x;y", 2, "the route `strict` has `path_parameters: reject`"),
    ] {
        let (got, text) = explain(url);
        assert!(got == Some(code) && text.contains(said), "{url}: {got:?} {text}");
    }
    assert!(!explain("http://a/ip/x").1.contains("matched"));
}

#[cfg(feature = "luau")]
#[test]
fn a_script_decides_by_the_path_that_is_matched() {
    let origin = Origin::named("a");
    let gateway = gateway(&format!(
        "routes:
  - upstream: ['{origin}']
    plugins:
      - kind: luau
        source: |
          function request_headers(req)
            if req:path() == '/admin' then req:respond(403, req:forwarded_path()) end
          end"
    ));
    for target in ["/admin", "/admin;x", "/;y/admin"] {
        for (status, text) in in_every_version(&gateway, target) {
            assert_eq!((status, text.as_str()), (403, target));
        }
    }
    assert_eq!(in_every_version(&gateway, "/x;/admin")[0].0, 200);
}
