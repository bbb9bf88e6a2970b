//! `moongate check --live`: whether a running gateway is ready, for health checks of containers and scripts.

use super::admin_client::{self, AdminAddress, AdminArguments, AdminClient, RequestTarget};
use super::command_error::CommandError;
use super::{File, print_out};
use std::process::ExitCode;
use std::time::Duration;

/// The time limit of the whole check, below that of common health checks.
const LIMIT: Duration = Duration::from_secs(5);

/// Status of a gateway that is not ready (RFC 9110 §15.6.4).
const NOT_READY: u16 = 503;

pub(super) fn main(file: File, address: Option<AdminAddress>) -> ExitCode {
    match AdminArguments::new(file, address).client(LIMIT) {
        Ok(client) => admin_client::run(check(client)),
        Err(error) => error.print(),
    }
}

async fn check(client: AdminClient) -> Result<ExitCode, CommandError> {
    let address = client.address();
    match client.probe(&RequestTarget::new("/readyz"), LIMIT).await {
        Ok(()) => Ok(print_out(&format!("the gateway at {address} is ready\n"))),
        // The response without a token of the API: one with it has another cause, as too many connections.
        Err(error) if error.status(NOT_READY).is_some_and(|response| response.error.is_empty()) => {
            Err(CommandError::failed(format!("the gateway at {address} is not ready: it starts or drains")))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::cli::admin_client::testing::{FakeGateway, block_on, json};

    fn outcome(response: &str) -> Result<ExitCode, String> {
        let response = response.to_owned();
        let gateway = FakeGateway::start(move |_| response.clone());
        block_on(check(gateway.client(None))).map_err(|error| error.text().to_owned())
    }

    #[test]
    fn a_gateway_is_ready_if_its_status_is_200() {
        assert_eq!(outcome("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"), Ok(ExitCode::SUCCESS));
        let draining = outcome("HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\ndraining\n").unwrap_err();
        assert!(draining.contains("is not ready: it starts or drains"), "{draining}");
        let busy = outcome(&json(503, r#"{"error":"too_many_connections","status":503}"#)).unwrap_err();
        assert!(busy.contains("503 too_many_connections"), "{busy}");
        let foreign = outcome("SSH-2.0-OpenSSH_9.2\r\n").unwrap_err();
        assert!(foreign.contains("is not that of a Moongate admin address"), "{foreign}");
    }
}
