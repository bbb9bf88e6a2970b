//! Unusual requests: the rejected ones, and the exact form of accepted ones at the backend (RFC 9110 and
//! 9112). Framing and pipelining are in `framing`.

use crate::support::raw::{ask, fields};
use crate::support::{Gateway, LIMIT, Next, Origin, Seen, Socket};
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn to(origin: &Origin, server: &str) -> Gateway {
    Gateway::start(&format!("server: {{ {server} }}\nroutes: [{{ upstream: ['{origin}'] }}]"))
}

/// The fields that reached the backend, in lower case, ordered by name; those that the gateway adds to every
/// request are checked and omitted.
fn reached(seen: &Seen) -> Vec<String> {
    assert_eq!(seen.field("via"), None, "{}", seen.head);
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"), "{}", seen.head);
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"), "{}", seen.head);
    assert_eq!(seen.field("x-forwarded-host"), seen.field("host"), "{}", seen.head);
    let added = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
    let mut fields: Vec<_> = seen.head.trim_end().lines().skip(1).map(lower).collect();
    fields.retain(|field| !added.iter().any(|name| field.starts_with(&format!("{name}:"))));
    fields.sort();
    fields
}

fn lower(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap_or_else(|| panic!("no field: {field:?}"));
    format!("{}: {}", name.to_lowercase(), value.trim())
}

#[test]
fn an_ordinary_request_arrives_as_it_was_sent() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let request = "POST /a/b?c=%20d&e HTTP/1.1\r\nHost: Shop.example:8080\r\nAccept: */*\r\nX-Twice: 1\r\nCookie: a=b\r\n\
                   X-Twice: 2\r\nX-Empty:\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(ask(gateway.web(), request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).status, 200);
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "POST /a/b?c=%20d&e HTTP/1.1");
    assert_eq!(
        reached(seen),
        [
            "accept: */*",
            "content-length: 4",
            "cookie: a=b",
            "host: Shop.example:8080",
            "x-empty: ",
            "x-twice: 1",
            "x-twice: 2"
        ]
    );
    assert_eq!(seen.body, b"body");
}

/// Each is rejected with one of these statuses, once, and reaches no backend.
#[test]
fn what_must_be_refused_is_refused() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let many = (0..20_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let get = "GET / HTTP/1.1\r\n";
    let mut wrong = Vec::new();
    for (what, request, statuses) in [
        ("no Host", get.to_owned(), &[400][..]),
        ("two Hosts", format!("{get}Host: a\r\nHost: b\r\n"), &[400]),
        ("the same Host twice", format!("{get}Host: a\r\nHost: a\r\n"), &[400]),
        ("a list of Hosts", format!("{get}Host: a, b\r\n"), &[400]),
        ("a space in Host", format!("{get}Host: a b\r\n"), &[400]),
        ("a slash in Host", format!("{get}Host: a/b\r\n"), &[400]),
        ("userinfo in Host", format!("{get}Host: user@a\r\n"), &[400]),
        ("a bad port", format!("{get}Host: a:80x\r\n"), &[400]),
        ("a port out of range", format!("{get}Host: a:99999\r\n"), &[400]),
        ("a bad address literal", format!("{get}Host: [::1\r\n"), &[400]),
        ("a space before the colon", format!("{get}Host : a\r\n"), &[400]),
        ("a space before a field's colon", format!("{get}Host: a\r\nX-A : b\r\n"), &[400]),
        ("a line without a colon", format!("{get}Host: a\r\nX-A\r\n"), &[400]),
        ("an empty field name", format!("{get}Host: a\r\n: b\r\n"), &[400]),
        ("a space in a field name", format!("{get}Host: a\r\nX A: b\r\n"), &[400]),
        ("NUL in a value", format!("{get}Host: a\r\nX-A: b\0c\r\n"), &[400]),
        ("bare CR in a value", format!("{get}Host: a\r\nX-A: b\rc\r\n"), &[400]),
        ("a line before the first field", format!("{get} X: y\r\nHost: a\r\n"), &[400]),
        ("a target without a slash", "GET admin HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("an encoded space first", "GET %20/admin HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a tab in the target", "GET /a\tb HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("no scheme", "GET a:80 HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("an absolute target without a host", "GET http:///x HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("userinfo in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("* that is not OPTIONS", "GET * HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a dot segment", "GET /a/../b HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a hidden dot segment", "GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a hidden encoded slash", "GET /a%2f..%2fb HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a bad escape", "GET /a%g0 HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("an encoded NUL", "GET /a%00 HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400]),
        ("a bad method", "GE(T / HTTP/1.1\r\nHost: a\r\n".to_owned(), &[400, 501]),
        ("an endless method", format!("{} / HTTP/1.1\r\nHost: a\r\n", "A".repeat(9000)), &[400, 501]),
        ("a tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n".to_owned(), &[400, 405, 501]),
        ("no version", "GET /\r\nHost: a\r\n".to_owned(), &[400]),
        ("another version", "GET / HTTP/3.0\r\nHost: a\r\n".to_owned(), &[400, 505]),
        ("a version in lower case", "GET / http/1.1\r\nHost: a\r\n".to_owned(), &[400, 505]),
        ("a head of 100 KiB", format!("{get}Host: a\r\nX-A: {}\r\n", "b".repeat(100_000)), &[431]),
        ("20000 fields", format!("{get}Host: a\r\n{many}"), &[400, 431]),
    ] {
        let mut wire = gateway.wire();
        // The response and the close may precede the last byte.
        let _ = wire.try_send(format!("{request}\r\n"));
        match wire.try_response("GET") {
            Ok(response) if !statuses.contains(&response.status) => wrong.push((what, response.head)),
            Ok(_) if a.count() > 0 => wrong.push((what, "it reached the backend".to_owned())),
            Ok(_) => {
                wire.half_close();
                if wire.try_rest().map_or(true, |rest| !rest.is_empty()) {
                    wrong.push((what, "something behind the refusal".to_owned()));
                }
            }
            Err(e) => wrong.push((what, format!("no answer: {e}"))),
        }
        a.forget();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_refusal_names_its_token() {
    let a = Origin::named("a");
    let gateway = to(&a, "max_header_size: 8KiB");
    for (target, field, status, token) in [
        ("/a/../b", "", 400, "ambiguous_path"),
        ("/a%2F..", "", 400, "ambiguous_path"),
        ("admin", "", 400, "bad_request"),
        ("/", &*format!("X-A: {}\r\n", "b".repeat(9000)), 431, "head_too_large"),
    ] {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n");
        let response = ask(gateway.web(), format!("{head}{field}\r\n"));
        assert_eq!((response.status, &response.json()["error"]), (status, &token.into()), "{target}");
        assert!(response.field("x-request-id").is_some());
    }
}

#[test]
fn a_path_is_forwarded_as_it_was_sent() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    for (sent, arrives) in [
        ("/", "/"),
        ("//a///b", "//a///b"),
        ("/%61%2Db%7E", "/%61%2Db%7E"),
        ("/a%20b%c3%a9", "/a%20b%c3%a9"),
        ("/a;b=c/d:e@f", "/a;b=c/d:e@f"),
        ("/...", "/..."),
        ("/a?b=../c//d%2fe", "/a?b=../c//d%2fe"),
        ("/a?", "/a?"),
        ("http://a", "/"),
        ("http://a?x=y", "/?x=y"),
        ("HTTP://a/b", "/b"),
    ] {
        a.forget();
        let response =
            ask(gateway.web(), format!("GET {sent} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert_eq!(response.status, 200, "{sent}: {}", response.text());
        assert_eq!(a.seen()[0].target(), arrives, "{sent}");
    }
}

#[test]
fn slashes_are_interpreted_as_configured() {
    let a = Origin::named("a");
    let gateway = to(&a, "merge_slashes: rewrite");
    for (sent, arrives) in [("//a//b?c=//", "/a/b?c=//"), ("/a%2fb//c", "/a%2fb/c"), ("/a", "/a")] {
        a.forget();
        assert_eq!(gateway.get(sent).status, 200, "{sent}");
        assert_eq!(a.seen()[0].target(), arrives);
    }
    assert_eq!(gateway.get("/a%2f..%2fb").status, 400, "no dot segment after decoding either");
}

/// RFC 9112 §3.2.2.
#[test]
fn the_authority_of_an_absolute_target_replaces_the_host_field() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ host: right.example, upstream: ['{a}'] }}]"));
    let get = |target: &str, host: &str| {
        ask(gateway.web(), format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .status
    };
    assert_eq!(get("http://right.example/x", "right.example"), 200);
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "GET /x HTTP/1.1");
    assert_eq!(reached(seen), ["host: right.example"]);
    for (target, host, status) in [
        ("http://right.example/x", "wrong.example", 200),
        ("http://wrong.example/x", "right.example", 404),
        ("http://Right.Example/x", "right.example", 200),
        ("http://right.example:80/x", "right.example", 200),
        ("http://right.example/x", "right.example:8080", 200),
        ("https://right.example/x", "", 200),
        ("http://right.example/x", "a b", 400),
    ] {
        a.forget();
        assert_eq!(get(target, host), status, "{target} {host}");
        if status == 200 {
            let authority = target.split('/').nth(2).unwrap();
            assert_eq!(a.seen()[0].fields("host"), [authority], "{target} {host}");
        }
    }
}

#[test]
fn a_target_with_a_fragment_is_refused() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    for target in ["/a#b", "/a?q=1#b", "/a#/../b", "http://a/b#c", "#b", "/#"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(gateway.web(), &request).status, 400, "{target}");
    }
    assert!(a.seen().is_empty());
}

#[test]
fn options_of_the_server_itself_passes() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    assert_eq!(ask(gateway.web(), "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status, 200);
    assert_eq!(a.seen()[0].line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn max_forwards_0_gets_a_local_response() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    for left in ["0", "00"] {
        let request =
            format!("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(gateway.web(), request).status, 204);
        assert_eq!(a.count(), 0, "it went on");
    }
    let request = "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(gateway.web(), request).status, 200);
    assert_eq!(a.seen()[0].field("max-forwards"), Some("2"));
}

#[test]
fn fields_of_one_hop_stay_on_it() {
    let a = Origin::scripted("a", |_, wire| {
        let fields = "Connection: x-nominated, keep-alive\r\nX-Nominated: secret\r\nKeep-Alive: timeout=5\r\n\
                      Proxy-Connection: keep-alive\r\nX-Kept: yes\r\n";
        wire.try_send(crate::support::origin::answer(200, fields, b"ok")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = to(&a, "");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Nominated\r\nX-Nominated: secret\r\nKeep-Alive: 300\r\n\
                   Proxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: X-T\r\nProxy: http://evil.example/\r\n\
                   Proxy-Authorization: Basic eA==\r\nHTTP2-Settings: AAMAAABk\r\nX-Kept: yes\r\n\r\n";
    let response = ask(gateway.web(), request);
    assert_eq!(reached(&a.seen()[0]), ["host: a", "x-kept: yes"]);
    assert_eq!(response.field("x-kept"), Some("yes"));
    for name in ["x-nominated", "keep-alive", "proxy-connection"] {
        assert_eq!(response.field(name), None, "{}", response.head);
    }
}

/// A client's nomination must not remove fields of the gateway (CVE-2026-105299).
#[test]
fn a_nomination_removes_no_field_of_the_gateway() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    for nominated in ["host", "x-forwarded-for", "x-forwarded-proto", "via", "content-length"] {
        a.forget();
        let connection = format!("Connection: close, {nominated}");
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{connection}\r\nContent-Length: 2\r\n\r\nhi");
        let response = ask(gateway.web(), request);
        if response.status == 400 {
            assert_eq!(a.count(), 0);
            continue;
        }
        let mut fields = reached(&a.seen()[0]);
        // A body whose length was nominated may arrive chunked.
        fields.retain(|field| field != "content-length: 2" && field != "transfer-encoding: chunked");
        assert_eq!(fields, ["host: a"], "{nominated}");
        assert_eq!(a.seen()[0].body, b"hi", "{nominated}");
    }
}

/// Nor fields of a plugin: a backend may trust a request without that field.
#[test]
fn a_nomination_removes_no_field_of_a_plugin() {
    let a = Origin::named("a");
    let plugin = "kind: headers, request: { set: { X-User: ada } }";
    let gateway = Gateway::start(&format!("routes: [{{ upstream: [{a}], plugins: [{{ {plugin} }}] }}]"));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-user, close\r\nConnection: X-Own\r\nX-User: root\r\nX-Own: b\r\n\r\n";
    assert_eq!(ask(gateway.web(), request).status, 200);
    Socket::open_with(gateway.web(), "/", &[("Connection", "Upgrade, X-User, sec-websocket-key")]).unwrap();
    let seen = a.seen();
    assert_eq!(reached(&seen[0]), ["host: a", "x-user: ada"]);
    assert_eq!(seen[1].fields("x-user"), ["ada"]);
}

#[test]
fn forwarded_fields_of_an_untrusted_client_are_replaced() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\
                   X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX_Forwarded_For: 9.9.9.9\r\n\
                   X-Original-URI: /public\r\nX-Forwarded-Uri: /public\r\nX_Original_Uri: /public\r\n\r\n";
    assert_eq!(ask(gateway.web(), request).status, 200);
    let seen = &a.seen()[0];
    assert_eq!(seen.fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.fields("x-forwarded-host"), ["a"]);
    for name in ["x_forwarded_for", "x-original-uri", "x-forwarded-uri", "x_original_uri"] {
        assert_eq!(seen.fields(name), [""; 0], "{name}");
    }
}

/// A configured value of such a field is not the client's.
#[test]
fn the_gateways_own_value_replaces_a_client_s() {
    let a = Origin::named("a");
    let plugin =
        "{ kind: headers, request: { set: { X-Real-IP: '{client_ip}', X-Original-URI: '{path}' } } }";
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{a}'], plugins: [{plugin}] }}]"));
    let request =
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Real-IP: 1.2.3.4\r\nX-Original-URI: /b\r\n\r\n";
    assert_eq!(ask(gateway.web(), request).status, 200);
    let seen = &a.seen()[0];
    assert_eq!((seen.fields("x-real-ip"), seen.fields("x-original-uri")), (vec!["127.0.0.1"], vec!["/a"]));
}

#[test]
fn forwarded_fields_follow_the_configuration() {
    let sent = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    for (server, expected) in [
        ("trusted_proxies: [127.0.0.0/8]", [&["1.2.3.4, 127.0.0.1"][..], &["https"], &["shop.example"]]),
        ("trusted_proxies: [10.0.0.0/8]", [&["127.0.0.1"], &["http"], &["a"]]),
        ("x_forwarded: remove", [&[], &[], &[]]),
        ("x_forwarded: keep", [&["1.2.3.4"], &["https"], &["shop.example"]]),
    ] {
        let a = Origin::named("a");
        let gateway = to(&a, server);
        assert_eq!(
            ask(gateway.web(), format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{sent}\r\n"))
                .status,
            200
        );
        let seen = &a.seen()[0];
        for (name, values) in
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].iter().zip(expected)
        {
            assert_eq!(seen.fields(name), values, "{server}: {name}");
        }
    }
}

#[test]
fn via_is_added_in_both_directions_or_not_at_all() {
    let a = Origin::scripted("a", |_, wire| {
        let answer = crate::support::origin::answer(200, "Via: 1.1 inner\r\n", b"ok");
        wire.try_send(answer).map_or(Next::Close, |()| Next::Keep)
    });
    let with = to(&a, "via: both");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 outer\r\nConnection: close\r\n\r\n";
    let response = ask(with.web(), request);
    let joined = |head: &str| fields(head, "via").collect::<Vec<_>>().join(", ");
    let (there, back) = (joined(&a.seen()[0].head), joined(&response.head));
    assert!(there.starts_with("1.0 outer, 1.1 "), "{there:?}");
    assert!(back.starts_with("1.1 inner, 1.1 "), "{back:?}");

    a.forget();
    for (server, there, back) in [
        ("", "1.0 outer", "1.1 inner"),
        ("via: off", "1.0 outer", "1.1 inner"),
        ("via: requests", "1.0 outer, 1.1 moongate", "1.1 inner"),
        ("via: responses", "1.0 outer", "1.1 inner, 1.1 moongate"),
    ] {
        a.forget();
        let gateway = to(&a, server);
        let response = ask(gateway.web(), request);
        assert_eq!(
            (joined(&a.seen()[0].head), joined(&response.head)),
            (there.into(), back.into()),
            "{server}"
        );
    }
}

#[test]
fn http_1_0_is_served_in_its_own_way() {
    let a = Origin::scripted("a", |_, wire| {
        wire.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .unwrap();
        Next::Keep
    });
    let gateway = to(&a, "");
    let mut wire = gateway.wire();
    wire.send("GET /x HTTP/1.0\r\n\r\n");
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(response.field("transfer-encoding"), None);
    assert!(wire.ended());
    let seen = &a.seen()[0];
    assert_eq!(seen.line(), "GET /x HTTP/1.1");
    assert_eq!(seen.fields("host").len(), 1, "one is added");
}

#[test]
fn a_head_that_does_not_come_is_cut() {
    let a = Origin::named("a");
    let gateway = to(&a, "header_timeout: 1s");
    let starts = ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX-A: "];
    let mut wires = starts.map(|start| (start, gateway.wire()));
    for (start, wire) in &mut wires {
        wire.send(start);
        wire.patience(Duration::from_secs(5));
    }
    let ends = wires.map(|(start, mut wire)| (start, wire.try_rest().map_err(|e| e.to_string())));
    let cut = |end: &Result<Vec<u8>, _>| {
        end.as_ref().is_ok_and(|said| said.is_empty() || said.starts_with(b"HTTP/1.1 408"))
    };
    assert!(ends.iter().all(|(_, end)| cut(end)), "{ends:?}");
    assert_eq!(a.count(), 0);
}

/// The limit is for the whole header: single bytes do not restart the timer.
#[test]
fn a_head_that_trickles_is_cut_too() {
    let a = Origin::named("a");
    let gateway = to(&a, "header_timeout: 1s");
    for first in [true, false] {
        let mut wire = gateway.wire();
        if !first {
            wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(wire.response().status, 200, "the second head of a connection has the same limit");
        }
        wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-A: ");
        wire.patience(Duration::from_millis(100));
        let began = Instant::now();
        // A read that finds nothing is the pause between two bytes.
        while wire.try_send("b").is_ok() && !matches!(wire.fill(), Ok(0)) {
            assert!(began.elapsed() < Duration::from_secs(8), "it trickles on");
        }
        wire.patience(LIMIT);
    }
}

#[test]
fn idle_connections_are_closed_in_time() {
    let a = Origin::named("a");
    let gateway = to(&a, "keepalive_timeout: 1s");
    let mut wire = gateway.wire();
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
    let began = Instant::now();
    assert!(wire.ended());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_leaves_half_way_affects_no_other_client() {
    let a = Origin::named("a");
    let gateway = to(&a, "");
    for n in 0..50 {
        let (stream, _) = gateway.wire().into_parts();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
        std::io::Write::write_all(&mut &stream, &head.as_bytes()[..head.len() * n / 50]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(gateway.get("/").text(), "a");
}
