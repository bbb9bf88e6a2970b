//! The evaluator's functions: CEL's standard library and Moongate's own, shared by all expressions.

use super::functions::{self, NETWORK, PATTERN};
use cel::common::types::STRING_TYPE;
use cel::{DeclarationError, Env};
use std::sync::{Arc, LazyLock};

/// Built once. Function names are checked at compile time against [`super::names`]; a test keeps both in sync.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(with_ours().unwrap_or_else(|_| Env::stdlib())));

fn with_ours() -> Result<Env, DeclarationError> {
    // Optional values are excluded: a missing value reads as empty.
    let mut env = Env::stdlib().with_optional_support(false);
    let text = || vec![STRING_TYPE];
    env.add_member_overload(
        "matches",
        "ours_matches",
        STRING_TYPE,
        vec![PATTERN.to_owned()],
        functions::matches,
    )?;
    env.add_overload(
        "matches",
        "ours_matches_global",
        vec![STRING_TYPE, PATTERN.to_owned()],
        functions::matches,
    )?;
    env.add_member_overload(
        "containsIP",
        "ours_contains_ip",
        NETWORK.to_owned(),
        text(),
        functions::contains_ip,
    )?;
    env.add_member_overload("split", "ours_split", STRING_TYPE, text(), functions::split)?;
    env.add_member_overload("lowerAscii", "ours_lower", STRING_TYPE, vec![], functions::lower)?;
    env.add_member_overload("upperAscii", "ours_upper", STRING_TYPE, vec![], functions::upper)?;
    env.add_member_overload("trim", "ours_trim", STRING_TYPE, vec![], functions::trim)?;
    Ok(env)
}
