//! `moongate tap`: opens, closes and messages of living WebSockets, one line each.

use super::admin_client::{AdminArguments, AdminClient, RequestTarget, StreamEvent};
use super::command_error::CommandError;
use super::human_units::{size, time_of_day};
use super::text_table::TextStyle;
use super::{OutputState, print_error, print_line, stdout_color};
use crate::diagnostics::Color;
use crate::server::EndSignal;
use moongate_config::Period;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    #[command(flatten)]
    subject: TapSubject,
    /// End after this long, as 30s or 5m; at most 10m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::period)]
    duration: Duration,
    /// Show at most this many messages a second, at most 1000
    #[arg(long, value_name = "MESSAGES", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Show this many bytes of each message, at most 4096
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = clap::value_parser!(u32).range(0..=4096))]
    bytes: u32,
    /// Print one JSON object a line: the events of the API with their type as `event`
    #[arg(long)]
    json: bool,
}

/// The WebSockets that are shown.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct TapSubject {
    /// ID of a WebSocket, as listed by `moongate sockets`
    #[arg(long, value_name = "ID")]
    socket: Option<u64>,
    /// Name of a route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// CEL expression over the handshake, as `when` of a route
    filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StartEvent {
    sockets: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OpenEvent {
    id: u64,
    at: i64,
    client: String,
    route: String,
    endpoint: String,
    path: String,
    subprotocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MessageEvent {
    socket: u64,
    at: i64,
    direction: String,
    opcode: String,
    size: f64,
    text: Option<String>,
    hex: Option<String>,
    truncated: bool,
    compressed: bool,
    code: Option<u16>,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CloseEvent {
    socket: u64,
    at: i64,
    code: Option<u16>,
    by: String,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DroppedEvent {
    count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EndEvent {
    reason: String,
}

/// Shows the events until the end of the tap or until SIGINT.
pub(super) fn main(arguments: &Arguments, mut signals: UnboundedReceiver<EndSignal>) -> ExitCode {
    arguments.admin.run(async |client| {
        tokio::select! {
            outcome = Box::pin(show(&client, arguments)) => outcome,
            Some(_) = signals.recv() => Ok(ExitCode::SUCCESS),
        }
    })
}

fn target(arguments: &Arguments) -> RequestTarget {
    let TapSubject { socket, route, filter } = &arguments.subject;
    RequestTarget::new("/api/v1/tap")
        .query_if("socket", *socket)
        .query_if("route", route.as_ref())
        .query_if("filter", filter.as_ref())
        .query("duration", Period(arguments.duration))
        .query("rate", arguments.rate)
        .query("bytes", arguments.bytes)
}

async fn show(client: &AdminClient, arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let mut stream = client.stream(&target(arguments)).await?;
    let color = stdout_color();
    while let Some(event) = stream.next().await? {
        let is_end = event.name == "end";
        let line = if arguments.json { json_line(&event) } else { text_line(&event, color) };
        match line {
            // What is not an event of a WebSocket goes to standard error.
            Some(line) if !arguments.json && is_note(&event) => print_error(&format!("{line}\n")),
            Some(line) => match print_line(&line) {
                OutputState::Open => {}
                OutputState::Closed => return Ok(ExitCode::SUCCESS),
                OutputState::Failed => return Ok(ExitCode::FAILURE),
            },
            None => {}
        }
        if is_end {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(CommandError::failed(format!("the gateway at {} ended the tap without a reason", client.address()))
        .help("it may have stopped or closed the connection for another one; see its log"))
}

fn is_note(event: &StreamEvent) -> bool {
    matches!(event.name.as_str(), "start" | "dropped" | "end")
}

/// The event as one JSON object; `None` for an event whose data is not an object.
fn json_line(event: &StreamEvent) -> Option<String> {
    let data: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&event.data).ok()?;
    let mut object = serde_json::Map::new();
    object.insert("event".to_owned(), event.name.as_str().into());
    object.extend(data);
    Some(serde_json::Value::Object(object).to_string())
}

/// The event as one line; `None` for an unknown one.
fn text_line(event: &StreamEvent, color: Color) -> Option<String> {
    fn read<T: DeserializeOwned>(event: &StreamEvent) -> Option<T> {
        serde_json::from_str(&event.data).ok()
    }
    match event.name.as_str() {
        "start" => read(event).map(|start: StartEvent| {
            let StartEvent { sockets } = start;
            format!("tapping {sockets} open WebSocket{}", if sockets == 1 { "" } else { "s" })
        }),
        "open" => read(event).map(|open| open_line(&open, color)),
        "message" => read(event).map(|message| message_line(&message, color)),
        "close" => read(event).map(|close| close_line(&close, color)),
        "dropped" => read(event).map(|dropped: DroppedEvent| {
            let DroppedEvent { count } = dropped;
            let messages = if count == 1 { "message" } else { "messages" };
            TextStyle::Warning.paint(
                &format!(
                    "{count} {messages} not shown: more than `--rate` a second, or than the tap can hold"
                ),
                color,
            )
        }),
        "end" => read(event)
            .map(|end: EndEvent| TextStyle::Plain.paint(&format!("end of the tap: {}", end.reason), color)),
        _ => None,
    }
}

/// Time and ID, which begin each line.
fn place(at: i64, id: u64, color: Color) -> String {
    format!("{} {id:>6}", TextStyle::Faint.paint(&time_of_day(at), color))
}

fn open_line(open: &OpenEvent, color: Color) -> String {
    let OpenEvent { id, at, client, route, endpoint, path, subprotocol } = open;
    let subprotocol = subprotocol.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let facts = TextStyle::Plain.paint(&format!("{client} {route} {endpoint} {path}{subprotocol}"), color);
    format!("{}   {}  {facts}", place(*at, *id, color), TextStyle::Good.paint("open  ", color))
}

/// `>` is to the backend and `<` to the client, as curl marks what it sends and receives.
fn message_line(message: &MessageEvent, color: Color) -> String {
    let MessageEvent { socket, at, direction, opcode, size: length, truncated, .. } = message;
    let (arrow, style) = match direction.as_str() {
        "to_backend" => ('>', TextStyle::ToBackend),
        _ => ('<', TextStyle::ToClient),
    };
    let begin = style.paint(&format!("{arrow} {opcode:<6}"), color);
    let compressed = if message.compressed { "(compressed) " } else { "" };
    let content = match (&message.text, &message.hex, message.code) {
        (_, _, Some(code)) => format!("{code} {}", message.reason.as_deref().unwrap_or_default()),
        (Some(text), ..) => text.clone(),
        (None, Some(hex), _) => spaced(hex),
        (None, None, None) => String::new(),
    };
    let content = TextStyle::Plain.paint(content.trim_end(), color);
    let rest = if *truncated { "…" } else { "" };
    let line =
        format!("{} {begin} {:>8}  {compressed}{content}{rest}", place(*at, *socket, color), size(*length));
    line.trim_end().to_owned()
}

/// Pairs of hexadecimal digits.
fn spaced(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| pair.iter().collect()).collect::<Vec<String>>().join(" ")
}

fn close_line(close: &CloseEvent, color: Color) -> String {
    let CloseEvent { socket, at, code, by, reason } = close;
    let code = code.map_or_else(|| "without a close frame".to_owned(), |code| code.to_string());
    let facts = TextStyle::Plain.paint(&format!("{code} by {by} ({reason})"), color);
    format!("{}   {}  {facts}", place(*at, *socket, color), TextStyle::Bad.paint("closed", color))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::super::admin_client::testing::{FakeGateway, block_on, events, json};
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tap: Arguments,
    }

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Line::try_parse_from([&["tap"], arguments].concat()).map(|line| line.tap)
    }

    fn line(name: &str, data: &str) -> Option<String> {
        text_line(&StreamEvent { name: name.to_owned(), data: data.to_owned() }, Color::Never)
    }

    #[test]
    fn exactly_one_subject_is_required_and_limits_are_in_the_query() {
        let arguments =
            parse(&["request.path == \"/ws\"", "--duration", "5m", "--rate", "7", "--bytes", "0"]);
        let expected = "/api/v1/tap?filter=request.path%20%3D%3D%20%22%2Fws%22&duration=5m&rate=7&bytes=0";
        assert_eq!(target(&arguments.unwrap()), RequestTarget::new(expected));
        let socket = target(&parse(&["--socket", "17"]).unwrap());
        assert_eq!(socket, RequestTarget::new("/api/v1/tap?socket=17&duration=1m&rate=100&bytes=256"));
        for wrong in [
            &[][..],
            &["--socket", "1", "--route", "a"],
            &["--route", "a", "true"],
            &["--route", "a", "--rate", "0"],
            &["true", "--bytes", "5000"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_event_is_one_line_without_control_characters() {
        for (name, data, expected) in [
            ("start", r#"{"sockets":1,"until":9}"#, "tapping 1 open WebSocket"),
            (
                "open",
                r#"{"id":17,"at":3723004,"client":"10.0.0.7","route":"chat","endpoint":"127.0.0.1:8081","path":"/ws","subprotocol":"v1"}"#,
                "01:02:03.004     17   open    10.0.0.7 chat 127.0.0.1:8081 /ws v1",
            ),
            (
                "message",
                r#"{"socket":17,"at":0,"direction":"to_backend","opcode":"text","size":9,"text":"a\nb\u001b[2J","truncated":true,"compressed":false}"#,
                "00:00:00.000     17 > text         9B  a\\nb\\u{1b}[2J…",
            ),
            (
                "message",
                r#"{"socket":1,"at":0,"direction":"to_client","opcode":"binary","size":2048,"hex":"00ff7f","truncated":true,"compressed":true}"#,
                "00:00:00.000      1 < binary   2.0KiB  (compressed) 00 ff 7f…",
            ),
            (
                "message",
                r#"{"socket":1,"at":0,"direction":"to_client","opcode":"close","size":6,"code":1001,"reason":"gone","truncated":false,"compressed":false}"#,
                "00:00:00.000      1 < close        6B  1001 gone",
            ),
            (
                "message",
                r#"{"socket":1,"at":0,"direction":"to_client","opcode":"ping","size":0}"#,
                "00:00:00.000      1 < ping         0B",
            ),
            (
                "close",
                r#"{"socket":17,"at":0,"code":null,"by":"client","reason":"reset"}"#,
                "00:00:00.000     17   closed  without a close frame by client (reset)",
            ),
            (
                "dropped",
                r#"{"count":25}"#,
                "25 messages not shown: more than `--rate` a second, or than the tap can hold",
            ),
            ("end", r#"{"reason":"duration"}"#, "end of the tap: duration"),
        ] {
            assert_eq!(line(name, data).as_deref(), Some(expected));
        }
        assert_eq!(line("later", "{}"), None);
        assert_eq!(line("message", "not JSON"), None);
    }

    #[test]
    fn a_line_of_json_is_the_event_with_its_type() {
        let event =
            StreamEvent { name: "close".to_owned(), data: "{\"socket\": 17,\n\"code\": null}".to_owned() };
        assert_eq!(json_line(&event).unwrap(), r#"{"code":null,"event":"close","socket":17}"#);
    }

    #[test]
    fn a_tap_ends_with_its_end_and_fails_without_it() {
        let arguments = parse(&["--route", "chat"]).unwrap();
        let run = |response: String| {
            let gateway = FakeGateway::start(move |_| response.clone());
            block_on(show(&gateway.client(None), &arguments))
        };
        assert!(run(events("event: end\ndata: {\"reason\":\"duration\"}\n\n")).is_ok());
        let cut = run(events("event: start\ndata: {\"sockets\":0}\n\n")).unwrap_err();
        assert!(cut.text().contains("without a reason"), "{}", cut.text());
        let off = run(json(403, r#"{"error":"tap_off","status":403}"#)).unwrap_err();
        assert!(off.text().contains("admin: { tap: true }"), "{}", off.text());
    }
}
