//! One probe request over HTTP/2, on a connection of its own.

use super::Failure;
use crate::upstream::upstream_stream::UpstreamStream;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};

/// The maximum size of a body that is read.
const LONGEST_BODY: usize = 16 << 10;

/// The request of a probe.
pub(super) struct ProbeRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

impl ProbeRequest<'_> {
    /// The request header.
    pub(super) fn head(&self) -> Result<Request<()>, Failure> {
        let uri = Uri::builder().scheme(self.scheme).authority(self.host).path_and_query(self.path).build();
        let head = uri.map(|uri| Request::builder().method(self.method.clone()).uri(uri));
        let head = head.and_then(|head| head.header(header::USER_AGENT, "moongate").body(()));
        head.map_err(|_| Failure::Malformed("the request has no valid target"))
    }
}

/// The response of a backend.
pub(super) struct ProbeResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Read only if the request has a body too.
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Sends the request. Without a request body, the response is read up to the end of its header.
pub(super) async fn ask(
    wire: UpstreamStream,
    head: Request<()>,
    body: Option<Bytes>,
) -> Result<ProbeResponse, Failure> {
    let (sender, connection) = h2::client::handshake(wire).await?;
    tokio::select! {
        response = exchange(sender, head, body) => response,
        ended = connection => Err(ended.err().map_or(Failure::Closed, Failure::H2)),
    }
}

async fn exchange(
    sender: h2::client::SendRequest<Bytes>,
    head: Request<()>,
    body: Option<Bytes>,
) -> Result<ProbeResponse, Failure> {
    let mut sender = sender.ready().await?;
    let (answer, mut stream) = sender.send_request(head, body.is_none())?;
    let Some(body) = body else {
        let (parts, _) = answer.await?.into_parts();
        let (body, trailers) = (Bytes::new(), HeaderMap::new());
        return Ok(ProbeResponse { status: parts.status, headers: parts.headers, body, trailers });
    };
    stream.send_data(body, true)?;
    let (parts, mut answer) = answer.await?.into_parts();
    let mut body = BytesMut::new();
    while let Some(piece) = answer.data().await {
        let piece = piece?;
        answer.flow_control().release_capacity(piece.len())?;
        if body.len() + piece.len() > LONGEST_BODY {
            return Err(Failure::Malformed("the response body is longer than 16 KiB"));
        }
        body.extend_from_slice(&piece);
    }
    let trailers = answer.trailers().await?.unwrap_or_default();
    Ok(ProbeResponse { status: parts.status, headers: parts.headers, body: body.freeze(), trailers })
}
