//! Monitoring with the real thing: promtool, a Prometheus that scrapes a gateway, the dashboard and the alert rules of
//! `packaging/`. Skipped where there is no Prometheus.

use crate::support::busy::BusyGateway;
use crate::support::collector::Collector;
use crate::support::prometheus::{Prometheus, is_installed, promtool};
use crate::support::raw::{get, lossy};
use crate::support::{Gateway, Origin, eventually};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Queries without a result at the gateway of this test, each with its reason.
const EMPTY: &[(&str, &str)] = &[
    ("moongate_task_restarts_total", "no request makes a task panic"),
    ("moongate_acme_certificate_expiry_timestamp_seconds", "no certificate was issued"),
];

/// Alerts that do not fire at the gateway of this test, each with its reason; `promtool test rules` covers them.
const SILENT: &[(&str, &str)] = &[
    ("MoongateLatencyHigh", "no backend is that slow"),
    ("MoongateWebSocketsNotMoved", "all WebSockets are moved"),
    ("MoongateCertificateFilesRejected", "its files do not change"),
    ("MoongateNameLookupsFail", "lookups that fail are repeated seldom"),
    ("MoongatePluginFails", "its plugins do not fail"),
    ("MoongateTaskRestarted", "no request makes a task panic"),
    ("MoongateDescriptorsLow", "it has enough"),
];

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// A port at which nothing listens.
fn nobody() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

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
    let collector = Collector::new();
    let routes = format!("routes: [{{ name: web, upstream: [{origin}] }}]\n");
    let gateway = Gateway::start(&(collector.yaml("") + &routes));
    gateway.get("/");
    let prometheus = Prometheus::start(&[("moongate", &[gateway.admin()])], None);
    prometheus.await_series("up{job=\"moongate\"} == 1");
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
    let (server, _) = collector.request("/");
    let exemplar = &exemplars[0]["exemplars"][0];
    assert_eq!(exemplar["labels"]["trace_id"], server.trace);
}

/// Every `expr` below this value, with its variables of Grafana replaced.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str().filter(|_| key == "expr") {
                    Some(query) => found.push(query.replace("$__rate_interval", "1m")),
                    None => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
    for variable in ["$job", "$instance", "$route", "$upstream"] {
        found.iter_mut().for_each(|query| *query = query.replace(variable, ".*"));
    }
}

#[test]
fn every_query_of_the_dashboard_and_every_alert_has_a_result() {
    if !is_installed("every_query_of_the_dashboard_and_every_alert_has_a_result") {
        return;
    }
    let busy = BusyGateway::start();
    let rules = packaged("prometheus/alerts.yaml");
    let prometheus = Prometheus::start(&[("moongate", &[busy.gateway.admin(), nobody()])], Some(&rules));
    prometheus.await_series("moongate_build_info");
    // An increase counts from the first scrape, and one alert wants more of them than one turn makes.
    busy.work();
    busy.work();
    busy.reject_a_reload();

    let dashboard = std::fs::read_to_string(packaged("grafana/moongate.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows = panels.iter().filter(|panel| panel["type"] == "row").map(|row| &row["title"]);
    let titles = ["Overview", "Upstreams", "WebSockets", "TLS, configuration and process"];
    assert!(rows.eq(titles), "{panels:?}");
    assert_eq!(panels.iter().map(|panel| &panel["id"]).collect::<HashSet<_>>().len(), panels.len());
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 60, "{found:?}");
    for query in found {
        assert!(!query.contains('$'), "an unknown variable in {query}");
        match EMPTY.iter().find(|(name, _)| query.contains(name)) {
            Some((_, reason)) => {
                assert_eq!(prometheus.query(&query).map(|series| series.len()), Ok(0), "{query}: {reason}");
            }
            None => drop(prometheus.await_series(&query)),
        }
    }
    let all = prometheus.api("rules?type=alert", "");
    let all = all["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(all.len() > 15, "{all:?}");
    for rule in all {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        match SILENT.iter().find(|(silent, _)| *silent == name) {
            Some(_) => drop(prometheus.query(query).unwrap()),
            None => drop(prometheus.await_series(query)),
        }
        assert_ne!(rule["health"], "err", "{rule}");
    }
}

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    if !is_installed("the_alert_rules_are_valid_and_fire_when_they_should") {
        return;
    }
    let rules = packaged("prometheus/alerts.yaml");
    let tests = packaged("prometheus/alerts_test.yaml");
    for arguments in [["check", "rules", rules.to_str().unwrap()], ["test", "rules", tests.to_str().unwrap()]]
    {
        let output = promtool(&arguments, "");
        assert!(output.status.success(), "{}{}", lossy(&output.stdout), lossy(&output.stderr));
    }
    let tested = std::fs::read_to_string(tests).unwrap();
    for (name, _) in SILENT {
        assert!(tested.contains(&format!("alertname: {name}\n")), "{name} is not tested");
    }
}
