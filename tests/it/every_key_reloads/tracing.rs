//! `tracing`.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::collector::{Collector, Reply};
use crate::support::{Origin, eventually};

pub(super) const CASES: &[Case] = &[
    case(&["tracing"], section),
    case(&["tracing.otlp"], otlp),
    case(&["tracing.sampling"], sampling),
    case(&["tracing.service_name"], service_name),
    case(&["tracing.parent"], parent),
    case(&["tracing.headers"], headers),
    case(&["tracing.timeout"], timeout),
    case(&["tracing.queue"], queue),
];

const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn to(origin: &Origin, tracing: &str) -> File {
    File::top(tracing).and_route(format!("name: case, path: /case, upstream: ['{origin}']"))
}

/// `traceparent` at the backend.
fn continued(gateway: &LoadedGateway, origin: &Origin, lines: &str) -> Option<String> {
    assert_eq!(gateway.get_with("/case", lines).status, 200);
    origin.seen().pop().unwrap().field("traceparent").map(str::to_owned)
}

fn section(gateway: &LoadedGateway) {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    for (tracing, traced) in [(String::new(), false), (collector.yaml(""), true), (String::new(), false)] {
        gateway.reload(&to(&origin, &tracing));
        assert_eq!(continued(gateway, &origin, "").is_some(), traced, "{tracing}");
    }
}

fn otlp(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for path in ["/case/1", "/case/2"] {
        let collector = Collector::new();
        gateway.reload(&to(&origin, &collector.yaml("")));
        assert_eq!(gateway.get(path).status, 200);
        collector.request(path);
    }
}

fn sampling(gateway: &LoadedGateway) {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    for (share, flags) in [("1", "-01"), ("0", "-00"), ("1", "-01")] {
        gateway.reload(&to(&origin, &collector.yaml(&format!(", sampling: {share}"))));
        let parent = continued(gateway, &origin, "").unwrap();
        assert!(parent.ends_with(flags), "{parent}");
    }
}

fn service_name(gateway: &LoadedGateway) {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    for name in ["first", "second"] {
        gateway.reload(&to(&origin, &collector.yaml(&format!(", service_name: {name}"))));
        let path = format!("/case/{name}");
        assert_eq!(gateway.get(&path).status, 200);
        assert_eq!(collector.request(&path).0.resource["service.name"], name);
    }
}

fn parent(gateway: &LoadedGateway) {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    for (parent, follows) in [("follow", true), ("ignore", false), ("trusted", false)] {
        gateway.reload(&to(&origin, &collector.yaml(&format!(", parent: {parent}"))));
        assert_eq!(continued(gateway, &origin, PARENT).unwrap().contains(TRACE), follows, "{parent}");
    }
}

fn headers(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for tenant in ["one", "two"] {
        let collector = Collector::new();
        gateway.reload(&to(&origin, &collector.yaml(&format!(", headers: {{ x-tenant: {tenant} }}"))));
        assert_eq!(gateway.get("/case").status, 200);
        let exports = collector.origin().await_seen(1);
        assert_eq!(exports[0].field("x-tenant"), Some(tenant));
    }
}

fn timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let silent = Collector::replying(Reply::Silence);
    gateway.reload(&to(&origin, &silent.yaml(", timeout: 1h")));
    assert_eq!(gateway.get("/case").status, 200);
    silent.origin().await_seen(1);
    gateway.await_load();
    assert_eq!(silent.origin().count(), 1);
    // An export that failed is repeated.
    gateway.reload(&to(&origin, &silent.yaml(", timeout: 200ms")));
    silent.origin().await_seen(4);
}

fn queue(gateway: &LoadedGateway) {
    let (origin, gone) = (Origin::named("a"), Collector::new());
    gone.origin().die();
    let dropped = || gateway.metric("moongate_tracing_spans_dropped_total", &[("reason", "queue_full")]);
    let flood = || {
        let mut wire = gateway.gateway().wire();
        // Two spans each, more than the smallest queue and an export hold.
        for _ in 0..600 {
            wire.send("GET /case HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(wire.response().status, 200);
        }
    };
    gateway.reload(&to(&origin, &gone.yaml(", queue: 65536")));
    let before = dropped();
    flood();
    assert_eq!(dropped(), before);
    gateway.reload(&to(&origin, &gone.yaml(", queue: 512")));
    flood();
    eventually("spans are dropped", || (dropped() > before).then_some(()));
}
