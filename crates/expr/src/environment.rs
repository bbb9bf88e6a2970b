//! The functions as the evaluator finds them: CEL's standard library and ours, for all expressions.

use super::functions::{self, NETWORK, PATTERN};
use cel::common::types::STRING_TYPE;
use cel::{DeclarationError, Env};
use std::sync::{Arc, LazyLock};

/// Made once. Names of functions are checked when an expression is compiled, against what
/// [`super::names`] says; a test holds the two together.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(with_ours().unwrap_or_else(|_| Env::stdlib())));

fn with_ours() -> Result<Env, DeclarationError> {
    // Optional values are left out: what is missing reads as empty.
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
