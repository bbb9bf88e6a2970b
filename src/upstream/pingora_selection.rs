//! Adapter from [`Balance`](super::Balance) to pingora-load-balancing's `BackendSelection`.
//!
//! Unavailable endpoints are excluded before the balancer is called, so that the shares of the others stay
//! right. Retries use `Members::lease_again` instead.

use super::balance::Open;
use super::endpoint_set::EndpointSet;
use super::members::{Members, Turn};
use super::slow_start::SlowStart;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Keys up to this length are stored inline: addresses, UUIDs, signed tags, most session IDs.
const SHORT: usize = 64;

/// The members of one membership, as pingora-load-balancing selects among them.
pub(super) struct Selection(Arc<Members>);

impl BackendSelection for Selection {
    type Iter = CandidateIter;
    type Config = Arc<EndpointSet>;

    fn build_with_config(backends: &BTreeSet<Backend>, endpoint_set: &Arc<EndpointSet>) -> Self {
        Self(endpoint_set.install(backends))
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self(EndpointSet::default().install(backends))
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> CandidateIter {
        CandidateIter {
            open: None,
            direct: None,
            slow: self.0.slow_start(),
            key: KeyBytes::new(key),
            members: Arc::clone(&self.0),
        }
    }
}

/// The endpoints in the order in which one request should try them.
pub(super) struct CandidateIter {
    members: Arc<Members>,
    /// The candidates that were not returned. Listing them reads all members, and pingora-load-balancing asks
    /// for a second endpoint only if the first was just removed.
    open: Option<Open>,
    /// The endpoint that was returned before the candidates were listed.
    direct: Option<usize>,
    slow: Option<SlowStart>,
    key: KeyBytes,
}

impl CandidateIter {
    fn choose_directly(&mut self) -> Option<usize> {
        if self.open.is_some() || self.direct.is_some() || self.slow.is_some() {
            return None;
        }
        self.direct = self.members.choose_directly(self.key.as_bytes());
        self.direct
    }

    fn choose_candidate(&mut self) -> Option<usize> {
        let open = self.open.get_or_insert_with(|| {
            let mut open = self.members.open();
            self.direct.into_iter().for_each(|index| open.remove(index));
            open
        });
        let chosen = self.members.choose(open, self.key.as_bytes(), self.slow, Turn::First)?;
        open.remove(chosen);
        Some(chosen)
    }
}

impl BackendIter for CandidateIter {
    fn next(&mut self) -> Option<&Backend> {
        let chosen = self.choose_directly().or_else(|| self.choose_candidate())?;
        self.members.backend(chosen)
    }
}

/// pingora-load-balancing lends the key for one call; the iterator needs it longer.
enum KeyBytes {
    Short([u8; SHORT], usize),
    Long(Box<[u8]>),
}

impl KeyBytes {
    fn new(key: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                Self::Short(short, key.len())
            }
            None => Self::Long(key.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, length) => bytes.get(..*length).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}
