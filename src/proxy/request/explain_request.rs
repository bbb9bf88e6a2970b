//! Preview of a request for `moongate check --explain`: the facts and removed fields of a received request,
//! without one.

use super::field_cleaning::clean;
use super::forwarded::Client;
use super::request_facts::{Form, Received};
use crate::net::conn_info::ConnInfo;
use crate::snapshot::GlobalSettings;
use http::{HeaderMap, Method, header};
use pingora::http::RequestHeader;
use std::net::{IpAddr, SocketAddr};

/// The inputs of routing besides the target.
#[derive(Debug)]
pub(in crate::proxy) struct Preview {
    /// The remaining fields.
    pub headers: HeaderMap,
    /// The client: the peer, or the one that a trusted proxy names.
    pub client: Client,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whether the scheme is certain.
    pub scheme_is_certain: bool,
}

/// Previews an HTTP/1.1 request with these fields from `peer`, over TLS or not.
///
/// # Errors
/// When the method or a field is invalid.
pub(in crate::proxy) fn preview(
    method: &Method,
    host: Option<&str>,
    fields: &HeaderMap,
    (peer, secure): (IpAddr, bool),
    globals: &GlobalSettings,
) -> pingora::Result<Preview> {
    let mut head = RequestHeader::build(method.clone(), b"/", Some(fields.len() + 4))?;
    if let Some(host) = host {
        head.insert_header(header::HOST, host)?;
    }
    for (name, value) in fields {
        head.append_header(name.clone(), value.clone())?;
    }
    let conn_info = ConnInfo::plain(Some(SocketAddr::new(peer, 0)), "".into());
    let mut received = Received::new(&head, Form::Http1, Some(&conn_info), globals);
    received.assume_tls(secure);
    clean(&mut head, &received, globals.x_forwarded)?;
    Ok(Preview {
        scheme: received.scheme,
        scheme_is_certain: received.is_scheme_certain(),
        client: received.client,
        headers: head.headers.clone(),
    })
}
