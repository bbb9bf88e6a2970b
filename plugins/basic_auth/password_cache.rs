//! Names and passwords that were right, remembered as keyed hashes: who reads the process's memory
//! finds no password there, and nobody outside can tell by the time what is in it.

use super::hash::Hash;
use hmac::{Hmac, Mac};
use lru::LruCache;
use moongate_config::Problem;
use parking_lot::Mutex;
use sha2::Sha256;
use std::hash::{Hash as KeyHash, Hasher};
use std::num::NonZeroUsize;
use subtle::ConstantTimeEq;

/// How many are remembered, the least recently used go first.
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

pub(super) struct Known {
    /// With its secret key; cloned for each question.
    keyed: Hmac<Sha256>,
    prints: Mutex<LruCache<Print, ()>>,
}

impl Known {
    pub(super) fn new() -> Result<Self, Problem> {
        let mut key = [0; 32];
        let failed = || Problem::new("the system has no random numbers");
        getrandom::fill(&mut key).map_err(|_| failed())?;
        let keyed = Hmac::new_from_slice(&key).map_err(|_| failed())?;
        Ok(Self { keyed, prints: Mutex::new(LruCache::new(MOST)) })
    }

    /// Whether this password was right for this user.
    pub(super) fn has(&self, user: &str, hash: &Hash, password: &[u8]) -> bool {
        // A fast hash needs no memory.
        hash.cost() > 0 && {
            let print = self.print(user, password);
            self.prints.lock().get(&print).is_some()
        }
    }

    /// Remembers that this password is right for this user.
    pub(super) fn learn(&self, user: &str, hash: &Hash, password: &[u8]) {
        if hash.cost() > 0 {
            let print = self.print(user, password);
            self.prints.lock().put(print, ());
        }
    }

    fn print(&self, user: &str, password: &[u8]) -> Print {
        let mut mac = self.keyed.clone();
        // The length keeps `a` with `bc` and `ab` with `c` apart.
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        Print(mac.finalize().into_bytes().into())
    }
}
