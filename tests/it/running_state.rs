//! What a process has counted and learned continues in the process that takes over.

use crate::moved_websockets::upgraded;
use crate::support::certs::Authority;
use crate::support::{Gateway, Origin, Socket, eventually, get};
use crate::tls::listed;

fn status(gateway: &Gateway, path: &str) -> u16 {
    gateway.get(path).status
}

#[test]
fn rates_continue() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes:
  - name: requests
    path: /requests
    upstream: ['{origin}']
    plugins: [{{ kind: rate_limit, rate: 3/h }}, {{ kind: rate_limit, rate: 100/h, key: 'header:x' }}]
  - name: messages
    path: /messages
    upstream: ['{origin}']
    plugins: [{{ kind: rate_limit, messages: {{ rate: 4/h }} }}]
  - {{ name: handshakes, path: /handshakes, upstream: ['{origin}'], websocket: {{ handshake_rate: 20/h }} }}
"
    ));
    assert_eq!([(); 2].map(|()| status(&gateway, "/requests")), [200; 2]);
    let mut socket = Socket::open(gateway.web(), "/messages");
    (0..3).for_each(|_| socket.echo("one"));
    let open = || Socket::open_with(gateway.web(), "/handshakes", &[]);
    let opened: Vec<_> = (0..2).map(|_| open().ok().unwrap()).collect();
    assert_eq!(open().err(), Some(503));
    for round in 0..2 {
        assert_eq!(upgraded(&gateway), (3, 0), "{round}");
        assert_eq!(open().err(), Some(503), "the handshakes of an hour are used up");
    }
    assert_eq!([(); 2].map(|()| status(&gateway, "/requests")), [200, 429]);
    socket.echo("four");
    socket.say("five");
    assert_eq!(socket.end(), Some(1008));
    drop(opened);
}

#[test]
fn an_ejection_and_a_slow_start_continue() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let upstream = |endpoints: &str| {
        format!(
            "upstreams: {{ app: {{ endpoints: [{endpoints}], slow_start: 10s, passive_health: {{ failures: 1, eject_for: 1h }} }} }}
routes: [{{ name: app, upstream: app }}]
"
        )
    };
    let gateway = Gateway::start(&upstream(&format!("'{a}'")));
    gateway.reload(&upstream(&format!("'{a}', '{b}'"))).unwrap();
    a.die();
    eventually("it is ejected", || {
        gateway.get("/");
        endpoint(&gateway, &a)["ejected"].as_bool().filter(|ejected| *ejected)
    });
    a.revive();
    let share = || endpoint(&gateway, &b)["slow_start"].as_f64();
    let before = eventually("the share has grown", || share().filter(|share| *share > 0.2));
    for _ in 0..2 {
        upgraded(&gateway);
        assert_eq!(endpoint(&gateway, &a)["ejected"], true);
        assert!(share().is_none_or(|share| share >= before), "{before} before, {:?} after", share());
    }
}

fn endpoint(gateway: &Gateway, origin: &Origin) -> serde_json::Value {
    gateway.endpoint("app", origin.address()).unwrap()
}

#[test]
fn a_tls_session_is_resumed_at_the_new_process() {
    let (origin, authority) = (Origin::named("a"), Authority::new());
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, tls: {{ certificates: [{}] }} }}]
routes: [{{ upstream: ['{origin}'] }}]
",
        listed(&authority.issue("web", &["localhost"]))
    ));
    let client = authority.client();
    let is_resumed = || {
        let mut secure = client.connect(gateway.web(), "localhost").ok().unwrap();
        assert_eq!(secure.get("localhost", "/").ok().unwrap().status, 200);
        secure.is_resumed()
    };
    assert_eq!((is_resumed(), is_resumed()), (false, true));
    upgraded(&gateway);
    assert!(is_resumed());
}

#[test]
fn the_histories_of_the_live_page_and_of_reloads_continue_without_a_peak() {
    let origin = Origin::named("a");
    let routes = |name: &str| format!("routes: [{{ name: {name}, upstream: ['{origin}'] }}]\n");
    let gateway = Gateway::start(&routes("first"));
    gateway.reload(&routes("second")).unwrap();
    (0..200).for_each(|_| drop(gateway.get("/")));
    let points = |gateway: &Gateway| {
        let history = get(gateway.admin(), "/api/v1/overview").json()["history"].clone();
        history["points"]["requests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point.as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let before = eventually("a point of the history", || {
        Some(points(&gateway)).filter(|points| points.iter().sum::<f64>() > 10.0)
    });
    upgraded(&gateway);
    let after =
        eventually("a further point", || Some(points(&gateway)).filter(|points| points.len() > before.len()));
    assert_eq!(after[..before.len()], before[..]);
    assert!(after[before.len()..].iter().all(|rate| *rate < 5.0), "{after:?}");
    let reloads = get(gateway.admin(), "/api/v1/reloads").json();
    let causes: Vec<_> = reloads["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["number"].as_u64().unwrap(), entry["cause"].as_str().unwrap().to_owned()))
        .collect();
    let expected =
        [(3, "start"), (2, "signal"), (1, "start")].map(|(number, cause)| (number, cause.to_owned()));
    assert_eq!(causes, expected);
}
