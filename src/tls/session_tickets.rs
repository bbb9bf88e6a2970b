//! Stateless session tickets for resumption (RFC 8446 §2.2, RFC 5077).
//!
//! A ticket contains the whole session, encrypted, so the gateway stores nothing: tickets work at every
//! worker, and at every gateway with the same key files or secrets of a store. A ticket is bound to the issuers that the listener
//! trusts for client certificates, because a resumed session is not asked for a certificate again.

use super::client_trust::TrustDigest;
use super::unix_time::now;
use crate::runtime::base64_bytes;
use crate::runtime::shared_secrets::{SharedSecrets, VersionedSecret};
use moongate_config::Problem;
use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The lifetime of a ticket, in seconds.
const LIFETIME: u32 = 12 * 60 * 60;

/// The time for which a generated key encrypts, in seconds.
const TURN: i64 = 6 * 60 * 60;

/// The encrypting key, and those whose tickets may still be valid.
const KEPT: usize = 1 + (LIFETIME as i64 / TURN) as usize;

/// The length of a key's name, which starts each ticket, and each key file of nginx.
const NAME_LEN: usize = 16;

/// The lengths of a key file, as in nginx.
const FILE_LENS: [usize; 2] = [48, 80];

/// A ticket key.
pub(super) struct Key {
    name: [u8; NAME_LEN],
    aead: LessSafeKey,
    /// The bytes of a generated key, for another process.
    seed: Option<Zeroizing<[u8; 48]>>,
}

/// The generated keys of a listener for the process that takes over in an upgrade, the newest first.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TicketKeyState {
    keys: Vec<KeyBytes>,
    /// The start of the newest one, in seconds since 1970.
    since: i64,
}

#[derive(Clone, Deserialize, Serialize)]
struct KeyBytes(#[serde(with = "base64_bytes")] Vec<u8>);

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Key {
    /// Reads a key from a file of 48 or 80 random bytes.
    ///
    /// # Errors
    /// A problem without a place.
    pub(super) fn of_file(bytes: &[u8]) -> Result<Self, Problem> {
        let help =
            "create one with `openssl rand 80 > FILE`; all gateways behind one address need the same file";
        if !FILE_LENS.contains(&bytes.len()) {
            let length = bytes.len();
            return Err(
                Problem::new(format!("a ticket key must have 48 or 80 bytes, not {length}")).help(help)
            );
        }
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(Problem::new("the ticket key repeats a single byte").help(help));
        }
        Self::of(bytes).ok_or_else(|| Problem::new("the ticket key cannot be used"))
    }

    fn fresh(random: &SystemRandom) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 48]);
        random.fill(&mut *bytes).ok()?;
        Self::generated(&bytes)
    }

    fn generated(bytes: &Zeroizing<[u8; 48]>) -> Option<Self> {
        Some(Self { seed: Some(bytes.clone()), ..Self::of(&**bytes)? })
    }

    fn of_fleet(secret: &VersionedSecret) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 48]);
        bytes[..NAME_LEN].copy_from_slice(&secret.derive("ticket key name")[..NAME_LEN]);
        bytes[NAME_LEN..].copy_from_slice(&*secret.derive("ticket key"));
        Self::of(&*bytes)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let name = *bytes.first_chunk()?;
        // A file may be as long as two keys of nginx; all bytes are used.
        let secret = Salt::new(HKDF_SHA256, b"moongate session tickets").extract(bytes);
        let key: UnboundKey = secret.expand(&[b"aes-256-gcm"], &AES_256_GCM).ok()?.into();
        Some(Self { name, aead: LessSafeKey::new(key), seed: None })
    }
}

/// Generated keys; each encrypts for six hours.
pub(super) struct EphemeralTicketKeys {
    random: SystemRandom,
    turns: RwLock<KeyRotation>,
}

struct KeyRotation {
    keys: Vec<Arc<Key>>,
    /// The start of the newest key.
    since: i64,
}

impl EphemeralTicketKeys {
    pub(super) fn new() -> Self {
        Self { random: SystemRandom::new(), turns: RwLock::new(KeyRotation { keys: Vec::new(), since: 0 }) }
    }

    /// The encrypting key.
    fn newest(&self, now: i64) -> Option<Arc<Key>> {
        let current = |turns: &KeyRotation| {
            // A clock that was set back must not keep a key forever.
            let lasts = (0..TURN).contains(&(now - turns.since));
            turns.keys.first().filter(|_| lasts).cloned()
        };
        if let Some(key) = current(&self.turns.read()) {
            return Some(key);
        }
        let mut turns = self.turns.write();
        if let Some(key) = current(&turns) {
            return Some(key);
        }
        let key = Arc::new(Key::fresh(&self.random)?);
        turns.keys.insert(0, Arc::clone(&key));
        turns.keys.truncate(KEPT);
        turns.since = now;
        Some(key)
    }

    /// The keys for another process.
    pub(super) fn state(&self) -> TicketKeyState {
        let turns = self.turns.read();
        let seeds = turns.keys.iter().filter_map(|key| key.seed.as_ref());
        TicketKeyState { keys: seeds.map(|seed| KeyBytes(seed.to_vec())).collect(), since: turns.since }
    }

    /// Continues with the keys of another process.
    pub(super) fn restore(&self, state: &TicketKeyState) {
        let seeds = state.keys.iter().filter_map(|key| <[u8; 48]>::try_from(&*key.0).ok());
        let keys: Vec<_> =
            seeds.filter_map(|seed| Key::generated(&Zeroizing::new(seed))).map(Arc::new).take(KEPT).collect();
        if !keys.is_empty() {
            *self.turns.write() = KeyRotation { keys, since: state.since };
        }
    }

    fn named(&self, name: &[u8]) -> Option<Arc<Key>> {
        self.turns.read().keys.iter().find(|key| key.name == name).cloned()
    }
}

/// Keys made of the secrets that a fleet shares.
pub(super) struct FleetTicketKeys {
    secrets: Arc<SharedSecrets>,
    made: RwLock<FleetKeySet>,
}

/// The keys of one epoch of the secrets. The first key encrypts.
#[derive(Clone)]
struct FleetKeySet {
    epoch: u64,
    keys: Arc<[Arc<Key>]>,
}

impl FleetTicketKeys {
    pub(super) fn new(secrets: Arc<SharedSecrets>) -> Self {
        Self { made: RwLock::new(FleetKeySet { epoch: 0, keys: Arc::default() }), secrets }
    }

    fn keys(&self) -> Arc<[Arc<Key>]> {
        // Read before the secrets: a change in between makes the keys once more.
        let epoch = self.secrets.epoch();
        let made = self.made.read().clone();
        if made.epoch == epoch {
            return made.keys;
        }
        let set = self.secrets.current();
        let signing = set.signing();
        let others = set.accepted().filter(|secret| secret.version != signing.version);
        let keys: Arc<[_]> =
            [signing].into_iter().chain(others).filter_map(Key::of_fleet).map(Arc::new).collect();
        *self.made.write() = FleetKeySet { epoch, keys: Arc::clone(&keys) };
        keys
    }
}

/// The source of a listener's keys.
#[derive(Clone)]
pub(super) enum Keys {
    Own(Arc<EphemeralTicketKeys>),
    /// The first key encrypts.
    Files(Arc<[Arc<Key>]>),
    Fleet(Arc<FleetTicketKeys>),
}

impl Keys {
    fn newest(&self, now: i64) -> Option<Arc<Key>> {
        match self {
            Self::Own(own) => own.newest(now),
            Self::Files(keys) => keys.first().cloned(),
            Self::Fleet(fleet) => fleet.keys().first().cloned(),
        }
    }

    fn named(&self, name: &[u8]) -> Option<Arc<Key>> {
        match self {
            Self::Own(own) => own.named(name),
            Self::Files(keys) => keys.iter().find(|key| key.name == name).cloned(),
            Self::Fleet(fleet) => fleet.keys().iter().find(|key| key.name == name).cloned(),
        }
    }
}

/// The ticketer of a listener.
pub(super) struct Tickets {
    keys: Keys,
    trust: TrustDigest,
    random: SystemRandom,
}

impl Tickets {
    pub(super) fn new(keys: Keys, trust: TrustDigest) -> Self {
        Self { keys, trust, random: SystemRandom::new() }
    }

    fn bound(&self, key: &Key) -> Aad<[u8; NAME_LEN + 32]> {
        let mut bytes = [0; NAME_LEN + 32];
        bytes[..NAME_LEN].copy_from_slice(&key.name);
        bytes[NAME_LEN..].copy_from_slice(&self.trust);
        Aad::from(bytes)
    }

    /// A ticket: the key's name, the nonce, the encrypted time of creation and session, and the tag.
    fn seal(&self, session: &[u8], now: i64) -> Option<Vec<u8>> {
        let key = self.keys.newest(now)?;
        // Random: a counter would reveal the load, and two gateways would use the same one. A generated key
        // makes far fewer tickets than the 2^32 that are safe with random nonces.
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + 8 + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&now.to_be_bytes());
        ticket.extend_from_slice(session);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let secret = &mut ticket[NAME_LEN + NONCE_LEN..];
        let tag = key.aead.seal_in_place_separate_tag(nonce, self.bound(&key), secret).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, secret) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.keys.named(name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut secret = secret.to_vec();
        let plain = key.aead.open_in_place(nonce, self.bound(&key), &mut secret).ok()?;
        let (made, session) = plain.split_first_chunk()?;
        // The clocks of gateways differ a little: a ticket from the future is new.
        let age = now.saturating_sub(i64::from_be_bytes(*made));
        (age <= i64::from(LIFETIME)).then(|| session.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    const NOON: i64 = 1_800_000_000;

    fn files(seeds: &[u8]) -> Keys {
        let key = |seed: &u8| {
            let bytes: Vec<u8> = (0..80).map(|n| n ^ seed).collect();
            Arc::new(Key::of_file(&bytes).unwrap())
        };
        Keys::Files(seeds.iter().map(key).collect())
    }

    fn tickets(keys: Keys) -> Tickets {
        Tickets::new(keys, NO_TRUST)
    }

    const NO_TRUST: TrustDigest = [0; 32];

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let (old, both, new) = (tickets(files(&[1])), tickets(files(&[2, 1])), tickets(files(&[2])));
        let ticket = old.seal(b"session", NOON).unwrap();
        assert_eq!(both.open(&ticket, NOON).as_deref(), Some(&b"session"[..]));
        assert_eq!(new.open(&ticket, NOON), None);
        let ticket = both.seal(b"session", NOON).unwrap();
        assert_eq!((old.open(&ticket, NOON), new.open(&ticket, NOON)), (None, Some(b"session".to_vec())));
    }

    #[test]
    fn a_session_is_not_resumed_with_other_trusted_issuers() {
        let ticket = tickets(files(&[1])).seal(b"session", NOON).unwrap();
        assert_eq!(Tickets::new(files(&[1]), [1; 32]).open(&ticket, NOON), None);
    }

    #[test]
    fn a_ticket_is_valid_for_half_a_day() {
        let tickets = tickets(files(&[1]));
        let ticket = tickets.seal(b"", NOON).unwrap();
        assert!(tickets.open(&ticket, NOON + i64::from(LIFETIME)).is_some());
        assert!(tickets.open(&ticket, NOON + i64::from(LIFETIME) + 1).is_none());
        assert!(tickets.open(&ticket, NOON - 60).is_some(), "the clock of another gateway is slow");
    }

    #[test]
    fn generated_keys_rotate_and_are_dropped_with_their_tickets() {
        let own = Arc::new(EphemeralTicketKeys::new());
        let tickets = tickets(Keys::Own(Arc::clone(&own)));
        let ticket = tickets.seal(b"", NOON).unwrap();
        for turn in 1..KEPT as i64 {
            tickets.seal(b"", NOON + turn * TURN).unwrap();
            assert!(tickets.open(&ticket, NOON + turn * TURN).is_some());
        }
        assert_eq!(own.turns.read().keys.len(), KEPT);
        tickets.seal(b"", NOON + KEPT as i64 * TURN).unwrap();
        assert!(tickets.open(&ticket, NOON).is_none(), "its key is dropped");
        assert_eq!(own.turns.read().keys.len(), KEPT);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for length in [0, 1, 47, 49, 79, 81, 160] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert!(Key::of_file(&bytes).is_err(), "{length}");
        }
        assert!(Key::of_file(&[0; 80]).is_err(), "a file of zeros is not a key");
    }

    proptest! {
        #[test]
        fn a_changed_ticket_is_invalid(at: prop::sample::Index, bit in 0_u8..8, more: Vec<u8>) {
            let tickets = tickets(files(&[1]));
            let mut ticket = tickets.seal(b"session", NOON).unwrap();
            let at = at.index(ticket.len());
            ticket[at] ^= 1 << bit;
            prop_assert_eq!(tickets.open(&ticket, NOON), None);
            prop_assert_eq!(tickets.open(&more, NOON), None);
        }
    }
}
