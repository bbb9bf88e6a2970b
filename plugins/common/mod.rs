//! Parsers shared by plugins: parts of a request, URLs, origins, networks, regular expressions, statuses.

pub(crate) mod networks;
pub(crate) mod origins;
pub(crate) mod outbound_url;
pub(crate) mod request_selector;

use http::StatusCode;
use moongate_config::{Placed, Problem};
use regex::{Regex, RegexBuilder};

/// The maximum size of a compiled expression, in bytes: enough for any handwritten one.
const LARGEST_REGEX: usize = 1 << 20;

/// A regular expression.
pub(crate) fn regex(written: &Placed<String>) -> Result<Regex, Problem> {
    RegexBuilder::new(written).size_limit(LARGEST_REGEX).build().map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Problem::new(format!("`{}` is not a regular expression", written.value)).label(why).at(&written.place)
    })
}

/// A status of a final response.
pub(crate) fn status(written: &Placed<u16>) -> Result<StatusCode, Problem> {
    within(written, 200, "a response")
}

/// A status of a rejection: an error, so that the client knows that the request failed.
pub(crate) fn refusal(written: &Placed<u16>) -> Result<StatusCode, Problem> {
    within(written, 400, "a refusal")
}

fn within(written: &Placed<u16>, least: u16, of: &str) -> Result<StatusCode, Problem> {
    match StatusCode::from_u16(written.value) {
        Ok(status) if (least..600).contains(&written.value) => Ok(status),
        _ => Err(Problem::new(format!("`{}` is not the status of {of}", written.value))
            .label(format!("{least} to 599"))
            .at(&written.place)),
    }
}
