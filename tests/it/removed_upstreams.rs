//! Endpoints and upstreams removed by a reload while WebSockets are on them: their status and metrics.

use crate::support::{Gateway, Origin, Socket, eventually};

fn route(endpoints: &[&Origin]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|origin| format!("'{origin}'")).collect();
    format!(
        "upstreams:
  all: {{ endpoints: [{}] }}
routes: [{{ name: chat, upstream: all }}]",
        endpoints.join(", ")
    )
}

/// The drain reason and the active count of an endpoint in the status and the metrics.
fn seen(gateway: &Gateway, upstream: &str, origin: &Origin) -> Option<(String, u64, f64)> {
    let status = gateway.status();
    let endpoints = status["upstreams"][upstream]["endpoints"].as_array()?;
    let endpoint = endpoints.iter().find(|endpoint| endpoint["address"] == origin.to_string())?;
    let labels = [("upstream", upstream), ("endpoint", &*origin.to_string())];
    let active = gateway.metrics().sum("moongate_upstream_connections_active", &labels);
    Some((endpoint["draining"].as_str().unwrap_or_default().to_owned(), endpoint["active"].as_u64()?, active))
}

#[test]
fn a_removed_endpoint_is_seen_until_its_last_socket_has_ended() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&route(&[&a, &b]));
    let sockets: Vec<_> = (0..4).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let (at_a, at_b): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|socket| socket.backend == "a");

    gateway.reload(&route(&[&b])).unwrap();
    assert_eq!(seen(&gateway, "all", &a), Some(("removed".to_owned(), 2, 2.0)));
    assert_eq!(seen(&gateway, "all", &b), Some((String::new(), 2, 2.0)));

    // The upstream itself is removed, and added again with one of the two.
    let other = format!("routes: [{{ name: other, upstream: ['{b}'] }}]");
    gateway.reload(&other).unwrap();
    gateway.reload(&format!("# once more\n{other}")).unwrap();
    for origin in [&a, &b] {
        assert_eq!(seen(&gateway, "all", origin), Some(("removed".to_owned(), 2, 2.0)));
    }
    gateway.reload(&route(&[&b])).unwrap();
    assert_eq!(seen(&gateway, "all", &a), Some(("removed".to_owned(), 2, 2.0)));
    assert_eq!(seen(&gateway, "all", &b), Some((String::new(), 2, 2.0)), "counted on");

    gateway.reload(&other).unwrap();
    drop(at_a);
    eventually("a is gone", || seen(&gateway, "all", &a).is_none().then_some(()));
    assert!(seen(&gateway, "all", &b).is_some());
    drop(at_b);
    eventually("the upstream is gone", || gateway.status()["upstreams"].get("all").is_none().then_some(()));
    assert!(!gateway.metrics().has("moongate_upstream_connections_active", &[("upstream", "all")]));
}
