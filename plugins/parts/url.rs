//! URLs that settings name: to be asked by the gateway, so that a mistake is told before a request meets it.

use http::Uri;
use moongate_sdk::{Placed, Problem};

/// Whether the gateway can ask this.
///
/// # Errors
/// A problem at its place.
pub(crate) fn check(written: &Placed<String>) -> Result<Uri, Problem> {
    let bad = |help: &str| {
        Problem::new(format!("`{}` is no URL to ask", written.value)).at(&written.place).help(help)
    };
    let uri: Uri = written.value.parse().map_err(|_| bad("as in https://auth.example.com/path"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("it begins with http:// or https://"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(bad("leave the user and the password out"))
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(bad("a host is missing")),
    }
}
