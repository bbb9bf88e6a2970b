//! Exports of spans to collectors that fail, change, or are gone: bounded memory, counted losses, and no request's
//! time.

use super::{gateway, request};
use crate::support::collector::{Collector, Reply};
use crate::support::raw::ask;
use crate::support::secured::{Front, Issuer, Life};
use crate::support::{Gateway, Origin, eventually};
use std::time::{Duration, Instant};

fn accepted() -> Reply {
    Reply::Status(200, "", Vec::new())
}

fn dropped(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("moongate_tracing_spans_dropped_total", &[("reason", reason)])
}

fn exported(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("moongate_tracing_spans_exported_total", &[])
}

#[test]
fn an_export_that_failed_is_repeated_and_counted_once() {
    for reply in
        [Reply::Status(503, "", b"busy".to_vec()), Reply::Status(429, "Retry-After: 1\r\n", Vec::new())]
    {
        let (collector, origin) = (Collector::replying(reply), Origin::named("a"));
        let gateway = gateway(&collector, "", &origin);
        ask(gateway.web(), request("/", &[]));
        collector.origin().await_seen(1);
        gateway.log().wait(0, &["trace export failed"]);
        assert_eq!(exported(&gateway), 0.0);
        collector.reply(accepted());
        eventually("the spans are accepted", || (exported(&gateway) == 2.0).then_some(()));
        gateway.log().wait(0, &["trace export recovered"]);
        let exports = collector.exports();
        assert!(exports.len() >= 2 && exports.iter().all(|export| export.body == exports[0].body));
        assert_eq!(gateway.metrics().sum("moongate_tracing_spans_dropped_total", &[]), 0.0);
    }
}

#[test]
fn a_collector_says_how_long_to_wait() {
    let wait = "Retry-After: 3\r\n";
    let (collector, origin) = (Collector::replying(Reply::Status(429, wait, Vec::new())), Origin::named("a"));
    let gateway = gateway(&collector, "", &origin);
    ask(gateway.web(), request("/", &[]));
    collector.origin().await_seen(1);
    let first = Instant::now();
    collector.origin().await_seen(2);
    // The usual pause is at most 1 s.
    assert!(first.elapsed() > Duration::from_secs(2), "{:?}", first.elapsed());
}

#[test]
fn a_final_refusal_and_rejected_spans_are_counted() {
    let (collector, origin) =
        (Collector::replying(Reply::Status(400, "", b"no".to_vec())), Origin::named("a"));
    let gateway = gateway(&collector, "", &origin);
    ask(gateway.web(), request("/", &[]));
    eventually("the refusal is counted", || (dropped(&gateway, "refused") == 2.0).then_some(()));
    assert_eq!(collector.exports().len(), 1);
    // ExportTraceServiceResponse { partial_success { rejected_spans: 1, error_message: "old" } }
    let partial = [&[0x0a, 7, 0x08, 1, 0x12, 3][..], b"old"].concat();
    collector.reply(Reply::Status(200, "Content-Type: application/x-protobuf\r\n", partial));
    ask(gateway.web(), request("/", &[]));
    eventually("the rejected span is counted", || (dropped(&gateway, "rejected") == 1.0).then_some(()));
    assert_eq!(exported(&gateway), 1.0);
    gateway.log().wait(0, &["trace collector rejected spans"]);
}

/// More spans than the smallest queue and one export have.
fn flood(gateway: &Gateway) -> Duration {
    let begun = Instant::now();
    let mut wire = gateway.wire();
    for _ in 0..700 {
        wire.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, 200);
    }
    begun.elapsed()
}

#[test]
fn a_collector_that_is_gone_or_silent_costs_a_bounded_queue_and_no_time() {
    let gone = Collector::new();
    gone.origin().die();
    for collector in [gone, Collector::replying(Reply::Silence)] {
        let origin = Origin::named("a");
        let gateway = gateway(&collector, ", queue: 512", &origin);
        let took = flood(&gateway);
        // Of 1400 spans, 512 are in the queue and at most 512 in an export.
        let lost = eventually("the losses are counted", || {
            Some(dropped(&gateway, "queue_full")).filter(|lost| *lost >= 376.0)
        });
        assert!(lost <= 888.0, "{lost}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(exported(&gateway), 0.0);
        let begun = Instant::now();
        gateway.signal("TERM");
        assert!(gateway.exit_within(Duration::from_secs(10)).success());
        // Two seconds for the last export.
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}

#[test]
fn an_export_that_takes_too_long_is_repeated() {
    let (collector, origin) = (Collector::replying(Reply::Silence), Origin::named("a"));
    let gateway = gateway(&collector, ", timeout: 200ms", &origin);
    ask(gateway.web(), request("/", &[]));
    collector.origin().await_seen(2);
    assert!(gateway.log().wait(0, &["trace export failed"]).contains("timed out"));
    collector.reply(accepted());
    eventually("the spans are accepted", || (exported(&gateway) == 2.0).then_some(()));
}

#[test]
fn a_shutdown_exports_the_last_spans() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let gateway = gateway(&collector, "", &origin);
    for _ in 0..300 {
        assert_eq!(gateway.get("/last").status, 200);
    }
    gateway.signal("TERM");
    assert!(gateway.exit_within(Duration::from_secs(10)).success());
    assert_eq!(collector.spans().len(), 600);
}

#[test]
fn a_reload_moves_exports_to_another_collector_and_loses_none() {
    let (first, second, origin) = (Collector::new(), Collector::new(), Origin::named("a"));
    let yaml = |collector: &Collector, more: &str| {
        format!("{}routes: [{{ name: shop, upstream: ['{origin}'] }}]", collector.yaml(more))
    };
    let gateway = Gateway::start(&yaml(&first, ""));
    ask(gateway.web(), request("/1", &[]));
    gateway.reload(&yaml(&first, ", sampling: 0.0")).unwrap();
    ask(gateway.web(), request("/2", &[]));
    gateway.reload(&yaml(&second, "")).unwrap();
    ask(gateway.web(), request("/3", &[]));
    gateway.reload(&format!("routes: [{{ name: shop, upstream: ['{origin}'] }}]")).unwrap();
    ask(gateway.web(), request("/4", &[]));
    assert!(origin.seen().pop().unwrap().fields("traceparent").is_empty(), "tracing is off");
    first.request("/1");
    second.request("/3");
    eventually("all spans are counted", || (exported(&gateway) == 4.0).then_some(()));
    assert_eq!((first.spans().len(), second.spans().len()), (2, 2));
}

#[test]
fn an_upstream_that_is_the_gateway_itself_makes_no_loop_of_exports() {
    let origin = Origin::named("a");
    let collector = Collector::new();
    // The exports pass a gateway that traces too.
    let relay = gateway(&collector, "", &origin);
    let edge = Gateway::start(&format!(
        "tracing: {{ otlp: 'http://{}/collect/' }}\nroutes: [{{ name: shop, upstream: ['{origin}'] }}]",
        relay.web()
    ));
    ask(edge.web(), request("/", &[]));
    eventually("the export passed", || {
        origin.seen().iter().find(|seen| seen.target() == "/collect/v1/traces").cloned()
    });
    eventually("the spans are counted", || (exported(&edge) == 2.0).then_some(()));
}

#[test]
fn a_collector_over_https_needs_a_certificate_that_the_system_trusts() {
    let issuer = Issuer::new();
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let server = issuer.server(&["localhost"], Life::Now, false);
    let front = Front::start(Some(server), false, collector.origin().address());
    let yaml = format!(
        "tracing: {{ otlp: 'https://localhost:{}' }}\nroutes: [{{ upstream: ['{origin}'] }}]",
        front.address.port()
    );
    let wary = Gateway::start(&yaml);
    ask(wary.web(), request("/wary", &[]));
    wary.log().wait(0, &["trace export failed"]);
    assert!(collector.exports().is_empty());
    let trusting = Gateway::start_with("SSL_CERT_FILE", issuer.file("ca.pem").as_os_str(), &yaml);
    ask(trusting.web(), request("/trusting", &[]));
    collector.request("/trusting");
}
