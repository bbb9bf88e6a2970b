//! Connection to a backend that has switched to another protocol.

use crate::net::http1::field_names::FieldNames;
use crate::upstream::UpstreamStream;
use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use std::sync::Arc;

/// The connection after a 101.
pub(in crate::proxy) struct SwitchedConnection {
    /// The header of the 101, without the fields of one hop.
    pub(in crate::proxy) head: ResponseHeader,
    /// The spelling of its field names.
    pub(in crate::proxy) names: FieldNames,
    /// The protocol, as the route lists it.
    pub(in crate::proxy) protocol: Arc<str>,
    /// The values of `Upgrade` in the 101.
    pub(in crate::proxy) chosen: Vec<HeaderValue>,
    /// The connection.
    pub(in crate::proxy) stream: UpstreamStream,
    /// Bytes that the backend sent after the 101.
    pub(in crate::proxy) early: Bytes,
}
