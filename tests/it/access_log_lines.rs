//! Lines of the access log as the operator selects them: fields, templates and sampling.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, eventually};
use std::path::PathBuf;
use tempfile::TempDir;

/// A log file of the test.
struct LogFile(TempDir);

impl LogFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("access.log")
    }

    /// The key with more settings.
    fn yaml(&self, settings: &str) -> String {
        format!("access_log: {{ path: '{}', {settings} }}\n", self.path().display())
    }

    /// Waits until the last whole line contains `needle`, and returns all lines.
    fn lines_to(&self, needle: &str) -> Vec<String> {
        eventually(&format!("a line with {needle}"), || {
            let text = std::fs::read_to_string(self.path()).ok()?;
            let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            let last = lines.last()?.contains(needle);
            last.then(|| lines.iter().map(|line| line.trim_end().to_owned()).collect())
        })
    }
}

#[test]
fn a_json_line_has_the_selected_fields_in_their_order() {
    let (log, origin) = (LogFile::new(), Origin::named("a"));
    let settings = "fields: [status, path, event, method, trace_id, client]";
    let routes = format!("routes: [{{ name: web, upstream: [{origin}] }}]\n");
    let gateway = Gateway::start(&(log.yaml(settings) + &routes));
    gateway.get("/x?y");
    let expected = r#"{"status":200,"path":"/x?y","method":"GET","client":"127.0.0.1"}"#;
    assert_eq!(log.lines_to("/x?y"), [expected]);
    drop(Socket::open(gateway.web(), "/ws"));
    let lines = log.lines_to("close");
    let line = |event| {
        format!(r#"{{"status":101,"path":"/ws","event":"{event}","method":"GET","client":"127.0.0.1"}}"#)
    };
    assert_eq!(lines[1..], [line("open"), line("close")]);
}

#[test]
fn no_client_can_forge_a_line_of_a_template() {
    let (log, origin) = (LogFile::new(), Origin::named("a"));
    let settings =
        r#"template: '{{{route}}} {client} "{method} {path}" {status} "{user_agent}" {referer} {event}'"#;
    let routes = format!("routes: [{{ name: web, upstream: [{origin}] }}]\n");
    let gateway = Gateway::start(&(log.yaml(settings) + &routes));
    let head = b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUser-Agent: \" 200 \"\\x22\xff\xc3\xa9\tb\r\n\r\n";
    assert_eq!(ask(gateway.web(), head).status, 200);
    let line = r#"{web} 127.0.0.1 "GET /a" 200 "\x22 200 \x22\x5cx22\xff\xc3\xa9\x09b" - -"#;
    assert_eq!(log.lines_to("GET /a"), [line]);
    // A reload applies another template.
    let generation = gateway.reload(&(log.yaml("template: '{path} now {status}'") + &routes));
    assert_eq!(generation, Ok(2));
    gateway.get("/b");
    assert_eq!(log.lines_to("/b")[1..], ["/b now 200"]);
}

#[test]
fn sampling_leaves_out_whole_websockets_and_no_failure() {
    let (log, origin) = (LogFile::new(), Origin::named("a"));
    let settings = "fields: [path, status, event, error], \
        sample: [{ route: none, ratio: 0 }, { route: some, status: [1xx, 404], ratio: 0 }]";
    let routes = format!(
        "routes:
  - {{ name: none, path: /none/, upstream: [{origin}] }}
  - {{ name: some, path: /some/, upstream: [{origin}] }}
  - {{ name: dead, path: /dead/, upstream: [127.0.0.1:1] }}
  - {{ name: all, path: /all/, upstream: [{origin}] }}
"
    );
    // One worker writes the lines in the order of the requests.
    let gateway = Gateway::start(&("server: { threads: 1 }\n".to_owned() + &log.yaml(settings) + &routes));
    for path in ["/none/a", "/some/b", "/dead/c", "/none/d", "/all/e"] {
        gateway.get(path);
    }
    for path in ["/none/f", "/some/g", "/all/h"] {
        let socket = Socket::open(gateway.web(), path);
        origin.await_sockets(1);
        drop(socket);
        origin.await_sockets(0);
    }
    let closed = || gateway.metrics().sum("moongate_websocket_closed_total", &[]) == 3.0;
    eventually("all WebSockets are closed", || closed().then_some(()));
    gateway.get("/all/last");
    let expected = [
        r#"{"path":"/some/b","status":200}"#,
        r#"{"path":"/dead/c","status":502,"error":"connect_refused"}"#,
        r#"{"path":"/all/e","status":200}"#,
        r#"{"path":"/all/h","status":101,"event":"open"}"#,
        r#"{"path":"/all/h","status":101,"event":"close"}"#,
        r#"{"path":"/all/last","status":200}"#,
    ];
    assert_eq!(log.lines_to("/all/last"), expected);
    // A failure of a route without lines has one.
    origin.die();
    gateway.get("/none/dead");
    assert!(log.lines_to("/none/dead").len() == 7);
}
