//! Traces: what a collector receives of requests and WebSockets, and what backends receive of the trace.

mod exports;
mod websockets;

use crate::support::access_log::AccessLog;
use crate::support::collector::{CLIENT, Collector, SERVER, Span};
use crate::support::h2::{self, Client};
use crate::support::raw::ask;
use crate::support::{Gateway, Next, Origin, Socket, origin};
use serde_json::{Value, json};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A route to this backend with tracing.
fn gateway(collector: &Collector, more: &str, origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "{}upstreams: {{ app: {{ endpoints: ['{origin}'] }} }}\n\
         routes: [{{ name: shop, path: /, upstream: app }}]\n",
        collector.yaml(more)
    ))
}

fn request(path: &str, fields: &[(&str, &str)]) -> String {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: shop.test:81\r\nUser-Agent: test/1\r\nConnection: close\r\n{lines}\r\n"
    )
}

fn attributes(span: &Span, keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), span.get(key).clone())).collect()
}

#[test]
fn a_request_is_a_server_span_and_its_attempt_a_client_span_that_the_backend_continues() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = gateway(&collector, ", service_name: edge, headers: { x-tenant: acme }", &origin);
    assert_eq!(ask(gateway.web(), request("/cart?token=secret", &[])).status, 200);
    let (server, clients) = collector.request("/cart");
    assert_eq!(clients.len(), 1);
    let client = &clients[0];
    assert_eq!((server.kind, &*server.name, &*server.parent, server.status), (SERVER, "GET shop", "", 0));
    assert_eq!((client.kind, &*client.name, client.status), (CLIENT, "GET", 0));
    assert_eq!(client.trace, server.trace);
    assert!(server.start <= client.start && client.end <= server.end, "{server:?} {client:?}");
    assert_eq!(origin.seen()[0].fields("traceparent"), [client.traceparent()]);
    assert_eq!(server.resource["service.name"], "edge");
    let export = &collector.exports()[0];
    assert_eq!(export.line(), "POST /v1/traces HTTP/1.1");
    assert_eq!(export.field("content-type"), Some("application/x-protobuf"));
    assert_eq!(export.field("x-tenant"), Some("acme"));

    let port = origin.address().port();
    let expected = json!({
        "http.request.method": "GET", "url.path": "/cart", "url.scheme": "http", "server.address": "shop.test",
        "server.port": 81, "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1", "user_agent.original": "test/1", "http.response.status_code": 200,
        "http.route": "/", "error.type": null, "moongate.route": "shop", "moongate.upstream": "app",
        "moongate.endpoint": origin.to_string(), "moongate.attempts": 1, "moongate.listener": "web",
    });
    let keys: Vec<_> = expected.as_object().unwrap().keys().map(|key| &**key).collect();
    assert_eq!(attributes(&server, &keys), expected);
    assert!(server.get("network.peer.port").as_i64().unwrap() > 0);
    let expected = json!({
        "http.request.method": "GET", "url.full": format!("http://{origin}/cart"), "server.address": "127.0.0.1",
        "server.port": port, "network.peer.address": "127.0.0.1", "network.peer.port": port,
        "http.response.status_code": 200, "network.protocol.version": "1.1", "error.type": null,
        "http.request.resend_count": null, "moongate.upstream": "app", "moongate.endpoint": origin.to_string(),
    });
    let keys: Vec<_> = expected.as_object().unwrap().keys().map(|key| &**key).collect();
    assert_eq!(attributes(client, &keys), expected);
    let everything = format!("{server:?}{client:?}");
    assert!(!everything.contains("secret"), "a query is not exported: {everything}");
}

#[test]
fn each_attempt_has_its_span_and_the_reason_of_its_failure() {
    let collector = Collector::new();
    let (dead, rude, good) = (Origin::named("a"), Origin::fixed("", Next::Close), Origin::named("b"));
    dead.die();
    let gateway = Gateway::start(&format!(
        "{}upstreams:
  app: {{ endpoints: ['{dead}', '{rude}', '{good}'], balance: round_robin, retries: 2 }}
  gone: {{ endpoints: ['{dead}'] }}
routes:
  - {{ name: app, path: /app, upstream: app }}
  - {{ name: gone, path: [/gone, /lost], upstream: gone }}",
        collector.yaml("")
    ));
    // Passive health leaves the endpoints in turn, so that some request meets all three.
    let mut fates = Vec::new();
    for number in 0..3 {
        let path = format!("/app/{number}");
        assert_eq!(ask(gateway.web(), request(&path, &[])).status, 200);
        let (server, clients) = collector.request(&path);
        assert_eq!(server.get("moongate.attempts"), clients.len());
        assert_eq!((server.status, server.get("error.type")), (0, &Value::Null));
        let last = clients.last().unwrap();
        assert_eq!((last.get("http.response.status_code"), last.status), (&json!(200), 0));
        assert_eq!(good.seen().last().unwrap().field("traceparent"), Some(&*last.traceparent()));
        for (at, client) in clients.iter().enumerate() {
            let resends = client.get("http.request.resend_count").as_u64().unwrap_or(0);
            assert_eq!(resends, at as u64);
        }
        let failed = clients.iter().filter(|client| client.status == 2);
        fates.extend(failed.map(|client| client.get("error.type").as_str().unwrap().to_owned()));
    }
    assert!(fates.contains(&"connect_refused".to_owned()), "{fates:?}");
    assert!(fates.contains(&"upstream_closed".to_owned()), "{fates:?}");
    let seen = rude.seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.field("traceparent").is_some()));

    assert_eq!(ask(gateway.web(), request("/gone", &[])).status, 502);
    let (server, clients) = collector.request("/gone");
    assert_eq!((server.status, server.get("error.type")), (2, &json!("connect_refused")));
    assert_eq!(server.get("http.response.status_code"), 502);
    assert_eq!(server.get("http.route"), &Value::Null, "a list of paths is no route of few values");
    assert_eq!(clients.len(), 1);
    assert_eq!((clients[0].status, clients[0].get("error.type")), (2, &json!("connect_refused")));
}

#[test]
fn errors_and_methods_of_clients_make_no_failed_spans_and_no_names() {
    let collector = Collector::new();
    let teapot = Origin::fixed(origin::answer(418, "", b""), Next::Close);
    let broken = Origin::fixed(origin::answer(503, "", b""), Next::Close);
    let gateway = Gateway::start(&format!(
        "{}routes:
  - {{ name: teapot, path: /tea, upstream: ['{teapot}'] }}
  - {{ name: broken, path: '=/broken', upstream: ['{broken}'] }}",
        collector.yaml("")
    ));
    assert_eq!(ask(gateway.web(), request("/tea", &[])).status, 418);
    let (server, clients) = collector.request("/tea");
    assert_eq!((server.status, server.get("error.type")), (0, &Value::Null));
    assert_eq!((clients[0].status, clients[0].get("error.type")), (2, &json!("418")));
    assert_eq!(ask(gateway.web(), request("/broken", &[])).status, 503);
    let (server, _) = collector.request("/broken");
    assert_eq!((server.status, server.get("error.type")), (2, &json!("503")));
    assert_eq!(server.get("http.route"), "/broken");
    assert_eq!(ask(gateway.web(), request("/nowhere", &[])).status, 404);
    let (server, clients) = collector.request("/nowhere");
    assert_eq!((&*server.name, server.status, clients.len()), ("GET", 0, 0));
    assert_eq!(server.get("error.type"), "no_route");
    let unknown = request("/tea/brew", &[]).replacen("GET", "BREW", 1);
    assert_eq!(ask(gateway.web(), unknown).status, 418);
    let (server, clients) = collector.request("/tea/brew");
    assert_eq!((&*server.name, &*clients[0].name), ("HTTP teapot", "HTTP"));
    for span in [&server, &clients[0]] {
        assert_eq!(span.get("http.request.method"), "_OTHER");
        assert_eq!(span.get("http.request.method_original"), "BREW");
    }
}

#[test]
fn a_client_that_leaves_ends_both_spans() {
    let collector = Collector::new();
    let mute = Origin::scripted("mute", |_, wire| {
        // Until the gateway closes the connection.
        let _ = wire.fill();
        Next::Close
    });
    let gateway = gateway(&collector, "", &mute);
    let mut wire = gateway.wire();
    wire.send(request("/left", &[]));
    mute.await_seen(1);
    drop(wire);
    let (server, clients) = collector.request("/left");
    assert_eq!((server.status, server.get("error.type")), (0, &json!("client_gone")));
    assert_eq!(server.get("http.response.status_code"), &Value::Null);
    assert_eq!(clients[0].get("error.type"), "client_gone");
}

#[test]
fn the_trace_of_a_client_is_continued_with_its_decision() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = gateway(&collector, ", sampling: 0", &origin);
    let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
    let fields = [
        ("Traceparent", PARENT),
        ("Tracestate", "rojo=00f067aa0ba902b7"),
        ("tracestate", "congo=t61rcWkgMzE"),
    ];
    ask(gateway.web(), request("/sampled", &fields));
    let (server, clients) = collector.request("/sampled");
    assert_eq!((&*server.trace, &*server.parent, &*server.state), (TRACE, "b7ad6b7169203331", state));
    assert_eq!(server.flags, 0x301, "sampled, and of a remote parent");
    assert_eq!((clients[0].flags, &*clients[0].state), (0x101, state));
    let seen = &origin.seen()[0];
    assert_eq!(seen.fields("traceparent"), [clients[0].traceparent()]);
    assert_eq!(seen.fields("tracestate").join(","), state);

    // Not sampled by the client, and by the gateway.
    ask(gateway.web(), request("/unsampled", &[("traceparent", &PARENT.replace("-01", "-00"))]));
    ask(gateway.web(), request("/begun", &[]));
    let seen = origin.seen();
    let parents = seen[1].fields("traceparent");
    assert!(parents[0].starts_with(&format!("00-{TRACE}-")) && parents[0].ends_with("-00"), "{parents:?}");
    assert_ne!(&parents[0][36..52], "b7ad6b7169203331", "the gateway has a span ID of its own");
    let begun = seen[2].fields("traceparent");
    assert!(begun.len() == 1 && begun[0].ends_with("-00") && !begun[0].contains(TRACE), "{begun:?}");
    // What came after them was exported, so that they were not.
    ask(gateway.web(), request("/last", &fields));
    collector.request("/last");
    assert!(collector.spans().iter().all(|span| span.trace == TRACE && span.get("url.path") != "/unsampled"));
}

#[test]
fn a_malformed_traceparent_begins_a_trace_without_the_state_of_another() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = gateway(&collector, "", &origin);
    let bad = [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
        PARENT.to_uppercase(),
        PARENT.replace("00-0a", "ff-0a"),
        format!("{PARENT}-more"),
        PARENT[..50].to_owned(),
        "none".to_owned(),
    ];
    for (number, bad) in bad.iter().enumerate() {
        let path = format!("/{number}");
        ask(gateway.web(), request(&path, &[("traceparent", bad), ("tracestate", "a=b")]));
        let (server, clients) = collector.request(&path);
        assert!(
            server.parent.is_empty() && server.trace != TRACE && server.state.is_empty(),
            "{bad}: {server:?}"
        );
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.fields("traceparent"), [clients[0].traceparent()], "{bad}");
        assert!(seen.fields("tracestate").is_empty(), "{bad}");
    }
    ask(gateway.web(), request("/twice", &[("traceparent", PARENT), ("traceparent", PARENT)]));
    assert!(collector.request("/twice").0.parent.is_empty());
    assert_eq!(origin.seen().pop().unwrap().fields("traceparent").len(), 1);
    // An invalid state leaves the trace.
    ask(gateway.web(), request("/state", &[("traceparent", PARENT), ("tracestate", "no state")]));
    let (server, _) = collector.request("/state");
    assert_eq!((&*server.trace, &*server.state), (TRACE, ""));
    assert!(origin.seen().pop().unwrap().fields("tracestate").is_empty());
    // A later version is continued as version 00.
    ask(gateway.web(), request("/later", &[("traceparent", &(PARENT.replace("00-0a", "cc-0a") + "-more"))]));
    let (server, clients) = collector.request("/later");
    assert_eq!(server.trace, TRACE);
    assert_eq!(origin.seen().pop().unwrap().fields("traceparent"), [clients[0].traceparent()]);
}

#[test]
fn a_parent_that_is_not_trusted_becomes_a_link() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    for (parent, trusted, follows) in
        [("ignore", true, false), ("trusted", false, false), ("trusted", true, true), ("follow", false, true)]
    {
        let proxies = if trusted { "server: { trusted_proxies: [127.0.0.1] }\n" } else { "" };
        let gateway = Gateway::start(&format!(
            "{proxies}{}routes: [{{ upstream: ['{origin}'] }}]",
            collector.yaml(&format!(", parent: {parent}"))
        ));
        let path = format!("/{parent}/{trusted}");
        ask(gateway.web(), request(&path, &[("traceparent", PARENT), ("tracestate", "a=b")]));
        let (server, clients) = collector.request(&path);
        let (trace, span) = (TRACE.to_owned(), "b7ad6b7169203331".to_owned());
        if follows {
            assert_eq!((&server.trace, &server.parent, server.links.len()), (&trace, &span, 0));
        } else {
            assert!(server.trace != trace && server.parent.is_empty());
            assert_eq!(server.links, [(trace, span)]);
        }
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.fields("traceparent"), [clients[0].traceparent()]);
        assert_eq!(!seen.fields("tracestate").is_empty(), follows);
    }
}

#[test]
fn without_tracing_the_fields_pass_as_received() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for parent in [PARENT, "none", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
        ask(gateway.web(), request("/", &[("traceparent", parent), ("tracestate", "no state")]));
        let seen = origin.seen().pop().unwrap();
        assert_eq!((seen.fields("traceparent"), seen.fields("tracestate")), (vec![parent], vec!["no state"]));
    }
    ask(gateway.web(), request("/", &[]));
    assert!(origin.seen().pop().unwrap().fields("traceparent").is_empty());
}

#[test]
fn the_trace_id_is_in_the_access_log_and_an_exemplar() {
    let (collector, origin, log) = (Collector::new(), Origin::named("a"), AccessLog::new());
    let gateway = gateway(&collector, &format!(", sampling: 0 }}\n{}x-rest: {{ a: 1", log.yaml()), &origin);
    ask(gateway.web(), request("/sampled", &[("traceparent", PARENT)]));
    assert_eq!(log.of("/sampled")["trace_id"], TRACE);
    ask(gateway.web(), request("/unsampled", &[]));
    let trace = log.of("/unsampled")["trace_id"].as_str().unwrap().to_owned();
    assert!(origin.seen().pop().unwrap().field("traceparent").unwrap().contains(&trace));
    let mut socket = Socket::open_with(gateway.web(), "/ws", &[("traceparent", PARENT)]).unwrap();
    socket.echo("x");
    socket.close();
    for event in ["open", "close"] {
        let line = log.wait(event, |line| line["event"] == event);
        assert_eq!((&line["trace_id"], &line["path"]), (&json!(TRACE), &json!("/ws")));
    }
    let scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n";
    let metrics = ask(gateway.admin(), scrape).text();
    assert!(metrics.contains(&format!("# {{trace_id=\"{TRACE}\"}}")), "{metrics}");
    assert!(!metrics.contains(&trace), "a trace that is not sampled is no exemplar");
}

#[test]
fn http2_is_traced_on_both_sides() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    // The second listener is an HTTP/2 backend.
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}
{}routes: [{{ name: one, upstream: ['{origin}'] }}]",
        collector.yaml("")
    ));
    let answer = Client::connect(gateway.web()).ask(h2::get("/h2"), &[]);
    assert_eq!(answer.status, 200);
    let (server, clients) = collector.request("/h2");
    assert_eq!(server.get("network.protocol.version"), "2");
    assert_eq!(clients[0].get("network.protocol.version"), "1.1");

    let front = Gateway::start(&format!(
        "{}upstreams: {{ back: {{ endpoints: ['{}'], protocol: h2c }} }}
routes: [{{ name: front, upstream: back }}]",
        collector.yaml(", service_name: front"),
        gateway.web()
    ));
    assert_eq!(ask(front.web(), request("/two/gateways", &[])).status, 200);
    let spans = collector.wait("the spans of both gateways", |spans| {
        let of_path: Vec<_> = spans
            .into_iter()
            .filter(|span| format!("{:?}", span.attributes).contains("/two/gateways"))
            .collect();
        (of_path.len() == 4).then_some(of_path)
    });
    let find = |kind: u64, service: &str| {
        spans.iter().find(|span| span.kind == kind && span.resource["service.name"] == service).unwrap()
    };
    let chain =
        [find(SERVER, "front"), find(CLIENT, "front"), find(SERVER, "moongate"), find(CLIENT, "moongate")];
    assert!(chain.windows(2).all(|pair| pair[1].parent == pair[0].id && pair[1].trace == pair[0].trace));
    assert_eq!(chain[1].get("network.protocol.version"), "2");
    assert_eq!(chain[1].get("http.response.status_code"), 200);
    assert_eq!(origin.seen().pop().unwrap().fields("traceparent"), [chain[3].traceparent()]);
}

#[test]
fn calls_of_plugins_are_events() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = Gateway::start(&format!(
        "{}routes:
  - name: plugins
    path: /
    upstream: ['{origin}']
    plugins: [request_id, {{ kind: respond, name: closed, status: 403, when: request.path == '/no' }}]",
        collector.yaml("")
    ));
    let response = ask(gateway.web(), request("/yes", &[]));
    let (server, _) = collector.request("/yes");
    let first = &server.events[0];
    assert_eq!(
        (&*first.0, &first.1["moongate.plugin.name"]),
        ("plugin.request_headers", &json!("request_id"))
    );
    assert_eq!(first.1["moongate.plugin.result"], "continue");
    assert!(first.1["moongate.plugin.duration"].as_f64().unwrap() >= 0.0);
    assert_eq!(server.get("moongate.request_id"), response.field("x-request-id").unwrap());
    assert_eq!(ask(gateway.web(), request("/no", &[])).status, 403);
    let (server, clients) = collector.request("/no");
    let closed = server.events.iter().find(|event| event.1["moongate.plugin.name"] == "closed").unwrap();
    assert_eq!(
        (&*closed.0, &closed.1["moongate.plugin.result"]),
        ("plugin.request_headers", &json!("respond"))
    );
    assert_eq!((server.get("http.response.status_code"), clients.len()), (&json!(403), 0));
}
