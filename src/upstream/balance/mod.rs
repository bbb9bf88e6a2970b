//! Load balancers: a table of kinds, one file each.
//!
//! A balancer reads its settings, the candidates with their current shares, and a key. It does not depend on
//! requests, YAML, clocks, sockets or pingora-load-balancing. A choice takes the same time for any number of candidates;
//! with `consistent_hash` it grows with the logarithm of that number, with `least_connections` with the number of different
//! weights.

mod candidates;
mod consistent_hash;
mod cookie;
mod least_connections;
mod open;
mod p2c;
mod random;
mod ring;
mod round_robin;
mod share_table;
mod sticky;
#[cfg(test)]
mod tests;

pub(super) use candidates::{CandidateSet, Exclusion};
pub use candidates::{Candidates, Member};
pub use cookie::CookieScope;
pub(crate) use cookie::{inherit_process_secret, process_secret};
pub(super) use least_connections::COMPARED;
pub(super) use open::Open;
pub(super) use round_robin::RoundRobin;

pub use super::announced::Tier;
use super::endpoint::Endpoint;
use super::hash_key::KeySource;
use super::session_drain::DrainMoment;
use crate::runtime::shared_secrets::SharedSecrets;
use http::HeaderValue;
use moongate_config::{Kind, Placed, Problem};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// The kinds of `balance:`, in the order of `moongate kinds`.
pub static BALANCE: &[Kind<dyn Balance>] = &[
    round_robin::KIND,
    random::KIND,
    least_connections::KIND,
    p2c::KIND,
    consistent_hash::KIND,
    sticky::KIND,
];

/// The members of one upstream.
pub struct Group<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// All members, those of weight 0 and unavailable ones included, in a fixed order.
    pub members: &'a [Member],
}

/// A load balancer.
pub trait Balance: Send + Sync {
    /// The same kind with the same settings for a group of members. Called when an upstream is built and when
    /// its membership changes. What belongs to a member is kept from the group before: the effort beyond a look at
    /// each member is that of the difference.
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance>;

    /// The index of one of the candidates. `key` is the value of [`Balance::key`]. Called for every request: no
    /// allocation, at most a short lock, a constant number of candidates. `None` if the set has none, or none was found
    /// that the request does not exclude: the caller then lists those and calls it once more.
    fn choose(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize>;

    /// Whether the balancer needs many candidates in the order of their loads.
    fn orders_by_load(&self) -> bool {
        false
    }

    /// The part of a request that is the key.
    fn key(&self) -> KeySource {
        KeySource::Nothing
    }

    /// The cookie that ties a client to a member of an upstream; `None` for a balancer without cookies. The
    /// cookie's value is then the key, regardless of [`Balance::key`].
    fn cookie(&self, upstream: &str) -> Option<CookieScope> {
        let _ = upstream;
        None
    }

    /// The index of the member that a cookie's value names.
    fn member_of(&self, value: &[u8]) -> Option<usize> {
        let _ = value;
        None
    }

    /// The index of the candidate that a session is tied to. `key` is the value of [`Balance::key`] or of the
    /// cookie.
    fn owner_of(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        let _ = (candidates, key);
        None
    }

    /// The moment at which the session of a key leaves a draining endpoint; `None` if the key names no
    /// session.
    fn drain_moment(&self, key: &[u8]) -> Option<DrainMoment> {
        let _ = key;
        None
    }

    /// The `Set-Cookie` that ties a client to a member's endpoint, and the moment of its new session in a drain. `None`
    /// if `presented`, the key of the request, already does, if the endpoint is no member, or for a balancer without
    /// cookies.
    fn set_cookie(&self, endpoint: &Endpoint, presented: &[u8]) -> Option<(HeaderValue, DrainMoment)> {
        let _ = (endpoint, presented);
        None
    }

    /// The store whose secrets sign, by its name in `stores`.
    fn secret_store(&self) -> Option<&Placed<String>> {
        None
    }

    /// Uses the secrets of the store from now on.
    fn use_secrets(&self, secrets: &Arc<SharedSecrets>) {
        let _ = secrets;
    }

    /// A warning about valid settings.
    fn advice(&self) -> Option<Problem> {
        None
    }
}

/// The settings of a kind without settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoSettings {}
