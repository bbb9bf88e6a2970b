//! HTTP/1.1 to one server of etcd: a hyper connection over the gateway's resolver and TLS, with bounded waits and sizes. A
//! request has a connection of its own, as a watch needs one anyway.

use super::error::EtcdError;
use super::messages::status_error;
use crate::net::resolver;
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest wait for a step: a connection with its TLS handshake, the head of a response, the next bytes of its body.
pub(super) const LONGEST_STEP: Duration = Duration::from_secs(3);
/// The largest response, in bytes. etcd's own limit for a page is 4 MiB, which base64 makes longer by a third.
pub(super) const LARGEST_RESPONSE: usize = 32 << 20;
/// The largest head of a response, in bytes.
const LARGEST_HEAD: usize = 1 << 16;
/// The most fields of a response.
const MOST_FIELDS: usize = 64;
/// gRPC metadata: the server ends a watch that has no leader, in place of remaining silent.
const NEEDS_LEADER: &str = "grpc-metadata-hasleader";

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// As the configuration has it.
    pub(super) url: Arc<str>,
    /// The host without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The field `Host`.
    pub(super) authority: HeaderValue,
    /// The configuration of TLS, and the name in the certificate.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// The work of a connection, polled beside that of its user: both end together.
struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Driver {
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.0.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
                self.0 = None;
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// A response whose body is being received.
pub(super) struct ResponseBody {
    driver: Driver,
    body: Incoming,
}

impl ResponseBody {
    /// The next bytes; `None` at the end. A call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, EtcdError> {
        loop {
            match self.driver.beside(self.body.frame()).await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(unreachable(&error)),
            }
        }
    }
}

impl Server {
    /// Sends a request and receives the whole response.
    ///
    /// # Errors
    /// No connection, no response in time, one with an error status, or one that is too long.
    pub(super) async fn post(
        &self,
        path: &'static str,
        body: String,
        token: Option<&str>,
    ) -> Result<Bytes, EtcdError> {
        let exchange = async {
            let (status, mut response) = self.begin(path, body, token).await?;
            let mut whole = BytesMut::new();
            while let Some(part) = in_time(response.next()).await? {
                if whole.len() + part.len() > LARGEST_RESPONSE {
                    return Err(EtcdError::new("too_large", "the response is too long"));
                }
                whole.extend_from_slice(&part);
            }
            if status == StatusCode::OK { Ok(whole.freeze()) } else { Err(status_error(&whole, status)) }
        };
        exchange.await.map_err(|error| error.at(&self.url))
    }

    /// Sends a request and receives the head of the response, whose body is a stream.
    ///
    /// # Errors
    /// No connection, no response in time, or one with an error status.
    pub(super) async fn stream(
        &self,
        path: &'static str,
        body: String,
        token: Option<&str>,
    ) -> Result<ResponseBody, EtcdError> {
        let exchange = async {
            let (status, mut response) = self.begin(path, body, token).await?;
            if status == StatusCode::OK {
                return Ok(response);
            }
            let body = in_time(response.next()).await?;
            Err(status_error(&body.unwrap_or_default(), status))
        };
        exchange.await.map_err(|error| error.at(&self.url))
    }

    async fn begin(
        &self,
        path: &'static str,
        body: String,
        token: Option<&str>,
    ) -> Result<(StatusCode, ResponseBody), EtcdError> {
        let request = self.request(path, body, token)?;
        let connect = async {
            let connected = resolver::global().connect(&self.host, self.port).await;
            let stream = connected.map_err(|error| EtcdError::new("unreachable", error.to_string()))?;
            let Some((config, name)) = &self.tls else { return Ok(Box::pin(stream) as Stream) };
            let carrier = Carrier::new(stream, RecordFollower::default());
            let secure = TlsConnector::from(Arc::clone(config)).connect(name.clone(), carrier).await;
            let secure = secure.map_err(|error| EtcdError::new("tls", error.to_string()))?;
            Ok(Box::pin(TlsConnection::new(secure)) as Stream)
        };
        let stream = in_time(connect).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_header_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        // The response reports an error of the connection as well.
        let mut driver = Driver(Some(Box::pin(async move {
            let _ = connection.await;
        })));
        let response: Response<Incoming> = in_time(async {
            driver.beside(sender.send_request(request)).await.map_err(|error| unreachable(&error))
        })
        .await?;
        let status = response.status();
        Ok((status, ResponseBody { driver, body: response.into_body() }))
    }

    fn request(
        &self,
        path: &'static str,
        body: String,
        token: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, EtcdError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(path);
        let fields = request.headers_mut();
        fields.insert(header::HOST, self.authority.clone());
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        fields.insert(NEEDS_LEADER, HeaderValue::from_static("true"));
        if let Some(token) = token {
            let mut token = HeaderValue::from_str(token)
                .map_err(|_| EtcdError::new("invalid", "the token is no text of a header field"))?;
            token.set_sensitive(true);
            fields.insert(header::AUTHORIZATION, token);
        }
        Ok(request)
    }
}

/// A plain or an encrypted connection.
type Stream = Pin<Box<dyn ByteStream>>;

trait ByteStream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> ByteStream for S {}

/// Fails after [`LONGEST_STEP`].
pub(super) async fn in_time<T>(step: impl Future<Output = Result<T, EtcdError>>) -> Result<T, EtcdError> {
    timeout(LONGEST_STEP, step).await.unwrap_or_else(|_| {
        Err(EtcdError::new("timeout", format!("no response within {} s", LONGEST_STEP.as_secs())))
    })
}

/// An error of hyper with its causes: each layer adds one.
fn unreachable(error: &hyper::Error) -> EtcdError {
    let first: &(dyn std::error::Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    EtcdError::new("unreachable", causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
