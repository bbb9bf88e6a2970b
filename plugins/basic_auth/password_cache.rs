//! Cache of verified names and passwords, as keyed hashes: the process's memory holds no password, and the timing
//! reveals nothing about the contents.

use super::hash::Hash;
use hmac::{Hmac, Mac};
use lru::LruCache;
use moongate_config::Problem;
use parking_lot::Mutex;
use sha2::Sha256;
use std::hash::{Hash as KeyHash, Hasher};
use std::num::NonZeroUsize;
use subtle::ConstantTimeEq;

/// The maximum number of entries; the least recently used are evicted first.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// A keyed hash of a name and its password, compared in constant time.
struct LoginDigest([u8; 32]);

impl PartialEq for LoginDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for LoginDigest {}

impl KeyHash for LoginDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

pub(super) struct PasswordCache {
    /// The hash function with its secret key; cloned for each use.
    keyed: Hmac<Sha256>,
    digests: Mutex<LruCache<LoginDigest, ()>>,
}

impl PasswordCache {
    pub(super) fn new() -> Result<Self, Problem> {
        let mut key = [0; 32];
        let failed = || Problem::new("the system has no random numbers");
        getrandom::fill(&mut key).map_err(|_| failed())?;
        let keyed = Hmac::new_from_slice(&key).map_err(|_| failed())?;
        Ok(Self { keyed, digests: Mutex::new(LruCache::new(MOST)) })
    }

    /// Whether this password was verified for this user.
    pub(super) fn has(&self, user: &str, hash: &Hash, password: &[u8]) -> bool {
        // A fast hash is not cached.
        hash.cost() > 0 && {
            let digest = self.digest(user, password);
            self.digests.lock().get(&digest).is_some()
        }
    }

    /// Records that this password is correct for this user.
    pub(super) fn learn(&self, user: &str, hash: &Hash, password: &[u8]) {
        if hash.cost() > 0 {
            let digest = self.digest(user, password);
            self.digests.lock().put(digest, ());
        }
    }

    fn digest(&self, user: &str, password: &[u8]) -> LoginDigest {
        let mut mac = self.keyed.clone();
        // The length distinguishes `a` with `bc` from `ab` with `c`.
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        LoginDigest(mac.finalize().into_bytes().into())
    }
}
