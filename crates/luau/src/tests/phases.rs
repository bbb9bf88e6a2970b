//! Inputs and effects of scripts in each phase.

use super::*;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use moongate_sdk::{Direction, Message, MessageVerdict, Piece, WebSocketEnd};
use std::time::Duration;

#[test]
fn a_request_is_read_by_methods() {
    let body = r#"
        local words = { req:method(), req:path(), req:query(), req:host(), req:scheme(), req:client_ip(),
            req:route(), req:listener(), req:header("X-Team"), tostring(req:header("x-none")), #req:id() }
        req:respond(200, table.concat(words, " "))"#;
    assert_eq!(says(body), "GET /a b=c example.com http 127.0.0.1 web listener blue nil 32");
}

#[test]
fn the_clients_tls_is_a_table_and_nothing_where_there_is_none() {
    let plugin = plugin(
        r#"function request_headers(req)
            local tls = req:tls()
            if tls == nil then return req:respond(200, "plain") end
            local client = tls.client
            req:respond(200, table.concat({ tls.version, tls.server_name, client.subject, client.names[2] }, " "))
        end"#,
    );
    let tls = moongate_sdk::Tls {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: Some("example.com".into()),
        client: Some(moongate_sdk::ClientCertificate {
            subject: "CN=alice".into(),
            issuer: "CN=root".into(),
            serial: "0A".into(),
            fingerprint: "ab".into(),
            names: ["a.example".into(), "b.example".into()].into(),
        }),
    };
    for (tls, expected) in [(None, "plain"), (Some(&tls), "TLSv1.3 example.com CN=alice b.example")] {
        let rendered = TestExchange::new("/").with_exchange(|exchange| {
            let mut fields = http::HeaderMap::new();
            let mut exchange = moongate_sdk::Exchange {
                request: moongate_sdk::Request { tls, ..exchange.request },
                headers: moongate_sdk::Headers::request(&mut fields),
                running: exchange.running,
                services: exchange.services,
            };
            match moongate_sdk::testing::resolve_flow(plugin.request_headers(&mut exchange)) {
                Verdict::Respond(reply) => reply.body,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(rendered, expected);
    }
}

#[test]
fn a_script_sees_the_gateways_websocket_detection() {
    let plugin =
        plugin("function request_headers(req) req:respond(200, `{req:is_websocket()} {req:is_grpc()}`) end");
    for (is_websocket, rendered) in [(true, "true false"), (false, "false false")] {
        // Header fields have no effect.
        let mut visit = TestExchange::new("/").field("upgrade", "websocket").field("connection", "upgrade");
        visit.is_websocket = is_websocket;
        assert_eq!(visit.expect_reply(&*plugin).body, rendered);
    }
}

#[test]
fn a_request_is_changed_before_it_is_forwarded() {
    let plugin = plugin(
        r#"function request_headers(req)
            req:set_header("X-Team", "red")
            req:add_header("X-Team", 7)
            req:remove_header("x-gone")
            req:set_method("POST")
            req:set_path("/new")
            req:note("team", "red")
            assert(req:headers()["x-team"] == "red, 7")
            assert(req:path() == "/new" and req:query() == "b=c" and req:method() == "POST")
        end"#,
    );
    let mut visit = TestExchange::new("/a?b=c").field("x-team", "blue").field("x-gone", "1");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    let team: Vec<_> = visit.request.get_all("x-team").iter().collect();
    assert!(team == ["red", "7"] && !visit.request.contains_key("x-gone"));
    let edits = visit.running.edits().unwrap();
    assert_eq!(
        (edits.target.as_deref(), edits.method.as_ref().unwrap().as_str()),
        (Some("/new?b=c"), "POST")
    );
    assert_eq!((&*visit.running.notes()[0].key, visit.running.notes()[0].value.as_str()), ("team", "red"));
}

#[test]
fn a_script_responds_with_fields_and_body() {
    let plugin = plugin(
        r#"function request_headers(req)
            return req:respond(403, "no\n", { ["Content-Type"] = "text/plain", Vary = { "a", "b" } })
        end"#,
    );
    let reply = TestExchange::new("/").expect_reply(&*plugin);
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::FORBIDDEN, &b"no\n"[..]));
    let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
    assert!(vary == ["a", "b"] && reply.headers["content-type"] == "text/plain");
}

#[test]
fn an_invalid_head_is_an_error_with_its_line() {
    for (body, words) in [
        ("req:set_header('a b', '1')", "source:2: `a b` is not a field name"),
        ("req:set_header('x', 'a\\nb')", "a character that is invalid in a header field"),
        ("req:set_header('Content-Length', '1')", "`content-length` is the gateway's own"),
        ("req:remove_header('Host')", "`host` cannot be added or removed"),
        ("req:set_header('x', string.rep('x', 40000))", "of 40000 bytes is too long"),
        ("for n = 1, 1000 do req:add_header('x', n) end", "200 fields already"),
        ("req:set_path('a')", "source:2: a target begins with `/`"),
        ("req:set_path('/a?b')", "a path has no `?`"),
        ("req:set_method('a b')", "not a method"),
        ("req:respond(99)", "99 is not a status"),
        ("req:respond(101)", "101 is not a status"),
        ("req:respond(200, 'x', { upgrade = 'x' })", "`upgrade` is the gateway's own"),
        ("req:respond(200, 'x', { a = req })", "must be a string or a list"),
        ("req:note('a b', 'x')", "a note's key has"),
        ("req:note('k', string.rep('x', 2000))", "a note of 2000 bytes is too long"),
        ("for n = 1, 99 do req:note('k' .. n, 'x') end", "32 notes already"),
        ("req.set_header('x', 'y')", "source:2:"),
        ("req:set_header()", "source:2:"),
        ("error('mine')", "source:2: mine"),
        ("error({ code = 1 })", "source"),
        ("coroutine.yield()", "source:2: attempt to yield"),
        ("req.path()", "source:2: bad argument #1"),
        ("req:status()", "`req` has no method `status`"),
        ("local t = nil; t.x = 1", "source:2: attempt to index nil with 'x'"),
    ] {
        let raised = raises(body);
        assert!(raised.contains(words), "{body}: {raised}");
        assert!(!raised.contains('\n') && raised.len() < 600, "{raised}");
    }
}

#[test]
fn ctx_lasts_from_the_request_to_the_log() {
    let plugin = plugin(
        r#"function request_headers(req) req:ctx().user = "ada" end
        function response_headers(req, res)
            assert(req:ctx().user == "ada")
            req:ctx().status = res:status()
        end
        function log(req, res)
            req:note("said", req:ctx().user .. req:ctx().status .. res:status())
        end"#,
    );
    let mut visit = TestExchange::new("/");
    visit.request_headers(&*plugin);
    visit.response_headers(&*plugin);
    visit.with_exchange(|exchange| plugin.log(exchange, Some(StatusCode::OK)));
    assert_eq!(visit.running.notes()[0].value, "ada200200");
    let mut other = TestExchange::new("/");
    let Verdict::Failed(_) = other.response_headers(&*plugin) else {
        panic!("another request has another table")
    };
}

#[test]
fn a_response_head_is_read_changed_and_replaced() {
    let plugin = plugin(
        r#"function response_headers(req, res)
            assert(res:header("x-a") == "1" and res:endpoint() == nil)
            if req:path() == "/replace" then return res:respond(503, "later") end
            res:set_status(204)
            res:remove_header("x-a")
            res:add_header("x-b", "2")
        end"#,
    );
    let mut visit = TestExchange::new("/");
    visit.response.insert("x-a", "1".parse().unwrap());
    assert!(matches!(visit.response_headers(&*plugin), Verdict::Continue));
    assert_eq!(visit.status, StatusCode::NO_CONTENT);
    assert!(visit.response["x-b"] == "2" && !visit.response.contains_key("x-a"));
    let mut visit = TestExchange::new("/replace");
    visit.response.insert("x-a", "1".parse().unwrap());
    let Verdict::Respond(reply) = visit.response_headers(&*plugin) else { panic!("a reply was expected") };
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (503, &b"later"[..]));
}

#[test]
fn a_101_keeps_its_status() {
    let plugin = plugin("function response_headers(req, res) res:set_status(200) end");
    let mut visit = TestExchange::new("/");
    visit.status = StatusCode::SWITCHING_PROTOCOLS;
    assert!(matches!(visit.response_headers(&*plugin), Verdict::Failed(_)));
}

#[test]
fn a_requests_body_is_shown_whole() {
    let plugin = plugin(
        r#"function request_body(req, body)
            assert(body:last() and body:len() == 5)
            if body:data() == "wrong" then return req:respond(422) end
            body:set(body:data():upper())
            req:set_header("x-seen", "yes")
        end"#,
    );
    let mut visit = TestExchange::new("/").field("content-length", "5");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Body(1_048_576)));
    let mut piece = Piece { bytes: Bytes::from_static(b"hello"), last: true };
    assert!(matches!(visit.request_body(&*plugin, &mut piece), Verdict::Continue));
    assert!(piece.bytes == "HELLO" && visit.request["x-seen"] == "yes");
    let mut piece = Piece { bytes: Bytes::from_static(b"wrong"), last: true };
    assert!(matches!(visit.request_body(&*plugin, &mut piece), Verdict::Respond(_)));
    assert!(matches!(TestExchange::new("/").request_headers(&*plugin), Verdict::Continue), "it has no body");
}

#[test]
fn a_script_can_pass_a_body() {
    let plugin = plugin(
        "function request_headers(req) req:skip_body() end
         function request_body(req, body) error('not asked for') end",
    );
    assert!(matches!(
        TestExchange::new("/").field("content-length", "5").request_headers(&*plugin),
        Verdict::Continue
    ));
    let plugin = super::plugin(
        "function response_headers(req, res) res:skip_body() end
         function response_body(req, body) end",
    );
    let mut visit = TestExchange::new("/");
    visit.response_headers(&*plugin);
    assert!(visit.running.skips_bodies(0) && !visit.running.skips(0));
}

#[test]
fn a_response_body_can_be_held_until_it_is_complete() {
    let written = json!({ "limits": { "body": "8" }, "source":
        "function response_body(req, body)
            if not body:last() then return body:hold() end
            body:set('<' .. body:data() .. '>')
        end" });
    let plugin = built(written).ok().unwrap();
    let mut visit = TestExchange::new("/");
    let mut pass = |text: &'static str, last| {
        let mut piece = Piece { bytes: Bytes::from_static(text.as_bytes()), last };
        visit.with_exchange(|exchange| plugin.response_body(exchange, &mut piece)).map(|()| piece.bytes)
    };
    assert_eq!(pass("ab", false).unwrap(), "");
    assert_eq!(pass("cd", false).unwrap(), "");
    assert_eq!(pass("ef", true).unwrap(), "<abcdef>");
    let fault = pass("123456789", false).unwrap_err();
    assert!(fault.to_string().contains("held back more than 8 bytes"));
}

fn message(direction: Direction, text: &str) -> Message {
    Message { direction, binary: false, payload: BytesMut::from(text) }
}

#[test]
fn messages_are_read_rewritten_dropped_and_closed() {
    let plugin = plugin(
        r#"function message(ws, msg)
            ws:ctx().count = (ws:ctx().count or 0) + 1
            assert(ws:path() == "/socket" and msg:text() and not msg:binary())
            if msg:to_client() then return msg:set_binary("\255") end
            if msg:data() == "drop" then return ws:drop() end
            if msg:data() == "close" then return ws:close(4001, "enough") end
            if msg:data() == "broken" then return msg:set("\255") end
            msg:set(msg:data() .. ws:ctx().count)
        end
        function closed(ws, ended)
            ws:note("ended", ended.code .. ended.reason .. ended.lifetime .. ended.messages.to_client
                .. ended.bytes.to_backend)
        end"#,
    );
    let mut visit = TestExchange::new("/socket");
    let mut hello = message(Direction::ToBackend, "hello");
    assert!(matches!(visit.message(&*plugin, &mut hello), MessageVerdict::Forward));
    assert_eq!(hello.payload, "hello1");
    let mut reply = message(Direction::ToClient, "hello");
    assert!(matches!(visit.message(&*plugin, &mut reply), MessageVerdict::Forward));
    assert!(reply.binary && reply.payload[..] == [255]);
    let mut say = |text| visit.message(&*plugin, &mut message(Direction::ToBackend, text));
    assert!(matches!(say("drop"), MessageVerdict::Drop));
    assert!(matches!(say("close"), MessageVerdict::Close { code: 4001, reason } if reason == "enough"));
    assert!(
        matches!(say("broken"), MessageVerdict::Failed(fault) if fault.to_string().contains("must be UTF-8"))
    );
    let ended = WebSocketEnd {
        code: 1000,
        reason: "client",
        lifetime: Duration::from_millis(1500),
        messages: [3, 4],
        bytes: [5, 6],
    };
    visit.with_exchange(|exchange| plugin.closed(exchange, &ended));
    assert_eq!(visit.running.notes()[0].value, "1000client1.545");
}

#[test]
fn a_close_has_only_a_valid_code_and_reason() {
    for (call, words) in [
        ("ws:close(1005)", "1005 is not a valid close code"),
        ("ws:close(1014)", "1014 is not a valid close code"),
        ("ws:close(1000, string.rep('x', 124))", "at most 123 bytes"),
        ("ws:respond(200)", "`ws` has no method `respond`"),
        ("ws:nothing()", "missing method 'nothing'"),
    ] {
        let plugin = plugin(&format!("function message(ws, msg) {call} end"));
        let verdict = TestExchange::new("/").message(&*plugin, &mut message(Direction::ToClient, "x"));
        assert!(
            matches!(&verdict, MessageVerdict::Failed(fault) if fault.to_string().contains(words)),
            "{verdict:?}"
        );
    }
}
