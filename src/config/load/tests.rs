#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::{LogFormat, OneOrMany, UpstreamRef};
use crate::diagnostics::{Color, render};
use moongate_config::{Period, Size, ValueKind};
use std::fs;

fn env(name: &str) -> Option<String> {
    (name == "PORT").then(|| "8081".to_owned())
}

fn good(text: &str) -> Loaded {
    load_text("test.yaml", text, &env).unwrap_or_else(|refused| panic!("{}", report(&refused)))
}

fn report(refused: &Refused) -> String {
    render(&refused.problems, &refused.sources, Color::Never)
}

fn messages(text: &str) -> Vec<String> {
    let refused = load_text("test.yaml", text, &env).expect_err("it is bad");
    refused.problems.0.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn two_lines_are_a_configuration() {
    let loaded = good("routes:\n  - upstream: [127.0.0.1:8081, 127.0.0.1:8082]\n");
    let route = &loaded.spec.routes[0];
    let Some(UpstreamRef::Inline(endpoints)) = route.upstream.as_deref() else { panic!("a list") };
    assert_eq!(endpoints.len(), 2);
    let place = &endpoints[1].place;
    assert_eq!((place.line, place.column, place.width), (2, 32, 14));
    assert_eq!(&*place.path, "routes[0].upstream[1]");
    assert_eq!(route.place.line, 2);
    assert!(loaded.warnings.0.is_empty());
}

#[test]
fn scalars_mean_what_the_type_asks_for() {
    let loaded = good(
        "routes:\n- upstream: 5\n  headers: { x-beta: 1, x-flag: true, x-text: \"2\", x-null: \"null\" }\n  timeout: 0\n\
         server: { threads: 4, max_header_size: 65536 }\naccess_log: off\n",
    );
    let route = &loaded.spec.routes[0];
    assert_eq!(route.upstream.as_deref(), Some(&UpstreamRef::Name("5".to_owned())));
    let headers: Vec<&str> = route.headers.values().map(|value| value.as_str()).collect();
    assert_eq!(headers, ["1", "true", "2", "null"]);
    assert_eq!(route.timeout, Period::default());
    assert_eq!(loaded.spec.server.threads.map(std::num::NonZeroU16::get), Some(4));
    assert_eq!(loaded.spec.server.max_header_size, Size(65536));
    assert_eq!(loaded.spec.access_log.format, LogFormat::Off);
}

#[test]
fn sections_with_every_line_commented_out_are_empty() {
    let loaded =
        good("server:\n  # threads: 2\nroutes:\n  # - upstream: a\nupstreams:\nplugins:\naccess_log:\n");
    assert_eq!(loaded.spec, Config::default());
    assert_eq!(good("").spec, Config::default());
    assert_eq!(good("\u{feff}# nothing\n").spec, Config::default());
}

#[test]
fn anchors_aliases_and_merge_keys_are_resolved() {
    let loaded = good(
        "x-common: &common { timeout: 5s, methods: [GET] }\nroutes:\n  - { upstream: &name a, <<: *common }\n  \
         - { <<: [*common, { path: /x }], timeout: 7s, upstream: *name }\n",
    );
    let [first, second] = loaded.spec.routes.as_slice() else { panic!("two") };
    assert_eq!(first.timeout, Period::seconds(5));
    assert_eq!(second.timeout, Period::seconds(7));
    assert_eq!(second.methods[0].value, "GET");
    assert!(matches!(&second.path, Some(OneOrMany::One(path)) if path.value == "/x"));
    assert_eq!(second.upstream.as_deref(), Some(&UpstreamRef::Name("a".to_owned())));
    assert_eq!(&*second.methods[0].place.path, "routes[1].methods[0]");
}

#[test]
fn the_environment_fills_values_but_not_keys() {
    let loaded = good(
        "routes:\n  - upstream: [\"127.0.0.1:${PORT}\"]\n    path: ~^/a$$\n    headers: { \"${PORT}\": x }\n\
         server:\n  threads: ${NO:-}3\n  max_header_size: ${PORT}\nadmin:\n  address: a\n  token: ${NO:-}\n",
    );
    assert_eq!(loaded.spec.admin.as_ref().unwrap().token, None);
    let route = &loaded.spec.routes[0];
    let Some(UpstreamRef::Inline(endpoints)) = route.upstream.as_deref() else { panic!("a list") };
    assert!(matches!(&endpoints[0].value, crate::config::EndpointEntry::Address(a) if a == "127.0.0.1:8081"));
    assert!(matches!(&route.path, Some(OneOrMany::One(path)) if path.value == "~^/a$"));
    assert_eq!(route.headers.keys().collect::<Vec<_>>(), ["${PORT}"]);
    assert_eq!(loaded.spec.server.max_header_size.0, 8081);
    assert_eq!(loaded.spec.server.threads.map(std::num::NonZeroU16::get), Some(3));
}

#[test]
fn entries_keep_their_settings() {
    let loaded = good(
        "upstreams: { a: { endpoints: [b:1], balance: p2c, health_check: { kind: http, path: /x } } }\n\
         plugins: [request_id, { kind: headers, name: h, set: { a: 1.50 } }]\n",
    );
    let upstream = &loaded.spec.upstreams["a"];
    assert_eq!(upstream.balance.as_ref().unwrap().kind.value, "p2c");
    let check = upstream.health_check.as_ref().unwrap();
    assert!(check.settings.value.get("kind").is_none());
    assert_eq!(check.settings.value.get("path").unwrap().read::<String>().unwrap(), "/x");
    assert_eq!(&*check.settings.place().path, "upstreams.a.health_check");
    let plugin = &loaded.spec.plugins[1];
    assert_eq!(plugin.name.as_ref().unwrap().value, "h");
    let ValueKind::Map(entries) = &plugin.settings.value.kind else { panic!("a mapping") };
    assert_eq!(entries.len(), 1);
}

#[test]
fn includes_append_lists_and_merge_names() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    write(
        "main.yaml",
        "include: conf.d/*.yaml\nroutes: [{ upstream: a, name: main }]\nserver: { threads: 1 }\n",
    );
    write("conf.d/b.yaml", "routes: [{ upstream: b, name: b }]\nupstreams: { b: { endpoints: [b:1] } }\n");
    write("conf.d/a.yaml", "routes: [{ upstream: a, name: a }]\nupstreams: { a: { endpoints: [a:1] } }\n");
    write("conf.d/.hidden.yaml", "not: { a: configuration }\n");
    write("conf.d/c.yaml", "include: [../more/none-*.yaml]\nserver: { via: both }\n");
    let loaded = load(&directory.path().join("main.yaml")).unwrap();
    let names: Vec<_> =
        loaded.spec.routes.iter().map(|route| route.name.as_ref().unwrap().value.as_str()).collect();
    assert_eq!(names, ["main", "a", "b"]);
    assert_eq!(loaded.spec.upstreams.len(), 2);
    assert!(loaded.spec.server.via == crate::config::Via::Both && loaded.spec.server.threads.is_some());
    let place = &loaded.spec.routes[2].place;
    assert!(place.file.ends_with("conf.d/b.yaml") && &*place.path == "routes[2]");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let refused = load(&directory.path().join("none.yaml")).unwrap_err();
    assert!(refused.problems.0[0].message.contains("cannot be read"));
    let path = directory.path().join("latin1.yaml");
    fs::write(&path, b"routes:\n  - upstream: caf\xe9\n").unwrap();
    let refused = load(&path).unwrap_err();
    assert!(report(&refused).contains("is not UTF-8 text"), "{}", report(&refused));
    assert!(report(&refused).contains("line 2"));
    assert!(load(directory.path()).is_err());
}

#[test]
fn text_without_a_file_cannot_include_files() {
    assert_eq!(messages("include: /etc/passwd\n"), ["`include` needs a configuration file"]);
}

#[test]
fn aliases_are_counted_before_they_are_expanded() {
    let mut bomb = String::from("x-0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
    for level in 1..20 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("x-{level}: &a{level} [{before}]\n"));
    }
    assert!(messages(&bomb)[0].contains("values"));
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(messages(&format!("routes: {deep}")), ["nested too deeply"]);
    let mut chain = String::from("x-0: &a0 [[[[[[[[[[1]]]]]]]]]]\n");
    for level in 1..20 {
        chain.push_str(&format!("x-{level}: &a{level} [[[[[[[[[[*a{}]]]]]]]]]]\n", level - 1));
    }
    assert_eq!(messages(&chain), ["nested too deeply"]);
}

#[test]
fn ten_thousand_routes_load_and_fail_in_linear_time() {
    let text = |routes: u16| {
        let mut text = String::from("routes:\n");
        for route in 0..routes {
            let backend = format!("127.0.0.1:{}", 1000 + route);
            text.push_str(&format!(
                "  - name: r{route}\n    host: h{route}.example.com\n    path: /a/b\n    methods: [GET, POST]\n    \
                 timeout: 30s\n    upstream: [{backend}]\n    plugins: [request_id, {{ kind: headers, set: {{ a: b }} }}]\n"
            ));
        }
        text
    };
    let timed = |routes: u16| {
        let text = text(routes);
        let started = std::time::Instant::now();
        assert_eq!(good(&text).spec.routes.len(), usize::from(routes));
        let loaded = started.elapsed();
        assert_eq!(messages(&text.replace("timeout: 30s", "timeout: 30")).len(), 1000);
        (loaded, started.elapsed() - loaded)
    };
    let (few, many) = (timed(1_000), timed(10_000));
    // Ten times the time is linear, a hundred times quadratic.
    assert!(many.0 < few.0 * 50 && many.1 < few.1 * 50, "{few:?} {many:?}");
}

/// Loading ends for any text: a problem can be rendered, and a loaded configuration survives printing.
fn load_or_refuse(text: &str) {
    match load_text("any.yaml", text, &env) {
        Ok(loaded) => {
            let printed = crate::config::print(&loaded.spec);
            assert_eq!(good(&printed).spec, loaded.spec, "{printed}");
        }
        Err(refused) => assert!(report(&refused).contains("error")),
    }
}

#[test]
fn repetitive_texts_are_read_in_bounded_time() {
    let parts = [
        "[", "{", "- ", "? ", "a: ", "&a ", "*a ", "!a ", "\"", "'", "|\n", "a\n", "\t", "#", ": ", "<<: ",
        "$", "${", "${A:-", "%", "a:\n ", "- a\n", "a: 1\n", "-\n", "[]: ", "{},", "\r", "---\n", "\u{feff}",
        "é",
    ];
    let started = std::time::Instant::now();
    for part in parts {
        for start in ["", "routes:\n  - ", "routes: [", "upstreams: {a: "] {
            load_or_refuse(&format!("{start}{}", part.repeat(20_000)));
        }
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

const SAMPLE: &str = "\
x-a: &a { timeout: 5s }
server: { threads: 2, grace_period: 30s }
upstreams:
  a: { endpoints: [b:1, { address: c:2, weight: 3 }], balance: { kind: x, y: [z] } }
routes:
  - { upstream: { a: 1 }, <<: *a, headers: { x: \"1\" } }
  - upstream: [\"${PORT:-x}\"]
    host: [\"*.x\", y]
    plugins: [p, { kind: q, name: r, s: { t: null } }]
";

#[test]
fn the_sample_is_valid() {
    good(SAMPLE);
}

proptest::proptest! {
    #[test]
    fn any_text_is_loaded_or_refused(text in "\\PC{0,80}|[-\\[\\]{}:,&*!|>'\"%@`#?~$<a1\n\t ]{0,80}") {
        load_or_refuse(&text);
    }

    #[test]
    fn any_damaged_text_is_loaded_or_refused(at in 0..SAMPLE.len(), cut in 0..20_usize, patch in "[-\\[\\]{}:,&*!|>'\"#?~$<a1\n\t ]{0,6}") {
        let bytes = SAMPLE.as_bytes();
        let end = (at + cut).min(bytes.len());
        let damaged = [&bytes[..at], patch.as_bytes(), &bytes[end..]].concat();
        load_or_refuse(&String::from_utf8_lossy(&damaged));
    }
}

#[test]
fn zero_turns_limits_off() {
    let limits = "max_connections: 0, handshake_rate: 0";
    let off = good(&format!(
        "listeners: [{{ address: 127.0.0.1:1, {limits} }}]
routes: [{{ upstream: a, websocket: {{ max_age: 0s, max_frame: 0, max_message: 0, messages_per_second: 0, bytes_per_second: 0, {limits} }} }}]
"
    ));
    let left_out = good("listeners: [{ address: 127.0.0.1:1 }]\nroutes: [{ upstream: a }]\n");
    assert_eq!(off.spec, left_out.spec);
}
