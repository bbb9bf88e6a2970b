//! `moongate sockets`: the open WebSockets as a table, filtered, sorted and paged by the gateway; closes one.

use super::admin_client::{AdminArguments, AdminClient, RequestTarget};
use super::command_error::CommandError;
use super::human_units::{duration, size};
use super::text_table::{ColumnAlign, TableCell, TextStyle, TextTable};
use super::{print_error, print_out, stdout_color};
use moongate_config::nearest;
use serde::Deserialize;
use std::process::ExitCode;

/// The columns by which the gateway sorts.
const COLUMNS: &[&str] = &[
    "id",
    "client",
    "route",
    "upstream",
    "endpoint",
    "path",
    "age",
    "idle",
    "messages",
    "bytes",
    "rtt",
    "protocol",
    "subprotocol",
    "generation",
];

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    #[command(subcommand)]
    command: Option<Command>,
    /// Words that must all match, as `route:chat`, `age>5m`, `bytes>1MiB` or a part of any text
    filter: Vec<String>,
    /// Sort by this column; descending with `-` before it
    #[arg(long, value_name = "COLUMN", default_value = "-id", value_parser = sort_column, allow_hyphen_values = true)]
    sort: String,
    /// Page, from 1
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    page: u64,
    /// WebSockets of a page, at most 500
    #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = clap::value_parser!(u64).range(1..=500))]
    per_page: u64,
    /// Print the JSON object of the API
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Close a WebSocket with a Close frame to its client
    Close(CloseArguments),
}

#[derive(clap::Args)]
struct CloseArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// ID of the WebSocket, as listed by `moongate sockets`
    id: u64,
    /// Close code
    #[arg(long, value_name = "CODE", default_value = "1012")]
    code: u16,
    /// Reason in the close frames
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the JSON object of the API
    #[arg(long)]
    json: bool,
}

/// `/api/v1/sockets`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SocketPage {
    total: u64,
    /// Those of them that are no WebSockets.
    upgraded: u64,
    matched: u64,
    page: u64,
    pages: u64,
    rows: Vec<SocketRow>,
}

/// One WebSocket.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SocketRow {
    id: u64,
    client: String,
    route: String,
    upstream: String,
    endpoint: String,
    path: String,
    age: f64,
    idle: f64,
    messages: DirectionPair,
    bytes: DirectionPair,
    rtt: RoundTrip,
    protocol: Option<String>,
    subprotocol: Option<String>,
    generation: u64,
}

/// The response to `close`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClosedSocket {
    /// That of a connection that is no WebSocket.
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DirectionPair {
    to_backend: f64,
    to_client: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoundTrip {
    client: Option<f64>,
    backend: Option<f64>,
}

impl Arguments {
    /// The options that name the gateway, written before or after `close`.
    pub(super) fn admin_mut(&mut self) -> &mut AdminArguments {
        match &mut self.command {
            Some(Command::Close(close)) => &mut close.admin,
            None => &mut self.admin,
        }
    }
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Some(Command::Close(close)) => {
            close.admin.run(async |client| close_socket(&client, close).await.map(|text| print_out(&text)))
        }
        None => arguments.admin.run(async |client| list(&client, arguments).await),
    }
}

async fn list(client: &AdminClient, arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let body = client.get(&target(arguments)).await?;
    if arguments.json {
        return Ok(print_out(&format!("{body}\n")));
    }
    let page: SocketPage = client.parse(body)?;
    let code = print_out(&render(&page.rows).render(stdout_color()));
    // Beside the table, so that its lines can be counted and cut.
    print_error(&summary(&page));
    Ok(code)
}

fn target(arguments: &Arguments) -> RequestTarget {
    let filter = Some(arguments.filter.join(" ")).filter(|filter| !filter.is_empty());
    RequestTarget::new("/api/v1/sockets")
        .query_if("filter", filter)
        .query("sort", &arguments.sort)
        .query("page", arguments.page)
        .query("per_page", arguments.per_page)
}

fn render(sockets: &[SocketRow]) -> TextTable {
    // "Up" is to the upstream, "down" is to the client.
    let mut table = TextTable::new(&[
        ("ID", ColumnAlign::Right),
        ("CLIENT", ColumnAlign::Left),
        ("ROUTE", ColumnAlign::Left),
        ("UPSTREAM", ColumnAlign::Left),
        ("ENDPOINT", ColumnAlign::Left),
        ("AGE", ColumnAlign::Right),
        ("IDLE", ColumnAlign::Right),
        ("MSGS-UP", ColumnAlign::Right),
        ("MSGS-DOWN", ColumnAlign::Right),
        ("BYTES-UP", ColumnAlign::Right),
        ("BYTES-DOWN", ColumnAlign::Right),
        ("RTT-CLIENT", ColumnAlign::Right),
        ("RTT-BACKEND", ColumnAlign::Right),
        ("GEN", ColumnAlign::Right),
        ("PROTOCOL", ColumnAlign::Left),
        ("SUBPROTOCOL", ColumnAlign::Left),
        ("PATH", ColumnAlign::Left),
    ]);
    for socket in sockets {
        let rtt = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), duration);
        let subprotocol = socket.subprotocol.as_deref().unwrap_or("-");
        table.row(vec![
            socket.id.into(),
            socket.client.as_str().into(),
            socket.route.as_str().into(),
            socket.upstream.as_str().into(),
            socket.endpoint.as_str().into(),
            duration(socket.age).into(),
            duration(socket.idle).into(),
            socket.messages.to_backend.into(),
            socket.messages.to_client.into(),
            size(socket.bytes.to_backend).into(),
            size(socket.bytes.to_client).into(),
            rtt(socket.rtt.client).into(),
            rtt(socket.rtt.backend).into(),
            TableCell::new(socket.generation.to_string(), TextStyle::Faint),
            socket.protocol.as_deref().unwrap_or("-").into(),
            subprotocol.into(),
            socket.path.as_str().into(),
        ]);
    }
    table
}

fn summary(page: &SocketPage) -> String {
    let SocketPage { total, upgraded, matched, page, pages, .. } = page;
    let what = if *upgraded > 0 { "connection" } else { "WebSocket" };
    let matching = if matched == total { String::new() } else { format!("{matched} match of ") };
    let pages = if *pages > 1 { format!("; page {page} of {pages}") } else { String::new() };
    format!("{matching}{total} open {what}{}{pages}\n", if *total == 1 { "" } else { "s" })
}

async fn close_socket(client: &AdminClient, arguments: &CloseArguments) -> Result<String, CommandError> {
    let CloseArguments { id, code, reason, json, .. } = arguments;
    let target = RequestTarget::new("/api/v1/sockets")
        .segment(&id.to_string())
        .segment("close")
        .query("code", code)
        .query_if("reason", reason.as_ref());
    match client.post(&target).await {
        Ok(body) if *json => Ok(format!("{body}\n")),
        Ok(body) => match client.parse(body)? {
            ClosedSocket { protocol: Some(protocol) } => {
                Ok(format!("connection {id} of {protocol} closed\n"))
            }
            ClosedSocket { protocol: None } => Ok(format!("WebSocket {id} closed with {code}\n")),
        },
        Err(error) if error.response("unknown_socket").is_some() => {
            Err(CommandError::failed(format!("no open WebSocket has the ID {id}"))
                .help("`moongate sockets` lists the open ones"))
        }
        Err(error) if error.response("bad_code").is_some_and(|response| response.detail.is_none()) => {
            Err(CommandError::usage(format!("a close frame cannot have the code {code}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A column, with or without `-`.
fn sort_column(text: &str) -> Result<String, String> {
    let column = text.strip_prefix('-').unwrap_or(text);
    if COLUMNS.contains(&column) {
        return Ok(text.to_owned());
    }
    Err(match nearest(column, COLUMNS.iter().copied()).first() {
        Some(near) => format!("unknown column; did you mean `{near}`?"),
        None => format!("the columns are {}", COLUMNS.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::super::admin_client::testing::{FakeGateway, block_on, json};
    use super::*;
    use crate::diagnostics::Color;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sockets: Arguments,
    }

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Line::try_parse_from([&["sockets"], arguments].concat()).map(|line| line.sockets)
    }

    #[test]
    fn filter_sort_and_page_are_in_the_query() {
        let whole = parse(&["route:chat", "age>5m", "--sort", "bytes", "--page", "2", "--per-page", "10"]);
        let expected = "/api/v1/sockets?filter=route%3Achat%20age%3E5m&sort=bytes&page=2&per_page=10";
        assert_eq!(target(&whole.unwrap()), RequestTarget::new(expected));
        let defaults = "/api/v1/sockets?sort=-id&page=1&per_page=50";
        assert_eq!(target(&parse(&[]).unwrap()), RequestTarget::new(defaults));
        assert_eq!(parse(&["--sort", "-rtt"]).unwrap().sort, "-rtt");
        for (wrong, said) in [
            (&["--sort", "sise"][..], "columns are"),
            (&["--sort", "-byte"], "did you mean `bytes`?"),
            (&["--page", "0"], "0 is not in"),
            (&["--per-page", "501"], "501 is not in"),
            (&["close"], "<ID>"),
            (&["close", "x"], "invalid digit"),
        ] {
            let error = parse(wrong).err().unwrap().to_string();
            assert!(error.contains(said), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_page_is_a_table_with_a_summary() {
        let page: SocketPage = serde_json::from_str(
            r#"{"total":50000,"matched":2,"page":1,"pages":1,"rows":[
            {"id":17,"client":"10.0.0.7","route":"chat","upstream":"chat","endpoint":"127.0.0.1:8081","host":"h","path":"/ws?\u001b","age":312.4,"idle":0.3,
             "messages":{"to_backend":12,"to_client":34567},"bytes":{"to_backend":512,"to_client":1300000},"rtt":{"client":0.0012,"backend":null},"protocol":"websocket","subprotocol":null,"generation":7},
            {"id":123}]}"#,
        )
        .unwrap();
        let text = render(&page.rows).render(Color::Never);
        let expected = "\x20ID  CLIENT    ROUTE  UPSTREAM  ENDPOINT          AGE   IDLE  MSGS-UP  MSGS-DOWN  BYTES-UP  BYTES-DOWN  RTT-CLIENT  RTT-BACKEND  GEN  PROTOCOL   SUBPROTOCOL  PATH
 17  10.0.0.7  chat   chat      127.0.0.1:8081  5m12s  300ms       12      34567      512B      1.2MiB       1.2ms            -    7  websocket  -            /ws?\\u{1b}
123                                               0ms    0ms        0          0        0B          0B           -            -    0  -          -
";
        assert_eq!(text, expected);
        assert_eq!(summary(&page), "2 match of 50000 open WebSockets\n");
        let many = SocketPage { total: 120, matched: 120, page: 2, pages: 3, ..SocketPage::default() };
        assert_eq!(summary(&many), "120 open WebSockets; page 2 of 3\n");
        assert_eq!(summary(&SocketPage { upgraded: 1, ..many }), "120 open connections; page 2 of 3\n");
    }

    fn close(arguments: &[&str], response: String) -> (Result<String, CommandError>, Vec<String>) {
        let gateway = FakeGateway::start(move |_| response.clone());
        let Some(Command::Close(close)) = parse(arguments).unwrap().command else { panic!("no command") };
        (block_on(close_socket(&gateway.client(None), &close)), gateway.lines())
    }

    #[test]
    fn a_socket_is_closed_with_code_and_reason() {
        let (closed, lines) = close(&["close", "17"], json(200, "{\"ok\":true}"));
        assert_eq!(closed.unwrap(), "WebSocket 17 closed with 1012\n");
        assert_eq!(lines, ["POST /api/v1/sockets/17/close?code=1012"]);
        let arguments = ["close", "17", "--code", "4000", "--reason", "no more", "--json"];
        let (closed, lines) = close(&arguments, json(200, "{\"ok\":true}"));
        assert_eq!(closed.unwrap(), "{\"ok\":true}\n");
        assert_eq!(lines, ["POST /api/v1/sockets/17/close?code=4000&reason=no%20more"]);
        let (closed, _) = close(&["close", "17"], json(200, r#"{"ok":true,"protocol":"tcp"}"#));
        assert_eq!(closed.unwrap(), "connection 17 of tcp closed\n");
    }

    #[test]
    fn an_unknown_socket_and_a_wrong_code_are_errors() {
        let (closed, _) = close(&["close", "17"], json(404, r#"{"error":"unknown_socket","status":404}"#));
        let error = closed.unwrap_err();
        assert!(error.text().contains("no open WebSocket has the ID 17"), "{}", error.text());
        let (closed, _) =
            close(&["close", "17", "--code", "1006"], json(422, r#"{"error":"bad_code","status":422}"#));
        assert_eq!(closed.unwrap_err(), CommandError::usage("a close frame cannot have the code 1006"));
    }
}
