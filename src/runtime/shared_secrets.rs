//! Secrets that several gateways share: of `sticky` cookies and of TLS session tickets. They come from a store, with
//! versions; until it has been reached they are those of this process.
//!
//! A rotation adds a version. Every gateway accepts it as soon as it has read it, and signs with it [`ACTIVATION`] later, when
//! all gateways have. The two versions before the signing one are still accepted, and so is the secret of this process, with
//! which it signed before it had reached the store, unless that is one of the versions.

use hmac::{Hmac, Mac};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// The time from a rotation until its secret signs: gateways read the store every second.
pub(crate) const ACTIVATION: Duration = Duration::from_secs(5);

/// The versions before the signing one that are accepted.
const EARLIER: usize = 2;

/// The version of the secret of this process.
const OWN: u64 = 0;

/// The bytes of a secret.
pub(crate) type SecretBytes = Zeroizing<[u8; 32]>;

/// A secret with its version.
#[derive(Clone)]
pub(crate) struct VersionedSecret {
    /// Its version; 0 for the one of this process.
    pub(crate) version: u64,
    /// When it was created, in milliseconds of the store's clock.
    created: u64,
    pub(crate) bytes: SecretBytes,
}

impl VersionedSecret {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (version, created, hex) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut bytes = SecretBytes::default();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        let version = version.parse().ok().filter(|version| *version > OWN)?;
        Some(Self { version, created: created.parse().ok()?, bytes })
    }

    /// A secret for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> SecretBytes {
        // A key of HMAC may have any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.bytes) else { return self.bytes.clone() };
        mac.update(b"moongate ");
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    fn write(&self, version: u64, to: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(to, "{version}:{}:", self.created);
        write_hex(&self.bytes, to);
    }
}

fn write_hex(bytes: &SecretBytes, to: &mut String) {
    for byte in bytes.iter() {
        // Writing to a String cannot fail.
        let _ = write!(to, "{byte:02x}");
    }
}

/// A new secret as text for the store; `None` if the system has no random numbers.
pub(crate) fn fresh_secret() -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(64));
    write_hex(&random()?, &mut text);
    Some(text)
}

fn random() -> Option<SecretBytes> {
    let mut bytes = SecretBytes::default();
    getrandom::fill(&mut *bytes).ok().map(|()| bytes)
}

/// The secrets at one moment.
#[derive(Clone)]
pub(crate) struct SecretSet {
    /// Those of the store, the newest first.
    stored: Vec<VersionedSecret>,
    /// The one of this process.
    own: VersionedSecret,
    /// Whether the one of this process is, or was, one of the store.
    is_own_stored: bool,
    /// The index of the one that signs, among those of the store.
    signing: usize,
}

impl SecretSet {
    /// The secret that signs.
    pub(crate) fn signing(&self) -> &VersionedSecret {
        self.stored.get(self.signing).unwrap_or(&self.own)
    }

    /// The secrets whose signatures are accepted.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &VersionedSecret> {
        let own = (!self.is_own_stored).then_some(&self.own);
        self.stored.iter().take(self.signing + 1 + EARLIER).chain(own)
    }
}

/// Secrets that several gateways share.
pub struct SharedSecrets {
    current: RwLock<Arc<SecretSet>>,
    /// Counts the changes.
    epoch: AtomicU64,
}

impl fmt::Debug for SharedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecrets").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// The secrets for the process that takes over in an upgrade, which may not reach the store.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct SharedSecretState {
    /// Those of the store, as text.
    stored: SecretText,
    own: SecretText,
    is_own_stored: bool,
    /// The index of the one that signs.
    signing: usize,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(transparent)]
struct SecretText(String);

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl SharedSecrets {
    /// The secret of this process alone; `None` if the system has no random numbers.
    pub(crate) fn new() -> Option<Arc<Self>> {
        let own = VersionedSecret { version: OWN, created: 0, bytes: random()? };
        let set = SecretSet { stored: Vec::new(), own, is_own_stored: false, signing: 0 };
        Some(Arc::new(Self { current: RwLock::new(Arc::new(set)), epoch: AtomicU64::new(1) }))
    }

    /// The secrets now.
    pub(crate) fn current(&self) -> Arc<SecretSet> {
        Arc::clone(&self.current.read())
    }

    /// Changes with the secrets. Read it before them.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// The version that signs; 0 until the store has been reached.
    pub(crate) fn version(&self) -> u64 {
        self.current.read().signing().version
    }

    /// What a store gets that has none, or older ones: the known secrets, or that of this process as the first version.
    pub(crate) fn proposal(&self) -> Zeroizing<String> {
        let set = self.current();
        let mut text = Zeroizing::new(String::new());
        match set.stored.is_empty() {
            true => set.own.write(OWN + 1, &mut text),
            false => write_all(&set.stored, &mut text),
        }
        text
    }

    /// Continues with the secrets of a store, at that moment of its clock in milliseconds. Returns whether another version
    /// signs; `None` if the text is not one of secrets, which changes nothing.
    pub(crate) fn take(&self, text: &str, now: u64) -> Option<bool> {
        let stored = read_all(text)?;
        let activation = u64::try_from(ACTIVATION.as_millis()).unwrap_or(u64::MAX);
        let is_active = |secret: &VersionedSecret| now.saturating_sub(secret.created) >= activation;
        // A set without an active one is new as a whole.
        let signing = stored.iter().position(is_active).unwrap_or(stored.len() - 1);
        Some(self.replace(stored, signing))
    }

    /// Uses these secrets; returns whether another version signs.
    fn replace(&self, stored: Vec<VersionedSecret>, signing: usize) -> bool {
        let mut current = self.current.write();
        let before = current.signing().version;
        let versions = |all: &[VersionedSecret]| all.iter().map(|one| one.version).collect::<Vec<_>>();
        let is_same = current.signing == signing
            && versions(&current.stored) == versions(&stored)
            && current.stored.iter().zip(&stored).all(|(one, other)| *one.bytes == *other.bytes);
        if !is_same {
            let own = current.own.clone();
            let is_own_stored =
                current.is_own_stored || stored.iter().any(|secret| *secret.bytes == *own.bytes);
            *current = Arc::new(SecretSet { stored, own, is_own_stored, signing });
            self.epoch.fetch_add(1, Relaxed);
        }
        current.signing().version != before
    }

    /// The secrets for another process.
    pub(crate) fn state(&self) -> SharedSecretState {
        let set = self.current();
        let mut state = SharedSecretState::default();
        (state.signing, state.is_own_stored) = (set.signing, set.is_own_stored);
        write_all(&set.stored, &mut state.stored.0);
        write_hex(&set.own.bytes, &mut state.own.0);
        state
    }

    /// Continues with the secrets of another process.
    pub(crate) fn restore(&self, state: &SharedSecretState) {
        if let Some(own) = VersionedSecret::read(&format!("1:0:{}", state.own.0)) {
            let mut current = self.current.write();
            let own = VersionedSecret { version: OWN, ..own };
            let is_own_stored = state.is_own_stored;
            *current = Arc::new(SecretSet { own, is_own_stored, ..(**current).clone() });
            drop(current);
            self.epoch.fetch_add(1, Relaxed);
        }
        // What this process has read itself is newer.
        let is_first = self.current.read().stored.is_empty();
        if let Some(stored) = read_all(&state.stored.0).filter(|_| is_first) {
            self.replace(stored, state.signing);
        }
    }
}

/// The secrets in a text of a store, the newest first.
fn read_all(text: &str) -> Option<Vec<VersionedSecret>> {
    let stored: Vec<_> = text.split(',').map(VersionedSecret::read).collect::<Option<_>>()?;
    stored.is_sorted_by(|one, next| one.version > next.version).then_some(stored)
}

fn write_all(secrets: &[VersionedSecret], to: &mut String) {
    for (at, secret) in secrets.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        secret.write(secret.version, to);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn text(versions: &[(u64, u64)]) -> String {
        let one = |(version, created): &(u64, u64)| format!("{version}:{created}:{version:064x}");
        versions.iter().map(one).collect::<Vec<_>>().join(",")
    }

    fn accepted(secrets: &SharedSecrets) -> Vec<u64> {
        secrets.current().accepted().map(|secret| secret.version).collect()
    }

    #[test]
    fn a_secret_signs_when_all_gateways_know_it_and_two_before_are_accepted() {
        let secrets = SharedSecrets::new().unwrap();
        assert_eq!((secrets.version(), accepted(&secrets)), (0, vec![0]));
        assert_eq!(secrets.take(&text(&[(1, 0)]), 100_000), Some(true));
        assert_eq!((secrets.version(), accepted(&secrets)), (1, vec![1, 0]));
        let rotated = text(&[(4, 100_000), (3, 50), (2, 20), (1, 0)]);
        assert_eq!(secrets.take(&rotated, 104_999), Some(true));
        assert_eq!((secrets.version(), accepted(&secrets)), (3, vec![4, 3, 2, 1, 0]));
        let epoch = secrets.epoch();
        assert_eq!(secrets.take(&rotated, 104_999), Some(false));
        assert_eq!(secrets.epoch(), epoch);
        assert_eq!(secrets.take(&rotated, 105_000), Some(true));
        assert_eq!((secrets.version(), accepted(&secrets)), (4, vec![4, 3, 2, 0]));
        assert!(secrets.epoch() > epoch);
    }

    #[test]
    fn a_store_without_secrets_gets_the_known_ones() {
        let first = SharedSecrets::new().unwrap();
        let proposal = first.proposal();
        assert!(proposal.starts_with("1:0:"));
        let second = SharedSecrets::new().unwrap();
        second.take(&proposal, 10_000).unwrap();
        assert_eq!(*second.current().signing().bytes, *first.current().signing().bytes);
        assert_eq!(accepted(&second), [1, 0]);
        first.take(&proposal, 10_000).unwrap();
        assert_eq!(accepted(&first), [1], "its own secret is rotated as the others are");
        let stored = text(&[(7, 10), (6, 0)]);
        second.take(&stored, 10_000).unwrap();
        assert_eq!(*second.proposal(), stored);
    }

    #[test]
    fn another_text_changes_nothing() {
        let secrets = SharedSecrets::new().unwrap();
        secrets.take(&text(&[(2, 0)]), 10_000).unwrap();
        let many = [
            String::new(),
            "abc".to_owned(),
            "1:2".to_owned(),
            text(&[(0, 0)]),
            text(&[(1, 0), (2, 0)]),
            format!("{}:1", text(&[(1, 0)])),
            "1:0:".to_owned() + &"x".repeat(64),
            "1:0:".to_owned() + &"é".repeat(32),
        ];
        for wrong in many {
            assert_eq!(secrets.take(&wrong, 10_000), None, "{wrong}");
        }
        assert_eq!(secrets.version(), 2);
    }

    #[test]
    fn another_process_continues_with_them() {
        let (old, new) = (SharedSecrets::new().unwrap(), SharedSecrets::new().unwrap());
        new.restore(&old.state());
        assert_eq!(*new.current().signing().bytes, *old.current().signing().bytes);
        old.take(&text(&[(3, 0), (2, 0)]), 10_000).unwrap();
        new.restore(&old.state());
        assert_eq!(accepted(&new), [3, 2, 0]);
    }
}
