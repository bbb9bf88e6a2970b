//! Messages of a handover. An unknown member is skipped and a missing one has its default, so that an older and a newer
//! binary understand each other. A change that they must not misunderstand gets another kind of message, or another version
//! of the state of a WebSocket.

use crate::runtime::base64_bytes;
use crate::source::DocumentState;
use crate::upstream::{FeedState, NameState};
use serde::{Deserialize, Serialize};
use std::io;
use zeroize::Zeroize;

/// The version of the messages.
pub(super) const VERSION: u32 = 1;

/// What is sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Envelope {
    /// The version of the sender's messages.
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) message: Message,
}

/// A message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Message {
    /// From the old process, first: what the new one continues.
    Process {
        /// The state.
        #[serde(default)]
        state: ProcessState,
    },
    /// From the old process: members that an upstream has discovered, in parts.
    Discovered {
        /// The upstream.
        #[serde(default)]
        upstream: String,
        /// Some of its members.
        #[serde(default)]
        state: FeedState,
    },
    /// From the old process: a document of a source, in parts whose texts follow each other.
    Document {
        /// A part of it.
        #[serde(default)]
        part: DocumentState,
    },
    /// From the old process: its counters and histograms. They come before the order to serve, and again at its end.
    Counts {
        /// The series.
        #[serde(default)]
        series: Vec<serde_json::Value>,
        /// Whether more of them follow.
        #[serde(default)]
        more: bool,
    },
    /// From the old process: listening sockets, in the order of their descriptors.
    Sockets {
        /// What the sockets are for.
        #[serde(default)]
        sockets: Vec<SocketEntry>,
        /// Whether more of them follow.
        #[serde(default)]
        more: bool,
    },
    /// From the old process: the end of a link to the service manager, as a descriptor.
    Link,
    /// From the new process: it has the configuration, its probes and its workers, and would serve.
    Ready {
        /// Its version.
        #[serde(default)]
        binary: String,
        /// How long it will serve, as it has understood.
        #[serde(default)]
        succession: Succession,
    },
    /// From the new process: it cannot serve, and ends.
    Failed {
        /// Why, as it prints it.
        #[serde(default)]
        report: String,
    },
    /// From the old process: what it has counted and learned, in parts before the order to serve.
    State {
        /// A part, as the server's `running_state` writes it.
        #[serde(default)]
        part: SecretState,
    },
    /// From the old process: accept connections.
    Serve,
    /// From the new process: it accepts connections.
    Serving,
    /// From the old process: the service manager knows the new one as the main process.
    MainProcess,
    /// From the old process: open WebSockets, each with the descriptors of its client and of its backend.
    Websockets {
        /// Each as [`MovedTunnel`](crate::proxy::MovedTunnel) writes it.
        #[serde(default)]
        websockets: Vec<SecretState>,
    },
    /// From the new process: which of them it continues. The others stay.
    Adopted {
        /// Their IDs in the old process.
        #[serde(default)]
        ids: Vec<u64>,
        /// Why others stay.
        #[serde(default)]
        refused: Vec<Refusal>,
    },
    /// A message of a newer version, which may be skipped.
    #[serde(other)]
    Unknown,
}

/// The state of a WebSocket, among which are keys of TLS. Its texts are overwritten when it is dropped.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(in crate::server) struct SecretState(pub(in crate::server) serde_json::Value);

impl SecretState {
    /// The length of its JSON.
    pub(super) fn length(&self) -> usize {
        json_length(&self.0)
    }
}

/// The length of a value's JSON, which is not written for that: it may have keys.
pub(super) fn json_length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Nothing fails that counts, and what cannot be JSON is not sent.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

impl std::fmt::Debug for SecretState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretState")
    }
}

impl Drop for SecretState {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.zeroize(),
        serde_json::Value::Array(list) => list.iter_mut().for_each(wipe),
        serde_json::Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

/// How long the new process serves.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Succession {
    /// As the main process of the service.
    #[default]
    Permanent,
    /// While the service manager restarts the service: until the old process has ended and the manager starts the next
    /// one with the stored sockets.
    UntilRestart,
}

/// State of the old process that the new one continues.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(in crate::server) struct ProcessState {
    /// The number of its configuration.
    pub(in crate::server) generation: u64,
    /// The ID of its next WebSocket.
    pub(in crate::server) next_websocket: u64,
    /// The key of cookies without a configured one.
    pub(in crate::server) cookie_key: SecretKey,
    /// The key of the hashes of clients in limits.
    pub(in crate::server) hash_key: SecretKey,
    /// The addresses of host names, by upstream.
    pub(in crate::server) names: Vec<(String, Vec<NameState>)>,
    /// The members of discoveries, by upstream. They are sent apart from the others, because they may be many.
    #[serde(skip)]
    pub(in crate::server) discovered: Vec<(String, FeedState)>,
    /// The documents of sources in use. They are sent apart from the others, because they may be long.
    #[serde(skip)]
    pub(in crate::server) documents: Vec<DocumentState>,
    /// How long the new process serves.
    pub(in crate::server) succession: Succession,
}

impl std::fmt::Debug for ProcessState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessState").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A key, overwritten when it is dropped.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(in crate::server) struct SecretKey(#[serde(with = "base64_bytes")] pub(in crate::server) Vec<u8>);

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why a WebSocket stays in the old process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    /// Its ID.
    #[serde(default)]
    pub(super) id: u64,
    /// The reason.
    #[serde(default)]
    pub(super) reason: String,
}

/// A listening socket.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct SocketEntry {
    /// Its address, as `127.0.0.1:80` or `unix:/path`.
    #[serde(default)]
    pub(super) address: String,
    /// The address of the configuration, which may have port 0.
    #[serde(default)]
    pub(super) configured: String,
    /// The name of the listener, or `None` for the admin address.
    #[serde(default)]
    pub(super) listener: Option<String>,
    /// Whether the file of a Unix socket is the gateway's, and not the service manager's.
    #[serde(default)]
    pub(super) owns_file: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn unknown_members_and_messages_are_skipped_and_missing_members_have_defaults() {
        let read = |text: &str| serde_json::from_str::<Envelope>(text).map(|envelope| envelope.message);
        assert_eq!(read(r#"{"version":1,"kind":"serve","later":7}"#).unwrap(), Message::Serve);
        assert_eq!(read(r#"{"version":9,"kind":"teleport","to":[1]}"#).unwrap(), Message::Unknown);
        assert_eq!(
            read(r#"{"version":1,"kind":"ready"}"#).unwrap(),
            Message::Ready { binary: String::new(), succession: Succession::Permanent }
        );
        assert!(read(r#"{"kind":"serve"}"#).is_err());
        let sockets = r#"{"version":1,"kind":"sockets","sockets":[{"address":"unix:/a"}]}"#;
        assert!(
            matches!(read(sockets).unwrap(), Message::Sockets { sockets, more: false } if sockets.len() == 1)
        );
    }
}
