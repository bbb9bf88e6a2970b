//! What the admin API shows of the living gateway: rates, WebSockets, taps, reloads, logs.

use crate::support::raw::{Wire, ask, lossy};
use crate::support::{Gateway, Origin, Response, Socket, eventually, get};
use serde_json::{Value, json};

const TOKEN: &str = "open sesame";

/// A gateway with a chat route.
fn chat(a: &Origin, admin: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0{admin} }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
access_log: {{ format: json, path: stderr }}
upstreams:
  all: {{ endpoints: ['{a}'] }}
routes:
  - {{ name: chat, path: /chat, upstream: all, websocket: {{ drain_window: 10s }} }}
  - {{ name: rest, upstream: all }}"
    ))
}

fn request(gateway: &Gateway, line: &str, fields: &str, body: &str) -> Response {
    let host = gateway.admin();
    let length = body.len();
    ask(
        host,
        format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ),
    )
}

fn json_of(gateway: &Gateway, path: &str) -> Value {
    let response = get(gateway.admin(), path);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    response.json()
}

/// A stream of events.
struct Events {
    wire: Wire,
    text: String,
}

impl Events {
    fn open(gateway: &Gateway, path: &str, fields: &str) -> Self {
        let host = gateway.admin();
        let mut wire = Wire::connect(host);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        let head = lossy(&wire.head().unwrap().unwrap());
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Self { wire, text: String::new() }
    }

    /// The data of the next event with this name that `wanted` accepts.
    fn next(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, data) = self.any().unwrap_or_else(|| panic!("the stream ended before `{name}`"));
            if found == name && wanted(&data) {
                return data;
            }
        }
    }

    /// The name and the data of the next event; `None` at the end of the stream.
    fn any(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let mut lines = event.lines();
                let name =
                    lines.next().and_then(|line| line.strip_prefix("event: ")).unwrap_or("").to_owned();
                let data = lines.next().and_then(|line| line.strip_prefix("data: ")).unwrap_or("null");
                let data = serde_json::from_str(data).unwrap();
                self.text = rest.to_owned();
                return Some((name, data));
            }
            let chunk = self.wire.chunk().unwrap();
            if chunk.is_empty() {
                return None;
            }
            self.text.push_str(&lossy(&chunk));
        }
    }
}

fn any(_: &Value) -> bool {
    true
}

#[test]
fn open_websockets_are_listed_filtered_and_closed() {
    let a = Origin::named("a");
    let gateway = chat(&a, "");
    let mut sockets: Vec<_> =
        (0..3).map(|number| Socket::open(gateway.web(), &format!("/chat?user={number}"))).collect();
    sockets[1].echo("hello");
    // What was relayed is counted right after it was sent.
    let all = eventually("the messages are counted", || {
        let all = json_of(&gateway, "/api/v1/sockets?sort=id");
        let messages = |row: &Value| row["messages"]["to_client"].as_u64();
        all["rows"].as_array().unwrap().iter().any(|row| messages(row) == Some(1)).then_some(all)
    });
    assert_eq!((&all["total"], &all["matched"], &all["pages"]), (&json!(3), &json!(3), &json!(1)));
    let row = all["rows"].as_array().unwrap().iter().find(|row| row["path"] == "/chat?user=1").unwrap();
    let told = (&row["client"], &row["route"], &row["upstream"], &row["endpoint"], &row["generation"]);
    assert_eq!(told, (&json!("127.0.0.1"), &json!("chat"), &json!("all"), &json!(a.to_string()), &json!(1)));
    assert_eq!(row["messages"], json!({ "to_backend": 1, "to_client": 1 }));
    let one = json_of(&gateway, "/api/v1/sockets?filter=user=2+route:chat&per_page=1");
    assert_eq!((&one["total"], &one["matched"]), (&json!(3), &json!(1)));
    let id = &one["rows"][0]["id"];
    assert_eq!(json_of(&gateway, &format!("/api/v1/sockets/{id}"))["path"], "/chat?user=2");
    let closed = request(&gateway, &format!("POST /api/v1/sockets/{id}/close?code=4001&reason=bye"), "", "");
    assert_eq!((closed.status, closed.text().trim()), (200, "{\"ok\":true}"));
    assert_eq!(sockets[2].end(), Some(4001));
    eventually("it is gone", || (json_of(&gateway, "/api/v1/sockets")["total"] == 2).then_some(()));
    assert_eq!(get(gateway.admin(), &format!("/api/v1/sockets/{id}")).status, 404);
    sockets[0].echo("still here");
    gateway.log().wait(0, &["\"reason\":\"operator\""]);
}

#[test]
fn the_live_stream_follows_requests_websockets_and_a_drain() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: ['{a}', '{b}'], balance: round_robin }}
routes: [{{ name: chat, upstream: all, websocket: {{ drain_window: 30s }} }}]"
    ));
    let mut live = Events::open(&gateway, "/api/v1/live?sections=overview,upstreams", "");
    assert_eq!(live.next("hello", any)["generation"], 1);
    live.next("history", any);
    let first = live.next("upstreams", any);
    assert_eq!((&first["reset"], first["rows"].as_array().unwrap().len()), (&json!(true), 2));
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(gateway.web(), "/")).collect();
    live.next("overview", |overview| overview["websockets"] == 4);
    for socket in &mut sockets {
        socket.echo("one message");
    }
    live.next("overview", |overview| overview["messages"]["to_backend"].as_f64().unwrap() > 0.0);
    let path = format!("/api/v1/upstreams/all/endpoints/{a}/drain");
    assert_eq!(request(&gateway, &format!("POST {path}"), "", "").status, 200);
    let of_a = |update: &Value| {
        let rows = update["rows"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["endpoint"] == a.to_string())
    };
    let drained = live.next("upstreams", |update| of_a(update).is_some_and(|row| row["drain"].is_object()));
    let row = of_a(&drained).unwrap();
    assert_eq!((&row["draining"], &row["drain"]["window"]), (&json!("operator"), &json!(30.0)));
    assert_eq!(row["drain"]["websockets_at_start"], 2);
    drop(live);
    let flows = json_of(&gateway, "/api/v1/upstreams")["flows"].clone();
    assert_eq!((&flows[0]["route"], &flows[0]["upstream"]), (&json!("chat"), &json!("all")));
    let overview = json_of(&gateway, "/api/v1/overview");
    assert!(overview["process"]["threads"].as_f64().unwrap() > 1.0, "{overview}");
    assert_eq!(overview["history"]["interval"], 5.0);
}

#[test]
fn an_idle_gateway_sends_no_rows() {
    let a = Origin::named("a");
    let gateway = chat(&a, "");
    gateway.names("/", 5);
    let mut live = Events::open(&gateway, "/api/v1/live?sections=overview,upstreams", "");
    live.next("upstreams", |update| update["reset"] == true);
    // The rates of the requests, and of the samples after them, have passed.
    for _ in 0..3 {
        live.next("overview", |overview| overview["requests"] == 0.0);
    }
    for _ in 0..3 {
        let names: Vec<_> = std::iter::from_fn(|| live.any())
            .map(|(name, _)| name)
            .take_while(|name| name != "overview")
            .collect();
        assert!(!names.iter().any(|name| name == "upstreams" || name == "flows"), "{names:?}");
    }
}

#[test]
fn the_last_probe_tells_why_an_endpoint_is_unhealthy() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "upstreams:
  all:
    endpoints: ['{a}']
    health_check: {{ kind: http, path: /health, interval: 50ms, unhealthy_after: 1 }}
routes: [{{ upstream: all }}]"
    ));
    gateway.await_health("all", a.address(), "healthy");
    let probe = |gateway: &Gateway| gateway.status()["upstreams"]["all"]["endpoints"][0]["probe"].clone();
    assert_eq!(probe(&gateway)["ok"], true);
    a.sicken();
    gateway.await_health("all", a.address(), "unhealthy");
    let failed = probe(&gateway);
    assert_eq!((&failed["ok"], &failed["reason"]), (&json!(false), &json!("status 503")), "{failed}");
}

#[test]
fn reloads_are_listed_with_their_difference_and_without_secrets() {
    let a = Origin::named("a");
    let gateway = chat(&a, &format!(", token: {TOKEN}"));
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let socket = Socket::open(gateway.web(), "/chat");
    let file = |threshold: &str, more: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0, token: {TOKEN} }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ name: only, path: /{threshold}, upstream: ['{a}']{more} }}]"
        )
    };
    gateway.write_whole(&file(
        "new",
        ", plugins: [{ kind: headers, request: { set: { Authorization: hush } } }]",
    ));
    gateway.signal("HUP");
    let reloads = || request(&gateway, "GET /api/v1/reloads", &authorized, "").json();
    let applied = eventually("the reload is listed", || {
        let reloads = reloads();
        (reloads["entries"][0]["number"] == 2).then_some(reloads)
    });
    let entry = &applied["entries"][0];
    assert_eq!(
        (&entry["cause"], &entry["ok"], &entry["generation"]),
        (&json!("signal"), &json!(true), &json!(2))
    );
    let diff = entry["diff"].as_str().unwrap();
    assert!(diff.contains("+  path: /new") && diff.contains("-- name: chat"), "{diff}");
    assert!(diff.contains("Authorization: (secret)") && !diff.contains("hush"), "{diff}");
    assert_eq!(applied["generations"], json!({ "1": 1 }), "the WebSocket lives on the first configuration");
    gateway.write_whole("routes: [{ upstraem: x }]");
    assert_eq!(request(&gateway, "POST /api/v1/reload", &authorized, "").status, 422);
    let refused = reloads()["entries"][0].clone();
    assert_eq!((&refused["cause"], &refused["ok"]), (&json!("api"), &json!(false)));
    assert!(refused["report"].as_str().unwrap().contains("did you mean `upstream`?"), "{refused}");
    let config = request(&gateway, "GET /api/v1/config", &authorized, "").text();
    assert!(config.contains("path: /new") && !config.contains(TOKEN) && !config.contains("hush"), "{config}");
    drop(socket);
}

#[test]
fn a_request_is_explained_as_on_the_command_line() {
    let a = Origin::named("a");
    let gateway = chat(&a, "");
    let explained = json_of(&gateway, "/api/v1/explain?url=ws://example.com/chat");
    assert_eq!((&explained["route"], &explained["upstream"]), (&json!("chat"), &json!("all")));
    assert_eq!(explained["others"][0]["route"], "rest");
    assert!(explained["text"].as_str().unwrap().starts_with("chat: any host, prefix /chat"), "{explained}");
    assert_eq!(get(gateway.admin(), "/api/v1/explain?url=http://a/&listener=none").status, 422);
}

#[test]
fn the_last_lines_of_both_logs_are_shown_and_followed() {
    let a = Origin::named("a");
    let gateway = chat(&a, "");
    gateway.get("/first");
    eventually("the line is kept", || {
        let log = json_of(&gateway, "/api/v1/log?log=access&filter=/FIRST");
        (log["lines"].as_array().unwrap().len() == 1).then_some(())
    });
    let process = json_of(&gateway, "/api/v1/log?log=process");
    assert!(process["lines"].to_string().contains("listening"), "{process}");
    let mut live = Events::open(&gateway, "/api/v1/live?sections=log&log=access&filter=second", "");
    assert_eq!(live.next("log", any)["lines"], json!([]));
    gateway.get("/second");
    let log = live.next("log", |log| log["lines"] != json!([]));
    assert!(log["lines"][0].as_str().unwrap().contains("/second"), "{log}");
}

#[test]
fn a_tap_shows_messages_to_the_holder_of_the_token_alone() {
    let a = Origin::named("a");
    let gateway = chat(&a, &format!(", token: {TOKEN}, tap: true"));
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(get(gateway.admin(), "/api/v1/tap?route=chat").status, 401);
    let mut socket = Socket::open(gateway.web(), "/chat?user=ann");
    let filter = "filter=request.path.startsWith(%22/chat%22)";
    let mut tap = Events::open(&gateway, &format!("/api/v1/tap?{filter}&bytes=5"), &authorized);
    assert_eq!(tap.next("start", any)["sockets"], 1);
    socket.echo("hello there");
    let message = tap.next("message", |message| message["direction"] == "to_backend");
    assert_eq!((&message["opcode"], &message["size"]), (&json!("text"), &json!(11)));
    assert_eq!((&message["text"], &message["truncated"]), (&json!("hello"), &json!(true)));
    let other = Socket::open(gateway.web(), "/chat?user=bob");
    assert_eq!(tap.next("open", any)["path"], "/chat?user=bob");
    drop(other);
    let closed = tap.next("close", any);
    assert_eq!(closed["by"], "client");
    gateway.log().wait(0, &["tap started", "peer=127.0.0.1", "filter request.path"]);
    drop(tap);
    gateway.log().wait(0, &["tap ended"]);
    assert_eq!(request(&gateway, "GET /api/v1/tap?filter=1+%2B", &authorized, "").status, 422);
    let unknown = request(&gateway, "GET /api/v1/tap?route=chaat", &authorized, "");
    assert_eq!((unknown.status, unknown.text().contains("there is no route `chaat`")), (422, true));
    assert_eq!(request(&gateway, "GET /api/v1/tap?socket=4711", &authorized, "").status, 404);
    let mut short = Events::open(&gateway, "/api/v1/tap?route=chat&duration=50ms", &authorized);
    assert_eq!(short.next("end", any)["reason"], "duration");
    socket.echo("still here");
}

#[test]
fn a_tap_is_off_without_its_setting_and_a_reload_turns_it_on() {
    let a = Origin::named("a");
    let gateway = chat(&a, &format!(", token: {TOKEN}"));
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let tapped = || request(&gateway, "GET /api/v1/tap?route=only&duration=1ms", &authorized, "");
    assert_eq!(tapped().status, 403);
    let file = |tap: &str| {
        format!(
            "admin: {{ address: 127.0.0.1:0, token: {TOKEN}{tap} }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ name: only, upstream: ['{a}'] }}]"
        )
    };
    gateway.write_whole(&file(", tap: true"));
    let reload = request(&gateway, "POST /api/v1/reload", &authorized, "");
    assert_eq!(reload.status, 200, "{}", reload.text());
    assert_eq!(tapped().status, 200);
    let mut tap = Events::open(&gateway, "/api/v1/tap?route=only&duration=10m", &authorized);
    tap.next("start", any);
    gateway.write_whole(&file(""));
    assert_eq!(request(&gateway, "POST /api/v1/reload", &authorized, "").status, 200);
    assert_eq!(tap.next("end", any)["reason"], "off");
    assert!(tap.any().is_none(), "it has ended");
    assert_eq!(tapped().status, 403);
}

#[test]
fn a_browser_signs_in_and_needs_its_key() {
    let a = Origin::named("a");
    let gateway = chat(&a, &format!(", token: {TOKEN}"));
    assert_eq!(get(gateway.admin(), "/").status, 200);
    let state = |fields: &str| request(&gateway, "GET /api/v1/session", fields, "").json();
    assert_eq!(state(""), json!({ "required": true, "signed_in": false }));
    let sign_in =
        |token: &str| request(&gateway, "POST /api/v1/session", "", &json!({ "token": token }).to_string());
    assert_eq!(sign_in("open").status, 401);
    let signed = sign_in(TOKEN);
    assert_eq!(signed.status, 200);
    let cookie = signed.field("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/; Max-Age="), "{cookie}");
    let cookie = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap());
    let session = format!("{cookie}X-Moongate-Key: {}\r\n", signed.json()["key"].as_str().unwrap());
    assert_eq!(state(&session), json!({ "required": true, "signed_in": true }));
    assert_eq!(request(&gateway, "GET /api/v1/status", &session, "").status, 200);
    // A backend at another port of this host has the cookie, and not the key.
    assert_eq!(request(&gateway, "GET /api/v1/status", &cookie, "").status, 401);
    let foreign = format!("{session}Origin: http://evil.example\r\n");
    assert_eq!(request(&gateway, "POST /api/v1/reload", &foreign, "").status, 403);
    let origin = format!("{session}Origin: http://{}\r\n", gateway.admin());
    assert_eq!(request(&gateway, "POST /api/v1/reload", &origin, "").status, 200);
    let mut live = Events::open(&gateway, "/api/v1/live?sections=log", &session);
    live.next("hello", any);
    assert_eq!(request(&gateway, "DELETE /api/v1/session", &session, "").status, 200);
    while live.any().is_some() {}
    assert_eq!(request(&gateway, "GET /api/v1/status", &session, "").status, 401);
}

#[test]
fn websockets_are_sorted_and_paged_by_the_gateway() {
    let a = Origin::named("a");
    let gateway = chat(&a, "");
    let mut sockets: Vec<_> =
        (0..25).map(|number| Socket::open(gateway.web(), &format!("/chat/{:02}", number * 7 % 25))).collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        (0..number % 4).for_each(|_| socket.echo("x"));
    }
    let page = |query: &str| {
        let page = json_of(&gateway, &format!("/api/v1/sockets?{query}"));
        let rows = page["rows"].as_array().unwrap().clone();
        let paths: Vec<_> = rows.iter().map(|row| row["path"].as_str().unwrap()[6..].to_owned()).collect();
        (paths.join(" "), page["page"].as_u64().unwrap(), page["pages"].as_u64().unwrap())
    };
    let range =
        |range: std::ops::Range<usize>| range.map(|n| format!("{n:02}")).collect::<Vec<_>>().join(" ");
    assert_eq!(page("sort=path&per_page=10"), (range(0..10), 1, 3));
    assert_eq!(page("sort=path&per_page=10&page=2"), (range(10..20), 2, 3));
    // A page after the last one is the last one.
    assert_eq!(page("sort=path&per_page=10&page=9"), (range(20..25), 3, 3));
    assert_eq!(page("sort=-path&per_page=2&page=2").0, "22 21");
    let counts = |query: &str| {
        let rows = json_of(&gateway, &format!("/api/v1/sockets?{query}"))["rows"].as_array().unwrap().clone();
        rows.iter().map(|row| row["messages"]["to_backend"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    eventually("every message is counted", || (counts("sort=-messages&per_page=6") == [3; 6]).then_some(()));
    assert_eq!(counts("sort=messages&per_page=7"), [0; 7]);
}

#[test]
fn a_failed_sign_in_is_logged_and_a_further_tap_is_refused() {
    let a = Origin::named("a");
    let gateway = chat(&a, &format!(", token: '{TOKEN}', tap: true"));
    let refused = request(&gateway, "POST /api/v1/session", "", &json!({ "token": "wrong" }).to_string());
    assert_eq!(refused.status, 401);
    gateway.log().wait(0, &["admin sign-in refused peer=127.0.0.1"]);
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let taps: Vec<_> =
        (0..16).map(|_| Events::open(&gateway, "/api/v1/tap?route=chat&duration=10m", &authorized)).collect();
    let further = request(&gateway, "GET /api/v1/tap?route=chat", &authorized, "");
    assert_eq!((further.status, further.text().contains("too_many_taps")), (503, true));
    drop(taps);
    eventually("a place is free", || {
        let tap = request(&gateway, "GET /api/v1/tap?route=chat&duration=1ms", &authorized, "");
        (tap.status == 200).then_some(())
    });
}
