//! `moongate secrets rotate`: adds a secret to the stores of a running gateway, for `sticky` cookies and TLS session tickets.

use super::admin_client::{self, AdminArguments, AdminClient, RequestError, RequestTarget};
use super::command_error::CommandError;
use super::print_out;
use http::Method;
use serde::Deserialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// The time limit of the request.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Add a new secret: all gateways of the store sign with it 5 s later, and accept the two before it
    Rotate(RotateArguments),
}

#[derive(clap::Args)]
pub(super) struct RotateArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Store whose secret is rotated [default: every one whose secrets are used]
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
}

impl Command {
    pub(super) fn admin_mut(&mut self) -> &mut AdminArguments {
        let Self::Rotate(arguments) = self;
        &mut arguments.admin
    }
}

#[derive(Deserialize)]
struct Rotated {
    stores: Vec<RotatedStore>,
}

#[derive(Deserialize)]
struct RotatedStore {
    store: String,
    version: u64,
    signs_in: u64,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    detail: Option<String>,
}

pub(super) fn main(command: &Command) -> ExitCode {
    let Command::Rotate(arguments) = command;
    let client = match arguments.admin.client(LONGEST) {
        Ok(client) => client,
        Err(error) => return error.print(),
    };
    admin_client::run(async { rotate(&client, arguments.store.as_deref()).await })
}

async fn rotate(client: &AdminClient, store: Option<&str>) -> Result<ExitCode, CommandError> {
    let target = RequestTarget::new("/api/v1/secrets/rotate").query_if("store", store);
    let rotated: Rotated = match client.call(Method::POST, &target, LONGEST).await {
        Ok(rotated) => serde_json::from_value(rotated)
            .map_err(|error| CommandError::failed(format!("unexpected response of the gateway: {error}")))?,
        Err(error) => return Err(refused(error)),
    };
    let mut text = String::new();
    for RotatedStore { store, version, signs_in } in rotated.stores {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{store}: secret {version} added; it signs in {signs_in} s");
    }
    Ok(print_out(&text))
}

fn refused(error: RequestError) -> CommandError {
    let body = [404, 409, 503].iter().find_map(|status| error.status(*status)).map(|response| &response.body);
    let refusal = body.and_then(|body| serde_json::from_str::<Refusal>(body).ok());
    let Some(Refusal { error: token, detail }) = refusal else { return error.into() };
    let store = detail.map(|name| format!(" `{name}`")).unwrap_or_default();
    match token.as_str() {
        "unused_secrets" => CommandError::failed("no secrets of a store are used").help(
            "set `store` of `balance: { kind: sticky }`, or `ticket_keys: { store: NAME }` of a listener",
        ),
        "rotation_under_way" => {
            CommandError::failed(format!("the last rotation of the store{store} is not complete"))
                .help("wait for 5 s between two rotations")
        }
        "store_unavailable" => CommandError::failed(format!("the store{store} is unavailable"))
            .help("`moongate status` shows why; the secrets in use are unchanged"),
        _ => error.into(),
    }
}
