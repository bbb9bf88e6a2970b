//! Keyed hash of the clients and keys of limits: no client can choose a collision. A process that takes over from
//! another one in an upgrade has its key, so that what is counted by these hashes continues.

use crate::random_bits;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};
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

/// The hash of a value under the key of this process.
pub fn keyed_hash(value: impl Hash) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&hash_key());
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_as_long_as_the_key_is() {
        let key = hash_key();
        assert_eq!(keyed_hash(("a", 1)), keyed_hash(("a", 1)));
        assert_ne!(keyed_hash(("a", 1)), keyed_hash(("a", 2)));
        inherit_hash_key([7; 16]);
        assert_eq!(hash_key(), key, "a key in use stays");
    }
}
