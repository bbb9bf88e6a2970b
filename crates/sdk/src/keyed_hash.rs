//! Keyed hash of the clients and keys of limits: no client can choose a collision. A process that takes over from
//! another one in an upgrade has its key, so that what is counted by these hashes continues. The bytes that are hashed are
//! written down here, since those of `std::hash::Hash` may change with the compiler.

use crate::{ClientAddress, random_bits};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::OnceLock;

static KEY: OnceLock<[u8; 16]> = OnceLock::new();

/// The key of this process.
pub fn hash_key() -> [u8; 16] {
    *KEY.get_or_init(|| {
        let (high, low) = random_bits();
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    })
}

/// Continues with the key of the process that handed over to this one. Call it before anything is hashed.
pub fn inherit_hash_key(key: [u8; 16]) {
    // A key in use stays.
    let _ = KEY.set(key);
}

/// What is hashed. No value has the hash of another kind.
#[derive(Clone, Copy, Debug)]
pub enum HashedKey<'a> {
    /// A client.
    Client(ClientAddress<'a>),
    /// The value of a key of a request.
    Value(&'a [u8]),
}

/// The hash of a key under the key of this process.
pub fn keyed_hash(key: HashedKey<'_>) -> u64 {
    hash_under(&hash_key(), key)
}

/// The hash of a key that all gateways agree on: the first 128 bits of its SHA-256.
pub fn fleet_hash(key: HashedKey<'_>) -> u128 {
    let mut hasher = Sha256::new();
    feed(key, |bytes| hasher.update(bytes));
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    u128::from_be_bytes(first)
}

fn hash_under(secret: &[u8; 16], key: HashedKey<'_>) -> u64 {
    let mut hasher = SipHasher13::new_with_key(secret);
    feed(key, |bytes| hasher.write(bytes));
    hasher.finish()
}

fn feed(key: HashedKey<'_>, mut write: impl FnMut(&[u8])) {
    let mut add = |tag: u8, bytes: &[u8]| {
        write(&[tag]);
        write(bytes);
    };
    match key {
        HashedKey::Client(ClientAddress::Ip(IpAddr::V4(address))) => add(4, &address.octets()),
        HashedKey::Client(ClientAddress::Ip(IpAddr::V6(address))) => add(6, &address.octets()),
        HashedKey::Client(ClientAddress::Unreadable(text)) => add(0, text.as_bytes()),
        HashedKey::Value(value) => add(1, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_every_binary() {
        let hash = |key| hash_under(b"0123456789abcdef", key);
        let v4 = HashedKey::Client(ClientAddress::Ip(IpAddr::from([192, 0, 2, 1])));
        let v6 = HashedKey::Client(ClientAddress::Ip(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])));
        let text = HashedKey::Client(ClientAddress::Unreadable("a"));
        assert_eq!(
            [v4, v6, text, HashedKey::Value(b"a")].map(hash),
            [462117527891750508, 16128157601519855731, 2769751220252241952, 10499384594691187412]
        );
    }

    #[test]
    fn a_fleet_agrees_on_its_hashes() {
        let text = HashedKey::Client(ClientAddress::Unreadable("a"));
        // `printf '\001a' | sha256sum`
        assert_eq!(fleet_hash(HashedKey::Value(b"a")), 0xe325_4ea6_1c09_ead5_a01d_3bf0_7e94_6a56);
        assert_ne!(fleet_hash(text), fleet_hash(HashedKey::Value(b"a")));
    }

    #[test]
    fn a_key_in_use_stays() {
        let key = hash_key();
        inherit_hash_key([7; 16]);
        assert_eq!(hash_key(), key);
    }
}
