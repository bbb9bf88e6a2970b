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
struct Print([u8; 32]);

impl PartialEq for Print {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for Print {}

impl KeyHash for Print {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

pub(super) struct PasswordCache {
    /// The hash function with its secret key; cloned for each use.
    keyed: Hmac<Sha256>,
    prints: Mutex<LruCache<Print, ()>>,
}

impl PasswordCache {
    pub(super) fn new() -> Result<Self, Problem> {
        let mut key = [0; 32];
        let failed = || Problem::new("the system has no random numbers");
        getrandom::fill(&mut key).map_err(|_| failed())?;
        let keyed = Hmac::new_from_slice(&key).map_err(|_| failed())?;
        Ok(Self { keyed, prints: Mutex::new(LruCache::new(MOST)) })
    }

    /// Whether this password was verified for this user.
    pub(super) fn has(&self, user: &str, hash: &Hash, password: &[u8]) -> bool {
        // A fast hash is not cached.
        hash.cost() > 0 && {
            let print = self.print(user, password);
            self.prints.lock().get(&print).is_some()
        }
    }

    /// Records that this password is correct for this user.
    pub(super) fn learn(&self, user: &str, hash: &Hash, password: &[u8]) {
        if hash.cost() > 0 {
            let print = self.print(user, password);
            self.prints.lock().put(print, ());
        }
    }

    fn print(&self, user: &str, password: &[u8]) -> Print {
        let mut mac = self.keyed.clone();
        // The length distinguishes `a` with `bc` from `ab` with `c`.
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        Print(mac.finalize().into_bytes().into())
    }
}
