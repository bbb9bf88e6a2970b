//! HTTP client of the admin API for the commands: one connection a request, with limits of time and size.
//!
//! The client trusts nothing in a response: the address may be that of any other program.

mod address;
mod arguments;
mod event_parser;
mod event_stream;
mod request_error;
mod request_target;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

pub(super) use address::AdminAddress;
pub(super) use arguments::AdminArguments;
pub(super) use event_parser::StreamEvent;
pub(super) use event_stream::EventStream;
pub(super) use request_error::{ErrorResponse, RequestError};
pub(super) use request_target::RequestTarget;

use super::command_error::CommandError;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use request_error::RequestFailure;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connect timeout.
const CONNECT: Duration = Duration::from_secs(5);

/// The time limit of a call, including its connection. Calls with rates take a second.
pub(super) const CALL: Duration = Duration::from_secs(15);

/// The largest response in bytes, far above a report of many problems.
const LARGEST: usize = 16 << 20;

/// The largest response header in bytes.
const LARGEST_HEAD: usize = 64 << 10;

/// The maximum number of header fields of a response.
const MOST_FIELDS: usize = 64;

/// A gateway at its admin address.
#[derive(Clone, Debug)]
pub(super) struct AdminClient {
    address: AdminAddress,
    /// The value of `Authorization`.
    token: Option<HeaderValue>,
}

/// A response whose body has not been read, with its connection.
struct OpenResponse {
    response: Response<Incoming>,
    /// Ends with the exchange.
    connection: JoinSet<()>,
}

impl AdminClient {
    fn new(address: AdminAddress, token: Option<HeaderValue>) -> Self {
        Self { address, token }
    }

    /// The admin address.
    pub(super) fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// GET of a JSON object.
    pub(super) async fn get(&self, target: &RequestTarget) -> Result<Value, RequestError> {
        self.call(Method::GET, target, CALL).await
    }

    /// POST without a body, with a JSON object in the response.
    pub(super) async fn post(&self, target: &RequestTarget) -> Result<Value, RequestError> {
        self.call(Method::POST, target, CALL).await
    }

    /// A request with the JSON object of its response, within `limit` as a whole.
    pub(super) async fn call(
        &self,
        method: Method,
        target: &RequestTarget,
        limit: Duration,
    ) -> Result<Value, RequestError> {
        let whole = async {
            let OpenResponse { response, connection } = self.send(method, target).await?;
            let body = read_body(response).await?;
            drop(connection);
            serde_json::from_slice(&body)
                .map_err(|_| RequestFailure::Malformed("its body is not JSON".to_owned()))
        };
        let outcome = timeout(limit, Box::pin(whole)).await.unwrap_or(Err(RequestFailure::Timeout(limit)));
        outcome.map_err(|cause| self.error(cause))
    }

    /// GET of which only the status counts, within `limit` as a whole. Another status than 200 is an error.
    pub(super) async fn probe(&self, target: &RequestTarget, limit: Duration) -> Result<(), RequestError> {
        let outcome = timeout(limit, Box::pin(self.send(Method::GET, target))).await;
        let outcome = outcome.unwrap_or(Err(RequestFailure::Timeout(limit)));
        outcome.map(drop).map_err(|cause| self.error(cause))
    }

    /// A GET whose response is a stream of events.
    pub(super) async fn stream(&self, target: &RequestTarget) -> Result<EventStream, RequestError> {
        let response = timeout(CALL, self.send(Method::GET, target)).await;
        let exchange = response.unwrap_or(Err(RequestFailure::Timeout(CALL)));
        let stream = exchange.and_then(|exchange| EventStream::new(self.address.clone(), exchange));
        stream.map_err(|cause| self.error(cause))
    }

    /// Reads a response as the object that the command needs.
    pub(super) fn parse<T: DeserializeOwned>(&self, body: Value) -> Result<T, RequestError> {
        serde_json::from_value(body).map_err(|error| self.error(RequestFailure::Malformed(error.to_string())))
    }

    fn error(&self, cause: RequestFailure) -> RequestError {
        RequestError { address: self.address.clone(), cause }
    }

    async fn send(&self, method: Method, target: &RequestTarget) -> Result<OpenResponse, RequestFailure> {
        let unsendable = |error: &dyn std::fmt::Display| RequestFailure::Unsendable(error.to_string());
        let uri = Uri::try_from(target.as_str()).map_err(|error| unsendable(&error))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, self.address.as_str())
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| unsendable(&error))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let connected = timeout(CONNECT, TcpStream::connect(self.address.as_str())).await;
        let stream = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        let stream = stream.map_err(RequestFailure::Unreachable)?;
        let (mut sender, driver) = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_header_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| RequestFailure::of(&error))?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // The response reports the errors of its connection.
            let _ = driver.await;
        });
        let response = sender.send_request(request).await.map_err(|error| RequestFailure::of(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(OpenResponse { response, connection });
        }
        let status = response.status().as_u16();
        let body = read_body(response).await?;
        Err(RequestFailure::Status(ErrorResponse::new(status, &body)))
    }
}

impl RequestFailure {
    fn of(error: &hyper::Error) -> Self {
        let text = with_causes(error);
        if error.is_parse() { Self::Malformed(text) } else { Self::Unreachable(io::Error::other(text)) }
    }
}

async fn read_body(response: Response<Incoming>) -> Result<Bytes, RequestFailure> {
    match Limited::new(response.into_body(), LARGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(RequestFailure::Malformed("it is too large".to_owned()))
        }
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(RequestFailure::of(&error)),
            Err(error) => Err(RequestFailure::Malformed(error.to_string())),
        },
    }
}

/// An error with its causes: hyper adds one with each layer.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs a command on a runtime of its own, and reports its failure.
pub(super) fn run(command: impl Future<Output = Result<ExitCode, CommandError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return CommandError::failed(format!("the runtime cannot be started: {error}")).print();
        }
    };
    let outcome = runtime.block_on(command);
    // A name lookup may still block a thread of the runtime.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| error.print())
}
