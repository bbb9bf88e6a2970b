//! Luau scripts through the real gateway: header and body phases, calls, messages, reloads, and the effect of
//! faulty scripts.

use crate::support::raw::ask;
use crate::support::{Gateway, Load, Origin, Response, Socket, eventually};

/// A route `web` to `origin` with this script, and an upstream `auth`.
fn yaml(origin: &Origin, auth: &Origin, script: &str) -> String {
    let source: String = script.lines().map(|line| format!("          {line}\n")).collect();
    format!(
        "upstreams: {{ auth: {{ endpoints: [{auth}] }} }}
routes:
  - name: web
    upstream: [{origin}]
    plugins:
      - kind: luau
        name: mine
        source: |
{source}"
    )
}

fn with(origin: &Origin, script: &str) -> Gateway {
    Gateway::start(&yaml(origin, origin, script))
}

fn asked(gateway: &Gateway, line: &str, rest: &str) -> Response {
    ask(gateway.web(), format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{rest}"))
}

#[test]
fn heads_and_bodies_pass_a_script_both_ways() {
    let origin = Origin::named("answer");
    let gateway = with(
        &origin,
        r#"function request_headers(req)
    req:set_header("x-client", req:client_ip())
    req:set_path("/inner" .. req:path())
    req:ctx().began = req:method()
end
function request_body(req, body) body:set(body:data():upper()) end
function response_headers(req, res) res:set_header("x-began", req:ctx().began) end
function response_body(req, body)
    if not body:last() then return body:hold() end
    body:set("<" .. body:data() .. ">")
end"#,
    );
    let response = asked(&gateway, "POST /x?y", "Content-Length: 5\r\n\r\nhello");
    assert_eq!((response.status, response.text().as_str()), (200, "<answer>"));
    assert_eq!(response.field("x-began"), Some("POST"));
    let seen = &origin.seen()[0];
    assert_eq!((seen.target(), seen.field("x-client")), ("/inner/x?y", Some("127.0.0.1")));
    assert_eq!(seen.body, b"HELLO");
}

#[test]
fn a_script_calls_an_upstream_and_decides_by_its_response() {
    let (origin, auth) = (Origin::named("in"), Origin::named("ada"));
    let gateway = Gateway::start(&yaml(
        &origin,
        &auth,
        r#"function request_headers(req)
    local answer, why = call { upstream = "auth", path = "/who" .. req:path() }
    if not answer then return req:respond(503, why) end
    req:set_header("x-user", answer.body)
end"#,
    ));
    assert_eq!(asked(&gateway, "GET /me", "\r\n").text(), "in");
    assert_eq!((auth.seen()[0].target(), origin.seen()[0].field("x-user")), ("/who/me", Some("ada")));
    auth.die();
    let refused = asked(&gateway, "GET /me", "\r\n");
    assert_eq!((refused.status, origin.count()), (503, 1), "{}", refused.text());
}

#[test]
fn messages_pass_a_script_and_others_do_not() {
    let origin = Origin::named("ws");
    let gateway = with(
        &origin,
        r#"function message(ws, msg)
    if msg:data() == "quiet" then return ws:drop() end
    if msg:data() == "enough" then return ws:close(4001, "enough") end
    if msg:data() == "broken" then error("broken") end
    if msg:to_backend() then msg:set("<" .. msg:data() .. ">") end
end"#,
    );
    let mut socket = Socket::open(gateway.web(), "/socket");
    socket.say("quiet");
    socket.say("one");
    assert_eq!(socket.hear(), b"<one>");
    let mut other = Socket::open(gateway.web(), "/socket");
    other.say("broken");
    assert_eq!(other.end(), Some(1011));
    socket.say("enough");
    assert_eq!(socket.end(), Some(4001));
}

#[test]
fn a_script_that_fails_costs_its_request_and_no_other() {
    let origin = Origin::named("fine");
    let gateway = with(
        &origin,
        r#"function request_headers(req)
    if req:path() == "/spin" then while true do end end
    if req:path() == "/eat" then local t = {} while true do t[#t + 1] = string.rep("x", 1e5) .. #t end end
    if req:path() == "/raise" then error("raised") end
end"#,
    );
    for path in ["/raise", "/spin", "/eat"] {
        assert_eq!(gateway.get(path).status, 500, "{path}");
        assert_eq!(gateway.get("/").text(), "fine", "{path}");
    }
    assert_eq!(origin.count(), 3);
    gateway.log().wait(0, &["source:4: raised"]);
}

#[test]
fn a_reload_takes_a_changed_script_and_refuses_a_broken_one() {
    let origin = Origin::named("a");
    let answers = |word: &str| format!("function request_headers(req) req:respond(200, \"{word}\") end");
    let gateway = with(&origin, &answers("one"));
    let load = Load::start(gateway.web(), "/", 2);
    assert_eq!(gateway.get("/").text(), "one");
    gateway.reload(&yaml(&origin, &origin, &answers("two"))).unwrap();
    assert_eq!(gateway.get("/").text(), "two");
    let report =
        gateway.reload(&yaml(&origin, &origin, "function request_headers(req)\n  if\nend")).unwrap_err();
    assert!(report.contains("source:3: expected"), "{report}");
    assert_eq!(gateway.get("/").text(), "two");
    assert_eq!(load.stop(), Vec::<String>::new());
}

#[test]
fn a_script_in_a_file_is_read_again_when_it_changes() {
    let origin = Origin::named("a");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("word.luau");
    let write = |word: &str| {
        std::fs::write(&file, format!("function request_headers(req) req:respond(200, \"{word}\") end"))
            .unwrap();
    };
    write("one");
    let yaml = format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: luau, script: {} }}] }}]",
        file.display()
    );
    let gateway = Gateway::start(&yaml);
    assert_eq!(gateway.get("/").text(), "one");
    write("two");
    assert_eq!(gateway.get("/").text(), "one", "until a reload");
    gateway.reload(&yaml).unwrap();
    assert_eq!(gateway.get("/").text(), "two");
}

#[test]
fn a_script_that_logs_too_much_is_limited_and_counted() {
    let origin = Origin::named("a");
    let gateway =
        with(&origin, "function request_headers(req) for i = 1, 150 do logger.warn('line', i) end end");
    assert_eq!(asked(&gateway, "GET /", "\r\n").status, 200);
    let written = || gateway.log().count(0, "script logged script=");
    eventually("a hundred lines", || (written() == 100).then_some(()));
    // The log line of the next second counts the others.
    eventually("the count", || {
        asked(&gateway, "GET /", "\r\n");
        (gateway.log().count(0, "script log lines dropped") > 0).then_some(())
    });
}
