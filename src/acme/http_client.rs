//! HTTP/1.1 client for a CA: one request per connection, and a bounded response. A dozen requests in two
//! months do not need connection reuse or a larger library.

use super::settings::is_safe;
use crate::net::resolver;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// Connect timeout, with the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Timeout of a request with its response.
const WHOLE: Duration = Duration::from_secs(30);
/// The largest response in bytes; a certificate chain has a few KiB.
const LARGEST: usize = 1 << 20;
/// The limit on header fields of a response.
const MOST_FIELDS: usize = 64;

/// The reason for the lack of a response.
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

fn no_response(why: impl Into<String>) -> AttemptError {
    AttemptError(why.into())
}

/// Client for one CA.
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    /// A client that trusts these issuers, or those of the system.
    ///
    /// # Errors
    /// There are no trusted issuers.
    pub(super) fn new(roots: Option<&[CertificateDer<'static>]>) -> Result<Self, AttemptError> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(roots) => {
                store.add_parsable_certificates(roots.iter().cloned());
            }
            None => {
                let system = rustls_native_certs::load_native_certs()?;
                store.add_parsable_certificates(system);
            }
        }
        if store.is_empty() {
            return Err(no_response("no trusted issuers found; set `directory_ca`"));
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
            let (head, body) = request.into_parts();
            // instant-acme converts a body to bytes only as part of a response.
            let body = BytesResponse::from(Response::new(body)).body.into_bytes().await;
            let body = body.map_err(Error::Other)?;
            let uri = head.uri.clone();
            let request = tokio::time::timeout(WHOLE, ask(tls, head, body));
            let response = request.await.unwrap_or_else(|_| Err(no_response("no response in time")));
            let response = response.and_then(require_acme_response);
            let (parts, body) = response
                .map_err(|why| Error::Other(Box::new(no_response(format!("{uri}: {why}")))))?
                .into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Refuses error responses that are not from the CA: its errors are problem documents (RFC 8555 §6.7).
fn require_acme_response(response: Response<Bytes>) -> Result<Response<Bytes>, AttemptError> {
    let content_type =
        response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if response.status().is_server_error() && !content_type.starts_with(b"application/problem+json") {
        return Err(no_response(format!("unexpected status {}", response.status())));
    }
    Ok(response)
}

async fn ask(
    tls: TlsConnector,
    head: http::request::Parts,
    body: Bytes,
) -> Result<Response<Bytes>, AttemptError> {
    // A trusted CA may still refer to an unsafe URL.
    if !is_safe(&head.uri) {
        return Err(no_response("not an https: URL"));
    }
    let host = head.uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = head.uri.scheme_str() == Some("https");
    let port = head.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let wire = render(&head, &body)?;
    let late = |_| no_response("no connection in time");
    let connect = resolver::global().connect(&bare, port);
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
    if !secure {
        return exchange(stream, &wire, &head.method).await;
    }
    let name = ServerName::try_from(bare).map_err(|error| no_response(error.to_string()))?;
    let stream = tokio::time::timeout(CONNECT, tls.connect(name, stream)).await.map_err(late)??;
    exchange(stream, &wire, &head.method).await
}

/// Encodes the request.
fn render(head: &http::request::Parts, body: &Bytes) -> Result<Vec<u8>, AttemptError> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut wire = format!("{} {target} HTTP/1.1\r\n", head.method).into_bytes();
    let host = authority(&head.uri)?;
    let length = HeaderValue::from(body.len());
    let own = [
        (header::HOST, host),
        (header::CONNECTION, HeaderValue::from_static("close")),
        (header::CONTENT_LENGTH, length),
    ];
    let own = own.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH || head.method == Method::POST);
    for (name, value) in own.map(|(name, value)| (name, value)).chain(&head.headers) {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(body);
    Ok(wire)
}

fn authority(uri: &Uri) -> Result<HeaderValue, AttemptError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // RFC 9110 §4.2.4: userinfo before `@` is not part of the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).map_err(|error| no_response(error.to_string()))
}

/// The framing of a body (RFC 9112 §6.3).
enum Framing {
    Length(usize),
    Chunks,
    Close,
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    wire: &[u8],
    method: &Method,
) -> Result<Response<Bytes>, AttemptError> {
    stream.write_all(wire).await?;
    stream.flush().await?;
    let mut bytes = BytesMut::new();
    let (head, framing) = loop {
        if let Some((length, head, framing)) = parse_head(&bytes, method)? {
            drop(bytes.split_to(length));
            // RFC 9110 §15.2: an interim response precedes the final one.
            if head.status().is_informational() {
                continue;
            }
            break (head, framing);
        }
        if !more(&mut stream, &mut bytes).await? {
            return Err(no_response("the connection was closed before the response"));
        }
    };
    let body = loop {
        let whole = match framing {
            Framing::Length(length) => (bytes.len() >= length).then(|| bytes.split_to(length).freeze()),
            Framing::Chunks => unchunk(&bytes)?,
            Framing::Close => None,
        };
        if let Some(body) = whole {
            break body;
        }
        if !more(&mut stream, &mut bytes).await? {
            if matches!(framing, Framing::Close) {
                break bytes.freeze();
            }
            return Err(no_response("the connection was closed within the response"));
        }
    };
    Ok(head.map(|()| body))
}

/// Reads more bytes; returns false at the end.
async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut BytesMut) -> Result<bool, AttemptError> {
    if bytes.len() > LARGEST {
        return Err(no_response("the response is too large"));
    }
    match stream.read_buf(bytes).await {
        Ok(count) => Ok(count > 0),
        // Many servers omit close_notify; a truncated body is detected by its length.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

type ResponseHead = (usize, Response<()>, Framing);

/// The header and its length, once complete.
fn parse_head(bytes: &[u8], method: &Method) -> Result<Option<ResponseHead>, AttemptError> {
    let broken = || no_response("the response is not HTTP");
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(|_| broken())? else {
        return Ok(None);
    };
    let mut head = Response::builder().version(Version::HTTP_11).status(parsed.code.unwrap_or_default());
    for field in parsed.headers.iter() {
        head = head.header(field.name, field.value);
    }
    let head = head.body(()).map_err(|_| broken())?;
    let framing = framing(&head, method).ok_or_else(broken)?;
    Ok(Some((length, head, framing)))
}

fn framing(head: &Response<()>, method: &Method) -> Option<Framing> {
    let status = head.status();
    if *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Some(Framing::Length(0));
    }
    if let Some(coding) = head.headers().get(header::TRANSFER_ENCODING) {
        return coding.as_bytes().eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunks);
    }
    match head.headers().get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok().map(Framing::Length),
        None => Some(Framing::Close),
    }
}

/// The decoded chunked body (RFC 9112 §7.1), once complete.
fn unchunk(bytes: &[u8]) -> Result<Option<Bytes>, AttemptError> {
    let broken = || no_response("the response has invalid chunks");
    let mut body = BytesMut::new();
    let mut rest = bytes;
    loop {
        let httparse::Status::Complete((line, size)) =
            httparse::parse_chunk_size(rest).map_err(|_| broken())?
        else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body.freeze()));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST).ok_or_else(broken)?;
        let Some(chunk) = rest.get(line..line + size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        let Some(after) = rest.get(line + size..).filter(|after| after.len() >= 2) else {
            return Ok(None);
        };
        rest = after.strip_prefix(b"\r\n").ok_or_else(broken)?;
    }
}

#[cfg(test)]
mod tests;
