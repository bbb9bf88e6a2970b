//! Request routing: the lookup of a rule, and the parsing of request targets; pure, without sockets, clocks
//! or tasks.
//!
//! [`Table`] is generic in the target of a rule.
//!
//! # Which rule wins
//!
//! The most specific rule that matches a request wins:
//!
//! 1. **host**: exact, then a longer wildcard at its beginning, then a shorter one, then a longer wildcard at its
//!    end, then a shorter one, then a regex, of several the one written first, then any;
//! 2. **path**: exact, then regex, then a longer prefix, then a shorter one, then none;
//! 3. **conditions**: more of them wins; `methods`, `listeners` and `when` count once each, every header
//!    and every query parameter counts once;
//! 4. **order**: the one written first.
//!
//! A rule that does not match is skipped, so requests of a host fall through to the rules of a wildcard and
//! of any host.
//!
//! # Cost of a lookup
//!
//! Hosts are found by hash: the exact name, then each suffix and each prefix of a possible wildcard, then any. Within a host,
//! exact paths are found by hash, and prefixes by one walk down a tree of segments. The cost follows the
//! labels and segments of the request, not the number of rules, and nothing is allocated. Four parts grow
//! with their number: regexes of hosts, and those of the paths of one host, tried one by one; rules with equal host and path that differ in
//! conditions, with each expression last; and a regex for a query parameter allocates if the parameter is
//! percent-encoded.

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
