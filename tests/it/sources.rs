//! Configuration from etcd: documents of many owners beside the file, each refused alone.

use crate::support::etcd::{Etcd, is_installed};
use crate::support::fake_etcd::{FakeEtcd, Fault};
use crate::support::{Gateway, Origin, Socket, eventually, get, moongate};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A gateway that reads `/moongate/` beside its file, which has more text.
fn start(etcd: &str, more: &str) -> Gateway {
    Gateway::start_whole(&yaml(etcd, more))
}

fn yaml(etcd: &str, more: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
sources: [{{ kind: etcd, servers: ['{etcd}'], prefix: /moongate/ }}]
{more}
"
    )
}

/// A document with a route `web` at `path` to this endpoint.
fn document(path: &str, origin: &Origin) -> String {
    format!("routes:\n  - {{ name: web, path: {path}, upstream: ['{origin}'] }}\n")
}

fn source(gateway: &Gateway) -> Value {
    gateway.status()["sources"][0].clone()
}

fn await_text(gateway: &Gateway, path: &str, text: &str) {
    eventually(&format!("{text} at {path}"), || (gateway.get(path).text() == text).then_some(()));
}

fn await_rejected(gateway: &Gateway, count: u64) -> Value {
    eventually("the number of rejected documents", || {
        let source = source(gateway);
        (source["rejected"] == count).then_some(source)
    })
}

fn routes(gateway: &Gateway) -> Vec<String> {
    let metrics = gateway.metrics();
    let series = metrics.values("moongate_http_requests_total");
    let names = series
        .into_iter()
        .filter_map(|(series, _)| Some(series.split_once("route=\"")?.1.split('"').next()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn documents_are_merged_with_the_file_and_followed() {
    if !is_installed("documents_are_merged_with_the_file_and_followed") {
        return;
    }
    let (etcd, a, b, c) = (Etcd::start(), Origin::named("a"), Origin::named("b"), Origin::named("c"));
    etcd.put("/moongate/shop.yaml", &document("/shop", &a));
    etcd.put("/elsewhere/shop.yaml", "server: {}");
    let gateways: Vec<_> = (0..2)
        .map(|_| start(&etcd.url(), &format!("routes: [{{ name: own, path: /own, upstream: ['{c}'] }}]")))
        .collect();
    for gateway in &gateways {
        assert_eq!(
            (gateway.get("/shop").text(), gateway.get("/own").text()),
            ("a".to_owned(), "c".to_owned())
        );
        assert_eq!(gateway.get("/docs").status, 404);
    }
    let before = gateways[0].generation();
    let mut socket = Socket::open(gateways[0].web(), "/shop");
    socket.echo("before");
    etcd.put("/moongate/docs.yaml", &document("/docs", &b));
    for gateway in &gateways {
        await_text(gateway, "/docs", "b");
    }
    socket.echo("after");
    assert_eq!(gateways[0].generation(), before + 1);
    assert_eq!(
        routes(&gateways[0]).iter().filter(|name| name.contains('#')).collect::<Vec<_>>(),
        ["/moongate/docs.yaml#web", "/moongate/shop.yaml#web"]
    );
    etcd.delete("/moongate/shop.yaml");
    for gateway in &gateways {
        eventually("the route is gone", || (gateway.get("/shop").status == 404).then_some(()));
        assert_eq!(gateway.get("/docs").text(), "b");
    }
    let reloads = get(gateways[0].admin(), "/api/v1/reloads").text();
    assert!(reloads.contains("\"cause\":\"source\""), "{reloads}");
    let metrics = gateways[0].metrics();
    let labels = [("source", "etcd /moongate/"), ("kind", "document"), ("state", "used")];
    assert_eq!(metrics.sum("moongate_source_objects", &labels), 1.0);
    assert!(
        metrics.sum("moongate_source_last_success_timestamp_seconds", &[("source", "etcd /moongate/")]) > 1e9
    );
}

#[test]
fn of_fifty_documents_the_wrong_one_is_refused_and_its_last_good_version_serves() {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    let key = |number: usize| format!("/moongate/{number:02}.yaml");
    for number in 0..50 {
        etcd.put(&key(number), &document(&format!("/{number}/"), &origin));
    }
    let gateway = start(&etcd.url(), "");
    assert_eq!(source(&gateway)["documents"], 50);
    let mark = gateway.log().mark();
    let wrong = format!(
        "routes:\n  - {{ name: web, path: /7/, upstream: ['{origin}'] }}\n  - {{ path: /new/, upstream: nowhere }}\n"
    );
    etcd.put(&key(7), &wrong);
    etcd.put(&key(8), &document("/eight/", &origin));
    await_text(&gateway, "/eight/", "a");
    let shown = await_rejected(&gateway, 1);
    assert_eq!(shown["documents"], 50);
    let rejection = &shown["rejections"][0];
    assert_eq!(
        (&rejection["document"], &rejection["place"], &rejection["has_earlier_version"]),
        (&"/moongate/07.yaml".into(), &"etcd /moongate/07.yaml:3:30".into(), &true.into()),
        "{rejection}"
    );
    assert!(rejection["report"].as_str().unwrap().contains("--> etcd /moongate/07.yaml:3:30"), "{rejection}");
    let line = gateway.log().wait(mark, &["document rejected", "/moongate/07.yaml"]);
    assert!(line.contains("nowhere"), "{line}");
    assert_eq!((gateway.get("/7/").text(), gateway.get("/new/").status), ("a".to_owned(), 404));
    for number in (0..50).filter(|number| *number != 8) {
        assert_eq!(gateway.get(&format!("/{number}/")).status, 200, "{number}");
    }
    let errors = [("source", "etcd /moongate/"), ("reason", "invalid")];
    assert_eq!(gateway.metrics().sum("moongate_source_errors_total", &errors), 1.0);
    let status = moongate(&["status", "--admin", &gateway.admin().to_string()]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("etcd /moongate/07.yaml:3:30: unknown upstream `nowhere`"), "{text}");
    // What was never good is left out, and right again it serves.
    etcd.put("/moongate/new.yaml", "routes: [{ path: /new/, upstreams: x }]");
    let shown = await_rejected(&gateway, 2);
    assert_eq!(shown["rejections"][1]["has_earlier_version"], false);
    etcd.put("/moongate/new.yaml", &document("/new/", &origin));
    etcd.put(&key(7), &document("/seven/", &origin));
    await_text(&gateway, "/new/", "a");
    await_text(&gateway, "/seven/", "a");
    assert_eq!(await_rejected(&gateway, 0)["documents"], 51);
}

#[test]
fn a_document_may_not_have_what_belongs_to_the_file() {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/moongate/good.yaml", &document("/good/", &origin));
    let gateway = start(&etcd.url(), "upstreams: { taken: { endpoints: [127.0.0.1:1] } }");
    for (text, error) in [
        ("server: { threads: 1 }", "`server` belongs to the configuration file"),
        ("sources: []", "`sources` belongs to the configuration file"),
        ("admin: { address: 127.0.0.1:1 }", "`admin` belongs to the configuration file"),
        ("listeners: []", "`listeners` belongs to the configuration file"),
        ("plugins: []", "`plugins` belongs to the configuration file"),
        ("include: /etc/passwd", "`include` belongs to the configuration file"),
        ("rotues: []", "unknown key `rotues`"),
        ("- 1", "a document must be a mapping"),
        ("a: [", "a.yaml:1:"),
        ("upstreams: { taken: { endpoints: [127.0.0.1:2] } }", "`taken` is defined in two files"),
        ("routes: [{ path: /${HOME}/, upstream: ['127.0.0.1:1'], methods: get }]", "methods"),
        (
            "routes: [{ upstream: [127.0.0.1:1], plugins: [{ kind: respond, file: /nonexistent/page }] }]",
            "/nonexistent/page",
        ),
    ] {
        etcd.put("/moongate/a.yaml", text);
        eventually(error, || {
            let rejection = source(&gateway)["rejections"][0].clone();
            let report = rejection["report"].as_str()?;
            report.contains(error).then_some(())
        });
        assert_eq!(gateway.get("/good/").text(), "a", "{text}");
    }
    // Text that would be a variable in a file is text.
    etcd.put("/moongate/a.yaml", &format!("routes: [{{ path: '/${{HOME}}/', upstream: ['{origin}'] }}]"));
    await_text(&gateway, "/${HOME}/", "a");
}

#[test]
fn an_equal_result_makes_no_generation_and_an_insertion_renames_nothing() {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    let unnamed = |path: &str| format!("routes:\n  - {{ path: {path}, upstream: ['{origin}'] }}\n");
    etcd.put("/moongate/m.yaml", &unnamed("/m/"));
    let gateway = start(&etcd.url(), "");
    assert_eq!(gateway.get("/m/").text(), "a");
    let generation = gateway.generation();
    let mark = gateway.log().mark();
    let mut socket = Socket::open(gateway.web(), "/m/");
    etcd.put("/moongate/m.yaml", &format!("# a comment\n{}", unnamed("/m/")));
    etcd.put("/moongate/empty.yaml", "# nothing yet\n");
    eventually("the empty document", || (source(&gateway)["documents"] == 2).then_some(()));
    assert_eq!(gateway.generation(), generation);
    assert_eq!(gateway.log().count(mark, "configuration reloaded"), 0);
    etcd.put("/moongate/a.yaml", &unnamed("/a/"));
    await_text(&gateway, "/a/", "a");
    assert_eq!(gateway.get("/m/").text(), "a");
    let names = routes(&gateway);
    assert!(
        names.contains(&"/moongate/m.yaml#0".to_owned()) && names.contains(&"/moongate/a.yaml#0".to_owned()),
        "{names:?}"
    );
    let metrics = gateway.metrics();
    assert_eq!(
        metrics.sum("moongate_http_requests_total", &[("route", "/moongate/m.yaml#0"), ("status", "200")]),
        2.0
    );
    socket.echo("through all of it");
    // Several changes shortly after each other are one generation.
    let generation = gateway.generation();
    (0..20)
        .for_each(|number| etcd.put(&format!("/moongate/{number}.yaml"), &unnamed(&format!("/{number}/"))));
    await_text(&gateway, "/19/", "a");
    assert!(gateway.generation() <= generation + 5, "{} after {generation}", gateway.generation());
}

#[test]
fn documents_stay_while_etcd_is_away_and_over_reloads_and_upgrades() {
    let (etcd, a, b) = (FakeEtcd::start(), Origin::named("a"), Origin::named("b"));
    etcd.put("/moongate/a.yaml", &document("/a/", &a));
    let own = |path: &str| format!("routes: [{{ name: own, path: {path}, upstream: ['{b}'] }}]");
    let gateway = start(&etcd.url(), &own("/own/"));
    let mut socket = Socket::open(gateway.web(), "/a/");
    etcd.set_fault(Some(Fault::Status(14, "etcdserver: no leader")));
    eventually("the error is told", || source(&gateway)["error"].as_str().map(drop));
    gateway.reload_whole(&yaml(&etcd.url(), &own("/changed/"))).unwrap();
    assert_eq!(
        (gateway.get("/a/").text(), gateway.get("/changed/").text()),
        ("a".to_owned(), "b".to_owned())
    );
    // Another instance of the source begins with the same documents.
    let changed = yaml(&etcd.url(), &own("/own/")).replace("prefix:", "user: x, password: y, prefix:");
    gateway.reload_whole(&changed).unwrap();
    assert_eq!((gateway.get("/a/").text(), gateway.get("/own/").text()), ("a".to_owned(), "b".to_owned()));
    let output = moongate(&["upgrade", "--json", "--admin", &gateway.admin().to_string()]);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    gateway.succeeded_by(u32::try_from(outcome["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(outcome["websockets"]["moved"], 1, "{outcome}");
    assert_eq!(gateway.get("/a/").text(), "a");
    socket.echo("after the upgrade");
    etcd.set_fault(None);
    eventually("the source works", || source(&gateway)["error"].is_null().then_some(()));
    etcd.put("/moongate/a.yaml", &document("/b/", &a));
    await_text(&gateway, "/b/", "a");
    assert_eq!(gateway.get("/a/").status, 404);
    // A file that is wrong changes nothing, also for the next change of a document.
    gateway.write_whole("routes: x");
    gateway.signal("HUP");
    eventually("the reload is refused", || (gateway.status()["last_reload"]["ok"] == false).then_some(()));
    etcd.put("/moongate/a.yaml", &document("/c/", &a));
    await_text(&gateway, "/c/", "a");
    assert_eq!(gateway.get("/own/").text(), "b");
    assert_eq!(gateway.status()["last_reload"]["ok"], false);
    assert_eq!(gateway.metrics().sum("moongate_config_last_reload_successful", &[]), 0.0);
}

#[test]
fn documents_that_need_what_is_gone_are_refused_and_named() {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/moongate/a.yaml", "routes: [{ path: /a/, upstream: shared }]");
    etcd.put("/moongate/b.yaml", &document("/b/", &origin));
    let shared = format!("upstreams: {{ shared: {{ endpoints: ['{origin}'] }} }}");
    let gateway = start(&etcd.url(), &shared);
    assert_eq!((gateway.get("/a/").text(), gateway.get("/b/").text()), ("a".to_owned(), "a".to_owned()));
    gateway.reload_whole(&yaml(&etcd.url(), "")).unwrap();
    assert_eq!((gateway.get("/a/").status, gateway.get("/b/").text()), (404, "a".to_owned()));
    let report = gateway.status()["last_reload"]["report"].as_str().unwrap().to_owned();
    assert!(
        report.contains("document `/moongate/a.yaml` rejected")
            && report.contains("unknown upstream `shared`"),
        "{report}"
    );
    gateway.reload_whole(&yaml(&etcd.url(), &shared)).unwrap();
    assert_eq!(gateway.get("/a/").text(), "a");
    assert_eq!(source(&gateway)["rejected"], 0);
}

#[test]
fn a_change_does_not_wait_for_the_probes_of_another_owner() {
    let (etcd, a) = (FakeEtcd::start(), Origin::named("a"));
    let gateway = start(&etcd.url(), "");
    // It accepts connections and never responds.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = mute.local_addr().unwrap();
    let slow = format!(
        "upstreams: {{ slow: {{ endpoints: ['{at}'], health_check: {{ kind: http, path: /, timeout: 4s, interval: 5s }} }} }}\nroutes: [{{ path: /slow/, upstream: slow }}]"
    );
    let begun = Instant::now();
    etcd.put("/moongate/slow.yaml", &slow);
    eventually("the slow upstream", || gateway.status()["upstreams"]["slow"].is_object().then_some(()));
    etcd.put("/moongate/a.yaml", &document("/a/", &a));
    await_text(&gateway, "/a/", "a");
    assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
}

#[test]
fn check_judges_the_settings_and_reads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    for (sources, message) in [
        ("[{ kind: etcd, servers: ['http://127.0.0.1:1'], prefix: /moongate/ }]", None),
        ("[{ kind: etcd, servers: ['http://127.0.0.1:1'] }]", Some("prefix")),
        ("[{ kind: etc, servers: ['http://127.0.0.1:1'], prefix: /a/ }]", Some("unknown source `etc`")),
        ("[{ kind: etcd, servers: [nowhere], prefix: /a/ }]", Some("is not the URL of a server")),
        (
            "[{ kind: etcd, servers: ['http://a:1'], prefix: /a/ }, { kind: etcd, servers: ['http://b:1'], prefix: /a/ }]",
            Some("two sources read the same documents: `etcd /a/` and `etcd /a/`"),
        ),
        (
            "[{ kind: etcd, servers: ['http://a:1'], prefix: /a/b/ }, { kind: etcd, servers: ['http://a:1'], prefix: /a/ }]",
            Some("choose prefixes that do not overlap"),
        ),
    ] {
        std::fs::write(&file, format!("sources: {sources}\nroutes: [{{ upstream: [127.0.0.1:1] }}]\n"))
            .unwrap();
        let output = moongate(&["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), message.is_none(), "{sources}: {said}");
        assert!(message.is_none_or(|message| said.contains(message)), "{sources}: {said}");
    }
}
