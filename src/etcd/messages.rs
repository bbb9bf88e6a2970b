//! Requests and responses of etcd's JSON gateway. Keys and values are base64; 64-bit numbers are text.

use super::error::EtcdError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The keys that begin with a prefix, as etcd's range `[key, range_end)`.
#[derive(Clone, Debug)]
pub(super) struct KeyRange {
    pub(super) first: String,
    end: String,
}

impl KeyRange {
    /// The keys below a prefix, which is not empty.
    pub(super) fn of_prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        // No byte of UTF-8 is 0xff.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Self { first: STANDARD.encode(prefix), end: STANDARD.encode(end) }
    }

    /// The same from after this key on.
    pub(super) fn after(&self, key: &[u8]) -> Self {
        let mut next = key.to_vec();
        next.push(0);
        Self { first: STANDARD.encode(next), end: self.end.clone() }
    }

    /// The request for a page. A revision of 0 is the current one.
    pub(super) fn page(&self, limit: usize, revision: i64) -> String {
        encode(&RangeRequest {
            key: &self.first,
            range_end: Some(&self.end),
            limit: limit.to_string(),
            revision: revision.to_string(),
            keys_only: false,
        })
    }

    /// A small request whose response proves that the server has a leader.
    pub(super) fn probe(&self) -> String {
        encode(&RangeRequest {
            key: &self.first,
            range_end: None,
            limit: "1".to_owned(),
            revision: "0".to_owned(),
            keys_only: true,
        })
    }

    /// The requests that begin a watch: the second one is answered at once, also while nothing changes.
    pub(super) fn watch_from(&self, revision: i64) -> String {
        let create = encode(&WatchRequest {
            create_request: WatchCreate {
                key: &self.first,
                range_end: &self.end,
                start_revision: revision.to_string(),
                progress_notify: true,
                fragment: true,
            },
        });
        format!("{create}\n{{\"progress_request\":{{}}}}\n")
    }
}

/// The request for a token.
pub(super) fn authenticate(user: &str, password: &str) -> String {
    encode(&serde_json::json!({ "name": user, "password": password }))
}

fn encode(request: &impl Serialize) -> String {
    // These types have no maps with keys other than text.
    serde_json::to_string(request).unwrap_or_default()
}

#[derive(Serialize)]
struct RangeRequest<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<&'a str>,
    limit: String,
    revision: String,
    keys_only: bool,
}

#[derive(Serialize)]
struct WatchRequest<'a> {
    create_request: WatchCreate<'a>,
}

#[derive(Serialize)]
struct WatchCreate<'a> {
    key: &'a str,
    range_end: &'a str,
    start_revision: String,
    progress_notify: bool,
    fragment: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) cluster_id: u64,
    #[serde(deserialize_with = "number")]
    pub(super) revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeResponse {
    pub(super) header: Header,
    pub(super) kvs: Vec<KeyValue>,
    pub(super) more: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    #[serde(deserialize_with = "number")]
    pub(super) mod_revision: i64,
}

impl KeyValue {
    /// The key as text. Bytes that are no UTF-8 are replaced.
    pub(super) fn name(&self) -> Arc<str> {
        String::from_utf8_lossy(&self.key).into()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenResponse {
    pub(super) token: String,
}

/// One object of a watch's response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchMessage {
    pub(super) result: WatchResponse,
    error: Option<Value>,
}

impl WatchMessage {
    /// The error that ends the stream, if the message is one.
    pub(super) fn error(&self) -> Option<EtcdError> {
        let error = self.error.as_ref()?;
        let code = ["grpc_code", "code"].iter().find_map(|name| error.get(name)?.as_i64()).unwrap_or(0);
        let message = error.get("message").or(Some(error)).and_then(Value::as_str);
        Some(EtcdError::of_status(code, message.unwrap_or("the watch ended with an error")))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchResponse {
    pub(super) header: Header,
    /// -1 in the response to a progress request, whose revision may be ahead of the events.
    #[serde(deserialize_with = "number")]
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    #[serde(deserialize_with = "number")]
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    /// Whether the rest of the events follows in the next message.
    pub(super) fragment: bool,
    pub(super) events: Vec<WatchEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchEvent {
    /// `DELETE`; empty or `PUT` otherwise.
    #[serde(rename = "type")]
    kind: String,
    pub(super) kv: KeyValue,
}

impl WatchEvent {
    pub(super) fn is_removal(&self) -> bool {
        self.kind == "DELETE"
    }
}

/// The body of a response with an error status.
pub(super) fn status_error(body: &[u8], status: http::StatusCode) -> EtcdError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        code: i64,
        message: String,
        error: Value,
    }
    let Ok(read) = serde_json::from_slice::<Status>(body) else {
        return EtcdError::new("failed", format!("the response status is {status}"));
    };
    match (&*read.message, read.error.as_str()) {
        ("", None) => EtcdError::of_status(read.code, &format!("the response status is {status}")),
        ("", Some(message)) | (message, _) => EtcdError::of_status(read.code, message),
    }
}

/// A 64-bit number as text, or as a number.
fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: std::str::FromStr,
{
    let read = Value::deserialize(deserializer)?;
    let number = match &read {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| serde::de::Error::custom("a number is expected"))
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::etcd::error::ErrorKind;
    use http::StatusCode;

    #[test]
    fn a_prefix_is_the_range_up_to_its_successor() {
        let range = KeyRange::of_prefix("/chat/");
        assert_eq!(
            (STANDARD.decode(&range.first).unwrap(), STANDARD.decode(&range.end).unwrap()),
            (b"/chat/".to_vec(), b"/chat0".to_vec())
        );
        assert_eq!(STANDARD.decode(range.after(b"/chat/a").first).unwrap(), b"/chat/a\0");
    }

    #[test]
    fn messages_of_etcd_are_read() {
        let text = r#"{"result":{"header":{"cluster_id":"18446744073709551615","revision":"7"},"events":[
            {"kv":{"key":"L2E=","mod_revision":"6","value":"eA=="}},{"type":"DELETE","kv":{"key":"L2I=","mod_revision":7}}]}}"#;
        let WatchMessage { result, error } = serde_json::from_str(text).unwrap();
        assert!(error.is_none() && !result.created && result.watch_id == 0);
        assert_eq!((result.header.cluster_id, result.header.revision), (u64::MAX, 7));
        let shown: Vec<_> = result
            .events
            .iter()
            .map(|event| (&*event.kv.key, event.is_removal(), event.kv.mod_revision))
            .collect();
        assert_eq!(shown, [(&b"/a"[..], false, 6), (b"/b", true, 7)]);
        for text in
            [r#"{"result":{"events":[{"kv":{"key":"?"}}]}}"#, r#"{"result":{"watch_id":"x"}}"#, "null"]
        {
            assert!(serde_json::from_str::<WatchMessage>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_of_every_form_are_read() {
        let stream: WatchMessage = serde_json::from_str(
            r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#,
        )
        .unwrap();
        assert_eq!(stream.error().unwrap().reason, "no_leader");
        for (body, reason, kind) in [
            (
                r#"{"error":"etcdserver: invalid auth token","message":"etcdserver: invalid auth token","code":16}"#,
                "unauthenticated",
                ErrorKind::Token,
            ),
            (
                r#"{"code":3,"message":"etcdserver: authentication failed, invalid user ID or password","details":[]}"#,
                "unauthenticated",
                ErrorKind::Server,
            ),
            (r#"{"error":"etcdserver: permission denied","code":7}"#, "forbidden", ErrorKind::Token),
            (
                r#"{"error":"etcdserver: mvcc: required revision has been compacted","code":11}"#,
                "compacted",
                ErrorKind::Compacted,
            ),
            (
                r#"{"error":"grpc: received message larger than max","code":8}"#,
                "too_large",
                ErrorKind::LargeResponse,
            ),
            (r#"{"error":"etcdserver: request timed out","code":14}"#, "timeout", ErrorKind::Server),
            ("404 page not found", "failed", ErrorKind::Server),
            ("{}", "failed", ErrorKind::Server),
        ] {
            let error = status_error(body.as_bytes(), StatusCode::NOT_FOUND);
            assert_eq!((error.reason, error.kind()), (reason, kind), "{body}");
        }
    }
}
