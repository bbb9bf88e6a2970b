//! State of a TLS connection for another process: keys, sequence numbers, and bytes in either direction.

use crate::runtime::base64_bytes;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// An AEAD of TLS 1.3 (RFC 8446 §B.4).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

impl Algorithm {
    /// The most records with one key (RFC 8446 §5.5).
    pub(super) fn most_records(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::Chacha20Poly1305 => u64::MAX,
        }
    }
}

/// The key of a direction. Its bytes are overwritten when it is dropped.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct TrafficKey {
    #[serde(with = "base64_bytes")]
    pub(super) key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    pub(super) iv: Vec<u8>,
    /// The number of the next record.
    pub(super) sequence: u64,
}

impl fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKey").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Drop for TrafficKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// The state of a connection.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct RecordState {
    pub(super) algorithm: Algorithm,
    pub(super) read: TrafficKey,
    pub(super) write: TrafficKey,
    /// Received bytes of records that have not been decrypted.
    #[serde(default, with = "base64_bytes")]
    pub(super) input: Vec<u8>,
    /// Decrypted bytes that have not been read.
    #[serde(default, with = "base64_bytes")]
    pub(super) plain: Vec<u8>,
    /// The begin of a handshake message.
    #[serde(default, with = "base64_bytes")]
    pub(super) handshake: Vec<u8>,
    /// Records that the socket has not accepted.
    #[serde(default, with = "base64_bytes")]
    pub(super) out: Vec<u8>,
}

impl RecordState {
    /// The state after rustls; `None` for an algorithm that is not one of TLS 1.3.
    pub(super) fn new(secrets: ExtractedSecrets, plain: Vec<u8>, out: Vec<u8>) -> Option<Self> {
        let ExtractedSecrets { tx, rx } = secrets;
        let ((algorithm, write), (other, read)) = (key(tx)?, key(rx)?);
        let state = Self { algorithm, read, write, input: Vec::new(), plain, handshake: Vec::new(), out };
        (algorithm == other).then_some(state)
    }
}

fn key((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<(Algorithm, TrafficKey)> {
    let (algorithm, key, iv) = match &secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Algorithm::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Algorithm::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Algorithm::Chacha20Poly1305, key, iv),
        _ => return None,
    };
    Some((algorithm, TrafficKey { key: key.as_ref().to_vec(), iv: iv.as_ref().to_vec(), sequence }))
}
