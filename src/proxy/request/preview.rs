//! A request as routing would see it, for `moongate check --explain`: by the same decisions and the same removal of
//! fields as a request that was received.

use super::field_cleaning::clean;
use super::forwarded::Client;
use super::request_facts::{Form, Received};
use crate::net::conn_info::ConnInfo;
use crate::snapshot::GlobalSettings;
use http::{HeaderMap, Method, header};
use pingora::http::RequestHeader;
use std::net::{IpAddr, SocketAddr};

/// What routing reads besides the target.
#[derive(Debug)]
pub struct Preview {
    /// The fields that are left.
    pub headers: HeaderMap,
    /// The client: the peer, or what it says as a trusted proxy.
    pub client: Client,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whether that is beyond doubt.
    pub scheme_is_certain: bool,
}

/// Previews a request of HTTP/1.1 with these fields from `peer`, over TLS or not.
///
/// # Errors
/// When the method or a field is none that a head can have.
pub fn preview(
    method: &Method,
    host: Option<&str>,
    fields: &HeaderMap,
    (peer, secure): (IpAddr, bool),
    terms: &GlobalSettings,
) -> pingora::Result<Preview> {
    let mut head = RequestHeader::build(method.clone(), b"/", Some(fields.len() + 4))?;
    if let Some(host) = host {
        head.insert_header(header::HOST, host)?;
    }
    for (name, value) in fields {
        head.append_header(name.clone(), value.clone())?;
    }
    let arrival = ConnInfo::plain(Some(SocketAddr::new(peer, 0)), 0);
    let mut received = Received::new(&head, Form::Http1, Some(&arrival), terms);
    received.assume_tls(secure);
    clean(&mut head, &received, terms.x_forwarded)?;
    Ok(Preview {
        scheme: received.scheme,
        scheme_is_certain: received.is_scheme_certain(),
        client: received.client,
        headers: head.headers.clone(),
    })
}
