//! Properties that a filter can read (`request.path` and so on), with Envoy's names and encoding: text as bytes,
//! numbers as 64 bits, little-endian.

use crate::host::Host;
use crate::request_scope::{self, RequestScope, Side};
use http::Version;

/// Appends the property with that path (segments separated by NUL) to `out`; false if there is none.
pub(crate) fn read(host: &Host, path: &[u8], out: &mut Vec<u8>) -> bool {
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    if let Some((_, value)) = host
        .contexts
        .get(&host.effective)
        .and_then(|context| context.properties.iter().find(|(known, _)| **known == *path))
    {
        out.extend_from_slice(value);
        return true;
    }
    let settings = &host.shared.settings;
    let mut segments = path.split(|byte| *byte == 0);
    let (first, second, third) = (segments.next().unwrap_or_default(), segments.next(), segments.next());
    match (first, second, third) {
        // AssemblyScript's SDK reads this one first.
        (b"plugin_root_id", None, _) => out.extend_from_slice(settings.root_id.as_bytes()),
        (b"plugin_name", None, _) => out.extend_from_slice(settings.name.as_bytes()),
        (b"plugin_vm_id", None, _) => out.extend_from_slice(settings.vm_id.as_bytes()),
        _ if !host.sees_request() => return false,
        (b"request", Some(b"headers"), Some(name)) => return field(Side::Request, name, out),
        (b"response", Some(b"headers"), Some(name)) => return field(Side::Response, name, out),
        (first, second, None) => {
            return request_scope::with_request(|scope| {
                of_request(scope, first, second.unwrap_or_default(), out)
            }) == Some(true);
        }
        _ => return false,
    }
    true
}

fn of_request(scope: &mut dyn RequestScope, first: &[u8], second: &[u8], out: &mut Vec<u8>) -> bool {
    match (first, second) {
        (b"request", b"path") => return scope.pseudo(Side::Request, b":path", out),
        (b"request", b"host") => return scope.pseudo(Side::Request, b":authority", out),
        (b"request", b"scheme") => return scope.pseudo(Side::Request, b":scheme", out),
        (b"request", b"method") => return scope.pseudo(Side::Request, b":method", out),
        (b"request", b"useragent") => return named(scope, Side::Request, b"user-agent", out),
        (b"request", b"referer") => return named(scope, Side::Request, b"referer", out),
        (b"response", b"code") => match scope.status() {
            Some(status) => out.extend_from_slice(&i64::from(status.as_u16()).to_le_bytes()),
            None => return false,
        },
        (b"upstream", b"address") => match scope.endpoint() {
            Some(endpoint) => out.extend_from_slice(endpoint.as_bytes()),
            None => return false,
        },
        (b"websocket", b"opcode") => match scope.opcode() {
            Some(opcode) => out.extend_from_slice(opcode.as_bytes()),
            None => return false,
        },
        _ => {
            let mut text = None;
            scope.exchange(&mut |exchange| text = of_exchange(exchange, first, second));
            match text {
                Some(text) => out.extend_from_slice(&text),
                None => return false,
            }
        }
    }
    true
}

fn of_exchange(exchange: &mut moongate_sdk::Exchange<'_>, first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let request = exchange.request;
    let text = match (first, second) {
        (b"request", b"url_path") => exchange.matched_path().to_owned(),
        (b"request", b"query") => exchange.query().unwrap_or_default().to_owned(),
        (b"request", b"protocol") => match request.version {
            Version::HTTP_10 => "HTTP/1.0".to_owned(),
            Version::HTTP_2 => "HTTP/2".to_owned(),
            _ => "HTTP/1.1".to_owned(),
        },
        (b"request", b"id") => return Some(exchange.request_id().as_bytes().to_vec()),
        // Booleans are one byte, as in Envoy.
        (b"request", b"is_websocket") => return Some(vec![u8::from(request.is_websocket)]),
        (b"request", b"is_grpc") => return Some(vec![u8::from(request.is_grpc)]),
        (b"source", b"address") => request.client.to_string(),
        (b"connection", b"peer_address") => request.peer.to_string(),
        (b"connection", name) => return of_tls(request.tls, name),
        (b"route_name" | b"xds", b"" | b"route_name") => request.route.to_owned(),
        (b"listener_name", b"") => request.listener.to_owned(),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Properties of the client's TLS connection and certificate; `None` for plaintext.
fn of_tls(tls: Option<&moongate_sdk::Tls>, name: &[u8]) -> Option<Vec<u8>> {
    let client = tls.and_then(|tls| tls.client.as_ref());
    let text = match name {
        b"mtls" => return Some(vec![u8::from(client.is_some())]),
        b"tls_version" => tls?.version,
        b"requested_server_name" => tls?.server_name.as_deref()?,
        b"subject_peer_certificate" => &client?.subject,
        b"sha256_peer_certificate_digest" => &client?.fingerprint,
        _ => return None,
    };
    Some(text.as_bytes().to_vec())
}

fn field(side: Side, name: &[u8], out: &mut Vec<u8>) -> bool {
    request_scope::with_request(|scope| named(scope, side, name, out)) == Some(true)
}

/// The value of a field or a pseudo-header.
fn named(scope: &dyn RequestScope, side: Side, name: &[u8], out: &mut Vec<u8>) -> bool {
    if name.starts_with(b":") {
        return scope.pseudo(side, name, out);
    }
    let Ok(name) = http::HeaderName::from_bytes(name) else { return false };
    match scope.fields(side).and_then(|fields| fields.get(name)) {
        Some(value) => {
            out.extend_from_slice(value.as_bytes());
            true
        }
        None => false,
    }
}
