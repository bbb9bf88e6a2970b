//! Pingora's proxy loop, which serves HTTP/2 backends: the `ProxyHttp` implementation. Its hooks borrow the client's
//! session from the request that was routed before. A request whose backend chooses HTTP/1.1 is handed back before it is
//! sent.

mod idle_connections;
mod lent_session;
mod peer;

pub(super) use idle_connections::close as close_idle_connections;
pub use lent_session::LentRequest;
pub(super) use lent_session::lend;

use super::Gateway;
use super::attempt;
use super::body::{request_body, response_body};
use super::failure::OURS;
use super::response::{request_end, upstream_response};
use crate::upstream::BackendVersion;
use async_trait::async_trait;
use bytes::Bytes;
use http::Version;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::time::Duration;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = LentRequest;

    fn new_ctx(&self) -> LentRequest {
        LentRequest::default()
    }

    // Pingora's compression module costs time per request and is not used.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Takes over the context of a request that was routed before Pingora's service began.
    async fn early_request_filter(&self, session: &mut Session, lent: &mut LentRequest) -> Result<()> {
        *lent = lent_session::take(session.req_header());
        Ok(())
    }

    async fn upstream_peer(&self, _session: &mut Session, lent: &mut LentRequest) -> Result<Box<HttpPeer>> {
        if let Some(peer) = lent.closing_peer() {
            return Ok(peer);
        }
        let (ctx, mut session) = lent.borrow()?;
        attempt::lease_next(&session, ctx).await?;
        if attempt::uses_http1(ctx) && attempt::may_change_version(ctx) {
            return Err(lent.hand_back());
        }
        peer::leased_peer(&mut session, ctx)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        lent: &mut LentRequest,
    ) -> Result<()> {
        if lent.takes_connection() {
            return Err(Error::new(OURS));
        }
        let (ctx, mut session) = lent.borrow()?;
        if head.version != Version::HTTP_2 && attempt::may_change_version(ctx) {
            attempt::change_version(ctx, BackendVersion::ChoseHttp1);
            return Err(lent.hand_back());
        }
        peer::dispatch(&mut session, head, ctx).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        lent: &mut LentRequest,
    ) -> Result<()> {
        let (ctx, mut session) = lent.borrow()?;
        request_body::filter(&mut session, body, end, ctx).await
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        lent: &mut LentRequest,
    ) -> Result<()> {
        let (ctx, mut session) = lent.borrow()?;
        let is_early = !head.status.is_informational() && head.version != Version::HTTP_2;
        attempt::response_started(&mut session, head, ctx)?;
        // The loop would keep a connection of HTTP/1.1 whose backend has not read the request.
        if is_early && !ctx.upload.is_sent {
            attempt::end_upload(&mut session, ctx);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        lent: &mut LentRequest,
    ) -> Result<()> {
        let (ctx, mut session) = lent.borrow()?;
        upstream_response::from_backend(&mut session, head, ctx).await
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        lent: &mut LentRequest,
    ) -> Result<Option<Duration>> {
        let (ctx, session) = lent.borrow()?;
        response_body::filter(&session, body, end, ctx)?;
        if end && ctx.upload.is_cut_off {
            attempt::cut_off_upload(&session, ctx);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        lent: &mut LentRequest,
        error: Box<Error>,
    ) -> Box<Error> {
        match lent.borrow() {
            Ok((ctx, _)) => peer::not_connected(ctx, error),
            Err(error) => error,
        }
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        lent: &mut LentRequest,
        client_reused: bool,
    ) -> Box<Error> {
        if lent.is_handed_back() {
            return error;
        }
        match lent.borrow() {
            Ok((ctx, session)) => {
                if matches!(error.etype(), ErrorType::H2Downgrade | ErrorType::InvalidH2)
                    && !attempt::is_call(ctx)
                    && let Some(lease) = ctx.attempts.lease()
                {
                    lease.endpoint().set_version(BackendVersion::DemandsHttp1);
                }
                attempt::broken(&session, ctx, error, client_reused)
            }
            Err(error) => error,
        }
    }

    async fn fail_to_proxy(
        &self,
        _session: &mut Session,
        error: &Error,
        lent: &mut LentRequest,
    ) -> FailToProxy {
        if lent.is_handed_back() {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let error_code = match lent.borrow() {
            Ok((ctx, mut session)) => upstream_response::give_up(&mut session, error, ctx).await,
            Err(_) => 0,
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, _session: &mut Session, _error: Option<&Error>, lent: &mut LentRequest) {
        if lent.is_handed_back() {
            lent.return_context();
        } else if let Ok((ctx, mut session)) = lent.borrow() {
            request_end::end(&mut session, ctx).await;
        }
    }

    // Failures are logged with route and endpoint in `request_end`.
    fn suppress_error_log(&self, _session: &Session, _lent: &LentRequest, _error: &Error) -> bool {
        true
    }
}
