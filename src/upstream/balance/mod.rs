//! How one of several endpoints is chosen: a table of kinds, one file each.
//!
//! A kind sees its settings, the endpoints that may be chosen with their shares of this moment, and a
//! key. It never meets a request, YAML, a clock, a socket or the engine. Who may be chosen is decided before it is asked.

mod candidates;
mod consistent_hash;
mod cookie;
mod least_connections;
mod p2c;
mod random;
mod ring;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

pub(super) use candidates::Open;
pub use candidates::{Candidates, Member};
pub use cookie::CookieScope;
pub(super) use round_robin::RoundRobin;

use super::hash_key::KeySource;
use super::session_drain::DrainMoment;
use http::HeaderValue;
use moongate_config::{Kind, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// The kinds of `balance:`, in the order that `moongate kinds` shows them.
pub static BALANCE: &[Kind<dyn Balance>] = &[
    round_robin::KIND,
    random::KIND,
    least_connections::KIND,
    p2c::KIND,
    consistent_hash::KIND,
    sticky::KIND,
];

/// The members of one upstream at one time.
pub struct Group<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// Everybody, also those of weight 0 and those that are out, in a fixed order.
    pub members: &'a [Member],
}

/// A way to choose.
pub trait Balance: Send + Sync {
    /// The same kind with the same settings for a group of members. Called when an upstream is
    /// built and whenever its membership changes; what is costly to prepare is prepared here.
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance>;

    /// The index of one of the candidates; none when there is none. `key` is what
    /// [`Balance::key`] asked for. Called for every request: no allocation, at most a tiny lock.
    fn choose(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize>;

    /// Which part of a request it wants as key.
    fn key(&self) -> KeySource {
        KeySource::Nothing
    }

    /// The cookie by which it ties a client to a member of an upstream; none when it ties nobody. The cookie's
    /// value is then the key, whatever [`Balance::key`] says.
    fn cookie(&self, upstream: &str) -> Option<CookieScope> {
        let _ = upstream;
        None
    }

    /// The index of the member that the value of such a cookie names.
    fn member_of(&self, value: &[u8]) -> Option<usize> {
        let _ = value;
        None
    }

    /// The index of the candidate that a session is tied to. `key` is what [`Balance::key`] asked for, or the value of
    /// the cookie.
    fn owner_of(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        let _ = (candidates, key);
        None
    }

    /// When the session of such a key leaves a draining endpoint; none when the key names no session.
    fn drain_moment(&self, key: &[u8]) -> Option<DrainMoment> {
        let _ = key;
        None
    }

    /// The `Set-Cookie` that ties a client to the member at `index`, and the moment of its new session in a drain; none
    /// when `presented`, the key of the request, already does, or when the kind ties nobody.
    fn set_cookie(&self, index: usize, presented: &[u8]) -> Option<(HeaderValue, DrainMoment)> {
        let _ = (index, presented);
        None
    }

    /// What an operator should know about these settings, though they are taken.
    fn advice(&self) -> Option<Problem> {
        None
    }
}

/// The settings of a kind that has none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}
