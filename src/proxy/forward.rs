//! Fields that change on the way: what names the client, what names us, and what is meant for one
//! hop only (RFC 9110 §7.6). Everything else passes as it came.

use super::strangers::TRUSTED_ONLY;
use crate::spec::XForwarded;
use crate::telemetry::access::address;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use moongate_sdk::Fields;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr, Result};
use std::net::IpAddr;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// RFC 9110 §7.6.3, with our pseudonym; the version is that by which the message came.
const VIA: HeaderValue = HeaderValue::from_static("1.1 moongate");
const VIA_2: HeaderValue = HeaderValue::from_static("2.0 moongate");

/// Fields that a backend trusts because a gateway writes them. CGI and its heirs read `X_Real_IP`
/// and `X-Real-IP` as one, so the spelling with `_` must not come from a client.
const SHADOWED: [&str; 8] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "via",
    "x-request-id",
    "content-length",
    "transfer-encoding",
    "proxy-connection",
];

/// What may stay in a request's `Connection`: what is meant for the connection itself, and what Pingora
/// refuses to see nominated.
const STAYS: [&str; 10] = [
    "close",
    "keep-alive",
    "upgrade",
    "connection",
    "host",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// What is known of the request's way so far.
pub(super) struct Way {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// Whether the client came by TLS.
    pub(super) tls: bool,
    /// Whether it is a proxy whose word counts.
    pub(super) trusted: bool,
    /// The route's policy.
    pub(super) policy: XForwarded,
    /// Whether we name ourselves.
    pub(super) via: bool,
    /// Whether the request came by HTTP/2.
    pub(super) h2: bool,
}

/// Ends the fields that a client's `Connection` nominates (RFC 9110 §7.6.1), and the nominations with them. It is
/// done before plugins look: what they say of the client under such a name must not be taken away behind them.
///
/// # Errors
/// When a value cannot be a field value, which the parser has excluded.
pub(super) fn end_nominated(head: &mut RequestHeader) -> Result<()> {
    let all = head.headers.get_all(header::CONNECTION);
    let tokens =
        || all.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // Almost every request has `close`, `keep-alive` or nothing there.
    if tokens().all(stays) {
        return Ok(());
    }
    // What can be no field's name stays, to be refused.
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    for token in tokens() {
        match HeaderName::from_bytes(token) {
            Ok(name) if !stays(token) => names.push(name),
            _ => kept.push(token),
        }
    }
    let kept = kept.join(&b", "[..]);
    for name in &names {
        head.remove_header(name);
    }
    head.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        head.insert_header(header::CONNECTION, kept)?;
    }
    Ok(())
}

/// Whether a token of `Connection` is none of the fields that end here.
fn stays(token: &[u8]) -> bool {
    // What makes a handshake a handshake cannot be nominated away.
    let handshakes = token.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"));
    token.is_empty() || handshakes || STAYS.iter().any(|name| token.eq_ignore_ascii_case(name.as_bytes()))
}

/// Prepares a request's fields for the backend.
///
/// # Errors
/// When a value cannot be a field value, which the parser has excluded.
pub(super) fn request(fields: &mut impl Fields, way: &Way) -> Result<()> {
    drop_shadows(fields);
    // A client's `Proxy` becomes HTTP_PROXY in a CGI's environment (httpoxy, CVE-2016-5385).
    fields.remove(&PROXY);
    match way.policy {
        XForwarded::Keep => {}
        XForwarded::Remove => {
            for name in [FOR, PROTO, HOST, header::FORWARDED] {
                fields.remove(&name);
            }
        }
        XForwarded::Add => add_forwarded(fields, way)?,
    }
    let left =
        fields.map().get(header::MAX_FORWARDS).and_then(|left| left.to_str().ok()?.parse::<u32>().ok());
    if let Some(left) = left {
        fields.set(&header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
    if way.via {
        fields.append(&header::VIA, if way.h2 { VIA_2 } else { VIA });
    }
    Ok(())
}

/// A field's value of text that we have put together.
///
/// # Errors
/// When it has characters that no value has.
pub(super) fn value(text: impl Into<Vec<u8>>) -> Result<HeaderValue> {
    HeaderValue::try_from(text.into()).or_err(ErrorType::InvalidHTTPHeader, "not a field value")
}

fn drop_shadows(fields: &mut impl Fields) {
    let is_shadow = |name: &HeaderName| {
        let name = name.as_str();
        let ours = |plain: &str| SHADOWED.contains(&plain) || TRUSTED_ONLY.contains(&plain);
        name.contains('_') && ours(&name.replace('_', "-"))
    };
    // Almost no request has one: the list is built only then.
    if fields.map().keys().any(is_shadow) {
        let names: Vec<_> = fields.map().keys().filter(|name| is_shadow(name)).cloned().collect();
        for name in &names {
            fields.remove(name);
        }
    }
}

fn add_forwarded(fields: &mut impl Fields, way: &Way) -> Result<()> {
    // One address of IPv4, as nearly always.
    let mut list = Vec::with_capacity(16);
    if way.trusted {
        for value in fields.map().get_all(&FOR) {
            if let Ok(value) = value.to_str() {
                list.extend_from_slice(value.as_bytes());
                list.extend_from_slice(b", ");
            }
        }
    }
    address(&mut list, way.peer);
    fields.set(&FOR, value(list)?);
    if !(way.trusted && fields.map().contains_key(&PROTO)) {
        fields.set(&PROTO, HeaderValue::from_static(if way.tls { "https" } else { "http" }));
    }
    // The port belongs to it: links that a backend makes for its clients need it.
    let known = way.trusted && fields.map().contains_key(&HOST);
    if let Some(asked) = fields.map().get(header::HOST).filter(|_| !known).cloned() {
        fields.set(&HOST, asked);
    }
    Ok(())
}

/// The client behind trusted proxies: the last address of X-Forwarded-For that is none of them.
pub(super) fn client(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    let values: Vec<_> = headers.get_all(&FOR).iter().collect();
    for value in values.iter().rev() {
        let Ok(value) = value.to_str() else { return client };
        for hop in value.rsplit(',') {
            // What a trusted proxy wrote is an address; anything else ends what can be believed.
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { return client };
            let hop = hop.to_canonical();
            client = hop;
            if !trusted(hop) {
                return client;
            }
        }
    }
    client
}

/// Whether the end of a backend's answer is beyond doubt (RFC 9112 §6.3). Equal lengths said twice
/// become one; differing ones the parser has refused.
///
/// # Errors
/// When a value cannot be a field value, which is excluded.
pub(super) fn frame_is_clear(head: &mut ResponseHeader) -> Result<bool> {
    // RFC 9110 §8.6, RFC 9112 §6.1: neither 1xx nor 204 has a length or a coding.
    if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
        return Ok(true);
    }
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        // RFC 9112 §6.1: a coding from HTTP/1.0 is a sign of faulty framing.
        return Ok(chunked && codings.next().is_none() && head.version != Version::HTTP_10);
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(true) };
    if lengths.next().is_some() || first.as_bytes().contains(&b',') {
        let one =
            first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii().to_vec();
        head.insert_header(header::CONTENT_LENGTH, one)?;
    }
    Ok(true)
}

/// Prepares an answer's fields for the client: what was meant for our hop only ends here.
///
/// # Errors
/// When a value cannot be a field value, which is excluded.
pub(super) fn response(head: &mut ResponseHeader, via: bool) -> Result<()> {
    if head.headers.contains_key(header::CONNECTION) {
        let nominated: Vec<_> = nominated(&head.headers).collect();
        for name in &nominated {
            head.remove_header(name);
        }
        head.remove_header(&header::CONNECTION);
    }
    for name in ["keep-alive", "proxy-connection"] {
        if head.headers.contains_key(name) {
            head.remove_header(name);
        }
    }
    // Trailers are not passed on, so none is announced.
    if head.headers.contains_key(header::TRAILER) {
        head.remove_header(&header::TRAILER);
    }
    // RFC 9110 §15.5.22: a 426 names the protocols it wants.
    if head.status != StatusCode::UPGRADE_REQUIRED && head.headers.contains_key(header::UPGRADE) {
        head.remove_header(&header::UPGRADE);
    }
    if via {
        let via = if head.version == Version::HTTP_2 { VIA_2 } else { VIA };
        head.append_header(header::VIA, via)?;
    }
    Ok(())
}

/// The fields that `Connection` nominates (RFC 9110 §7.6.1), but those that frame the message.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> + '_ {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| {
            !matches!(
                *name,
                header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::HOST | header::UPGRADE
            )
        })
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used)]
    use super::super::answer::RequestFields;
    use super::super::strangers;
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn way(trusted: bool, policy: XForwarded) -> Way {
        Way { peer: "192.0.2.7".parse().unwrap(), tls: false, trusted, policy, via: true, h2: false }
    }

    fn all(head: &RequestHeader, name: &str) -> Vec<String> {
        head.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_strangers_forwarded_fields_are_replaced() {
        let mut head = head(&[
            ("host", "a.example:8080"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=x"),
        ]);
        strangers::end(&mut head, false, XForwarded::Add);
        request(&mut RequestFields(&mut head), &way(false, XForwarded::Add)).unwrap();
        assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(all(&head, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&head, "x-forwarded-host"), ["a.example:8080"]);
        assert!(all(&head, "forwarded").is_empty());
        assert_eq!(all(&head, "via"), ["1.1 moongate"]);
    }

    #[test]
    fn a_trusted_proxys_forwarded_fields_are_continued() {
        let mut head = head(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")]);
        request(&mut RequestFields(&mut head), &way(true, XForwarded::Add)).unwrap();
        assert_eq!(all(&head, "x-forwarded-for"), ["1.1.1.1, 192.0.2.7"]);
        assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    }

    #[test]
    fn underscores_cannot_smuggle_a_field_that_only_we_write() {
        let mut head = head(&[("x_forwarded_for", "1.1.1.1"), ("content_length", "7"), ("my_own", "1")]);
        request(&mut RequestFields(&mut head), &way(false, XForwarded::Keep)).unwrap();
        assert!(all(&head, "x_forwarded_for").is_empty());
        assert!(all(&head, "content_length").is_empty());
        assert_eq!(all(&head, "my_own"), ["1"]);
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let head = head(&[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "10.0.0.2")]);
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        assert_eq!(client(&head.headers, "10.0.0.1".parse().unwrap(), trusted).to_string(), "1.1.1.1");
    }

    #[test]
    fn an_answer_loses_what_was_meant_for_one_hop() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "x-secret, close"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("upgrade", "h2c"),
            ("x-a", "1"),
        ] {
            head.append_header(name, value).unwrap();
        }
        response(&mut head, false).unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-a"]);
    }
}
