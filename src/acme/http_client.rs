//! HTTP/1.1 client for ACME CAs: a hyper connection over the gateway's own resolver and TLS. One request per
//! connection, since a renewal needs a dozen in two months; time and size of a response are bounded.
//!
//! instant-acme's `hyper-rustls` feature is not used: it resolves names through the system, bounds nothing, and brings a
//! second version of rustls-native-certs.

use super::settings::is_safe;
use crate::net::resolver;
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use crate::tls::platform_roots;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// The time limit of a request with its response.
const WHOLE: Duration = Duration::from_secs(30);
/// The largest body of a response, in bytes; a chain of certificates is a few KiB.
const LARGEST: usize = 1 << 20;
/// The largest head of a response, in bytes.
const LARGEST_HEAD: usize = 1 << 16;
/// The most fields of a response.
const MOST_FIELDS: usize = 64;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct AttemptError(String);

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AttemptError {}

impl From<io::Error> for AttemptError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<hyper::Error> for AttemptError {
    fn from(error: hyper::Error) -> Self {
        Self(with_causes(&error))
    }
}

fn no_response(why: impl Into<String>) -> AttemptError {
    AttemptError(why.into())
}

/// The HTTP client for requests to a CA.
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    /// A client that trusts these issuers, or the system's.
    ///
    /// # Errors
    /// When there is no issuer to trust.
    pub(super) fn new(roots: Option<&[CertificateDer<'static>]>) -> Result<Self, AttemptError> {
        const NONE: &str = "no trusted root certificates; set `directory_ca` to a PEM file";
        let store = match roots {
            Some(roots) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.iter().cloned());
                Arc::new(store)
            }
            None => platform_roots::store().map_err(|error| no_response(format!("{NONE} ({error})")))?,
        };
        if store.is_empty() {
            return Err(no_response(NONE));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| no_response(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let tls = TlsConnector::from(Arc::clone(&self.0));
        Box::pin(async move {
            let uri = request.uri().clone();
            let asked = tokio::time::timeout(WHOLE, ask(tls, request));
            let answer = asked.await.unwrap_or_else(|_| Err(no_response("no response in time")));
            let answer = answer.and_then(is_from_ca);
            let (parts, body) = answer
                .map_err(|why| Error::Other(Box::new(no_response(format!("{uri}: {why}")))))?
                .into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Rejects the error page of a load balancer: a CA reports its errors as problem documents (RFC 8555 §6.7).
fn is_from_ca(answer: Response<Bytes>) -> Result<Response<Bytes>, AttemptError> {
    let told = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if answer.status().is_server_error() && !told.starts_with(b"application/problem+json") {
        return Err(no_response(format!("the response status was {}", answer.status())));
    }
    Ok(answer)
}

async fn ask<B>(tls: TlsConnector, request: Request<B>) -> Result<Response<Bytes>, AttemptError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    // Even a trusted CA may name a URL elsewhere.
    if !is_safe(request.uri()) {
        return Err(no_response("the URL is not an https: URL"));
    }
    let uri = request.uri();
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let request = origin_form(request)?;
    let late = |_| no_response("no connection in time");
    let connect = resolver::global().connect(&bare, port);
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
    if !secure {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(bare).map_err(|error| no_response(error.to_string()))?;
    let carrier = Carrier::new(stream, RecordFollower::default());
    let stream = tokio::time::timeout(CONNECT, tls.connect(name, carrier)).await.map_err(late)??;
    // It ends with its closing alert wherever the request ends.
    exchange(TlsConnection::new(stream), request).await
}

/// The request as it is written on a connection of its own: the host as a field, and no connection after it.
fn origin_form<B>(mut request: Request<B>) -> Result<Request<B>, AttemptError> {
    let host = authority(request.uri())?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = Uri::try_from(target).map_err(|error| no_response(error.to_string()))?;
    *request.uri_mut() = target;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

fn authority(uri: &Uri) -> Result<HeaderValue, AttemptError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // RFC 9110 §4.2.4: userinfo before an @ is not part of the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).map_err(|error| no_response(error.to_string()))
}

async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<B>,
) -> Result<Response<Bytes>, AttemptError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MOST_FIELDS)
        .max_header_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let respond = async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                no_response("the response is too long")
            } else {
                no_response(with_causes(&*error))
            }
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    // Polled together with the response instead of spawned, so that both end together. The response reports an
    // response as well.
    let drive = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        response = respond => response,
        never = drive => match never {},
    }
}

/// An error with its causes: each layer of hyper adds one.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
