//! `moongate reload`: requests a reload through the admin address and prints the result. The file is read
//! here only for the admin address.

use super::admin_client::{self, AdminArguments, AdminClient, RequestError, RequestTarget};
use super::command_error::CommandError;
use super::{BAD_CONFIG, print_error, print_out};
use http::Method;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Wait this long for the result, as 90s or 5m; the reload continues after the timeout
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::period)]
    timeout: Duration,
}

/// Waits for the result within the timeout, which includes reading the file.
pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let Arguments { admin, timeout } = arguments;
    let until = Instant::now() + *timeout;
    // The gateway reports an invalid file in its status and metrics too, so the request is sent if the admin
    // address can be read.
    let client = match admin.client(*timeout) {
        Ok(client) => client,
        Err(error) => return error.print(),
    };
    admin_client::run(async {
        request(&client, admin, until.saturating_duration_since(Instant::now()), *timeout).await
    })
}

/// Requests a reload, waits `left` of `timeout` for the result, and prints it.
pub(super) async fn request(
    client: &AdminClient,
    admin: &AdminArguments,
    left: Duration,
    timeout: Duration,
) -> Result<ExitCode, CommandError> {
    match client.call(Method::POST, &RequestTarget::new("/api/v1/reload"), left).await {
        Ok(outcome) => Ok(applied(&outcome, admin.path())),
        Err(error) => Err(refused(error, client, timeout)),
    }
}

fn applied(outcome: &Value, path: Option<&Path>) -> ExitCode {
    let text = |key: &str| outcome.get(key).and_then(Value::as_str);
    // As in `moongate check`, warnings do not fail the command.
    print_error(text("report").unwrap_or_default());
    if let (Some(path), Some(other)) = (path, text("file"))
        && !is_same_file(path, Path::new(other))
    {
        print_error(&format!(
            "warning: the gateway reads {other}, not {}\n  = help: restart the gateway with `-c` to use another file\n",
            path.display()
        ));
    }
    let generation = outcome.get("generation").and_then(Value::as_u64);
    let generation = generation.map(|number| format!(", generation {number}")).unwrap_or_default();
    print_out(&format!("configuration reloaded{generation}\n"))
}

fn refused(error: RequestError, client: &AdminClient, timeout: Duration) -> CommandError {
    if error.is_timeout() {
        // The error has the rest of the time after the file was read.
        let address = client.address();
        return CommandError::failed(format!("no response from the gateway at {address} within {timeout:?}"))
            .help(
                "the reload may still be under way: its outcome will be in the log and in `last_reload` of \
                 /api/v1/status; `--timeout` waits longer",
            );
    }
    let body = error.status(422).and_then(|response| serde_json::from_str::<Value>(&response.body).ok());
    match body.as_ref().and_then(|body| body.get("report")?.as_str()) {
        Some(report) => CommandError::report(report.to_owned(), BAD_CONFIG),
        None => error.into(),
    }
}

/// Whether both paths lead to one file.
fn is_same_file(own: &Path, gateways: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    canonical(own) == canonical(gateways)
}
