//! Monitoring with the real thing: promtool, and a Prometheus that scrapes a gateway. Skipped where there is no
//! Prometheus.

use crate::support::busy::BusyGateway;
use crate::support::prometheus::{Prometheus, is_installed, promtool};
use crate::support::raw::{ask, get, lossy};
use crate::support::{Gateway, Next, Origin, eventually};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

const OPEN_METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/openmetrics-text\r\n\r\n";

#[test]
fn promtool_accepts_every_family_of_the_text_format() {
    if !is_installed("promtool_accepts_every_family_of_the_text_format") {
        return;
    }
    let busy = BusyGateway::start();
    let text = get(busy.gateway.admin(), "/metrics").text();
    let output = promtool(&["check", "metrics"], &text);
    let said = lossy(&output.stdout) + &lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    // Nothing here can make these.
    let absent = [
        "moongate_task_restarts_total",
        "moongate_acme_last_success_timestamp_seconds",
        "moongate_acme_certificate_expiry_timestamp_seconds",
    ];
    let page = include_str!("../../docs/reference/metrics.md");
    let wasm = |name: &str| cfg!(feature = "wasm") || !name.contains("_wasm_");
    let known = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let missing: Vec<_> = known
        .filter(|name| name.starts_with("moongate_") || name.starts_with("process_"))
        .filter(|name| wasm(name) && !text.contains(&format!("# TYPE {name} ")))
        .filter(|name| !matches!(*name, "moongate_wasm_value" | "moongate_wasm_observed"))
        .collect();
    assert_eq!(missing.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(absent));
}

#[test]
fn prometheus_reads_openmetrics_with_its_units_and_exemplars() {
    if !is_installed("prometheus_reads_openmetrics_with_its_units_and_exemplars") {
        return;
    }
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ name: web, upstream: [{origin}] }}]\n"));
    gateway.get("/");
    // The scrape of the gateway, to which this target adds an exemplar: no request has a trace yet.
    let admin = gateway.admin();
    let traced = Origin::scripted("traced", move |_, wire| {
        let bucket = "moongate_http_request_duration_seconds_bucket{route=\"web\",le=\"+Inf\"} 1";
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let exemplar = format!("{bucket} # {{trace_id=\"0af7651916cd43dd8448eb211c80319c\"}} 0.003 {at:.3}");
        let text = ask(admin, OPEN_METRICS).text();
        assert!(text.contains(bucket), "{text}");
        let body = text.replace(bucket, &exemplar);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.try_send(head + &body).map_or(Next::Close, |()| Next::Keep)
    });
    let jobs: [(&str, &[SocketAddr]); 2] = [("moongate", &[admin]), ("traced", &[traced.address()])];
    let prometheus = Prometheus::start(&jobs, None);
    for job in ["moongate", "traced"] {
        prometheus.await_series(&format!("up{{job=\"{job}\"}} == 1"));
    }
    prometheus
        .await_series("moongate_http_requests_total{job=\"moongate\", route=\"web\", status=\"200\"} == 1");
    prometheus
        .await_series("moongate_http_request_duration_seconds_bucket{job=\"moongate\", le=\"1.0\"} == 1");
    let kind = |name: &str| {
        eventually(&format!("the metadata of {name}"), || {
            let known = prometheus.api("metadata?metric=", name);
            let first = &known["data"][name][0];
            let text = |key: &str| first[key].as_str().map(str::to_owned);
            Some((text("type")?, text("unit")?))
        })
    };
    // Only OpenMetrics has units and the type `info`.
    assert_eq!(
        kind("moongate_http_request_duration_seconds"),
        ("histogram".to_owned(), "seconds".to_owned())
    );
    assert_eq!(kind("moongate_build"), ("info".to_owned(), String::new()));
    let exemplars = eventually("an exemplar", || {
        let query = "moongate_http_request_duration_seconds_bucket";
        let found = prometheus.api("query_exemplars?start=0&end=9999999999&query=", query);
        found["data"].as_array().filter(|series| !series.is_empty()).cloned()
    });
    assert_eq!(exemplars[0]["seriesLabels"]["job"], "traced");
    let exemplar = &exemplars[0]["exemplars"][0];
    assert_eq!(exemplar["labels"]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(exemplar["value"], "0.003");
}
