//! Plugins that fail: the effects on the request and on the gateway.

use crate::support::origin::answer;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Socket, eventually, moongate};
use std::sync::Arc;

const PHASES: [&str; 4] = ["request_headers", "request_body", "response_headers", "response_body"];

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

fn faulty(origin: &Origin, phase: &str, act: &str, on_error: &str) -> Gateway {
    Gateway::start_own(&format!(
        "routes: [{{ name: r, upstream: ['{}'], plugins: [
  {{ kind: chaos, name: bad, phase: {phase}, act: {act}, on_error: {on_error} }} ] }}]",
        origin.address()
    ))
}

#[test]
fn a_fault_is_500_or_skipped_by_on_error() {
    let origin = Origin::fixed(answer(200, "", b"fine"), Next::Keep);
    for phase in PHASES {
        for act in ["fail", "panic", "fail_later"] {
            if (phase, act) == ("response_body", "fail_later") {
                continue;
            }
            let gateway = faulty(&origin, phase, act, "closed");
            let mut wire = gateway.wire();
            wire.send(POST);
            let response = wire.response();
            assert_eq!(response.status, 500, "{phase} {act}: {}", response.text());
            assert!(response.text().contains("plugin_failed"), "{}", response.text());
            let length = response.body.len().to_string();
            assert_eq!(response.field("content-length"), Some(length.as_str()), "{phase} {act}");
            let upstream = gateway.metrics().sum("moongate_upstream_failures_total", &[]);
            assert_eq!(upstream, 0.0, "{phase} {act} is no endpoint's fault");

            let gateway = faulty(&origin, phase, act, "open");
            let mut wire = gateway.wire();
            for _ in 0..2 {
                wire.send(POST);
                let response = wire.response();
                assert_eq!((response.status, response.text().as_str()), (200, "fine"), "{phase} {act}");
            }
        }
    }
}

#[test]
fn a_response_whose_header_was_sent_is_aborted() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let origin = Origin::scripted("slow", move |_, wire| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
        if wire.try_send(head).is_err() {
            return Next::Close;
        }
        held.pass_within(LIMIT);
        wire.try_send("body").map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = faulty(&origin, "response_body", "fail", "closed");
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
    assert!(head.contains("200 OK") && head.contains("chunked"), "{head}");
    gate.open();
    assert_eq!(wire.rest(), b"", "no last chunk");
}

#[test]
fn a_101_that_a_plugin_cannot_judge_is_500() {
    let origin = Origin::named("a");
    let refused = |on_error| {
        let gateway = faulty(&origin, "response_headers", "fail", on_error);
        Socket::open_with(gateway.web(), "/", &[]).err()
    };
    assert_eq!((refused("closed"), refused("open")), (Some(500), None));
}

#[test]
fn calls_and_errors_are_counted_by_plugin_and_phase() {
    let origin = Origin::named("a");
    let gateway = faulty(&origin, "response_headers", "fail", "open");
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    let metrics = gateway.metrics();
    let labels = [("plugin", "bad"), ("kind", "chaos"), ("phase", "response_headers")];
    assert_eq!(metrics.sum("moongate_plugin_calls_total", &labels), 20.0);
    assert_eq!(metrics.sum("moongate_plugin_errors_total", &labels), 20.0);
    assert!(metrics.sum("moongate_plugin_seconds_total", &labels) > 0.0);
    assert!(!metrics.has("moongate_plugin_calls_total", &[("phase", "request_headers")]));
}

#[test]
fn a_panic_at_a_message_is_1011_or_as_if_the_plugin_were_not_there() {
    let origin = Origin::named("a");
    for act in ["fail", "panic"] {
        let closed = faulty(&origin, "message", act, "closed");
        for _ in 0..2 {
            let mut socket = Socket::open(closed.web(), "/");
            socket.say("hello");
            assert_eq!(socket.end(), Some(1011), "{act}");
        }
        let open = faulty(&origin, "message", act, "open");
        for _ in 0..2 {
            let mut socket = Socket::open(open.web(), "/");
            socket.echo("hello");
            socket.echo("again");
            socket.close();
        }
    }
}

#[test]
fn a_panic_in_a_recheck_is_1011_or_ignored() {
    let origin = Origin::named("a");
    for act in ["fail", "panic", "fail_later"] {
        let closed = faulty(&origin, "recheck", act, "closed");
        assert_eq!(Socket::open(closed.web(), "/").end(), Some(1011), "{act}");
        let open = faulty(&origin, "recheck", act, "open");
        let mut socket = Socket::open(open.web(), "/");
        let labels = [("plugin", "bad"), ("phase", "request_headers")];
        eventually("it was asked", || {
            (open.metrics().sum("moongate_plugin_errors_total", &labels) >= 2.0).then_some(())
        });
        socket.echo("still here");
    }
}

#[test]
fn a_panic_at_the_end_of_a_websocket_costs_nothing() {
    let origin = Origin::named("a");
    let gateway = faulty(&origin, "closed", "panic", "closed");
    for _ in 0..3 {
        let mut socket = Socket::open(gateway.web(), "/");
        socket.echo("hello");
        socket.close();
    }
    let labels = [("plugin", "bad"), ("phase", "closed")];
    eventually("all three were told", || {
        (gateway.metrics().sum("moongate_plugin_errors_total", &labels) == 3.0).then_some(())
    });
}

/// An error in a script and a trap in a filter are faults of their own, in each of their functions.
#[cfg(feature = "luau")]
#[test]
fn an_error_of_a_script_is_its_on_error_in_every_function() {
    let origin = Origin::fixed(answer(200, "", b"fine"), Next::Keep);
    let echo = Origin::named("echo");
    let gateway = |origin: &Origin, function: &str, on_error: &str| {
        Gateway::start(&format!(
            "routes:
  - upstream: ['{}']
    plugins:
      - kind: luau
        on_error: {on_error}
        source: function {function}() error('as the test wants') end",
            origin.address()
        ))
    };
    for function in PHASES {
        for (on_error, status) in [("closed", 500), ("open", 200)] {
            let gateway = gateway(&origin, function, on_error);
            let mut wire = gateway.wire();
            for _ in 0..2 {
                wire.send(POST);
                let response = wire.response();
                assert_eq!(response.status, status, "{function} {on_error}");
                assert!(response.text().contains(if status == 200 { "fine" } else { "plugin_failed" }));
                if status == 500 {
                    wire = gateway.wire();
                }
            }
        }
    }
    let refusing = gateway(&echo, "message", "closed");
    let mut socket = Socket::open(refusing.web(), "/");
    socket.say("hello");
    assert_eq!(socket.end(), Some(1011));
    for function in ["message", "closed", "log"] {
        let gateway = gateway(&echo, function, if function == "message" { "open" } else { "closed" });
        for _ in 0..2 {
            let mut socket = Socket::open(gateway.web(), "/");
            socket.echo("hello");
            socket.close();
        }
    }
}

#[test]
fn a_panic_at_the_end_of_an_exchange_costs_nothing() {
    let origin = Origin::named("a");
    let gateway = faulty(&origin, "log", "panic", "closed");
    let mut wire = gateway.wire();
    for _ in 0..3 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
}

#[test]
fn ten_thousand_failing_requests_leave_nothing_behind() {
    let origin = Origin::fixed(answer(200, "", b"fine"), Next::Keep);
    let address = origin.address();
    let chaos = |phase: &str, act: &str| {
        format!(
            "{{ path: /{phase}/{act}/, upstream: ['{address}'], plugins: [
    {{ kind: replace, whole: 1MiB, note: n, response: {{ from: a, to: b }} }},
    {{ kind: chaos, phase: {phase}, act: {act} }} ] }}"
        )
    };
    let routes: Vec<_> =
        PHASES.iter().flat_map(|phase| ["fail", "panic"].map(|act| chaos(phase, act))).collect();
    let gateway =
        Gateway::start_own(&format!("server: {{ threads: 1 }}\nroutes:\n- {}", routes.join("\n- ")));
    let body = "x".repeat(2 << 10);
    let round = |count: usize| {
        for phase in PHASES {
            for act in ["fail", "panic"] {
                let mut wire = gateway.wire();
                for _ in 0..count {
                    wire.send(format!(
                        "POST /{phase}/{act}/ HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                    let response = wire.response();
                    assert_eq!(response.status, 500, "{phase} {act}: {}", response.head);
                    if response.field("connection") == Some("close") {
                        wire = gateway.wire();
                    }
                }
            }
        }
    };
    round(125);
    let before = gateway.memory();
    round(1250);
    let grown = gateway.memory() - before;
    assert!(grown < 2 << 10, "{grown} KiB more after 10,000 requests that failed");
    // A request ends after its response was sent.
    eventually("no request is active", || (gateway.status()["requests"] == 0).then_some(()));
    let active = || gateway.metrics().sum("moongate_upstream_connections_active", &[]);
    eventually("every endpoint is given back", || (active() == 0.0).then_some(()));
}

#[test]
fn the_values_of_on_error_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    std::fs::write(
        &file,
        "plugins: [{ kind: request_id, on_error: opne }]\nroutes: [{ upstream: ['127.0.0.1:1'] }]",
    )
    .unwrap();
    let output = moongate(&["check", "-c", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(78) && said.contains("`open`"), "{said}");
}
