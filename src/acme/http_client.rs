//! HTTP/1.1 towards an authority: one request a connection, a bounded answer. A dozen requests in two
//! months are no reason to keep connections, or a library that does.

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

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take with its answer.
const WHOLE: Duration = Duration::from_secs(30);
/// The largest answer that is read; a chain of certificates is a few KiB.
const LARGEST: usize = 1 << 20;
/// The most fields of an answer.
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

fn unanswered(why: impl Into<String>) -> AttemptError {
    AttemptError(why.into())
}

/// Asks an authority.
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    /// One that trusts these issuers, or the system's.
    ///
    /// # Errors
    /// When there is none to trust.
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
            return Err(unanswered("no issuer is known that could be trusted; name one in `ca`"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unanswered(error.to_string()))?
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
            // The library's own way from a body to its bytes begins at a response.
            let body = BytesResponse::from(Response::new(body)).body.into_bytes().await;
            let body = body.map_err(Error::Other)?;
            let uri = head.uri.clone();
            let asked = tokio::time::timeout(WHOLE, ask(tls, head, body));
            let answer = asked.await.unwrap_or_else(|_| Err(unanswered("no answer in time")));
            let answer = answer.and_then(is_the_authoritys);
            let (parts, body) = answer
                .map_err(|why| Error::Other(Box::new(unanswered(format!("{uri}: {why}")))))?
                .into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Refuses what a balancer says in its place: what an authority has to tell is a document (RFC 8555 §6.7).
fn is_the_authoritys(answer: Response<Bytes>) -> Result<Response<Bytes>, AttemptError> {
    let told = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if answer.status().is_server_error() && !told.starts_with(b"application/problem+json") {
        return Err(unanswered(format!("it answered {}", answer.status())));
    }
    Ok(answer)
}

async fn ask(
    tls: TlsConnector,
    head: http::request::Parts,
    body: Bytes,
) -> Result<Response<Bytes>, AttemptError> {
    // An authority that we trust may still have been told to send us elsewhere.
    if !is_safe(&head.uri) {
        return Err(unanswered("it is not an https: URL"));
    }
    let host = head.uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = head.uri.scheme_str() == Some("https");
    let port = head.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let wire = render(&head, &body)?;
    let late = |_| unanswered("no connection in time");
    let connect = resolver::global().connect(&bare, port);
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
    if !secure {
        return exchange(stream, &wire, &head.method).await;
    }
    let name = ServerName::try_from(bare).map_err(|error| unanswered(error.to_string()))?;
    let stream = tokio::time::timeout(CONNECT, tls.connect(name, stream)).await.map_err(late)??;
    exchange(stream, &wire, &head.method).await
}

/// The request as bytes.
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
    // RFC 9110 §4.2.4: what stands before an @ is no part of the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).map_err(|error| unanswered(error.to_string()))
}

/// How the end of a body is told (RFC 9112 §6.3).
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
            // RFC 9110 §15.2: an interim answer is not the answer.
            if head.status().is_informational() {
                continue;
            }
            break (head, framing);
        }
        if !more(&mut stream, &mut bytes).await? {
            return Err(unanswered("the connection was closed before the answer"));
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
            return Err(unanswered("the connection was closed within the answer"));
        }
    };
    Ok(head.map(|()| body))
}

/// Reads on; false at the end.
async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut BytesMut) -> Result<bool, AttemptError> {
    if bytes.len() > LARGEST {
        return Err(unanswered("the answer is too long"));
    }
    match stream.read_buf(bytes).await {
        Ok(count) => Ok(count > 0),
        // Many servers leave without the goodbye of TLS; what is missing is seen by its length.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

type ResponseHead = (usize, Response<()>, Framing);

/// The head with its length, once it is whole.
fn parse_head(bytes: &[u8], method: &Method) -> Result<Option<ResponseHead>, AttemptError> {
    let broken = || unanswered("the answer is not HTTP");
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

/// The body behind its chunks (RFC 9112 §7.1), once it is whole.
fn unchunk(bytes: &[u8]) -> Result<Option<Bytes>, AttemptError> {
    let broken = || unanswered("the answer's chunks are broken");
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
        let Some(behind) = rest.get(line + size..).filter(|behind| behind.len() >= 2) else {
            return Ok(None);
        };
        rest = behind.strip_prefix(b"\r\n").ok_or_else(broken)?;
    }
}

#[cfg(test)]
mod tests;
