//! Tests of lines, and of a file that is slower than the lines.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::telemetry::TraceId;
use crate::telemetry::metrics::InitiatorLabel;
use std::fs;
use std::io::{PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::UNIX_EPOCH;

const LONG: Duration = Duration::from_secs(30);

fn entry<'a>() -> Entry<'a> {
    Entry {
        client: Some(std::net::IpAddr::from([192, 0, 2, 7]).into()),
        method: "GET",
        host: b"example.com",
        path: b"/a?b=\"c\"",
        protocol: "HTTP/1.1",
        status: 200,
        bytes_sent: 1234,
        bytes_received: 5,
        duration: Duration::from_micros(1500),
        route: "site",
        upstream: "web",
        endpoint: "10.0.0.1:80",
        attempts: 1,
        request_id: "0123456789abcdef0123456789abcdef",
        user_agent: b"curl/8\x1b[31m",
        referer: b"",
        ..Entry::default()
    }
}

fn closed<'a>() -> Entry<'a> {
    let closed = Closed {
        code: Some(1001),
        reason: "drain",
        by: InitiatorLabel::Gateway,
        to_backend: Flow { messages: Some(3), bytes: 40 },
        to_client: Flow { messages: Some(4), bytes: 50 },
        lifetime: Duration::from_secs(2),
        client_rtt: Some(Duration::from_micros(700)),
        backend_rtt: None,
    };
    Entry { event: Event::Close(closed), status: 101, ..entry() }
}

fn json() -> Format {
    Format::Json(Field::ALL.into())
}

fn line(format: &Format, entry: &Entry<'_>) -> String {
    let mut stamp = Timestamp::new();
    stamp.update(UNIX_EPOCH + Duration::from_millis(1_760_000_000_250));
    let mut line = Vec::new();
    format.write(&mut line, &stamp, entry);
    String::from_utf8(line).unwrap()
}

/// A log to a pipe that the test reads.
fn piped(buffer: u64) -> (Arc<AccessLog>, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    (AccessLog::open(json().into(), &path, buffer).unwrap(), reader)
}

fn whole_lines(text: &str) -> usize {
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count()
}

#[test]
fn a_request_is_one_json_object() {
    assert_eq!(
        line(&json(), &entry()),
        r#"{"time":"2025-10-09T08:53:20.250Z","client":"192.0.2.7","method":"GET","host":"example.com","path":"/a?b=\"c\"","#
            .to_owned()
            + r#""protocol":"HTTP/1.1","status":200,"bytes_sent":1234,"bytes_received":5,"duration_ms":1.500,"route":"site","#
            + r#""upstream":"web","endpoint":"10.0.0.1:80","attempts":1,"request_id":"0123456789abcdef0123456789abcdef","#
            + r#""user_agent":"curl/8\u001b[31m"}"#
            + "\n"
    );
}

#[test]
fn the_end_of_a_websocket_has_initiator_reason_and_volume() {
    let written = line(&json(), &closed());
    let json: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(written.starts_with(r#"{"time":"2025-10-09T08:53:20.250Z","event":"close","#), "{written}");
    for (key, value) in
        [("code", 1001), ("messages_to_backend", 3), ("bytes_to_backend", 40), ("bytes_to_client", 50)]
    {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!((json["by"].as_str(), json["reason"].as_str()), (Some("gateway"), Some("drain")));
    assert_eq!((json["client_rtt_ms"].as_f64(), json.get("backend_rtt_ms")), (Some(0.7), None));
}

#[test]
fn selected_fields_are_in_their_order_and_an_object_may_be_empty() {
    let trace = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    let traced = Entry { trace_id: Some(trace), ..entry() };
    let some = |fields: &[Field]| Format::Json(fields.into());
    assert_eq!(
        line(&some(&[Field::Status, Field::Code, Field::TraceId, Field::Time]), &traced),
        "{\"status\":200,\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"time\":\"2025-10-09T08:53:20.250Z\"}\n"
    );
    assert_eq!(line(&some(&[Field::TraceId, Field::Code]), &entry()), "{}\n");
    let template = Template::parse("{trace_id} {code} {lifetime_ms} {time}").unwrap();
    assert_eq!(
        line(&Format::Template(template), &Entry { trace_id: Some(trace), ..closed() }),
        "0af7651916cd43dd8448eb211c80319c 1001 2000.000 2025-10-09T08:53:20.250Z\n"
    );
}

#[test]
fn a_lost_endpoint_has_its_own_line() {
    let event = Event::Reconnect(FailoverRecord { from: "10.0.0.2:80", reason: "eof" });
    let entry = Entry { event, status: 101, error: Some("reconnect_failed"), ..entry() };
    let json: serde_json::Value = serde_json::from_str(&line(&json(), &entry)).unwrap();
    for (key, value) in [
        ("event", "reconnect"),
        ("from", "10.0.0.2:80"),
        ("endpoint", "10.0.0.1:80"),
        ("reason", "eof"),
        ("error", "reconnect_failed"),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(line(&Format::Combined, &entry), "");
}

#[test]
fn notes_of_plugins_are_under_their_names() {
    let note = |plugin, key, value| Note { plugin, key, value };
    let notes = [note("jwt", "user", "a\"b\n"), note("jwt", "key", "k1"), note("l\"imit", "left", "3")];
    let text = line(&json(), &Entry { notes: &notes, ..entry() });
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected =
        serde_json::json!({ "jwt": { "user": "a\"b\n", "key": "k1" }, "l\"imit": { "left": "3" } });
    assert_eq!(read["plugins"], expected, "{text}");
}

#[test]
fn every_json_field_is_documented() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/access-log.md"));
    let mut full = closed();
    full.error = Some("connect_refused");
    full.error_detail = "d";
    full.referer = b"r";
    full.upgrade = "tcp";
    full.tls = Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256"));
    full.notes = &[Note { plugin: "p", key: "k", value: "v" }];
    full.trace_id = Some(TraceId([7; 16]));
    if let Event::Close(closed) = &mut full.event {
        closed.backend_rtt = Some(Duration::ZERO);
    }
    let json: serde_json::Value = serde_json::from_str(&line(&json(), &full)).unwrap();
    let mut fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    // The field that only a reconnect has.
    fields.push("from");
    let mut written: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    fields.sort_unstable();
    written.sort_unstable();
    assert_eq!(written, fields);
}

#[test]
fn the_combined_format_is_that_of_apache() {
    assert_eq!(
        line(&Format::Combined, &entry()),
        "192.0.2.7 - - [09/Oct/2025:08:53:20 +0000] \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200 1234 \"-\" \"curl/8\\x1b[31m\"\n"
    );
    assert_eq!(line(&Format::Combined, &Entry { event: Event::Open, ..entry() }), "");
    assert!(line(&Format::Combined, &closed()).contains("\" 101 50 \""));
}

#[test]
fn closing_writes_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(json().into(), path.to_str().unwrap(), 1 << 20).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| log.write(&entry())));
        }
    });
    assert!(log.close(LONG));
    assert_eq!(whole_lines(&fs::read_to_string(&path).unwrap()), 2000);
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_dropped_log_writes_its_queued_lines() {
    let (log, mut reader) = piped(1 << 20);
    log.write(&entry());
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(whole_lines(&text), 1);
}

#[test]
fn flushing_writes_lines_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(json().into(), path.to_str().unwrap(), 1 << 20).unwrap();
    for lines in 1..=3 {
        log.write(&entry());
        assert!(log.flush(LONG));
        assert_eq!(whole_lines(&fs::read_to_string(&path).unwrap()), lines);
    }
    assert!(log.flush(Duration::ZERO), "nothing waits");
}

#[test]
fn lines_reach_the_file_without_a_flush() {
    let (log, mut reader) = piped(1 << 20);
    log.write(&entry());
    let mut first = [0; 8];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{\"time\":");
}

#[test]
fn a_rotated_file_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::open(json().into(), path.to_str().unwrap(), 1 << 20).unwrap();
    log.write(&entry());
    assert!(log.flush(LONG));
    fs::rename(&path, &moved).unwrap();
    log.reopen().unwrap();
    log.write(&entry());
    assert!(log.flush(LONG));
    assert_eq!(whole_lines(&fs::read_to_string(&moved).unwrap()), 1);
    assert_eq!(whole_lines(&fs::read_to_string(&path).unwrap()), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_and_the_old_one_stays_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("logs");
    fs::create_dir(&inside).unwrap();
    let path = inside.join("access.log");
    let log = AccessLog::open(json().into(), path.to_str().unwrap(), 1 << 20).unwrap();
    let kept = folder.path().join("moved");
    fs::rename(&inside, &kept).unwrap();
    assert_eq!(log.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(AccessLog::open(json().into(), path.to_str().unwrap(), 1 << 20).is_err());
    log.write(&entry());
    assert!(log.close(LONG));
    assert_eq!(whole_lines(&fs::read_to_string(kept.join("access.log")).unwrap()), 1);
}

#[test]
fn a_full_buffer_drops_and_counts_lines_without_blocking() {
    let (log, mut reader) = piped(4 << 10);
    let path = [b'a'; 1000];
    // The pipe holds 64 KiB and the two buffers 8 KiB; a blocking write would hang the test here.
    (0..1000).for_each(|_| log.write(&Entry { path: &path, ..entry() }));
    assert!(log.dropped() > 800, "{}", log.dropped());
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(log.close(LONG));
    let dropped = log.dropped();
    drop(log);
    let written = whole_lines(&reading.join().unwrap());
    assert_eq!(written as u64 + dropped, 1000);
}

#[test]
fn a_failing_disk_is_counted_without_blocking() {
    let log = AccessLog::open(json().into(), "/dev/full", 1 << 20).unwrap();
    (0..10).for_each(|_| log.write(&entry()));
    assert!(log.flush(LONG));
    assert_eq!(log.dropped(), 10);
    assert!(log.close(LONG));
}

#[test]
fn any_client_bytes_give_one_readable_line() {
    let odd: Vec<u8> = (0..=255).chain([0xc3, 0x28, 0xf0, 0x9f]).collect();
    let odd = Entry { host: &odd, path: &odd, user_agent: &odd, referer: &odd, ..entry() };
    let written = line(&json(), &odd);
    assert_eq!((written.matches('\n').count(), whole_lines(&written)), (1, 1));
    let all: String = Field::ALL
        .map(Field::name)
        .iter()
        .filter(|name| **name != "plugins")
        .fold(String::new(), |text, name| text + &format!(" \"{{{name}}}\""));
    for format in [Format::Combined, Format::Template(Template::parse(&all).unwrap())] {
        let written = line(&format, &odd);
        let written = written.strip_suffix('\n').unwrap();
        assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{written}");
        assert_eq!(written.matches('"').count() % 2, 0, "{written}");
    }
}
