//! What a plugin is: phases declared up front, one stream per request, verdicts.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::net::IpAddr;

/// The phases a plugin takes part in, declared once. A phase it does not name costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// [`PluginStream::request_headers`], before an upstream is chosen.
    pub request_headers: bool,
    /// [`PluginStream::response_headers`], before the answer's head goes to the client.
    pub response_headers: bool,
    /// [`PluginStream::log`], when the exchange is over.
    pub log: bool,
}

/// One configured entry. It lives as long as its settings do, across reloads, and is shared by all threads.
pub trait Plugin: Send + Sync {
    /// The phases it takes part in; asked once, when the configuration is compiled.
    fn phases(&self) -> Phases;

    /// Its side of one request.
    fn stream(&self) -> Box<dyn PluginStream + '_>;
}

/// A plugin's side of one request or one WebSocket handshake.
#[async_trait]
pub trait PluginStream: Send + Sync {
    /// The request's head is here; nothing was sent anywhere yet.
    async fn request_headers(&mut self, exchange: &mut Exchange<'_>) -> Verdict {
        let _ = exchange;
        Verdict::Continue
    }

    /// The answer's head is here, from a backend or from the gateway itself.
    fn response_headers(&mut self, exchange: &mut Exchange<'_>, status: StatusCode, headers: &mut HeaderMap) {
        let _ = (exchange, status, headers);
    }

    /// The exchange is over.
    fn log(&mut self, exchange: &Exchange<'_>) {
        let _ = exchange;
    }
}

/// What happens next.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next plugin.
    Continue,
    /// This is the answer; no backend is asked.
    Respond(Reply),
}

/// An answer made by a plugin.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its fields; `Content-Length` is added by the gateway.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The request as a plugin sees it.
pub struct Exchange<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it is matched and forwarded, without the query.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The request's fields, to read and to change.
    pub headers: &'a mut HeaderMap,
    /// The client: the peer, or what a trusted proxy says it is.
    pub client: IpAddr,
    /// The route's name.
    pub route: &'a str,
}
