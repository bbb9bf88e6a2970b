//! Endpoints from a file that the gateway watches: they come and go without a reload.

use crate::support::{Gateway, Origin, Socket, eventually, moongate};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Replaces the list in one step, as a tool does.
fn list(folder: &Path, entries: &[String]) {
    let text: String = entries.iter().map(|entry| format!("- {entry}\n")).collect();
    write(folder, &if text.is_empty() { "[]\n".to_owned() } else { text });
}

fn write(folder: &Path, text: &str) {
    let part = folder.join("backends.part");
    fs::write(&part, text).unwrap();
    fs::rename(part, folder.join("backends.list")).unwrap();
}

fn start(entries: &[String], upstream: &str, route: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    list(folder.path(), entries);
    Gateway::start_in(folder, |_| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ chat: {{ discovery: {{ kind: file, path: backends.list }}, {upstream} }} }}
routes: [{{ name: all, upstream: chat, {route} }}]
"
        )
    })
}

fn folder(gateway: &Gateway) -> std::path::PathBuf {
    gateway.file().parent().unwrap().to_owned()
}

fn addresses(gateway: &Gateway) -> Vec<String> {
    let status = gateway.status();
    let endpoints = status["upstreams"]["chat"]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect()
}

fn await_addresses(gateway: &Gateway, wanted: &[&Origin]) {
    let mut wanted: Vec<_> = wanted.iter().map(|origin| origin.address().to_string()).collect();
    wanted.sort();
    eventually("the endpoints of the file", || {
        let mut addresses = addresses(gateway);
        addresses.sort();
        (addresses == wanted).then_some(())
    });
}

fn discovery(gateway: &Gateway) -> Value {
    gateway.status()["upstreams"]["chat"]["discovery"].clone()
}

#[test]
fn a_changed_file_changes_the_endpoints_without_a_generation() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let gateway = start(&[a.to_string(), b.to_string()], "", "");
    let folder = folder(&gateway);
    let mut at_a = Socket::open(gateway.web(), "/ws");
    at_a.echo("before");
    list(&folder, &[c.to_string(), b.to_string(), a.to_string()]);
    await_addresses(&gateway, &[&a, &b, &c]);
    assert_eq!(gateway.generation(), 1);
    let mut names = gateway.names("/", 6);
    names.sort();
    assert_eq!(names, ["a", "a", "b", "b", "c", "c"]);
    at_a.echo("after");
    let shown = discovery(&gateway);
    assert_eq!((&shown["source"], &shown["ready"]), (&"file backends.list".into(), &3.into()), "{shown}");
    assert!(shown["last_success"].as_u64().is_some() && shown["error"].is_null(), "{shown}");
    assert_eq!(gateway.status()["upstreams"]["chat"]["endpoints"][0]["origin"], "file backends.list");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("moongate_discovery_endpoints", &[("upstream", "chat"), ("state", "ready")]), 3.0);
    assert!(metrics.sum("moongate_discovery_changes_total", &[("upstream", "chat")]) >= 2.0);
}

#[test]
fn a_file_with_an_error_changes_nothing_and_is_shown_at_its_place() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(&[a.to_string()], "", "");
    let folder = folder(&gateway);
    let mark = gateway.log().mark();
    write(&folder, &format!("- {b}\n- {{ address: '127.0.0.1:1', wieght: 3 }}\n"));
    let line = gateway.log().wait(mark, &["discovery failed; last members kept"]);
    assert!(line.contains("chat"), "{line}");
    eventually("the status shows the error", || {
        let error = discovery(&gateway)["error"].as_str()?.to_owned();
        assert!(error.contains("wieght") && error.contains("backends.list:2:"), "{error}");
        Some(())
    });
    assert_eq!(addresses(&gateway), [a.address().to_string()]);
    let errors = [("source", "chat: file backends.list"), ("reason", "invalid")];
    assert_eq!(gateway.metrics().sum("moongate_source_errors_total", &errors), 1.0);
    list(&folder, &[b.to_string()]);
    await_addresses(&gateway, &[&b]);
    assert!(discovery(&gateway)["error"].is_null());
    fs::remove_file(folder.join("backends.list")).unwrap();
    eventually("the missing file is told", || discovery(&gateway)["error"].as_str().map(drop));
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn an_empty_upstream_serves_503_until_it_has_an_endpoint() {
    let a = Origin::named("a");
    let gateway = start(&[], "", "");
    let response = gateway.get("/");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    list(&folder(&gateway), &[a.to_string()]);
    await_addresses(&gateway, &[&a]);
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn the_websockets_of_a_removed_endpoint_leave_as_the_upstream_says() {
    for (on_removal, code) in [("drain", Some(1012)), ("close", Some(1012)), ("keep", None)] {
        let (a, b) = (Origin::named("a"), Origin::named("b"));
        let websocket = match on_removal {
            // A window that the test would not wait for.
            "close" => "websocket: { drain_window: 1h }",
            _ => "websocket: { drain_window: 1s }",
        };
        let gateway = start(&[a.to_string()], &format!("on_removal: {on_removal}"), websocket);
        let mut at_a = Socket::open(gateway.web(), "/ws");
        at_a.echo("before");
        list(&folder(&gateway), &[b.to_string()]);
        eventually("the new endpoint is there", || {
            addresses(&gateway).contains(&b.address().to_string()).then_some(())
        });
        match code {
            Some(code) => assert_eq!(at_a.end(), Some(code), "{on_removal}"),
            None => {
                // Later than a drain would have ended.
                at_a.stay_silent(Duration::from_secs(3));
                at_a.echo("after");
                let status = gateway.status();
                let endpoints = status["upstreams"]["chat"]["endpoints"].as_array().unwrap().clone();
                assert!(endpoints.iter().any(|endpoint| endpoint["draining"] == "absent"), "{status}");
            }
        }
        let mut at_b = Socket::open(gateway.web(), "/ws");
        at_b.echo("at the new endpoint");
    }
}

#[test]
fn the_last_endpoint_keeps_its_websockets_until_another_one_serves() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(&[a.to_string()], "", "websocket: { drain_window: 1s }");
    let folder = folder(&gateway);
    let mut at_a = Socket::open(gateway.web(), "/ws");
    at_a.echo("before");
    list(&folder, &[]);
    eventually("the endpoint is removed", || {
        (gateway.status()["upstreams"]["chat"]["endpoints"][0]["draining"] == "absent").then_some(())
    });
    assert_eq!(gateway.get("/").status, 503);
    at_a.stay_silent(Duration::from_secs(3));
    at_a.echo("there is no other endpoint");
    list(&folder, &[b.to_string()]);
    assert_eq!(at_a.end(), Some(1012));
}

#[test]
fn a_reload_of_other_settings_keeps_the_endpoints() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(&[a.to_string(), b.to_string()], "", "websocket: { drain_window: 1s }");
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    let text = fs::read_to_string(gateway.file()).unwrap();
    assert_eq!(gateway.reload_whole(&text.replace("kind: file,", "kind: file, hold: 5s,")), Ok(2));
    assert_eq!(addresses(&gateway).len(), 2);
    sockets.iter_mut().for_each(|socket| socket.echo("after the reload"));
    list(&folder(&gateway), &[a.to_string()]);
    eventually("the endpoint is held", || (discovery(&gateway)["absent"] == 1).then_some(()));
    sockets.iter_mut().for_each(|socket| socket.echo("held"));
    eventually("the hold ends", || (discovery(&gateway)["absent"] == 0).then_some(()));
}

#[test]
fn an_upgrade_continues_with_the_endpoints_although_the_file_cannot_be_read() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    // More than fit one message of the handover.
    let dead = (1..=2500).map(|port| format!("{{ address: '127.0.0.9:{port}', backup: true }}"));
    let entries: Vec<_> =
        [a.to_string(), format!("{{ address: '{b}', weight: 3 }}")].into_iter().chain(dead).collect();
    let gateway = start(&entries, "", "");
    assert_eq!(addresses(&gateway).len(), 2502);
    let mut at_a = Socket::open(gateway.web(), "/ws");
    fs::remove_file(folder(&gateway).join("backends.list")).unwrap();
    let output = moongate(&["upgrade", "--json", "--admin", &gateway.admin().to_string()]);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    gateway.succeeded_by(u32::try_from(outcome["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(outcome["websockets"]["moved"], 1, "{outcome}");
    at_a.echo("after");
    assert_eq!(addresses(&gateway).len(), 2502);
    assert!(discovery(&gateway)["error"].as_str().is_some());
    let mut names = gateway.names("/", 8);
    names.sort();
    assert_eq!(names, ["a", "a", "b", "b", "b", "b", "b", "b"]);
}

#[test]
fn an_upstream_has_endpoints_or_a_discovery() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    for (upstream, message) in [
        (
            "endpoints: [127.0.0.1:1], discovery: { kind: file, path: a }",
            "`endpoints` or `discovery`, not both",
        ),
        ("retries: 1", "an upstream needs at least one endpoint"),
        ("endpoints: []", "an upstream needs at least one endpoint"),
        ("discovery: { kind: file }", "path"),
        ("discovery: { kind: file, path: '' }", "the path is empty"),
        ("discovery: { kind: files, path: a }", "file"),
        ("discovery: file", "path"),
    ] {
        fs::write(&file, format!("upstreams: {{ a: {{ {upstream} }} }}\nroutes: [{{ upstream: a }}]\n"))
            .unwrap();
        let output = moongate(&["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{upstream}: {said}");
        assert!(said.contains(message), "{upstream}: {said}");
    }
}
