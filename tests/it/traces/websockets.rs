//! Traces of WebSockets: the handshake, and a span of its own when the WebSocket closes.

use super::{PARENT, TRACE};
use crate::support::collector::{CLIENT, Collector, INTERNAL, Span};
use crate::support::upgraded;
use crate::support::{Gateway, Origin, Socket, h2ws};
use serde_json::json;

fn websocket(collector: &Collector) -> Span {
    collector.wait("the span of a WebSocket", |spans| spans.into_iter().find(|span| span.kind == INTERNAL))
}

#[test]
fn the_span_of_a_handshake_ends_at_the_101_and_the_websocket_has_its_own() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = Gateway::start(&format!(
        "{}upstreams: {{ app: {{ endpoints: ['{origin}'] }} }}\nroutes: [{{ name: chat, path: /ws, upstream: app }}]",
        collector.yaml("")
    ));
    let fields = [("traceparent", PARENT), ("tracestate", "a=b")];
    let mut socket = Socket::open_with(gateway.web(), "/ws?token=secret", &fields).unwrap();
    let (handshake, clients) = collector.request("/ws");
    assert_eq!((&*handshake.name, &*handshake.trace, handshake.status), ("GET chat", TRACE, 0));
    assert_eq!(handshake.get("http.response.status_code"), 101);
    assert_eq!(clients[0].get("http.response.status_code"), 101);
    let seen = &origin.seen()[0];
    assert_eq!(seen.fields("traceparent"), [clients[0].traceparent()]);
    assert_eq!(seen.fields("tracestate"), ["a=b"]);
    assert!(collector.spans().iter().all(|span| span.kind != INTERNAL), "it is still open");

    socket.echo("one");
    socket.echo("three");
    socket.close();
    let span = websocket(&collector);
    assert_eq!((&*span.name, &*span.parent, span.status), ("websocket chat", "", 0));
    assert_ne!(span.trace, handshake.trace, "a WebSocket may live for weeks");
    assert_eq!(span.links, [(handshake.trace.clone(), handshake.id.clone())]);
    assert_eq!(handshake.links, [(span.trace.clone(), span.id.clone())]);
    assert!(span.start >= handshake.start && span.end > span.start);
    let expected = json!({
        "moongate.route": "chat", "url.path": "/ws", "client.address": "127.0.0.1", "moongate.generation": 1,
        "moongate.websocket.close_code": 1005, "moongate.websocket.closed_by": "client",
        "moongate.websocket.close_reason": "close", "moongate.websocket.messages.to_backend": 2,
        "moongate.websocket.messages.to_client": 2, "moongate.websocket.endpoints": [origin.to_string()],
        "error.type": null,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(span.get(key), value, "{key}");
    }
    // Masked frames have four bytes more.
    let bytes = |key: &str| span.get(key).as_u64().unwrap();
    assert!(bytes("moongate.websocket.bytes.to_backend") > bytes("moongate.websocket.bytes.to_client"));
    assert!(!format!("{:?}", collector.spans()).contains("secret"));
}

#[test]
fn another_upgraded_connection_has_such_a_span_with_its_protocol() {
    let (collector, origin) = (Collector::new(), upgraded::echoing("a"));
    let gateway = Gateway::start(&format!(
        "{}routes: [{{ name: docker, upstream: ['{origin}'], upgrades: [tcp] }}]",
        collector.yaml("")
    ));
    let mut wire = gateway.wire();
    wire.send(upgraded::request("/attach", "TCP"));
    assert_eq!(wire.response().status, 101);
    let (request, clients) = collector.request("/attach");
    assert_eq!((&*request.name, request.get("http.response.status_code")), ("POST docker", &json!(101)));
    assert_eq!(clients[0].get("http.response.status_code"), 101);
    wire.send("12345");
    wire.half_close();
    assert_eq!(wire.rest(), b"12345end");
    let span = websocket(&collector);
    assert_eq!((&*span.name, span.status), ("upgrade docker", 0));
    assert_eq!(span.links, [(request.trace, request.id)]);
    let expected = json!({
        "moongate.upgrade": "tcp", "moongate.websocket.closed_by": "client", "moongate.websocket.close_reason": "eof",
        "moongate.websocket.bytes.to_backend": 5, "moongate.websocket.bytes.to_client": 8,
        "moongate.websocket.messages.to_backend": null, "moongate.websocket.close_code": null,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(span.get(key), value, "{key}");
    }
}

#[test]
fn a_failover_is_an_event_and_its_attempts_are_spans_of_the_websocket() {
    let collector = Collector::new();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = |traced: &Collector| {
        format!(
            "{}upstreams: {{ app: {{ endpoints: ['{a}', '{b}'] }} }}
routes: [{{ name: chat, upstream: app, websocket: {{ on_endpoint_loss: reconnect }} }}]",
            traced.yaml("")
        )
    };
    let gateway = Gateway::start(&yaml(&collector));
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("before");
    let (first, second) = if socket.backend == "a" { (&a, &b) } else { (&b, &a) };
    let (handshake, _) = collector.request("/ws");
    // The WebSocket outlives the collector that it began with.
    let later = Collector::new();
    gateway.reload(&yaml(&later)).unwrap();
    first.die();
    second.await_sockets(1);
    socket.echo("after");
    socket.close();
    let span = websocket(&later);
    assert_eq!(span.links, [(handshake.trace, handshake.id)]);
    assert_eq!(span.get("moongate.websocket.endpoints"), &json!([first.to_string(), second.to_string()]));
    assert_eq!(span.get("moongate.generation"), 1, "it was opened under the first");
    let (name, failover) = &span.events[0];
    assert_eq!((&**name, span.events.len()), ("failover", 1));
    assert_eq!(failover["moongate.failover.from"], first.to_string());
    assert_eq!(failover["moongate.failover.to"], second.to_string());
    let redials: Vec<_> = later.spans().into_iter().filter(|other| other.kind == CLIENT).collect();
    let last = redials.last().unwrap();
    assert!(redials.iter().all(|redial| redial.trace == span.trace && redial.parent == span.id));
    assert_eq!(last.get("http.response.status_code"), 101);
    assert_eq!(second.seen().last().unwrap().fields("traceparent"), [last.traceparent()]);
}

#[test]
fn a_refused_handshake_and_a_lost_client_are_told() {
    let collector = Collector::new();
    let (dead, origin) = (Origin::named("a"), Origin::named("b"));
    dead.die();
    let gateway = Gateway::start(&format!(
        "{}routes:
  - {{ name: dead, path: /dead, upstream: ['{dead}'] }}
  - {{ name: chat, path: /ws, upstream: ['{origin}'] }}",
        collector.yaml("")
    ));
    assert_eq!(Socket::open_with(gateway.web(), "/dead", &[]).err(), Some(502));
    let (server, clients) = collector.request("/dead");
    assert_eq!((server.status, server.get("error.type")), (2, &json!("connect_refused")));
    assert_eq!(clients[0].get("error.type"), "connect_refused");
    let mut socket = Socket::open(gateway.web(), "/ws");
    socket.echo("x");
    origin.die();
    socket.end();
    let span = websocket(&collector);
    assert_eq!(span.get("moongate.websocket.close_code"), &json!(null), "the backend sent no Close frame");
    assert_eq!(span.get("moongate.websocket.closed_by"), "backend");
    assert!(
        ["eof", "reset"].contains(&span.get("moongate.websocket.close_reason").as_str().unwrap()),
        "{span:?}"
    );
}

#[test]
fn a_websocket_over_http2_is_traced() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c] }}]
{}routes: [{{ name: chat, upstream: ['{origin}'] }}]",
        collector.yaml("")
    ));
    let client = h2ws::Client::plain(gateway.web());
    let mut stream = client.open("/ws");
    stream.echo("one");
    let (handshake, clients) = collector.request("/ws");
    assert_eq!(handshake.get("http.response.status_code"), 200);
    assert_eq!(handshake.get("network.protocol.version"), "2");
    assert_eq!(clients[0].get("http.response.status_code"), 101);
    stream.say(8, &1000_u16.to_be_bytes());
    assert_eq!(stream.end(), Some(1000));
    let span = websocket(&collector);
    assert_eq!(span.links, [(handshake.trace, handshake.id)]);
    assert_eq!(span.get("moongate.websocket.messages.to_client"), 1);
}

#[test]
fn an_unsampled_websocket_passes_the_trace_on_and_exports_nothing() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = Gateway::start(&format!(
        "{}routes: [{{ name: chat, upstream: ['{origin}'] }}]",
        collector.yaml(", sampling: 0")
    ));
    let mut socket =
        Socket::open_with(gateway.web(), "/quiet", &[("traceparent", &PARENT.replace("-01", "-00"))])
            .unwrap();
    socket.echo("x");
    socket.close();
    let parents = origin.seen()[0].fields("traceparent").concat();
    assert!(parents.starts_with(&format!("00-{TRACE}-")) && parents.ends_with("-00"), "{parents}");
    let mut loud = Socket::open_with(gateway.web(), "/loud", &[("traceparent", PARENT)]).unwrap();
    loud.echo("x");
    loud.close();
    websocket(&collector);
    assert!(!format!("{:?}", collector.spans()).contains("/quiet"));
}
