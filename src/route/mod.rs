//! Which rule a request belongs to, and what its target means: pure, without sockets, clocks or tasks.
//!
//! What a rule's target is (an upstream, a chain, a policy) stays out: [`Table`] carries any `R`.
//!
//! # Which rule wins
//!
//! Among all rules that match a request the most specific one wins:
//!
//! 1. **host**: exact, then a longer wildcard, then a shorter one, then any;
//! 2. **path**: exact, then regex, then a longer prefix, then a shorter one, then none;
//! 3. **conditions**: more of them wins; `methods`, `listeners` and `when` count once each, every header
//!    and every query parameter counts once;
//! 4. **order**: the one written first.
//!
//! A rule that does not match is passed over and the next one is tried, so a host's own rules fall
//! through to those of a wildcard and of any host.
//!
//! # What a lookup costs
//!
//! Hosts are found by hash: the exact name, then each suffix that a wildcard could have, then any.
//! Below a host exact paths are found by hash and prefixes by one walk down a tree of segments. So the
//! cost follows the request's labels and segments, not the number of rules, and nothing is allocated.
//! Three things do take longer the more there are of them: regexes of one host, which are tried one by
//! one; rules with the same host and path that differ in conditions alone, each with its expression last;
//! and a regex for a query parameter allocates when the parameter is percent-encoded.

mod authority;
mod bad_target;
mod conditions;
mod explain;
mod host;
mod path;
mod prefix_tree;
mod query;
mod rule;
mod table;
mod target;
mod unreachable;
mod value_match;

pub use authority::Authority;
pub use bad_target::BadTarget;
pub use explain::{Explanation, MatchReason, Other};
pub use host::HostPattern;
pub use path::PathPattern;
pub use rule::{RequestMatch, Rule};
pub use table::Table;
pub use target::{Target, carried, is_carried, merge_slashes, origin_form};
pub use unreachable::{Shadowed, shadowed};
pub use value_match::ValuePattern;

#[cfg(test)]
mod target_tests;
#[cfg(test)]
mod tests;
