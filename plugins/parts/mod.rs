//! What several plugins read alike: named parts of a request, URLs, origins of pages, networks, regular
//! expressions, statuses. No plugin is in here.

pub(crate) mod named;
pub(crate) mod networks;
pub(crate) mod origins;
pub(crate) mod url;

use http::StatusCode;
use moongate_sdk::{Placed, Problem};
use regex::{Regex, RegexBuilder};

/// How large a compiled expression may get, in bytes: enough for any that a person writes.
const LARGEST_REGEX: usize = 1 << 20;

/// A regular expression.
pub(crate) fn regex(written: &Placed<String>) -> Result<Regex, Problem> {
    RegexBuilder::new(written).size_limit(LARGEST_REGEX).build().map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Problem::new(format!("`{}` is not a regular expression", written.value)).label(why).at(&written.place)
    })
}

/// A status that a whole answer can have.
pub(crate) fn status(written: &Placed<u16>) -> Result<StatusCode, Problem> {
    match StatusCode::from_u16(written.value) {
        Ok(status) if (200..600).contains(&written.value) => Ok(status),
        _ => Err(Problem::new(format!("`{}` is not the status of an answer", written.value))
            .label("200 to 599")
            .at(&written.place)),
    }
}
