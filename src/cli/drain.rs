//! `moongate drain` and `moongate undrain`: an operator's drain of one endpoint, with suggestions for an unknown
//! name, and the wait until the endpoint has no connection.

use super::admin_client::{AdminArguments, AdminClient, RequestTarget};
use super::command_error::CommandError;
use super::human_units::duration;
use super::status::{self, EndpointStatus, GatewayStatus};
use super::{print_error, print_out};
use moongate_config::nearest;
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The time between two looks at the status.
const INTERVAL: Duration = Duration::from_millis(250);

/// The maximum number of names in a suggestion.
const SUGGESTED: usize = 3;

#[derive(clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Wait until the endpoint has no request and no WebSocket
    #[arg(long)]
    wait: bool,
    /// Wait at most this long, as 90s or 5m; the drain continues after the timeout
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "5m", value_parser = super::period)]
    timeout: Duration,
}

#[derive(clap::Args)]
pub(super) struct EndpointArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Name of the upstream, as in `moongate status`
    upstream: String,
    /// Address of the endpoint, as in `moongate status`
    endpoint: String,
    /// Print the state of the endpoint as a JSON object
    #[arg(long)]
    json: bool,
}

impl DrainArguments {
    /// The options that name the gateway.
    pub(super) fn admin_mut(&mut self) -> &mut AdminArguments {
        &mut self.endpoint.admin
    }
}

pub(super) fn main(arguments: &DrainArguments) -> ExitCode {
    let DrainArguments { endpoint, wait, timeout } = arguments;
    endpoint.admin.run(async |client| {
        let mut state = order(&client, endpoint, "drain").await?;
        if *wait {
            state = await_end(&client, endpoint, *timeout).await?;
        }
        Ok(print_out(&report(endpoint, state.as_ref(), "draining")))
    })
}

pub(super) fn undrain_main(arguments: &EndpointArguments) -> ExitCode {
    arguments.admin.run(async |client| {
        let state = order(&client, arguments, "undrain").await?;
        Ok(print_out(&report(arguments, state.as_ref(), "undrained")))
    })
}

/// Sends the order and returns the state of the endpoint after it.
async fn order(
    client: &AdminClient,
    arguments: &EndpointArguments,
    verb: &str,
) -> Result<Option<EndpointStatus>, CommandError> {
    let EndpointArguments { upstream, endpoint, .. } = arguments;
    match client.post(&target(upstream, endpoint, verb)).await {
        Ok(_) => state(client, arguments).await,
        Err(error) if error.response("unknown_endpoint").is_some() => {
            let status: GatewayStatus = client.parse(client.get(&status::target()).await?)?;
            Err(unknown(&status, upstream, endpoint))
        }
        Err(error) => Err(error.into()),
    }
}

/// The request that drains or undrains an endpoint.
pub(super) fn target(upstream: &str, endpoint: &str, verb: &str) -> RequestTarget {
    let upstreams = RequestTarget::new("/api/v1/upstreams");
    upstreams.segment(upstream).segment("endpoints").segment(endpoint).segment(verb)
}

/// The state of the endpoint; `None` if it is gone.
async fn state(
    client: &AdminClient,
    arguments: &EndpointArguments,
) -> Result<Option<EndpointStatus>, CommandError> {
    let status: GatewayStatus = client.parse(client.get(&status::target()).await?)?;
    let upstream = status.upstreams.get(&arguments.upstream);
    let mut endpoints = upstream.into_iter().flat_map(|upstream| &upstream.endpoints);
    Ok(endpoints.find(|endpoint| endpoint.address == arguments.endpoint).cloned())
}

/// Waits until the endpoint has no connection, or is gone.
async fn await_end(
    client: &AdminClient,
    arguments: &EndpointArguments,
    timeout: Duration,
) -> Result<Option<EndpointStatus>, CommandError> {
    let start = Instant::now();
    // Standard error, so that the result on standard output stays alone.
    let shows_progress = std::io::stderr().is_terminal();
    let EndpointArguments { upstream, endpoint, .. } = arguments;
    loop {
        let state = state(client, arguments).await?;
        let active = state.as_ref().map_or(0, |state| state.active);
        if shows_progress {
            print_error(&format!("\r\x1b[K{}", if active > 0 { remaining(active) } else { String::new() }));
        }
        if active == 0 {
            return Ok(state);
        }
        if state.is_some_and(|state| state.draining.is_none()) {
            end_progress(shows_progress);
            return Err(CommandError::failed(format!("the drain of {upstream} {endpoint} was ended"))
                .help("another operator or a tool has undrained the endpoint"));
        }
        if start.elapsed() >= timeout {
            end_progress(shows_progress);
            let waited = duration(timeout.as_secs_f64());
            return Err(CommandError::failed(format!("{} after {waited}", remaining(active)))
                .help("the drain continues; `--timeout` waits longer"));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn end_progress(shows_progress: bool) {
    if shows_progress {
        print_error("\n");
    }
}

fn remaining(active: u64) -> String {
    format!(
        "{active} connection{} remain{}",
        if active == 1 { "" } else { "s" },
        if active == 1 { "s" } else { "" }
    )
}

/// The result as a line of text or JSON.
fn report(arguments: &EndpointArguments, state: Option<&EndpointStatus>, done: &str) -> String {
    let EndpointArguments { upstream, endpoint, json, .. } = arguments;
    let active = state.map_or(0, |state| state.active);
    if *json {
        let draining = state.map_or(Some("removed"), |state| state.draining.as_deref());
        let object =
            json!({ "upstream": upstream, "endpoint": endpoint, "draining": draining, "active": active });
        return format!("{object}\n");
    }
    let still = state.and_then(|state| state.draining.as_deref()).filter(|_| done == "undrained");
    let still = still.map(|cause| format!("; it still drains ({cause})")).unwrap_or_default();
    let count = match active {
        0 => "no connection".to_owned(),
        1 => "1 connection".to_owned(),
        active => format!("{active} connections"),
    };
    format!("{upstream} {endpoint} {done}: {count}{still}\n")
}

/// The error for a name that the status does not have.
fn unknown(status: &GatewayStatus, upstream: &str, endpoint: &str) -> CommandError {
    let Some(known) = status.upstreams.get(upstream) else {
        let names: Vec<_> = status.upstreams.keys().map(String::as_str).collect();
        return with_names(&format!("unknown upstream `{upstream}`"), upstream, &names, "upstreams");
    };
    let names: Vec<_> = known.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
    let is_removed =
        |known: &&EndpointStatus| known.address == endpoint && known.draining.as_deref() == Some("removed");
    if known.endpoints.iter().any(|known| is_removed(&known)) {
        return CommandError::failed(format!("{upstream} {endpoint} was removed and cannot be drained"))
            .help("it takes no new connections; `on_reload: drain` of a route closes its WebSockets");
    }
    with_names(
        &format!("the upstream `{upstream}` has no endpoint `{endpoint}`"),
        endpoint,
        &names,
        "endpoints",
    )
}

/// An error with the nearest names, or with all of them if none is near.
fn with_names(message: &str, written: &str, names: &[&str], kind: &str) -> CommandError {
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let near = nearest(written, names.iter().copied());
    let error = CommandError::failed(message);
    match (near.as_slice(), names) {
        (_, []) => error.help(format!("there are no {kind}")),
        ([], names) if names.len() > 2 * SUGGESTED => {
            error.help(format!("`moongate status` lists the {kind}"))
        }
        ([], names) => error.help(format!("the {kind} are {}", quoted(names))),
        (near, _) => error.help(format!("did you mean {}?", quoted(&near[..near.len().min(SUGGESTED)]))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::super::admin_client::testing::{FakeGateway, block_on, json as response};
    use super::*;
    use clap::Parser;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        drain: DrainArguments,
    }

    fn parse(arguments: &[&str]) -> DrainArguments {
        Line::try_parse_from([&["drain"], arguments].concat()).unwrap().drain
    }

    fn status(draining: &str, active: u64) -> String {
        let endpoint = |address: &str, draining: &str, active: u64| {
            format!(r#"{{"address":"{address}","draining":{draining},"active":{active}}}"#)
        };
        let (first, second) =
            (endpoint("127.0.0.1:8081", draining, active), endpoint("127.0.0.1:8082", "null", 9));
        let removed = endpoint("127.0.0.1:9", "\"removed\"", 1);
        response(
            200,
            &format!(
                r#"{{"upstreams":{{"chat":{{"endpoints":[{first},{second},{removed}]}},"api":{{"endpoints":[]}}}}}}"#
            ),
        )
    }

    #[test]
    fn a_drain_is_ordered_and_its_state_is_reported() {
        let gateway = FakeGateway::start(|line| {
            if line.starts_with("POST") {
                response(200, "{\"ok\":true}")
            } else {
                status("\"operator\"", 120)
            }
        });
        for (more, expected) in [
            (&[][..], "chat 127.0.0.1:8081 draining: 120 connections\n"),
            (
                &["--json"],
                "{\"active\":120,\"draining\":\"operator\",\"endpoint\":\"127.0.0.1:8081\",\"upstream\":\"chat\"}\n",
            ),
        ] {
            let arguments = parse(&[&["chat", "127.0.0.1:8081"], more].concat()).endpoint;
            let state = block_on(order(&gateway.client(None), &arguments, "drain")).unwrap();
            assert_eq!(report(&arguments, state.as_ref(), "draining"), expected);
        }
        let order = "POST /api/v1/upstreams/chat/endpoints/127.0.0.1%3A8081/drain";
        assert_eq!(gateway.lines()[..2], [order, "GET /api/v1/status"]);
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_ones() {
        let gateway = FakeGateway::start(|line| match line.starts_with("POST") {
            true => response(404, r#"{"error":"unknown_endpoint","status":404}"#),
            false => status("null", 0),
        });
        for (upstream, endpoint, message, help) in [
            ("chta", "x", "unknown upstream `chta`", "did you mean `chat`?"),
            ("something", "x", "unknown upstream `something`", "the upstreams are `api`, `chat`"),
            (
                "chat",
                "127.0.0.1:8083",
                "no endpoint `127.0.0.1:8083`",
                "did you mean `127.0.0.1:8081`, `127.0.0.1:8082`, `127.0.0.1:9`?",
            ),
            ("chat", "backend", "no endpoint `backend`", "the endpoints are `127.0.0.1:8081`"),
            ("api", "x", "the upstream `api` has no endpoint `x`", "there are no endpoints"),
            ("chat", "127.0.0.1:9", "was removed", "on_reload: drain"),
        ] {
            let arguments = parse(&[upstream, endpoint]).endpoint;
            let error = block_on(order(&gateway.client(None), &arguments, "drain")).unwrap_err();
            assert!(error.text().contains(message) && error.text().contains(help), "{}", error.text());
        }
    }

    #[test]
    fn a_wait_ends_when_the_last_connection_has_ended() {
        let looks = AtomicU64::new(3);
        let gateway = FakeGateway::start(move |_| status("\"operator\"", looks.fetch_sub(1, SeqCst) - 1));
        let arguments = parse(&["chat", "127.0.0.1:8081", "--wait"]);
        let state =
            block_on(await_end(&gateway.client(None), &arguments.endpoint, arguments.timeout)).unwrap();
        assert_eq!(state.unwrap().active, 0);
        assert_eq!(gateway.lines().len(), 3);
    }

    #[test]
    fn a_wait_ends_with_an_error_after_its_timeout_and_at_an_undrain() {
        for (draining, timeout, part) in [
            ("\"operator\"", Duration::ZERO, "error: 1 connection remains after 0ms"),
            ("null", Duration::from_secs(60), "was ended"),
        ] {
            let gateway = FakeGateway::start(move |_| status(draining, 1));
            let arguments = parse(&["chat", "127.0.0.1:8081", "--wait"]).endpoint;
            let error = block_on(await_end(&gateway.client(None), &arguments, timeout)).unwrap_err();
            assert!(error.text().starts_with("error: ") && error.text().contains(part), "{}", error.text());
        }
    }

    #[test]
    fn an_undrain_of_a_marked_endpoint_reports_that_it_still_drains() {
        let arguments = parse(&["chat", "127.0.0.1:8081"]).endpoint;
        let state =
            EndpointStatus { draining: Some("marked".to_owned()), active: 1, ..EndpointStatus::default() };
        let text = report(&arguments, Some(&state), "undrained");
        assert_eq!(text, "chat 127.0.0.1:8081 undrained: 1 connection; it still drains (marked)\n");
    }
}
