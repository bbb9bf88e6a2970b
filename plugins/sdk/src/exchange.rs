//! A request and its answer as a plugin sees them. Who received them, and in what type the gateway
//! keeps their fields, stays out: [`Fields`] is the seam.

use crate::Running;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::net::IpAddr;
use std::ops::Deref;

/// The request as a plugin sees it.
pub struct Exchange<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host asked for, without its port; empty when the client named none.
    pub host: &'a str,
    /// The path as it is matched and forwarded, without the query.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The request's fields, to read and to change.
    pub headers: Headers<'a>,
    /// The client: the peer, or what a trusted proxy says it is.
    pub client: IpAddr,
    /// The route's name.
    pub route: &'a str,
    /// What the gateway keeps about this request from phase to phase.
    pub running: &'a mut Running,
}

impl Exchange<'_> {
    /// The request's id: the one a plugin took over from the client, or 32 random hexadecimal digits
    /// that are made when first asked for.
    pub fn request_id(&mut self) -> &HeaderValue {
        self.running.request_id()
    }

    /// What the calling plugin keeps about this request, from phase to phase. The first call of a
    /// request makes it; only then is anything allocated.
    pub fn state<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.running.state()
    }
}

/// The answer's head as a plugin sees it.
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, to read and to change.
    pub headers: Headers<'a>,
}

/// Where the gateway keeps the fields of a request or an answer.
pub trait Fields: Send {
    /// All of them.
    fn map(&self) -> &HeaderMap;
    /// Replaces every field of this name.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Adds one behind those of this name.
    fn append(&mut self, name: &HeaderName, value: HeaderValue);
    /// Removes every field of this name.
    fn remove(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
    fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        HeaderMap::append(self, name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Fields to read, as an [`http::HeaderMap`], and to change.
pub struct Headers<'a>(&'a mut dyn Fields);

impl<'a> Headers<'a> {
    /// A view of `fields`.
    pub fn new(fields: &'a mut dyn Fields) -> Self {
        Self(fields)
    }

    /// Replaces every field of this name.
    pub fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.0.set(name, value);
    }

    /// Adds one behind those of this name.
    pub fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.0.append(name, value);
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }
}

impl Deref for Headers<'_> {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        self.0.map()
    }
}
