//! Tests of the exposition, and of its equality with the documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::telemetry::TraceId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

struct Cluster;

impl MetricSource for Cluster {
    fn collect(&self, scrape: &mut Exposition) {
        scrape.gauge(&names::UPSTREAM_HEALTHY, &["u", "1.2.3.4:80"], 1.0);
        scrape.gauge(&names::UPSTREAM_CONNECTIONS_ACTIVE, &["u", "1.2.3.4:80"], 3.0);
        scrape.counter(&names::WASM_COUNTER, &["p", "hits"], 1.0);
        scrape.gauge(&names::TLS_CERTIFICATE_EXPIRY, &["l", "a.pem"], 1.0);
        scrape.gauge(&names::ACME_EXPIRY, &["a.example", "https://a/dir"], 1.0);
        scrape.gauge(&names::ACME_LAST_SUCCESS, &["a.example", "https://a/dir"], 1.0);
        scrape.counter(&names::ACME_ISSUED, &["a.example", "https://a/dir"], 1.0);
        scrape.counter(&names::ACME_FAILURES, &["a.example", "https://a/dir", "challenge"], 1.0);
        scrape.gauge(&names::DISCOVERY_ENDPOINTS, &["u", "ready"], 1.0);
        scrape.gauge(&names::SOURCE_OBJECTS, &["etcd /moongate/", "document", "used"], 1.0);
        scrape.gauge(&names::SOURCE_LAST_SUCCESS, &["u: file a"], 1.0);
        scrape.gauge(&names::WASM_GAUGE, &["p", "open"], 1.0);
        let observed =
            ObservedValue { buckets: vec![(1.0, 1)], count: 1, sum: 1.0, ..ObservedValue::default() };
        scrape.observed(&names::WASM_HISTOGRAM, &["p", "sizes"], &observed);
    }
}

/// Name to label names of every series of a scrape, as Prometheus would group them.
fn exposed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::<String, BTreeSet<String>>::new();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for line in types {
        families.insert(line.split(' ').next().unwrap().to_owned(), BTreeSet::new());
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| families.contains_key(*base))
            .unwrap_or(name);
        let known = families.get_mut(family).unwrap();
        let names = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|pair| pair.split_once('='))
            .map(|pair| pair.0);
        known.extend(names.filter(|name| *name != "le").map(str::to_owned));
    }
    families
}

#[test]
fn a_scrape_has_exactly_the_names_of_the_table() {
    let metrics = Metrics::default();
    let (route, upstream, endpoint) =
        (metrics.route("r"), metrics.upstream("u"), metrics.endpoint("u", "1.2.3.4:80"));
    let answers = route.responses("u");
    answers.request(200, Duration::from_millis(3), None);
    answers.aborted(ClientAbort::Gone);
    endpoint.failed("connect_refused");
    upstream.all_unhealthy();
    upstream.members_changed(&"file a".into());
    upstream.discovery_failed(&"file a".into(), "invalid");
    let tunnel = TunnelMetrics::open(&route, &endpoint);
    tunnel.add_messages(Direction::ToBackend, Opcode::Text, 2);
    tunnel.ping_rtt(Side::Client, Duration::from_millis(1));
    tunnel.closed(Some(1000), InitiatorLabel::Client, "closed");
    tunnel.lifetime(Duration::from_secs(1), 2);
    tunnel.reconnected(Reconnected::Moved);
    let upgraded = UpgradeMetrics::open(&route, &endpoint, &"tcp".into());
    upgraded.closed(InitiatorLabel::Client, "eof");
    upgraded.lifetime(Duration::from_secs(1));
    let preamble = metrics.preamble("web");
    preamble.refused(Preamble::Missing);
    let plugin = metrics.plugin("p", "k");
    plugin.call(Phase::Log).returned();
    let tls = metrics.tls("l");
    tls.record_handshake("TLSv1.3", false);
    tls.failed("timeout");
    metrics.http2().opened().ended(StreamEnd::Client);
    metrics.request_failed("bad_request");
    metrics.tasks().restarted("reload");
    let store = metrics.store("s");
    store.responded(Duration::from_millis(1));
    let cluster: Arc<dyn MetricSource> = Arc::new(Cluster);
    metrics.register(Arc::downgrade(&cluster));

    let table: BTreeMap<_, BTreeSet<_>> = names::ALL
        .iter()
        .map(|family| {
            (family.name.to_owned(), family.labels.iter().map(|label| (*label).to_owned()).collect())
        })
        .collect();
    assert_eq!(exposed(&metrics.render(TextFormat::Classic)), table);
}

#[test]
fn openmetrics_has_units_exemplars_and_an_end() {
    let metrics = Metrics::default();
    let answers = metrics.route("r\"1").responses("u");
    let trace = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    answers.request(200, Duration::from_millis(3), Some(trace));
    let text = metrics.render(TextFormat::OpenMetrics);
    let duration = "moongate_http_request_duration_seconds";
    for part in [
        "\n# TYPE moongate_http_requests counter\nmoongate_http_requests_total{route=\"r\\\"1\",upstream=\"u\",status=\"200\"} 1\n",
        &format!("\n# TYPE {duration} histogram\n# UNIT {duration} seconds\n{duration}_bucket{{"),
        &format!("\n{duration}_bucket{{route=\"r\\\"1\",le=\"1.0\"}} 1\n"),
        "# TYPE moongate_build info\nmoongate_build_info{version=",
        "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"), "{text}");
    let exemplars: Vec<_> = text.lines().filter(|line| line.contains(" # ")).collect();
    let [exemplar] = exemplars[..] else { panic!("{exemplars:?}") };
    let begin = format!(
        "{duration}_bucket{{route=\"r\\\"1\",le=\"0.005\"}} 1 # {{trace_id=\"0af7651916cd43dd8448eb211c80319c\"}} 0.003 "
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let created =
        text.lines().find_map(|line| line.strip_prefix(&*format!("{duration}_created{{route=\"r\\\"1\"}} ")));
    for time in [exemplar.strip_prefix(&*begin).unwrap(), created.unwrap()] {
        assert!((now - 60.0..=now + 1.0).contains(&time.parse::<f64>().unwrap()), "{time}");
    }
    let classic = metrics.render(TextFormat::Classic);
    assert!(
        !classic.contains(" # ") && !classic.contains("_created") && !classic.contains("# EOF"),
        "{classic}"
    );
    assert!(classic.contains("# TYPE moongate_build_info gauge\n"), "{classic}");
}

#[test]
fn names_have_the_suffix_of_their_type_and_no_two_families_share_a_sample() {
    let mut samples = BTreeSet::new();
    for family in names::ALL {
        let suffixes: &[&str] = match family.shape {
            names::Shape::Counter => &["_total", "_created"],
            names::Shape::Gauge => &[""],
            names::Shape::Info => &["_info"],
            names::Shape::Histogram(_) => &["", "_bucket", "_sum", "_count", "_created"],
        };
        let base = family.open_metrics_name();
        assert_eq!(family.name, format!("{base}{}", suffixes[0]));
        for suffix in suffixes {
            assert!(samples.insert(format!("{base}{suffix}")), "{base}{suffix}");
        }
    }
}

/// In the order of the table too. `UPDATE_EXPECT=1 cargo test --features full --test reference` rewrites the rows.
#[test]
fn the_documentation_equals_the_table() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md"));
    let written: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `moongate_") || line.starts_with("| `process_"))
        .collect();
    let expected: Vec<String> = names::ALL
        .iter()
        .map(|family| {
            let kind = match family.shape {
                names::Shape::Counter => "counter",
                names::Shape::Gauge => "gauge",
                names::Shape::Info => "info",
                names::Shape::Histogram(_) => "histogram",
            };
            format!("| `{}` | {} | {kind} | {} |", family.name, family.labels.join(", "), family.help)
        })
        .collect();
    assert_eq!(written.join("\n"), expected.join("\n"));
}

#[test]
fn a_hundred_reloads_with_changing_names_leave_no_series_behind() {
    let metrics = Metrics::default();
    let kept = metrics.route("kept");
    let kept_answers = kept.responses("u");
    for generation in 0..100 {
        let route = metrics.route(&format!("r{generation}"));
        route.responses("u").request(200, Duration::from_millis(1), None);
        let endpoint = metrics.endpoint("u", &format!("10.0.0.{generation}:80"));
        endpoint.failed("connect_refused");
        drop(TunnelMetrics::open(&kept, &endpoint));
        kept_answers.request(200, Duration::from_millis(1), None);
    }
    let text = metrics.render(TextFormat::Classic);
    assert!(
        text.contains(r#"moongate_http_requests_total{route="kept",upstream="u",status="200"} 100"#),
        "{text}"
    );
    assert!(!text.contains("r99") && !text.contains("10.0.0."), "{text}");
}

#[test]
fn a_name_kept_by_a_reload_keeps_its_counts() {
    let metrics = Metrics::default();
    let before = metrics.route("r").responses("u");
    before.request(200, Duration::ZERO, None);
    let after = metrics.route("r").responses("u");
    drop(before);
    after.request(200, Duration::ZERO, None);
    assert!(
        metrics
            .render(TextFormat::Classic)
            .contains(r#"moongate_http_request_duration_seconds_count{route="r"} 2"#)
    );
}

#[test]
fn websockets_stay_out_of_the_duration_histogram() {
    let metrics = Metrics::default();
    let answers = metrics.route("r").responses("u");
    answers.handshake(101);
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains(r#"status="101"} 1"#), "{text}");
    assert!(!text.contains("duration"), "{text}");
}

#[test]
fn a_websocket_leaves_the_gauge_however_it_ends() {
    let metrics = Metrics::default();
    let (route, endpoint) = (metrics.route("r"), metrics.endpoint("u", "e"));
    let first = TunnelMetrics::open(&route, &endpoint);
    let second = TunnelMetrics::open(&route, &endpoint);
    let labels = r#"{route="r",upstream="u",endpoint="e"}"#;
    assert!(
        metrics
            .render(TextFormat::Classic)
            .contains(&format!("moongate_websocket_connections_active{labels} 2"))
    );
    drop(first);
    drop(endpoint);
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains(&format!("moongate_websocket_connections_active{labels} 1")), "{text}");
    assert!(text.contains(&format!("moongate_websocket_opened_total{labels} 2")), "{text}");
    drop(second);
    assert!(
        !metrics.render(TextFormat::Classic).contains("connections_active"),
        "its endpoint is gone and so is its last WebSocket"
    );
}

#[test]
fn an_upgraded_connection_leaves_the_gauge_and_its_traffic_stays() {
    let metrics = Metrics::default();
    let (route, endpoint) = (metrics.route("r"), metrics.endpoint("u", "e"));
    let (tcp, spdy): (Arc<str>, Arc<str>) = ("tcp".into(), "SPDY/3.1".into());
    let all = [
        UpgradeMetrics::open(&route, &endpoint, &tcp),
        UpgradeMetrics::adopt(&route, &endpoint, &tcp),
        UpgradeMetrics::open(&route, &endpoint, &spdy),
    ];
    all.iter().for_each(|connection| connection.add_bytes(Direction::ToClient, 10));
    let text = metrics.render(TextFormat::Classic);
    for line in [
        r#"moongate_upgraded_connections_active{route="r",protocol="tcp",upstream="u",endpoint="e"} 2"#,
        r#"moongate_upgraded_opened_total{route="r",protocol="tcp",upstream="u",endpoint="e"} 1"#,
        r#"moongate_upgraded_bytes_total{route="r",protocol="tcp",direction="to_client"} 20"#,
        r#"moongate_upgraded_bytes_total{route="r",protocol="SPDY/3.1",direction="to_client"} 10"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    all[2].closed(InitiatorLabel::Gateway, "max_age");
    drop((all, endpoint));
    let text = metrics.render(TextFormat::Classic);
    assert!(!text.contains("connections_active"), "{text}");
    assert!(text.contains(r#"bytes_total{route="r",protocol="tcp",direction="to_client"} 20"#), "{text}");
    assert!(
        text.contains(r#"closed_total{route="r",protocol="SPDY/3.1",by="gateway",reason="max_age"} 1"#),
        "{text}"
    );
}

#[test]
fn the_traffic_of_a_removed_endpoint_stays_in_its_route() {
    let metrics = Metrics::default();
    let route = metrics.route("r");
    let (first, second) = (metrics.endpoint("u", "a"), metrics.endpoint("u", "b"));
    let tunnel = TunnelMetrics::open(&route, &first);
    tunnel.add_messages(Direction::ToClient, Opcode::Text, 3);
    tunnel.add_bytes(Direction::ToClient, 30);
    tunnel.ping_rtt(Side::Backend, Duration::from_millis(2));
    tunnel.closed(Some(1001), InitiatorLabel::Backend, "close");
    let counts = |metrics: &Metrics| metrics.route_counts().pop().unwrap().sockets;
    let before = counts(&metrics).pop().unwrap();
    assert_eq!((&*before.endpoint, before.traffic.data_messages(Direction::ToClient)), ("a", 3));
    assert_eq!(before.round_trips[Side::Backend as usize], (1, Duration::from_millis(2)));
    assert_eq!(before.closed, [("1001".to_owned(), "backend", 1)]);
    drop((tunnel, first));
    let tunnel = TunnelMetrics::open(&route, &second);
    tunnel.add_messages(Direction::ToClient, Opcode::Text, 4);
    tunnel.add_bytes(Direction::ToClient, 40);
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains(r#"bytes_total{route="r",direction="to_client"} 70"#), "{text}");
    assert!(text.contains(r#"messages_total{route="r",direction="to_client",opcode="text"} 7"#), "{text}");
    assert_eq!(counts(&metrics).len(), 1, "the first endpoint is gone");
}

#[test]
fn close_codes_cannot_grow_the_label_set_without_end() {
    let metrics = Metrics::default();
    let (route, endpoint) = (metrics.route("r"), metrics.endpoint("u", "e"));
    let tunnel = TunnelMetrics::open(&route, &endpoint);
    for code in 3000..5000 {
        tunnel.closed(Some(code), InitiatorLabel::Client, "closed");
    }
    tunnel.closed(None, InitiatorLabel::Backend, "vanished");
    let text = metrics.render(TextFormat::Classic);
    assert_eq!(text.lines().filter(|line| line.starts_with("moongate_websocket_closed_total{")).count(), 34);
    assert!(text.contains(r#"code="other",by="client",reason="closed"} 1968"#), "{text}");
    assert!(text.contains(r#"code="none",by="backend",reason="vanished"} 1"#), "{text}");
}

#[test]
fn labels_do_not_collide_for_any_split_of_their_values() {
    let metrics = Metrics::default();
    let one = metrics.route("ab").responses("c");
    let other = metrics.route("a").responses("bc");
    one.handshake(200);
    other.handshake(200);
    other.handshake(200);
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains(r#"{route="ab",upstream="c",status="200"} 1"#), "{text}");
    assert!(text.contains(r#"{route="a",upstream="bc",status="200"} 2"#), "{text}");
}

#[test]
fn odd_names_are_escaped() {
    let metrics = Metrics::default();
    let answers = metrics.route("a\"b\\c\nd").responses("u");
    answers.handshake(200);
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains(r#"route="a\"b\\c\nd""#), "{text}");
}

#[test]
fn a_refused_reload_is_shown_and_keeps_the_generation() {
    let metrics = Metrics::default();
    metrics.config_taken(4);
    metrics.config_refused();
    let text = metrics.render(TextFormat::Classic);
    assert!(text.contains("moongate_config_last_reload_successful 0"), "{text}");
    assert!(text.contains("moongate_config_generation 4"), "{text}");
    assert!(!text.contains("moongate_config_last_reload_timestamp_seconds 0"), "{text}");
}

#[test]
fn a_source_is_dropped_with_its_owner() {
    let metrics = Metrics::default();
    let cluster: Arc<dyn MetricSource> = Arc::new(Cluster);
    metrics.register(Arc::downgrade(&cluster));
    drop(cluster);
    assert!(!metrics.render(TextFormat::Classic).contains("moongate_upstream_healthy"));
    metrics.register(Weak::<Cluster>::new());
    assert_eq!(metrics.sources.lock().len(), 1);
}
