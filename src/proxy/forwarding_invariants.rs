//! Invariants of HTTP/1 requests between a client's bytes and a backend's, for property tests and fuzzing: each
//! forwarded request is one valid message, and a backend understands what the gateway has matched.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a violated invariant is a panic")]

use super::body::request_body;
use super::context::{Busy, Context};
use super::exchange::request_head::{self, ClientBody};
use super::request::head_parser::{self, ReceivedHead};
use super::request::request_validation;
use crate::config::Config;
use crate::net::http1::body_decoder::{BodyDecoder, Decoded, RequestFraming};
use crate::net::http1::head_end::HeadEnd;
use crate::net::http1::trailers::Trailers;
use crate::route::Target;
use crate::snapshot::{self, Kinds, Snapshot};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use moongate_sdk::NoServices;
use std::sync::{Arc, LazyLock};

/// A request that the gateway accepts.
struct AcceptedRequest {
    head: ReceivedHead,
    body: Bytes,
    trailers: Option<Trailers>,
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    host: Option<String>,
    body: Bytes,
}

/// Checks the requests at the start of bytes that arrive in pieces of `step`.
pub fn check(bytes: &[u8], step: usize) {
    let requests = accept(bytes, bytes.len().max(1));
    let meanings = |requests: &[AcceptedRequest]| requests.iter().map(meaning).collect::<Vec<_>>();
    assert_eq!(meanings(&requests), meanings(&accept(bytes, step.max(1))), "by {step}");
    for request in &requests {
        // The target is rejected later.
        let Some(expected) = meaning(request) else { return };
        let forwarded = forward(request);
        let received = accept(&forwarded, forwarded.len());
        let shown = || String::from_utf8_lossy(&forwarded).into_owned();
        assert_eq!(received.len(), 1, "one message: {}", shown());
        let fields = &received[0].head.header.headers;
        assert!(!fields.contains_key(header::UPGRADE), "{}", shown());
        let is_chunked = fields.contains_key(header::TRANSFER_ENCODING);
        assert!(is_chunked || !fields.contains_key(header::TRAILER), "{}", shown());
        let lines = |request: &AcceptedRequest| {
            let mut lines = BytesMut::new();
            request.trailers.iter().for_each(|trailers| trailers.write(&mut lines));
            lines
        };
        assert_eq!(lines(&received[0]), lines(request), "{}", shown());
        // The options are the gateway's own, since this context has no pool.
        let all = |name| fields.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let (te, connection): (&[&[u8]], &[u8]) =
            if all(header::TE).is_empty() { (&[], b"close") } else { (&[b"trailers"], b"close, TE") };
        assert_eq!((&*all(header::TE), &*all(header::CONNECTION)), (te, &[connection][..]), "{}", shown());
        let mut understood = meaning(&received[0]).expect("a target");
        if expected.host.is_none() {
            // An HTTP/1.0 client may omit Host; the backend's HTTP/1.1 needs one.
            understood.host = None;
        }
        assert_eq!(understood, expected, "{}", shown());
    }
}

/// The accepted requests up to the first one that is rejected or incomplete.
fn accept(bytes: &[u8], step: usize) -> Vec<AcceptedRequest> {
    let (mut buffer, mut head_end, mut requests) = (BytesMut::new(), HeadEnd::default(), Vec::new());
    let mut current: Option<(ReceivedHead, BodyDecoder, BytesMut)> = None;
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let Some((_, decoder, body)) = &mut current else {
                let Some(size) = head_end.find(&buffer) else { break };
                head_end = HeadEnd::default();
                let head = head_parser::parse(&buffer.split_to(size).freeze());
                if head.refused.is_some() || request_validation::check(&head.header).is_err() {
                    return requests;
                }
                let decoder = BodyDecoder::for_request(head.framing);
                current = Some((head, decoder, BytesMut::new()));
                continue;
            };
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
                Ok(Decoded::End) => {
                    if let Some((head, decoder, body)) = current.take() {
                        let trailers = decoder.trailers();
                        requests.push(AcceptedRequest { head, body: body.freeze(), trailers });
                    }
                }
                Ok(Decoded::NeedsBytes) => break,
                Err(_) => return requests,
            }
        }
    }
    requests
}

/// The meaning of a request; `None` if its target has none.
fn meaning(request: &AcceptedRequest) -> Option<Meaning> {
    let header = &request.head.header;
    let raw = request.head.target.as_deref().unwrap_or(header.raw_path());
    let host = header.headers.get(header::HOST);
    let target = Target::parse(raw, &header.method, host.and_then(|host| host.to_str().ok())).ok()?;
    Some(Meaning {
        method: header.method.to_string(),
        target: target.forwarded().to_owned(),
        host: target.authority().map(|authority| authority.as_str().to_owned()),
        body: request.body.clone(),
    })
}

/// The request as a backend gets it.
fn forward(request: &AcceptedRequest) -> Vec<u8> {
    static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
        let compiled = snapshot::compile(&Config::default(), None, Kinds { plugins: &[] });
        Arc::new(
            compiled.map_err(|problems| format!("{problems:?}")).expect("an empty configuration is valid").0,
        )
    });
    let busy = Busy::new(&Arc::default());
    let mut ctx = Context::new(Arc::clone(&SNAPSHOT), busy, Arc::new(NoServices));
    ctx.received.parts.target.clone_from(&request.head.target);
    let head = &request.head;
    let mut header = head.header.clone();
    let raw = head.target.as_deref().unwrap_or(header.raw_path());
    let target = Target::parse(raw, &header.method, None).expect("a target");
    // As `request_start` does.
    if let Some(authority) = target.authority().map(|authority| authority.as_str().to_owned()) {
        header.insert_header(header::HOST, authority).expect("a host");
    }
    let body = match head.framing {
        RequestFraming::Length(0) => ClientBody::Absent,
        _ => ClientBody::Unfinished,
    };
    let outgoing = request_body::outgoing_body(&header.headers, &mut ctx);
    let (mut out, mut encoder) =
        request_head::write(&header, Some(&head.names), &ctx, outgoing, body).expect("a header");
    let mut data = Bytes::new();
    encoder.push(request.body.clone(), &mut out, &mut data).expect("a body of its length");
    out.extend_from_slice(&data);
    encoder.finish_with(request.trailers.as_ref(), &mut out).expect("a complete body");
    out.to_vec()
}

#[cfg(test)]
mod tests {
    use super::check;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_forwarded_is_what_was_matched(
            requests in proptest::collection::vec((
                "(GET|POST|OPTIONS|X) (/[a-c/%2F.;<>?=&]{0,8}|http://h(:80)?[/a?]{0,3}|\\*) HTTP/1\\.[01]",
                proptest::collection::vec(
                    "(Host|hOsT|content-length|Transfer-Encoding|Connection|TE|Trailer|Upgrade|X-A|x-b|X_c): ?(a|h:80|3|chunked|close|X-A|trailers)",
                    0..6,
                ),
                "(abc|3\r\nabc\r\n0\r\n\r\n|0\r\nT: 1\r\nHost: x\r\nu:2\r\n\r\n|)",
            ), 1..4),
            step in 1..40usize,
        ) {
            let wire: String = requests.iter().map(|(line, fields, body)| {
                let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
                format!("{line}\r\n{fields}\r\n{body}")
            }).collect();
            check(wire.as_bytes(), step);
        }

        #[test]
        fn no_bytes_violate_an_invariant(bytes in any::<Vec<u8>>(), step in 1..40usize) {
            check(&bytes, step);
        }
    }
}
