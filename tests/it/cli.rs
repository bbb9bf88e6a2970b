//! Command line: the output and exit status of each command.

use crate::support::certs::Authority;
use crate::support::moongate;
use crate::tls::listed;
use std::fs;
use std::process::Output;
use tempfile::TempDir;

const GOOD: &str = "
upstreams:
  backend: { endpoints: [127.0.0.1:8081, { address: 127.0.0.1:8082, weight: 2 }], balance: p2c }
routes:
  - { name: front, host: a.example, path: /api/, upstream: backend, timeout: 1500ms }
  - { name: rest, upstream: [127.0.0.1:8083] }
";

const BAD: &str = "upstreams:
  backend:
    endpoints: [127.0.0.1:8081]
    balnce: p2c
routes:
  - upstream: backned
  - upstream: [127.0.0.1]
  - { upstream: backend, timeout: 30 }
";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn both(output: &Output) -> String {
    format!("{}{}", out(output), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn check_exits_0_for_a_good_file_and_78_for_a_bad_one() {
    let folder = Folder::new();
    let (good, bad) = (folder.file("good.yaml", GOOD), folder.file("bad.yaml", BAD));
    let missing = folder.0.path().join("none.yaml").to_str().unwrap().to_owned();
    for (arguments, expected) in [
        (&["check", "-c", &good][..], 0),
        (&["-t", "-c", &good], 0),
        (&["check", "-c", &bad], 78),
        (&["-t", "-c", &bad], 78),
        (&["run", "-c", &bad], 78),
        (&["check", "-c", &missing], 78),
        (&["run", "-c", &missing], 78),
    ] {
        let output = moongate(arguments);
        assert_eq!(code(&output), Some(expected), "{arguments:?}: {}", both(&output));
    }
}

#[test]
fn an_option_before_the_command_counts_as_one_after_it_or_is_refused() {
    let folder = Folder::new();
    let (good, bad) = (folder.file("good.yaml", GOOD), folder.file("bad.yaml", BAD));
    let (good, bad) = (good.as_str(), bad.as_str());
    for (arguments, expected, told) in [
        // An invalid file shows which file is read, and that none is served.
        (&["-c", bad, "run"][..], 78, "bad.yaml"),
        (&["-c", bad, "check"], 78, "bad.yaml"),
        (&["-c", bad, "demo"], 78, "bad.yaml"),
        (&["-c", good, "check"], 0, "valid"),
        (&["-t", "-c", good, "run"], 0, "valid"),
        (&["-t", "-c", good, "check"], 0, "valid"),
        (&["-t", "run", "-c", good], 0, "valid"),
        (&["run", "-t", "-c", good], 0, "valid"),
        (&["-c", good, "run", "-t"], 0, "valid"),
        (&["-c", good, "-t"], 0, "valid"),
        (&["-c", good, "check", "-c", good], 0, "valid"),
        (&["-c", good, "reload"], 1, "has no admin address"),
        (&["-c", good, "check", "-c", bad], 2, "two configuration files"),
        (&["-c", good, "run", "-c", bad], 2, "two configuration files"),
        (&["-c", good, "kinds"], 2, "reads no configuration"),
        (&["-c", good, "schema"], 2, "reads no configuration"),
        (&["-c", good, "plugin", "test", "--kind", "request_id"], 2, "reads no configuration"),
        (&["-t", "reload", "-c", good], 2, "`-t` cannot be used"),
        (&["-t", "-c", good, "demo"], 2, "`-t` cannot be used"),
        (&["-c", good], 2, "no command"),
        // The default file, which this directory contains.
        (&["-t"], 0, "conf/moongate.yaml: valid"),
        (&["run", "--version"], 0, "moongate"),
    ] {
        let output = moongate(arguments);
        assert_eq!(code(&output), Some(expected), "{arguments:?}: {}", both(&output));
        assert!(both(&output).contains(told), "{arguments:?}: {}", both(&output));
    }
}

#[test]
fn habits_from_other_servers_get_a_tip() {
    for (arguments, tip) in [
        (&["run", "first.yaml"][..], "tip: the configuration is named with `-c first.yaml`"),
        (&["check", "a/b.yml"], "tip: the configuration is named with `-c a/b.yml`"),
        (&["-s", "reload"], "tip: `moongate reload`"),
    ] {
        let output = moongate(arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}");
        assert!(both(&output).contains(tip), "{}", both(&output));
    }
    let log = "access_log: { path: /nowhere/of/this/machine/access.log }\n";
    let output = moongate(&["check", "-c", &Folder::new().file("a.yaml", &format!("{log}{GOOD}"))]);
    assert!(both(&output).contains("create its directory"), "{}", both(&output));
}

#[test]
fn an_invalid_file_is_reported_completely_with_places_and_suggestions() {
    let folder = Folder::new();
    let output = moongate(&["check", "-c", &folder.file("bad.yaml", BAD)]);
    let report = both(&output);
    for expected in [
        "bad.yaml:4:5",
        "did you mean `balance`?",
        "bad.yaml:6:15",
        "unknown upstream `backned`",
        "did you mean `backend`?",
        "bad.yaml:7:16",
        "bad.yaml:8:35",
        "30s",
    ] {
        assert!(report.contains(expected), "{expected:?} is not in\n{report}");
    }
    assert!(!report.contains("panicked"), "{report}");
}

#[test]
fn what_check_prints_is_a_file_that_prints_the_same() {
    let folder = Folder::new();
    let first = moongate(&["check", "-c", &folder.file("good.yaml", GOOD), "--print"]);
    assert_eq!(code(&first), Some(0), "{}", both(&first));
    let printed = out(&first);
    assert!(printed.contains("front") && printed.contains("1500ms"), "{printed}");
    let second = moongate(&["check", "-c", &folder.file("printed.yaml", &printed), "--print"]);
    assert_eq!(code(&second), Some(0), "{}", both(&second));
    assert_eq!(out(&second), printed);
}

#[test]
fn explain_names_the_winner() {
    let folder = Folder::new();
    let good = folder.file("good.yaml", GOOD);
    for (url, winner) in [
        ("http://a.example/api/users", "front"),
        ("http://b.example/api/users", "rest"),
        // A client may send these over HTTP/1, and no URL has them.
        ("http://b.example/a<b?q=\"`", "rest"),
    ] {
        let output = moongate(&["check", "-c", &good, "--explain", "GET", url]);
        assert_eq!(code(&output), Some(0), "{}", both(&output));
        assert!(out(&output).lines().next().unwrap().contains(winner), "{url}: {}", out(&output));
    }
}

#[test]
fn explain_selects_the_listener_by_the_scheme_and_reports_it() {
    let (folder, ca) = (Folder::new(), Authority::new());
    let pair = listed(&ca.issue("site", &["a.example"]));
    let file = |listeners: &str| {
        let routes = "routes:
  - { name: to-https, listeners: [plain], upstream: [127.0.0.1:8081] }
  - { name: site, when: 'request.scheme == \"https\"', upstream: [127.0.0.1:8081] }";
        folder.file("two.yaml", &format!("listeners:\n{listeners}\n{routes}\n"))
    };
    let plain = "  - { name: plain, address: 127.0.0.1:8080 }";
    let secure =
        format!("  - {{ name: secure, address: 127.0.0.1:8443, tls: {{ certificates: [{pair}] }} }}");
    for (listeners, url, more, winner, by) in [
        (format!("{plain}\n{secure}"), "https://a.example/", None, "site", Some("secure")),
        (format!("{plain}\n{secure}"), "WSS://a.example/", None, "site", Some("secure")),
        (format!("{plain}\n{secure}"), "http://a.example/", None, "to-https", Some("plain")),
        (format!("{secure}\n{plain}"), "http://a.example/", None, "to-https", Some("plain")),
        (format!("{secure}\n{plain}"), "ws://a.example/", None, "to-https", Some("plain")),
        // A proxy may have terminated TLS before the gateway.
        (plain.to_owned(), "https://a.example/", None, "to-https", Some("plain")),
        (format!("{plain}\n{secure}"), "https://a.example/", Some("plain"), "to-https", None),
    ] {
        let file = file(&listeners);
        let mut arguments = vec!["check", "-c", &file, "--explain", "GET", url];
        arguments.extend(more.iter().flat_map(|name| ["--listener", name]));
        let output = moongate(&arguments);
        assert_eq!(code(&output), Some(0), "{}", both(&output));
        let told = out(&output);
        assert!(told.lines().next().unwrap().contains(winner), "{listeners} {url}:\n{told}");
        let last = told.lines().last().unwrap();
        match by {
            Some(by) => assert_eq!(last, format!("at listener {by}; `--listener` selects another"), "{url}"),
            None => assert!(!told.contains("at listener"), "{told}"),
        }
    }
}

#[test]
fn explain_sees_the_fields_as_routing_does() {
    let folder = Folder::new();
    let routes = "routes:
  - { name: forwarded, headers: { x-forwarded-proto: https }, upstream: [127.0.0.1:8081] }
  - { name: proxy, headers: { proxy: a }, upstream: [127.0.0.1:8081] }
  - { name: nominated, headers: { x-beta: \"1\" }, upstream: [127.0.0.1:8081] }
  - { name: sockets, when: request.is_websocket, upstream: [127.0.0.1:8081] }
  - { name: rest, upstream: [127.0.0.1:8081] }";
    let alone = folder.file("alone.yaml", routes);
    let trusting =
        folder.file("trusting.yaml", &format!("server: {{ trusted_proxies: [127.0.0.1] }}\n{routes}"));
    let upgrade = ["Upgrade: websocket", "Connection: upgrade"];
    for (file, method, fields, winner) in [
        (&alone, "GET", &["X-Forwarded-Proto: https"][..], "rest"),
        (&trusting, "GET", &["X-Forwarded-Proto: https"], "forwarded"),
        (&trusting, "GET", &["X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], "rest"),
        (&alone, "GET", &["Proxy: a"], "rest"),
        (&alone, "GET", &["X-Beta: 1"], "nominated"),
        (&alone, "GET", &["X-Beta: 1", "Connection: x-beta"], "rest"),
        (&alone, "GET", &upgrade, "sockets"),
        (&alone, "PUT", &upgrade, "rest"),
    ] {
        let mut arguments = vec!["check", "-c", file, "--explain", method, "http://a.example/"];
        arguments.extend(fields.iter().flat_map(|field| ["--header", field]));
        arguments.extend(["--client", "127.0.0.1"]);
        let output = moongate(&arguments);
        assert_eq!(code(&output), Some(0), "{}", both(&output));
        assert!(out(&output).lines().next().unwrap().contains(winner), "{fields:?}: {}", out(&output));
    }
}

#[test]
fn the_schema_is_json_that_knows_the_keys() {
    let output = moongate(&["schema"]);
    assert_eq!(code(&output), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["server", "admin", "listeners", "upstreams", "routes", "plugins", "access_log", "include"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn kinds_are_listed_and_described() {
    let output = moongate(&["kinds"]);
    assert_eq!(code(&output), Some(0));
    let list = out(&output);
    for kind in [
        "round_robin",
        "random",
        "least_connections",
        "p2c",
        "consistent_hash",
        "sticky",
        "tcp",
        "http",
        "websocket",
        "request_id",
        "headers",
    ] {
        assert!(list.contains(kind), "{kind} is not in\n{list}");
    }
    let one = moongate(&["kinds", "consistent_hash"]);
    assert_eq!(code(&one), Some(0));
    assert!(out(&one).contains("key"), "its settings are told: {}", out(&one));
    assert_ne!(code(&moongate(&["kinds", "no_such_kind"])), Some(0));
    // The settings of a mapping stand below it, and a setting without a default has none.
    let headers = out(&moongate(&["kinds", "headers"]));
    for setting in ["request", "set", "add", "remove"] {
        assert!(headers.lines().any(|line| line.trim_start().starts_with(setting)), "{setting}: {headers}");
    }
    let luau = out(&moongate(&["kinds", "luau"]));
    assert!(!luau.contains("null"), "{luau}");
}

#[test]
fn a_wrong_command_line_exits_2() {
    for arguments in [&["dance"][..], &["check", "--no-such-flag"], &["check", "--explain", "GET"]] {
        let output = moongate(arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", both(&output));
    }
}

#[test]
fn help_and_version_exit_0() {
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let output = moongate(arguments);
        assert_eq!(code(&output), Some(0), "{arguments:?}");
        assert!(!out(&output).is_empty());
    }
}

#[test]
fn a_public_admin_address_needs_a_token() {
    let folder = Folder::new();
    for address in ["0.0.0.0:9901", "'[::]:9901'", "192.0.2.1:9901"] {
        let open = folder.file("open.yaml", &format!("admin: {{ address: {address} }}\n{GOOD}"));
        let output = moongate(&["check", "-c", &open]);
        assert_eq!(code(&output), Some(78), "{address}");
        assert!(both(&output).contains("token"), "{}", both(&output));
        let closed =
            folder.file("closed.yaml", &format!("admin: {{ address: {address}, token: x }}\n{GOOD}"));
        assert_eq!(code(&moongate(&["check", "-c", &closed])), Some(0), "{address}");
    }
}
