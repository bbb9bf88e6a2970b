//! Commands that speak to a running gateway over its admin address: status, drain, undrain.

use crate::support::{Gateway, LIMIT, Origin, Socket, eventually, moongate};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

/// One upstream with two endpoints.
fn file(a: &Origin, b: &Origin) -> String {
    format!(
        "upstreams: {{ chat: {{ endpoints: ['{a}', '{b}'], balance: least_connections }} }}
routes: [{{ name: chat, upstream: chat, websocket: {{ drain_window: 100ms }} }}]"
    )
}

fn at(gateway: &Gateway, arguments: &[&str]) -> Output {
    moongate(&[arguments, &["--admin", &gateway.admin().to_string()]].concat())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", out(output), error(output));
    out(output)
}

#[test]
fn the_status_is_a_table_and_the_object_of_the_api() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    let text = succeeded(&at(&gateway, &["status"]));
    for part in
        ["generation  1\n", "state       serving\n", "last reload applied ", &format!("chat      {a} ")]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a pipe has no colors: {text:?}");
    let json: Value = serde_json::from_str(&succeeded(&at(&gateway, &["status", "--json"]))).unwrap();
    assert_eq!(json["upstreams"], gateway.status()["upstreams"]);
}

#[test]
fn an_endpoint_is_drained_until_it_is_empty_and_undrained() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(gateway.web(), "/")).collect();
    let (a_text, endpoint) = (a.to_string(), a.to_string().parse().unwrap());
    let drained = succeeded(&at(&gateway, &["drain", "chat", &a_text, "--wait"]));
    assert_eq!(drained, format!("chat {a} draining: no connection\n"));
    for socket in sockets.iter_mut().filter(|socket| socket.backend == "a") {
        assert_eq!(socket.end(), Some(1012));
    }
    assert_eq!(gateway.active("chat", endpoint), Some(0));
    let text = succeeded(&at(&gateway, &["status"]));
    assert!(text.contains("draining (operator)"), "{text}");
    let json = succeeded(&at(&gateway, &["undrain", "chat", &a_text, "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["draining"], &json["active"]), (&Value::Null, &Value::from(0)));
    assert!(!succeeded(&at(&gateway, &["status"])).contains("draining"));
}

#[test]
fn a_wait_for_a_socket_that_stays_ends_after_its_timeout() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b).replace("100ms", "10m"));
    let sockets = [Socket::open(gateway.web(), "/"), Socket::open(gateway.web(), "/")];
    let waited = at(&gateway, &["drain", "chat", &a.to_string(), "--wait", "--timeout", "1ms"]);
    assert_eq!(waited.status.code(), Some(1));
    assert!(error(&waited).contains("1 connection remains"), "{}", error(&waited));
    drop(sockets);
}

#[test]
fn an_unknown_endpoint_gets_the_nearest_name() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    for (upstream, endpoint, help) in [
        ("chatt", a.to_string(), "did you mean `chat`?".to_owned()),
        ("chat", format!("{a}0"), format!("`{a}`")),
    ] {
        for command in ["drain", "undrain"] {
            let output = at(&gateway, &[command, upstream, &endpoint]);
            assert_eq!(output.status.code(), Some(1));
            assert!(error(&output).contains(&help), "{}", error(&output));
        }
    }
}

#[test]
fn a_gateway_with_a_token_is_reached_by_file_option_and_variable() {
    let a = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0, token: secret }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: ['{a}'] }}]"
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "secret\n"), file("wrong", "other\n"));
    let admin = gateway.admin().to_string();
    let config = file("moongate.yaml", &format!("admin: {{ address: '{admin}', token: secret }}\n"));
    succeeded(&moongate(&["status", "-c", &config]));
    succeeded(&moongate(&["-c", &config, "status"]));
    succeeded(&at(&gateway, &["status", "--token-file", &right]));
    for arguments in [&["status"][..], &["status", "--token-file", &wrong], &["drain", "a", "b"]] {
        let output = at(&gateway, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            error(&output).contains("401") && error(&output).contains("--token-file"),
            "{}",
            error(&output)
        );
    }
    let by_variable = Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(["status", "--admin", &admin])
        .env("MOONGATE_ADMIN_TOKEN", "secret")
        .output()
        .unwrap();
    succeeded(&by_variable);
    let reloaded = at(&gateway, &["reload", "--token-file", &right]);
    assert_eq!(succeeded(&reloaded), "configuration reloaded, generation 2\n");
}

#[test]
fn every_command_exits_1_without_a_gateway_and_78_for_an_unreadable_file() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in [
        &["status"][..],
        &["sockets"],
        &["sockets", "close", "1"],
        &["drain", "a", "b"],
        &["undrain", "a", "b"],
        &["tap", "--socket", "1"],
        &["top", "--json"],
        &["check", "--live"],
    ] {
        let output = moongate(&[command, &["--admin", &closed]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", error(&output));
        assert!(
            error(&output).contains(&format!("cannot reach the gateway at {closed}")),
            "{}",
            error(&output)
        );
        let output = moongate(&[command, &["-c", "/no/such/file.yaml"]].concat());
        assert_eq!(output.status.code(), Some(78), "{command:?}: {}", error(&output));
    }
}

#[test]
fn a_live_check_succeeds_until_the_gateway_drains() {
    let a = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0, token: secret }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
server: {{ grace_period: 10m, drain_delay: 10m }}
routes: [{{ upstream: ['{a}'] }}]"
    ));
    let admin = gateway.admin().to_string();
    // Without its token.
    let ready = format!("the gateway at {admin} is ready\n");
    assert_eq!(succeeded(&at(&gateway, &["check", "--live"])), ready);
    // An invalid file is enough.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("moongate.yaml");
    fs::write(&config, format!("admin: {{ address: '{admin}' }}\nroutes: [{{ upstraem: a }}]\n")).unwrap();
    assert_eq!(succeeded(&moongate(&["check", "--live", "-c", config.to_str().unwrap()])), ready);
    gateway.signal("TERM");
    let report = eventually("it drains", || {
        let output = at(&gateway, &["check", "--live"]);
        (output.status.code() == Some(1)).then(|| error(&output))
    });
    assert_eq!(report, format!("error: the gateway at {admin} is not ready: it starts or drains\n"));
    let usage = moongate(&["check", "--live", "--print"]);
    assert_eq!(usage.status.code(), Some(2), "{}", error(&usage));
}

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert!(gateway.ended().is_none());
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    const COMMANDS: [&str; 7] = ["status", "top", "sockets", "tap", "drain", "undrain", "completions"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeded(&moongate(&["completions", shell]));
        let missing: Vec<_> = COMMANDS.iter().filter(|command| !script.contains(**command)).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
    }
    assert_eq!(moongate(&["completions", "tcsh"]).status.code(), Some(2));
    let page = succeeded(&moongate(&["man"]));
    assert!(page.contains(".TH moongate 1") && page.contains("undrain"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("a").join("man1");
    succeeded(&moongate(&["man", "--output", pages.to_str().unwrap()]));
    for name in ["moongate", "moongate-status", "moongate-sockets-close", "moongate-plugin-test"] {
        let page = fs::read_to_string(pages.join(format!("{name}.1")));
        assert!(page.unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
    let denied = moongate(&["man", "--output", "/dev/null/man"]);
    assert_eq!(denied.status.code(), Some(1));
}

/// The script of bash completes a command and an option, if there is a bash.
#[test]
fn the_completions_of_bash_work() {
    let script = succeeded(&moongate(&["completions", "bash"]));
    let ask =
        "COMP_WORDS=(moongate und); COMP_CWORD=1; _moongate moongate und moongate; echo ${COMPREPLY[@]}";
    let Ok(output) = Command::new("bash").args(["--norc", "-c", &format!("{script}\n{ask}")]).output() else {
        return;
    };
    assert_eq!(out(&output).trim(), "undrain", "{}", error(&output));
}

#[test]
fn top_without_a_terminal_points_to_json() {
    let output = moongate(&["top", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = error(&output);
    assert!(said.contains("needs a terminal") && said.contains("--json"), "{said}");
    assert_eq!(moongate(&["top", "--once"]).status.code(), Some(2));
}

/// A gateway that is drained from outside while a command waits.
#[test]
fn a_wait_ends_with_an_error_when_somebody_undrains() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b).replace("100ms", "10m"));
    let _sockets = [Socket::open(gateway.web(), "/"), Socket::open(gateway.web(), "/")];
    let (admin, endpoint) = (gateway.admin().to_string(), a.to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(["drain", "chat", &endpoint, "--wait", "--admin", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the drain is ordered", || {
        succeeded(&at(&gateway, &["status"])).contains("draining (operator)").then_some(())
    });
    succeeded(&at(&gateway, &["undrain", "chat", &endpoint]));
    let status = crate::support::eventually::within(LIMIT, "the command ends", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    // Both orders may happen between two looks of the command.
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("was ended"), "{said}");
}

#[test]
fn sockets_are_listed_filtered_and_closed() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    let mut kept = Socket::open(gateway.web(), "/kept");
    let mut closed = Socket::open(gateway.web(), "/closed");
    closed.echo("hello");
    let listed = at(&gateway, &["sockets", "path:/closed", "messages>1"]);
    let text = succeeded(&listed);
    assert!(text.contains("chat") && text.contains("/closed") && !text.contains("/kept"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(error(&listed), "1 match of 2 open WebSockets\n");
    let page: Value =
        serde_json::from_str(&succeeded(&at(&gateway, &["sockets", "/closed", "--sort", "-age", "--json"])))
            .unwrap();
    let id = page["rows"][0]["id"].to_string();
    let done = succeeded(&at(&gateway, &["sockets", "close", &id, "--code", "4001", "--reason", "moved"]));
    assert_eq!(done, format!("WebSocket {id} closed with 4001\n"));
    assert_eq!(closed.end(), Some(4001));
    kept.echo("still here");
    eventually("the closed one is gone", || {
        let again = at(&gateway, &["sockets", "close", &id]);
        error(&again).contains(&format!("no open WebSocket has the ID {id}")).then_some(())
    });
    for (arguments, part) in [
        (&["sockets", "colour:red", "age>soon"][..], "error: "),
        (&["sockets", "close", &id, "--code", "1005"], "1005"),
        (&["sockets", "close", &id, "--code", "1014"], "1014"),
    ] {
        let output = at(&gateway, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", error(&output));
        assert!(error(&output).contains(part), "{}", error(&output));
    }
}

#[test]
fn a_tap_shows_the_messages_of_a_route_and_needs_the_setting() {
    let a = Origin::named("a");
    let whole = |tap: bool| {
        format!(
            "admin: {{ address: 127.0.0.1:0, token: secret, tap: {tap} }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ name: chat, upstream: ['{a}'] }}]"
        )
    };
    let gateway = Gateway::start_whole(&whole(true));
    let mut socket = Socket::open(gateway.web(), "/");
    let admin = gateway.admin().to_string();
    let tap = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moongate"));
        command.args([&["tap", "--admin", &admin], more].concat()).env("MOONGATE_ADMIN_TOKEN", "secret");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child = tap(&["--route", "chat", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["event"], "start");
    socket.echo("typed");
    let message = lines.next().unwrap();
    assert_eq!((&message["event"], &message["text"]), (&"message".into(), &"typed".into()));
    assert_eq!(message["direction"], "to_backend");
    let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    let status = crate::support::eventually::within(LIMIT, "the tap ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let wrong = tap(&["request.path ==="]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", error(&wrong));
    gateway.reload_whole(&whole(false)).unwrap();
    let off = tap(&["--route", "chat"]).output().unwrap();
    assert_eq!(off.status.code(), Some(1));
    assert!(error(&off).contains("admin: { tap: true }"), "{}", error(&off));
}

#[test]
fn top_prints_the_overview_and_the_endpoints_of_a_gateway() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b));
    let _socket = Socket::open(gateway.web(), "/");
    let object = succeeded(&at(&gateway, &["top", "--json", "--once"]));
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["overview"]["websockets"], 1);
    let endpoints: Vec<_> =
        object["upstreams"].as_array().unwrap().iter().map(|row| row["endpoint"].clone()).collect();
    assert!(endpoints.contains(&a.to_string().into()) && endpoints.len() == 2, "{object}");
}
