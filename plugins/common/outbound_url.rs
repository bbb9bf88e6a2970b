//! URLs in settings, checked before a request uses them.

use http::Uri;
use moongate_config::{Placed, Problem};

/// Parses a URL that the gateway can request.
///
/// # Errors
/// A problem with its place.
pub(crate) fn check(written: &Placed<String>) -> Result<Uri, Problem> {
    let bad = |help: &str| {
        Problem::new(format!("`{}` is not a usable URL", written.value)).at(&written.place).help(help)
    };
    let uri: Uri = written.value.parse().map_err(|_| bad("as in https://auth.example.com/path"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("it must begin with http:// or https://"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(bad("remove the user and the password")),
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(bad("a host is missing")),
    }
}

/// The target of a redirect from `from` to `location` (RFC 9110 §10.2.2); `None` for another origin (RFC 6454) or
/// an invalid URL.
pub(crate) fn redirect(from: &str, location: &str) -> Option<String> {
    let base: Uri = from.parse().ok()?;
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let path = base.path();
    let whole = match location {
        "" => from.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ if location.starts_with('?') => format!("{scheme}://{authority}{path}{location}"),
        // A scheme ends at the first colon, which no relative path has before its first slash (RFC 3986 §4.2).
        _ if location.split('/').next().is_some_and(|first| first.contains(':')) => location.to_owned(),
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let next: Uri = whole.parse().ok()?;
    (origin(&next)? == origin(&base)?).then(|| {
        let path = without_dots(next.path());
        let query = next.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{authority}{path}{query}")
    })
}

/// Scheme, host and port.
fn origin(url: &Uri) -> Option<(&str, String, u16)> {
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    if authority.as_str().contains('@') {
        return None;
    }
    Some((scheme, authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default)))
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_within_its_origin_or_leads_nowhere() {
        let from = "https://id.example.com/a/keys?v=1";
        for (location, to) in [
            ("/b", "https://id.example.com/b"),
            ("more", "https://id.example.com/a/more"),
            ("../b/./c", "https://id.example.com/b/c"),
            ("?v=2", "https://id.example.com/a/keys?v=2"),
            ("", from),
            ("//ID.example.com/b#x", "https://id.example.com/b"),
            ("https://id.example.com:443/b", "https://id.example.com/b"),
        ] {
            assert_eq!(redirect(from, location).as_deref(), Some(to), "{location}");
        }
        for location in [
            "http://id.example.com/b",
            "https://id.example.com:8443/b",
            "https://example.com/b",
            "//evil.example/b",
            "https://x@id.example.com/b",
            "ftp://id.example.com/b",
            "javascript:alert(1)",
        ] {
            assert_eq!(redirect(from, location), None, "{location}");
        }
    }
}
