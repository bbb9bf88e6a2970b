//! The request that is visible to a filter during a callback.
//!
//! The gateway lends a request to a plugin, and an instance outlives every request, so the instance cannot hold it.
//! It is in a thread-local for the duration of one callback: a callback never changes thread.

use crate::status::Status;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moongate_sdk::{Exchange, Headers, Response, Services};
use scoped_tls_hkt::{ReborrowMut, scoped_thread_local};
use std::sync::Arc;

/// The owner of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// A change of the fields of a name.
pub(crate) enum Change {
    Set(HeaderValue),
    Append(HeaderValue),
    Remove,
}

/// A request, and its response if there is one.
pub(crate) struct View<'v, 'e, 'a> {
    pub(crate) exchange: &'v mut Exchange<'e>,
    pub(crate) response: Option<&'v mut Response<'a>>,
    /// The saved head of a response that was already sent.
    pub(crate) sent_response: Option<&'v (StatusCode, HeaderMap)>,
    /// Whether the request's fields can still be changed.
    pub(crate) open: bool,
    /// `text` or `binary`, for a WebSocket message.
    pub(crate) opcode: Option<&'static str>,
}

/// A [`View`], for any borrow.
pub(crate) trait RequestScope {
    /// The request.
    fn exchange(&mut self, look: &mut dyn FnMut(&mut Exchange<'_>));
    /// The fields of a side, while they are visible.
    fn fields(&self, side: Side) -> Option<&HeaderMap>;
    /// Changes the fields of a name.
    fn change(&mut self, side: Side, name: &HeaderName, change: Change) -> Result<(), Status>;
    /// Appends the value of a pseudo-header (`:path` and so on) to `out`.
    fn pseudo(&self, side: Side, name: &[u8], out: &mut Vec<u8>) -> bool;
    /// Changes a pseudo-header.
    fn set_pseudo(&mut self, side: Side, name: &[u8], value: &[u8]) -> Result<(), Status>;
    /// The response's status.
    fn status(&self) -> Option<StatusCode>;
    /// The endpoint of the response.
    fn endpoint(&self) -> Option<&str>;
    /// The opcode of a WebSocket message.
    fn opcode(&self) -> Option<&'static str>;
}

/// The pseudo-headers of a side, in their order.
pub(crate) fn pseudo_names(side: Side) -> &'static [&'static str] {
    match side {
        Side::Request => &[":authority", ":path", ":method", ":scheme"],
        Side::Response => &[":status"],
    }
}

impl RequestScope for View<'_, '_, '_> {
    fn exchange(&mut self, look: &mut dyn FnMut(&mut Exchange<'_>)) {
        look(self.exchange);
    }

    fn fields(&self, side: Side) -> Option<&HeaderMap> {
        match side {
            Side::Request => Some(&self.exchange.headers),
            Side::Response => self
                .response
                .as_ref()
                .map(|response| &*response.headers)
                .or(self.sent_response.map(|(_, fields)| fields)),
        }
    }

    fn change(&mut self, side: Side, name: &HeaderName, change: Change) -> Result<(), Status> {
        fn apply(fields: &mut Headers<'_>, name: &HeaderName, change: Change) {
            match change {
                Change::Set(value) => fields.set(name, value),
                Change::Append(value) => fields.append(name, value),
                Change::Remove => fields.remove(name),
            }
        }
        match (side, &mut self.response) {
            (Side::Request, _) if self.open => apply(&mut self.exchange.headers, name, change),
            (Side::Response, Some(response)) => apply(&mut response.headers, name, change),
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }

    fn pseudo(&self, side: Side, name: &[u8], out: &mut Vec<u8>) -> bool {
        let exchange = &*self.exchange;
        match (side, name) {
            (Side::Request, b":method") => out.extend_from_slice(exchange.method().as_str().as_bytes()),
            (Side::Request, b":scheme") => out.extend_from_slice(exchange.request.scheme.as_bytes()),
            (Side::Request, b":authority") => {
                let host = exchange.headers.get(header::HOST);
                out.extend_from_slice(host.map_or(exchange.request.host.as_bytes(), HeaderValue::as_bytes));
            }
            (Side::Request, b":path") => {
                out.extend_from_slice(exchange.path().as_bytes());
                if let Some(query) = exchange.query() {
                    out.push(b'?');
                    out.extend_from_slice(query.as_bytes());
                }
            }
            (Side::Response, b":status") => match self.status() {
                Some(status) => out.extend_from_slice(status.as_str().as_bytes()),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn set_pseudo(&mut self, side: Side, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let mut now = Vec::new();
        if self.pseudo(side, name, &mut now) && now == value {
            return Ok(());
        }
        if side == Side::Response {
            let response =
                self.response.as_mut().filter(|_| name == b":status").ok_or(Status::BadArgument)?;
            let status = StatusCode::from_bytes(value).map_err(|_| Status::BadArgument)?;
            if status.is_informational() || response.status.is_informational() {
                return Err(Status::BadArgument);
            }
            response.status = status;
            return Ok(());
        }
        if !self.open {
            return Err(Status::BadArgument);
        }
        match name {
            b":method" => {
                let method = Method::from_bytes(value).map_err(|_| Status::BadArgument)?;
                self.exchange.set_method(method);
            }
            b":path" => {
                let target = std::str::from_utf8(value).map_err(|_| Status::BadArgument)?;
                self.exchange.set_target(target).map_err(|_| Status::BadArgument)?;
            }
            b":authority" => {
                let host = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
                self.exchange.headers.set(&header::HOST, host);
            }
            // The upstream decides about TLS.
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }

    fn status(&self) -> Option<StatusCode> {
        self.response
            .as_ref()
            .map(|response| response.status)
            .or(self.sent_response.map(|(status, _)| *status))
    }

    fn endpoint(&self) -> Option<&str> {
        self.response.as_ref().and_then(|response| response.endpoint)
    }

    fn opcode(&self) -> Option<&'static str> {
        self.opcode
    }
}

/// A borrowed [`RequestScope`], for the thread-local.
struct ScopedExchange<'a>(&'a mut (dyn RequestScope + 'a));

impl<'r> ReborrowMut<'r> for ScopedExchange<'_> {
    type Result = ScopedExchange<'r>;

    fn reborrow_mut(&'r mut self) -> ScopedExchange<'r> {
        ScopedExchange(self.0)
    }
}

scoped_thread_local!(static mut VISIBLE_REQUEST: for<'a> ScopedExchange<'a>);

/// Makes `scope` visible to host functions during `act`.
pub(crate) fn show<T>(scope: Option<&mut dyn RequestScope>, act: impl FnOnce() -> T) -> T {
    match scope {
        Some(scope) => VISIBLE_REQUEST.set(ScopedExchange(scope), act),
        None => act(),
    }
}

/// The visible request; `None` in a callback without one.
pub(crate) fn with_request<T>(look: impl FnOnce(&mut dyn RequestScope) -> T) -> Option<T> {
    VISIBLE_REQUEST.is_set().then(|| VISIBLE_REQUEST.with(|request| look(request.0)))
}

/// The gateway's services, from the visible request.
pub(crate) fn services() -> Option<Arc<dyn Services>> {
    let mut services = None;
    with_request(|scope| scope.exchange(&mut |exchange| services = Some(exchange.services.clone())));
    services
}
