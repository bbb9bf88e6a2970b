//! `moongate upgrade`: asks a running gateway to hand over to a new process, and prints the result.

use super::admin_client::{self, AdminArguments, AdminClient, RequestError, RequestTarget};
use super::command_error::CommandError;
use super::reload;
use super::{FAILED, print_out};
use http::Method;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Wait this long for the result, as 90s or 5m; the upgrade continues after the timeout
    #[arg(long, value_name = "TIME", default_value = "150s", value_parser = super::period)]
    timeout: Duration,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
    /// Reload instead, unless the program at the path of the running process is another file by now
    #[arg(long, conflicts_with = "json")]
    or_reload: bool,
    /// Let the new process serve only while the service manager restarts the service; for `ExecStop=` of a unit
    #[arg(long, conflicts_with = "or_reload")]
    for_restart: bool,
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let Arguments { admin, timeout, json, or_reload, for_restart } = arguments;
    let client = match admin.client(*timeout) {
        Ok(client) => client,
        Err(error) => return error.print(),
    };
    admin_client::run(async {
        if *or_reload && !is_program_replaced(&client, *timeout).await? {
            return reload::request(&client, admin, *timeout, *timeout).await;
        }
        let target = RequestTarget::new("/api/v1/upgrade");
        let target = if *for_restart { target.query("for", "restart") } else { target };
        match client.call(Method::POST, &target, *timeout).await {
            Ok(outcome) if *json => Ok(print_out(&format!("{outcome}\n"))),
            Ok(outcome) => Ok(print_out(&done(&outcome))),
            Err(error) => Err(failed(error, &client, *timeout)),
        }
    })
}

async fn is_program_replaced(client: &AdminClient, timeout: Duration) -> Result<bool, CommandError> {
    let status = client.call(Method::GET, &RequestTarget::new("/api/v1/status"), timeout).await;
    let status = status.map_err(CommandError::from)?;
    Ok(status.get("program_replaced").and_then(Value::as_bool).unwrap_or_default())
}

fn done(outcome: &Value) -> String {
    let pid = outcome.get("pid").and_then(Value::as_u64).unwrap_or_default();
    let version = outcome.get("version").and_then(Value::as_str).unwrap_or_default();
    let count = |name: &str| outcome.pointer(name).and_then(Value::as_u64).unwrap_or_default();
    let (moved, left) = (count("/websockets/moved"), count("/websockets/left"));
    let left = match left {
        0 => String::new(),
        left => format!(", {left} are asked to reconnect"),
    };
    format!("process {pid} serves (moongate {version}): {moved} WebSockets moved{left}\n")
}

fn failed(error: RequestError, client: &AdminClient, timeout: Duration) -> CommandError {
    if error.is_timeout() {
        let address = client.address();
        return CommandError::failed(format!("no response from the gateway at {address} within {timeout:?}"))
            .help("the upgrade may still be under way: its outcome will be in the log; `--timeout` waits longer");
    }
    let body = error.status(422).and_then(|response| serde_json::from_str::<Value>(&response.body).ok());
    match body.as_ref().and_then(|body| body.get("report")?.as_str()) {
        Some(report) => {
            let report = report.trim_end();
            let text = match report {
                // That process ends, whatever the reason.
                "the process is shutting down" => format!("error: upgrade failed: {report}\n"),
                _ => format!("error: upgrade failed; the running process continues\n{report}\n"),
            };
            CommandError::report(text, FAILED)
        }
        None => error.into(),
    }
}
