//! Removal of request fields that a client may not send, before expressions, plugins and internal calls read them.

use super::request_facts::Received;
use super::{hop_by_hop, untrusted_headers, x_forwarded_policy};
use crate::config::XForwarded;
use http::{HeaderName, header};
use pingora::Result;
use pingora::http::RequestHeader;

/// Removes fields that the client may not send, and sets X-Forwarded-*, before an expression, a
/// plugin or an internal call reads a field. Returns the removed fields that its `Connection` nominates.
///
/// # Errors
/// When a value cannot be a field value, which the parser has excluded.
pub(in crate::proxy) fn clean(
    head: &mut RequestHeader,
    received: &Received,
    policy: XForwarded,
) -> Result<Vec<HeaderName>> {
    let nominated = hop_by_hop::end_nominated(head)?;
    untrusted_headers::remove(head, received.is_trusted, policy);
    x_forwarded_policy::apply_policy(head, received, policy)?;
    // The gateway itself sends 100 (Continue) when it begins to read the body (RFC 9110 §10.1.1).
    head.remove_header(&header::EXPECT);
    Ok(nominated)
}
