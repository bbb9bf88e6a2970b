//! Endpoints from etcd: they come and go without a reload, with one member and with three.

use crate::support::certs::Authority;
use crate::support::etcd::{Etcd, EtcdLink, cluster, is_installed};
use crate::support::fake_etcd::{FakeEtcd, Fault};
use crate::support::{Gateway, Origin, Socket, eventually, moongate};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A gateway whose upstream `chat` is the prefix `/chat/`.
fn start(servers: &[&str], settings: &str) -> Gateway {
    Gateway::start_whole(&yaml(servers, settings))
}

fn yaml(servers: &[&str], settings: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ chat: {{ discovery: {{ kind: etcd, servers: {servers:?}, prefix: /chat/{settings} }} }} }}
routes: [{{ name: all, upstream: chat, websocket: {{ drain_window: 1s }} }}]
"
    )
}

fn value(address: SocketAddr) -> String {
    json!({ "address": address.to_string() }).to_string()
}

fn endpoints(gateway: &Gateway) -> Vec<Value> {
    gateway.status()["upstreams"]["chat"]["endpoints"].as_array().unwrap().clone()
}

fn addresses(gateway: &Gateway) -> Vec<String> {
    let removed = |endpoint: &Value| endpoint["draining"] == "absent";
    let mut addresses: Vec<_> = endpoints(gateway)
        .iter()
        .filter(|endpoint| !removed(endpoint))
        .map(|endpoint| endpoint["address"].as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    addresses
}

fn await_addresses(gateway: &Gateway, wanted: &[&Origin]) {
    let mut wanted: Vec<_> = wanted.iter().map(|origin| origin.address().to_string()).collect();
    wanted.sort();
    eventually("the endpoints of the prefix", || (addresses(gateway) == wanted).then_some(()));
}

fn discovery(gateway: &Gateway) -> Value {
    gateway.status()["upstreams"]["chat"]["discovery"].clone()
}

fn await_error(gateway: &Gateway, part: &str) {
    eventually("the status shows the error", || {
        discovery(gateway)["error"].as_str().is_some_and(|error| error.contains(part)).then_some(())
    });
}

fn await_success(gateway: &Gateway) {
    eventually("the discovery works", || discovery(gateway)["error"].is_null().then_some(()));
}

#[test]
fn endpoints_come_change_and_go_without_a_generation() {
    if !is_installed("endpoints_come_change_and_go_without_a_generation") {
        return;
    }
    let (etcd, a, b) = (Etcd::start(), Origin::named("a"), Origin::named("b"));
    etcd.put("/chat/a", &value(a.address()));
    etcd.put("/other/b", &value(b.address()));
    let gateway = start(&[&etcd.url()], "");
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    let mut at_a = Socket::open(gateway.web(), "/ws");
    at_a.echo("before");
    etcd.put("/chat/b", &b.address().to_string());
    await_addresses(&gateway, &[&a, &b]);
    // What says more than an address.
    etcd.put("/chat/b", &json!({ "address": b.address().to_string(), "weight": 3, "zone": "west", "tier": 2, "max_connections": 9 }).to_string());
    eventually("the changed endpoint", || {
        let all = endpoints(&gateway);
        let found = all.iter().find(|endpoint| endpoint["weight"] == 3)?;
        assert_eq!(
            (&found["zone"], &found["tier"], &found["max_connections"]),
            (&"west".into(), &1.into(), &9.into())
        );
        assert_eq!(found["origin"], "etcd /chat/b");
        Some(())
    });
    at_a.echo("after");
    assert_eq!(gateway.names("/", 3), ["a", "a", "a"]);
    etcd.put("/chat/a", &json!({ "address": a.address().to_string(), "state": "leaving" }).to_string());
    eventually("the endpoint leaves", || (discovery(&gateway)["leaving"] == 1).then_some(()));
    etcd.delete("/chat/a");
    await_addresses(&gateway, &[&b]);
    assert_eq!(at_a.end(), Some(1012));
    assert_eq!(gateway.get("/").text(), "b");
    etcd.delete("/chat/b");
    await_addresses(&gateway, &[]);
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(gateway.generation(), 1);
    let shown = discovery(&gateway);
    assert!(shown["source"] == "etcd /chat/" && shown["last_success"].as_u64().is_some(), "{shown}");
}

#[test]
fn another_uid_at_an_address_is_another_endpoint() {
    if !is_installed("another_uid_at_an_address_is_another_endpoint") {
        return;
    }
    let (etcd, a) = (Etcd::start(), Origin::named("a"));
    let with_uid = |uid: &str| json!({ "address": a.address().to_string(), "uid": uid }).to_string();
    etcd.put("/chat/a", &with_uid("1"));
    let gateway = start(&[&etcd.url()], "");
    let mut at_first = Socket::open(gateway.web(), "/ws");
    at_first.echo("before");
    etcd.put("/chat/a", &with_uid("2"));
    assert_eq!(at_first.end(), Some(1012));
    Socket::open(gateway.web(), "/ws").echo("at the second one");
}

#[test]
fn a_value_with_an_error_refuses_its_endpoint_alone() {
    let (etcd, a, b) = (FakeEtcd::start(), Origin::named("a"), Origin::named("b"));
    etcd.put("/chat/a", &value(a.address()));
    etcd.put("/chat/b", "{\"address\": \"127.0.0.1\"}");
    let gateway = start(&[&etcd.url()], "");
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    await_error(&gateway, "/chat/b: 1:13: ");
    let mark = gateway.log().mark();
    // The last good version of an endpoint stays.
    etcd.put("/chat/a", "{\"address\": \"127.0.0.1:1\", \"wieght\": 3}");
    let line = gateway.log().wait(mark, &["endpoint rejected; its last good version stays", "/chat/a"]);
    assert!(line.contains("wieght"), "{line}");
    eventually("both are rejected", || {
        let shown = discovery(&gateway);
        (shown["rejected"] == 2 && shown["rejections"][0]["key"] == "/chat/a").then_some(())
    });
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    let metrics = gateway.metrics();
    assert_eq!(
        metrics.sum("moongate_discovery_endpoints", &[("upstream", "chat"), ("state", "rejected")]),
        2.0
    );
    let errors = [("source", "chat: etcd /chat/"), ("reason", "invalid")];
    assert_eq!(metrics.sum("moongate_source_errors_total", &errors), 2.0);
    etcd.put("/chat/a", &value(a.address()));
    // Of two keys with one endpoint the first applies.
    etcd.put("/chat/b", &value(a.address()));
    await_error(&gateway, "is the endpoint of /chat/a");
    etcd.put("/chat/b", &value(b.address()));
    await_addresses(&gateway, &[&a, &b]);
    await_success(&gateway);
    assert_eq!(discovery(&gateway)["rejected"], 0);
    for wrong in [
        "",
        "[]",
        "\u{feff}x",
        "{ address: '127.0.0.1:1', tier: 100 }",
        "{ address: '127.0.0.1:1', tier: 1, backup: true }",
        "{ address: '127.0.0.1:1', deadline: 9 }",
        "{ address: 'a.test:1' }",
        "{ address: '${HOME}' }",
    ] {
        etcd.put("/chat/c", wrong);
        eventually(wrong, || (discovery(&gateway)["rejected"] == 1).then_some(()));
        etcd.put(
            "/chat/c",
            &json!({ "address": b.address().to_string(), "uid": "c", "drain": true }).to_string(),
        );
        eventually(wrong, || (discovery(&gateway)["rejected"] == 0).then_some(()));
    }
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn a_member_that_is_killed_or_frozen_is_replaced_by_the_next_one() {
    if !is_installed("a_member_that_is_killed_or_frozen_is_replaced_by_the_next_one") {
        return;
    }
    let (mut members, a, b, c) = (cluster(), Origin::named("a"), Origin::named("b"), Origin::named("c"));
    members[0].put("/chat/a", &value(a.address()));
    let urls: Vec<_> = members.iter().map(Etcd::url).collect();
    let servers: Vec<_> = urls.iter().map(String::as_str).collect();
    let gateway = start(&servers, "");
    await_addresses(&gateway, &[&a]);
    let mut socket = Socket::open(gateway.web(), "/ws");
    members[0].kill();
    members[1].put("/chat/b", &value(b.address()));
    await_addresses(&gateway, &[&a, &b]);
    members[0].restart();
    // The second member is in use now.
    members[1].signal("STOP");
    eventually("the others have a leader", || {
        let put = json!({ "key": "L2NoYXQvYw==", "value": "" });
        members[2].try_put(&put).then_some(())
    });
    members[2].put("/chat/c", &value(c.address()));
    await_addresses(&gateway, &[&a, &b, &c]);
    members[1].signal("CONT");
    socket.echo("through all of it");
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn members_without_a_leader_keep_the_endpoints_and_say_so() {
    if !is_installed("members_without_a_leader_keep_the_endpoints_and_say_so") {
        return;
    }
    let (mut members, a, b) = (cluster(), Origin::named("a"), Origin::named("b"));
    members[0].put("/chat/a", &value(a.address()));
    let gateway = start(&[&members[0].url()], "");
    await_addresses(&gateway, &[&a]);
    members[1].kill();
    members[2].kill();
    eventually("the error is told", || discovery(&gateway)["error"].as_str().map(drop));
    assert_eq!(gateway.get("/").text(), "a");
    let source = "chat: etcd /chat/";
    assert!(gateway.metrics().sum("moongate_source_errors_total", &[("source", source)]) >= 1.0);
    members[1].restart();
    members[2].restart();
    await_success(&gateway);
    eventually("a leader", || members[0].try_put(&json!({ "key": "L3g=", "value": "" })).then_some(()));
    members[0].put("/chat/b", &value(b.address()));
    await_addresses(&gateway, &[&a, &b]);
}

#[test]
fn a_start_without_any_server_serves_and_recovers() {
    if !is_installed("a_start_without_any_server_serves_and_recovers") {
        return;
    }
    let (mut etcd, a) = (Etcd::start(), Origin::named("a"));
    etcd.put("/chat/a", &value(a.address()));
    etcd.kill();
    let gateway = start(&[&etcd.url()], "");
    assert_eq!(gateway.get("/").status, 503);
    await_error(&gateway, "127.0.0.1");
    etcd.restart();
    await_addresses(&gateway, &[&a]);
    await_success(&gateway);
}

/// Five thousand keys of which a hundred change ten times a second, while every second the history is dropped and every
/// connection is cut: each cut ends in a list.
#[test]
fn compaction_under_changes_makes_no_generation_and_closes_nothing() {
    if !is_installed("compaction_under_changes_makes_no_generation_and_closes_nothing") {
        return;
    }
    let (etcd, a) = (Etcd::start(), Origin::named("a"));
    let key = |number: usize| format!("/chat/{number:05}");
    let spare = |number: usize, weight: usize| {
        let address = format!("127.{}.{}.1:{}", 1 + number / 250, number % 250, 1 + weight);
        json!({ "address": address, "tier": 1 }).to_string()
    };
    let all: Vec<_> = (0..5000).map(|number| (key(number), Some(spare(number, 0)))).collect();
    etcd.change(&all);
    etcd.put("/chat/a", &value(a.address()));
    let link = EtcdLink::to(etcd.address());
    let gateway = start(&[&link.url()], "");
    eventually("all endpoints", || (addresses(&gateway).len() == 5001).then_some(()));
    let mut sockets: Vec<_> = (0..20).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                etcd.compact();
                link.cut();
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        for round in 1_usize.. {
            let changed: Vec<_> = (0..100).map(|index| (round * 37 + index * 50) % 5000).collect();
            let changes: Vec<_> = changed
                .iter()
                .map(|number| (key(*number), (number % 7 != 0).then(|| spare(*number, round))))
                .collect();
            etcd.change(&changes);
            sockets.iter_mut().for_each(|socket| socket.echo("during the changes"));
            if begun.elapsed() > Duration::from_secs(8) {
                break;
            }
        }
        etcd.change(&all);
        stop.store(true, SeqCst);
    });
    let mut wanted: Vec<_> = all.iter().map(|(_, value)| address_of(value.as_deref().unwrap())).collect();
    wanted.push(a.address().to_string());
    wanted.sort();
    eventually("the endpoints are those of the prefix", || (addresses(&gateway) == wanted).then_some(()));
    sockets.iter_mut().for_each(|socket| socket.echo("after the changes"));
    assert_eq!(gateway.generation(), 1);
    assert_eq!(discovery(&gateway)["error"], Value::Null);
}

fn address_of(value: &str) -> String {
    serde_json::from_str::<Value>(value).unwrap()["address"].as_str().unwrap().to_owned()
}

#[test]
fn a_user_is_authenticated_and_an_expired_token_is_renewed() {
    if !is_installed("a_user_is_authenticated_and_an_expired_token_is_renewed") {
        return;
    }
    let etcd = Etcd::start_with(&["--auth-token-ttl", "1"]);
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    etcd.put("/chat/a", &value(a.address()));
    etcd.require_password("/chat/", "hush");
    let gateway = start(&[&etcd.url()], ", user: moongate, password: hush");
    await_addresses(&gateway, &[&a]);
    let first = discovery(&gateway)["last_success"].as_u64().unwrap();
    // A read after the token has expired.
    eventually("the watch is verified", || {
        (discovery(&gateway)["last_success"].as_u64()? > first + 2000).then_some(())
    });
    await_success(&gateway);
    etcd.log_in();
    etcd.put("/chat/b", &value(b.address()));
    await_addresses(&gateway, &[&a, &b]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let with_file = format!(", user: moongate, password_file: '{}'", file.display());
    gateway.reload_whole(&yaml(&[&etcd.url()], &with_file)).unwrap();
    await_error(&gateway, "authentication failed");
    assert_eq!(addresses(&gateway).len(), 2);
    // The file alone has changed.
    std::fs::write(&file, "hush\n").unwrap();
    gateway.reload_whole(&yaml(&[&etcd.url()], &with_file)).unwrap();
    await_success(&gateway);
    gateway.reload_whole(&yaml(&[&etcd.url()], "")).unwrap();
    await_error(&gateway, "user name is empty");
    assert_eq!(addresses(&gateway).len(), 2);
}

#[test]
fn servers_with_tls_are_verified() {
    if !is_installed("servers_with_tls_are_verified") {
        return;
    }
    let (ca, other, a) = (Authority::new(), Authority::new(), Origin::named("a"));
    let (server, client) =
        (ca.issue("server", &["etcd.test", "127.0.0.1"]), ca.issue("client", &["moongate"]));
    let port = crate::support::etcd::free_port();
    let plain = crate::support::etcd::free_port();
    let urls = format!("http://127.0.0.1:{plain},https://127.0.0.1:{port}");
    let path = |path: &std::path::Path| path.display().to_string();
    let etcd = Etcd::start_at(
        plain,
        &[
            "--listen-client-urls",
            &urls,
            "--cert-file",
            &path(&server.cert),
            "--key-file",
            &path(&server.key),
            "--client-cert-auth",
            "--trusted-ca-file",
            &path(&ca.file()),
        ],
    );
    etcd.put("/chat/a", &value(a.address()));
    let secure = format!("https://127.0.0.1:{port}");
    let tls = |ca: &Authority, more: &str| format!(", tls: {{ ca: '{}'{more} }}", path(&ca.file()));
    let identity = format!(", cert: '{}', key: '{}'", path(&client.cert), path(&client.key));
    let gateway = start(&[&secure], &tls(&ca, &identity));
    await_addresses(&gateway, &[&a]);
    await_success(&gateway);
    for (settings, error) in [
        (tls(&other, &identity), "certificate"),
        (tls(&ca, ""), "certificate"),
        (tls(&ca, &format!("{identity}, sni: other.test")), "certificate"),
    ] {
        gateway.reload_whole(&yaml(&[&secure], &settings)).unwrap();
        eventually("the handshake fails", || {
            let shown = discovery(&gateway)["error"].as_str()?.to_lowercase();
            shown.contains(error).then_some(())
        });
        assert_eq!(addresses(&gateway).len(), 1, "{settings}");
        gateway.reload_whole(&yaml(&[&secure], &tls(&ca, &format!("{identity}, sni: etcd.test")))).unwrap();
        await_success(&gateway);
    }
}

#[test]
fn wrong_responses_change_nothing() {
    let (etcd, a, b) = (FakeEtcd::start(), Origin::named("a"), Origin::named("b"));
    etcd.put("/chat/a", &value(a.address()));
    let gateway = start(&[&etcd.url()], "");
    await_addresses(&gateway, &[&a]);
    for (fault, error) in [
        (Fault::Body(b"".to_vec()), "the server ended the watch"),
        (Fault::Body(b"[]".to_vec()), ""),
        (Fault::Body(b"{\"kvs\":[{\"key\":\"?\"}]}".to_vec()), ""),
        (Fault::Body(vec![b'{'; 100_000]), ""),
        (Fault::Body(b"\x00\xff".to_vec()), ""),
        (Fault::Status(14, "etcdserver: no leader"), "no leader"),
        (Fault::Status(7, "etcdserver: permission denied"), "permission denied"),
    ] {
        etcd.set_fault(Some(fault.clone()));
        await_error(&gateway, error);
        assert_eq!(addresses(&gateway), [a.address().to_string()], "{fault:?}");
        etcd.set_fault(None);
        await_success(&gateway);
    }
    etcd.put("/chat/b", &value(b.address()));
    await_addresses(&gateway, &[&a, &b]);
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn a_list_that_is_suddenly_empty_is_confirmed_by_a_second_one() {
    let (etcd, a) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/chat/a", &value(a.address()));
    let gateway = start(&[&etcd.url()], "");
    await_addresses(&gateway, &[&a]);
    let (lists, changes) = (etcd.lists(), gateway.metrics().sum("moongate_discovery_changes_total", &[]));
    etcd.set_fault(Some(Fault::EmptyOnce));
    eventually("two lists", || (etcd.lists() >= lists + 2).then_some(()));
    await_success(&gateway);
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    assert_eq!(gateway.metrics().sum("moongate_discovery_changes_total", &[]), changes);
}

#[test]
fn an_upgrade_continues_with_the_endpoints_although_etcd_is_away() {
    let (etcd, a) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/chat/a", &value(a.address()));
    let gateway = start(&[&etcd.url()], "");
    await_addresses(&gateway, &[&a]);
    let mut socket = Socket::open(gateway.web(), "/ws");
    etcd.set_fault(Some(Fault::Status(14, "etcdserver: no leader")));
    let output = moongate(&["upgrade", "--json", "--admin", &gateway.admin().to_string()]);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    gateway.succeeded_by(u32::try_from(outcome["pid"].as_u64().unwrap()).unwrap());
    socket.echo("after");
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    await_error(&gateway, "no leader");
    assert_eq!(gateway.get("/").text(), "a");
    // What has an error after it keeps its last good version, too.
    etcd.put("/chat/a", "{}");
    etcd.set_fault(None);
    await_error(&gateway, "/chat/a");
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
}

#[test]
fn check_judges_the_settings_and_connects_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    for (settings, message) in [
        ("servers: ['http://127.0.0.1:1'], prefix: /chat/", None),
        ("servers: ['http://127.0.0.1:1']", Some("prefix")),
        ("prefix: /chat/", Some("servers")),
        ("servers: [], prefix: /chat/", Some("`servers` is empty")),
        ("servers: ['127.0.0.1:1'], prefix: /chat/", Some("is not the URL of a server")),
        ("servers: ['http://127.0.0.1:1'], prefix: ''", Some("the prefix is empty")),
        ("servers: ['http://127.0.0.1:1'], prefix: /chat/, tls: {}", Some("`tls` needs servers with TLS")),
        ("servers: ['http://127.0.0.1:1'], prefix: /chat/, user: a", Some("`user` needs `password`")),
        ("servers: ['http://127.0.0.1:1'], prefix: /chat/, password: a", Some("a password needs `user`")),
    ] {
        let upstream = format!("discovery: {{ kind: etcd, {settings} }}");
        std::fs::write(&file, format!("upstreams: {{ a: {{ {upstream} }} }}\nroutes: [{{ upstream: a }}]\n"))
            .unwrap();
        let begun = Instant::now();
        let output = moongate(&["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), message.is_none(), "{settings}: {said}");
        assert!(message.is_none_or(|message| said.contains(message)), "{settings}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
