//! A client's session in Pingora's proxy loop, which serves HTTP/2 upstreams.
//!
//! Pingora lends its own type to the hooks of `ProxyHttp`, without access to a session of ours. So both
//! share the session: Pingora's type borrows it while it reads or writes, the hooks while they run. Pingora
//! never does both at once, since its type is borrowed exclusively for either.

use crate::net::http1::trailers::Trailers;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::downstream::shared_session::{BorrowedSession, SharedSession};
use crate::proxy::failure::OURS;
use crate::proxy::request::grpc;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A routed request in Pingora's loop, which begins with an empty one. It is public only as the context of
/// `ProxyHttp`.
#[derive(Default)]
pub struct LentRequest(Lending);

#[derive(Default)]
enum Lending {
    #[default]
    Nothing,
    /// A routed request.
    Routed(Box<Lent>),
    /// A request that takes a connection out of the pool, and is not sent.
    Closing(Box<HttpPeer>, Taken),
}

/// Whether a request has taken a connection out of the pool.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<AtomicBool>);

impl Taken {
    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

struct Lent {
    ctx: Context,
    shared: SharedSession,
    /// The loop ends without a response: the request is served otherwise.
    is_handed_back: bool,
    returned: Returned,
}

/// The context of a request that was handed back.
type Returned = Arc<Mutex<Option<Context>>>;

impl LentRequest {
    /// The context, and the client's session, for a hook of the loop.
    ///
    /// # Errors
    /// When the request was not routed before, or another hook runs; both are excluded.
    pub(super) fn borrow(&mut self) -> Result<(&mut Context, BorrowedSession)> {
        match &mut self.0 {
            Lending::Routed(lent) => Ok((&mut lent.ctx, lent.shared.borrow()?)),
            _ => Error::e_explain(ErrorType::InternalError, "the request was not routed"),
        }
    }

    /// Hands the request back: nothing of it was sent, and its endpoint uses HTTP/1.1. The error ends the loop.
    pub(super) fn hand_back(&mut self) -> Box<Error> {
        if let Lending::Routed(lent) = &mut self.0 {
            lent.is_handed_back = true;
        }
        Error::new(OURS)
    }

    /// Returns whether the request is handed back.
    pub(super) fn is_handed_back(&self) -> bool {
        matches!(&self.0, Lending::Routed(lent) if lent.is_handed_back)
    }

    /// The peer whose pooled connection is wanted.
    pub(super) fn closing_peer(&self) -> Option<Box<HttpPeer>> {
        match &self.0 {
            Lending::Closing(peer, _) => Some(peer.clone()),
            _ => None,
        }
    }

    /// A pooled connection was taken. Returns whether one was wanted, and no request is sent.
    pub(super) fn takes_connection(&self) -> bool {
        let Lending::Closing(_, taken) = &self.0 else { return false };
        taken.0.store(true, Relaxed);
        true
    }

    /// Returns the context of a request that is handed back. The loop has ended.
    pub(super) fn return_context(&mut self) {
        if let Lending::Routed(lent) = std::mem::take(&mut self.0) {
            *lent.returned.lock() = Some(lent.ctx);
        }
    }
}

/// A routed request on its way into the loop.
struct Passage(Mutex<LentRequest>);

/// What the lender keeps of a request in Pingora's loop.
pub(in crate::proxy) struct Loan {
    shared: SharedSession,
    returned: Returned,
}

impl Loan {
    /// The session after the loop, and the context of a request that was handed back.
    pub(in crate::proxy) fn end(self) -> Option<(Session, Option<Context>)> {
        let ctx = self.returned.lock().take();
        self.shared.take().map(|session| (session, ctx))
    }
}

/// Wraps a routed request for Pingora's loop.
pub(in crate::proxy) fn lend(session: Session, ctx: Context) -> (ServerSession, Loan) {
    let request = session.request().clone();
    let loan = Loan { shared: SharedSession::new(session), returned: Arc::default() };
    let (shared, returned) = (loan.shared.clone(), Arc::clone(&loan.returned));
    let lent = Box::new(Lent { ctx, shared, is_handed_back: false, returned });
    (adapted(request, loan.shared.clone(), Lending::Routed(lent)), loan)
}

/// A request that takes a connection to this peer out of the pool, and is not sent.
pub(super) fn closing(peer: HttpPeer) -> (ServerSession, Taken) {
    let mut request = RequestHeader::from(http::Request::new(()).into_parts().0);
    // Neither can fail for a constant.
    let _ = request.insert_header(header::HOST, HeaderValue::from_static("localhost"));
    let taken = Taken::default();
    let closing = Lending::Closing(Box::new(peer), taken.clone());
    (adapted(request, SharedSession::empty(), closing), taken)
}

fn adapted(mut request: RequestHeader, shared: SharedSession, lending: Lending) -> ServerSession {
    request.extensions_mut().insert(Arc::new(Passage(Mutex::new(LentRequest(lending)))));
    ServerSession::new_custom(Box::new(Adapter {
        shared,
        request,
        response: None,
        left: None,
        digest: Digest::default(),
    }))
}

/// The request that [`lend`] has wrapped. Returned once; empty otherwise.
pub(super) fn take(request: &RequestHeader) -> LentRequest {
    let passage = request.extensions.get::<Arc<Passage>>();
    passage.map(|passage| std::mem::take(&mut *passage.0.lock())).unwrap_or_default()
}

/// The length of a response's body, if its header tells that nothing follows it.
fn body_length(request: &RequestHeader, head: &ResponseHeader) -> Option<u64> {
    // The trailers of a gRPC response are not announced, and have its status.
    let has_trailers = head.headers.contains_key(header::TRAILER) || grpc::is_call(request);
    if has_trailers || head.status.is_informational() {
        return None;
    }
    let is_bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless || request.method == Method::HEAD {
        return Some(0);
    }
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The session as Pingora sees it.
struct Adapter {
    shared: SharedSession,
    /// The request header after routing. The session's own may have later changes of plugins, which concern
    /// no hop after the gateway.
    request: RequestHeader,
    response: Option<ResponseHeader>,
    /// The bytes that the body of the response lacks, if its header tells and no trailers are announced.
    left: Option<u64>,
    digest: Digest,
}

impl Adapter {
    fn look<T>(&self, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.shared.borrow().ok().map(|session| look(&session))
    }

    async fn write_head(&mut self, head: ResponseHeader, end: bool) -> Result<()> {
        let mut session = self.shared.borrow()?;
        if !session.has_response() {
            self.left = body_length(&self.request, &head);
            self.response = Some(head.clone());
        }
        session.write_head(head, end).await
    }
}

#[async_trait]
impl CustomSession for Adapter {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.shared.borrow()?.read_body().await
    }

    async fn read_body_or_idle(&mut self, has_end: bool) -> Result<Option<Bytes>> {
        self.shared.borrow()?.read_body_or_idle(has_end).await
    }

    /// The gateway closes the connection instead.
    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_done(&mut self) -> bool {
        self.look(Session::is_body_done).unwrap_or(true)
    }

    fn is_body_empty(&mut self) -> bool {
        self.look(Session::is_body_empty).unwrap_or(true)
    }

    fn body_bytes_read(&self) -> usize {
        self.look(Session::body_bytes_read).unwrap_or_default()
    }

    fn body_bytes_sent(&self) -> usize {
        self.look(Session::body_bytes_sent).unwrap_or_default()
    }

    fn enable_retry_buffering(&mut self) {
        if let Ok(mut session) = self.shared.borrow() {
            session.keep_for_retry();
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.look(Session::is_retry_truncated).unwrap_or(true)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.look(Session::kept_for_retry).flatten()
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(*head, end).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(head.clone(), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.shared.borrow()?.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let mut session = self.shared.borrow()?;
        match Trailers::from_fields(trailers) {
            Some(trailers) => session.write_trailers(trailers).await,
            None => session.write_body(Bytes::new(), true).await,
        }
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            if let (Some(left), HttpTask::Body(Some(data), _)) = (&mut self.left, &task) {
                *left = left.saturating_sub(data.len() as u64);
            }
            let (written, is_end) = match task {
                HttpTask::Header(head, end) => (self.write_head(*head, end).await, end),
                HttpTask::Body(Some(data), end) if end || !data.is_empty() => {
                    (self.shared.borrow()?.write_body(data, end).await, end)
                }
                HttpTask::Body(_, false) => (Ok(()), false),
                HttpTask::Body(_, true) | HttpTask::Trailer(None) | HttpTask::Done => {
                    (self.shared.borrow()?.write_body(Bytes::new(), true).await, true)
                }
                HttpTask::Trailer(Some(trailers)) => (self.write_trailers(*trailers).await, true),
                // The whole response has arrived. A backend may end its stream or its connection because the upload goes
                // on after it, and h2 then forgets that the response had ended.
                HttpTask::Failed(_) if self.left == Some(0) => {
                    (self.shared.borrow()?.write_body(Bytes::new(), true).await, true)
                }
                HttpTask::Failed(error) => {
                    self.shared.borrow()?.flush_now().await;
                    return Err(error);
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "an upgrade in Pingora's loop");
                }
            };
            written.map_err(Error::into_down)?;
            ended |= is_end;
        }
        if !ended {
            // Pingora may wait for the backend without reading the session.
            self.shared.borrow()?.flush().await.map_err(Error::into_down)?;
        }
        Ok(ended)
    }

    // The gateway sets the limits of its session itself.

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, String::from_utf8_lossy(self.request.raw_path()))
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.response.as_ref()
    }

    // An unfinished response is ended or aborted by the owner of the session, after the loop.

    async fn abandon(&mut self, _ctx: &str) {}

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {}

    async fn finish(&mut self) -> Result<()> {
        self.shared.borrow()?.write_body(Bytes::new(), true).await
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    // Messages outside HTTP, which neither version has.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
