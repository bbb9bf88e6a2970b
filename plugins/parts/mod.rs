//! What several plugins read alike: named parts of a request, URLs, origins of pages, networks, regular
//! expressions, statuses. No plugin is in here.

pub(crate) mod named;
pub(crate) mod networks;
pub(crate) mod origins;
pub(crate) mod url;

use http::{HeaderName, StatusCode};
use moongate_sdk::{Headers, Placed, Problem};
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

/// Removes what a client says in a field that a plugin speaks for, in every spelling.
pub(crate) fn silence(headers: &mut Headers<'_>, name: &HeaderName) {
    headers.remove(name);
    remove_shadows(headers, name, |_| false);
}

/// Removes the other spellings of a field, but those to keep: CGI and its heirs read `X_User` and `X-User` as one.
pub(crate) fn remove_shadows(
    headers: &mut Headers<'_>,
    name: &HeaderName,
    keep: impl Fn(&HeaderName) -> bool,
) {
    if !name.as_str().contains(['-', '_']) {
        return;
    }
    let sign = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let is_shadow = |other: &&HeaderName| {
        let (one, other) = (name.as_str(), other.as_str());
        one.len() == other.len() && one != other && one.bytes().map(sign).eq(other.bytes().map(sign))
    };
    // Almost no request has one: this allocates nothing then.
    let shadows: Vec<_> = headers.keys().filter(is_shadow).filter(|name| !keep(name)).cloned().collect();
    for shadow in &shadows {
        headers.remove(shadow);
    }
}
