//! Commands that run until they are ended, against a scripted admin address: `moongate top` on a pseudo-terminal,
//! made by script(1), and `moongate tap`.

use crate::support::eventually;
use crate::support::eventually::within;
use crate::support::{LIMIT, moongate};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

const LIVE: &str = "event: hello\ndata: {\"version\":\"9.8.7\"}\n\n\
    event: overview\ndata: {\"requests\":12,\"websockets\":345,\"process\":{\"generation\":6}}\n\n\
    event: upstreams\ndata: {\"reset\":true,\"rows\":[{\"upstream\":\"chat\",\"endpoint\":\"10.1.2.3:80\",\"health\":\"healthy\",\"websockets\":345}]}\n\n";

const TAP: &str = "event: start\ndata: {\"sockets\":1,\"until\":1}\n\n\
    event: message\ndata: {\"socket\":17,\"at\":0,\"direction\":\"to_backend\",\"opcode\":\"text\",\"size\":5,\"text\":\"hello\"}\n\n";

/// An admin address that serves both streams, which stay open, and accepts every order.
struct FakeAdmin {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl FakeAdmin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin =
            Self { address: listener.local_addr().unwrap(), lines: Arc::default(), streams: Arc::default() };
        let (lines, streams) = (Arc::clone(&admin.lines), Arc::clone(&admin.streams));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let line = request_line(&mut stream);
                let events = [("/api/v1/live", LIVE), ("/api/v1/tap", TAP)];
                let events = events.iter().find(|(path, _)| line.contains(path)).map(|(_, events)| *events);
                lines.lock().unwrap().push(line);
                let response = match events {
                    Some(events) => {
                        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{events}")
                    }
                    None => "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}".to_owned(),
                };
                // The client may have ended.
                let _ = stream.write_all(response.as_bytes());
                if events.is_some() {
                    streams.lock().unwrap().push(stream);
                }
            }
        });
        admin
    }

    fn await_line(&self, part: &str) {
        let has = || self.lines.lock().unwrap().iter().any(|line| line.contains(part)).then_some(());
        eventually(part, has);
    }

    /// Ends the open streams, as a restart does.
    fn end_streams(&self) {
        self.streams.lock().unwrap().clear();
    }
}

fn request_line(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

/// A running command whose output is collected.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut pipe, collected) = (child.stdout.take().unwrap(), Arc::clone(&output));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                collected.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { input: child.stdin.take(), child, output }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    fn await_text(&self, part: &str) {
        let start = std::time::Instant::now();
        while !self.text().contains(part) {
            assert!(start.elapsed() < LIMIT, "no {part:?} in {:?}", self.text());
            std::thread::yield_now();
        }
    }

    fn write(&mut self, keys: &str) {
        self.input.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn end(&mut self) -> std::process::ExitStatus {
        within(LIMIT, "the command ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `moongate top` on a terminal of 80 columns and 24 lines, between two dumps of the terminal's settings; `None`
/// without script(1).
fn top(admin: &FakeAdmin) -> Option<Running> {
    let has_script = Command::new("script").arg("--version").stdout(Stdio::null()).status();
    if !has_script.is_ok_and(|status| status.success()) {
        return None;
    }
    let command = format!(
        "stty cols 80 rows 24; echo before=$(stty -g); {} top --admin {}; echo code=$?; echo after=$(stty -g)",
        env!("CARGO_BIN_EXE_moongate"),
        admin.address
    );
    Some(Running::start(
        Command::new("script").args(["-q", "-e", "-c", &command, "/dev/null"]).env("TERM", "xterm"),
    ))
}

/// The value of the last line that begins with that name.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text.rfind(name).unwrap_or_else(|| panic!("no {name} in {text:?}"));
    text[start + name.len()..].lines().next().unwrap_or_default()
}

/// Both ends of the alternate screen, and the same settings before and after.
fn assert_restored(text: &str) {
    assert!(text.contains("\x1b[?1049h") && text.contains("\x1b[?1049l"), "{text:?}");
    assert!(text.rfind("\x1b[?1049l") > text.rfind("\x1b[?1049h"), "{text:?}");
    assert_eq!(value(text, "before="), value(text, "after="));
}

#[test]
fn top_shows_drains_reconnects_and_restores_the_terminal() {
    let admin = FakeAdmin::start();
    let Some(mut top) = top(&admin) else { return };
    top.await_text("10.1.2.3:80");
    top.await_text("9.8.7");
    top.write("d");
    top.await_text("Drain chat");
    top.write("y");
    admin.await_line("POST /api/v1/upstreams/chat/endpoints/10.1.2.3%3A80/drain");
    admin.end_streams();
    top.await_text("reconnecting");
    eventually("a second stream", || {
        let lines = admin.lines.lock().unwrap();
        (lines.iter().filter(|line| line.contains("/api/v1/live")).count() == 2).then_some(())
    });
    top.write("q");
    top.await_text("after=");
    assert!(top.end().success());
    assert_eq!(value(&top.text(), "code="), "0");
    assert_restored(&top.text());
}

#[test]
fn top_restores_the_terminal_at_a_signal() {
    let admin = FakeAdmin::start();
    let Some(mut top) = top(&admin) else { return };
    top.await_text("10.1.2.3:80");
    // The process is a child of the shell of script.
    let pid = eventually("the process of top", || process_with(&format!("top --admin {}", admin.address)));
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    top.await_text("after=");
    top.end();
    assert_eq!(value(&top.text(), "code="), "143");
    assert_restored(&top.text());
}

/// The process of the binary with these arguments.
fn process_with(arguments: &str) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_binary = line.starts_with(env!("CARGO_BIN_EXE_moongate"));
        (is_binary && line.trim_end().ends_with(arguments))
            .then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[test]
fn top_prints_json_without_a_terminal() {
    let admin = FakeAdmin::start();
    let output = moongate(&["top", "--json", "--once", "--admin", &admin.address.to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["overview"]["websockets"], 345);
    assert_eq!(object["upstreams"][0]["endpoint"], "10.1.2.3:80");
}

#[test]
fn a_tap_ends_with_0_at_an_interrupt_and_with_the_signal_at_others() {
    let admin = FakeAdmin::start();
    for (signal, code, number) in [("INT", Some(0), None), ("TERM", None, Some(15))] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moongate"));
        command.args(["tap", "--route", "chat", "--admin", &admin.address.to_string()]);
        let mut tap = Running::start(&mut command);
        tap.await_text("00:00:00.000     17 > text         5B  hello\n");
        let pid = tap.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let status = tap.end();
        assert_eq!((status.code(), status.signal()), (code, number), "{signal}");
    }
    admin.await_line("GET /api/v1/tap?route=chat&duration=1m&rate=100&bytes=256 ");
}

#[test]
fn a_tap_whose_reader_ends_is_no_error() {
    let admin = FakeAdmin::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(["tap", "--socket", "17", "--json", "--admin", &admin.address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = within(LIMIT, "the command ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
