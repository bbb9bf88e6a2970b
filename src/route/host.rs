//! Hosts of rules and requests in normal form: lower case, without port and final dot.

use super::path::{REGEX_SIZE, bad_regex};
use moongate_config::Problem;
use regex::{Regex, RegexBuilder};
use std::fmt;
use std::net::Ipv6Addr;

/// The longest host name (RFC 1035 §2.3.4) and a final dot.
const LONGEST: usize = 255;

/// The host pattern of a rule.
#[derive(Clone, Debug)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Box<str>),
    /// `*.example.com`, stored as `.example.com`: one or more labels before the suffix.
    Under(Box<str>),
    /// `www.example.*`, stored as `www.example.`: one or more labels after the prefix.
    Before(Box<str>),
    /// A regex that matches anywhere in the host, written `~regex`.
    Regex(Regex),
}

/// The label of a pattern that is a wildcard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    None,
    First,
    Last,
}

impl HostPattern {
    /// Reads `example.com`, `*.example.com`, `www.example.*`, `~regex`, `192.0.2.1` or `[2001:db8::1]`.
    ///
    /// # Errors
    /// A port, a wildcard that is neither the first nor the last label, anything that a `Host` field cannot contain,
    /// and a regex that is invalid or larger than 1 MiB.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(pattern) = text.strip_prefix('~') {
            return regex(text, pattern);
        }
        let bad = |why: &str| Problem::new(format!("`{text}` is not a host: {why}"));
        let (wildcard, name) = match (text.strip_prefix("*."), text.strip_suffix(".*")) {
            (Some(name), _) => (Wildcard::First, name),
            (None, Some(name)) => (Wildcard::Last, name),
            (None, None) => (Wildcard::None, text),
        };
        if text == "_" {
            return Err(bad("nginx's `_` stands for any host").help("remove `host` to match any host"));
        }
        if let Some(domain) = text.strip_prefix('.') {
            return Err(bad("it starts with a dot").help(format!("write `[{domain}, \"*.{domain}\"]`")));
        }
        if name.contains('*') {
            let problem = bad("`*` can only be the first or the last label");
            let problem =
                problem.help("write `*.example.com`, `www.example.*`, or a regular expression `~…`");
            return Err(if text == "*" { problem.help("remove `host` to match any host") } else { problem });
        }
        if !text.starts_with('[') {
            check_name(name).map_err(|(why, help)| bad(why).help(help))?;
        }
        let mut folded = NormalizedHost::new();
        match folded.fold(name) {
            Some(host) if text.starts_with('[') && !text.ends_with(']') => {
                Err(bad("it has a port or other text after the host")
                    .help(format!("write `{host}`; ports are set at listeners")))
            }
            Some(host) => Ok(match wildcard {
                Wildcard::None => Self::Exact(host.into()),
                Wildcard::First => Self::Under(format!(".{host}").into()),
                Wildcard::Last => Self::Before(format!("{host}.").into()),
            }),
            None => Err(bad("it is empty, too long, or not an IPv6 address in brackets")),
        }
    }

    /// Whether the pattern matches a host in normal form; `None` means a request without a host.
    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Under(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Before(prefix) => host.len() > prefix.len() && host.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(host),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Under(suffix) => write!(f, "*{suffix}"),
            Self::Before(prefix) => write!(f, "{prefix}*"),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}

/// Reads the regex of the pattern `text`.
fn regex(text: &str, pattern: &str) -> Result<HostPattern, Problem> {
    if pattern.starts_with(['*', ' ']) {
        let help =
            format!("write `~{}`; hosts are compared in lower case", pattern.trim_start_matches(['*', ' ']));
        return Err(Problem::new(format!("`{text}` has a modifier in nginx's form")).help(help));
    }
    if pattern.is_empty() {
        let problem = Problem::new("`~` is not a host: the regular expression is empty");
        return Err(problem.help("remove `host` to match any host"));
    }
    // A host in normal form is in lower case, so capital letters in a pattern would never match.
    let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(REGEX_SIZE).build();
    built.map(HostPattern::Regex).map_err(|error| bad_regex(pattern, &error))
}

fn check_name(name: &str) -> Result<(), (&'static str, &'static str)> {
    if name.parse::<Ipv6Addr>().is_ok() {
        return Err(("an IPv6 address needs brackets", "write it as `[2001:db8::1]`"));
    }
    if name.contains(':') {
        return Err(("it has a port", "remove the port; ports are set at listeners"));
    }
    if !name.is_ascii() {
        return Err((
            "it has non-ASCII characters",
            "write it in punycode, for example `xn--strae-oqa.example`",
        ));
    }
    if !is_name(name) {
        let help = "use labels of letters, digits, `-` and `_`, separated by single dots";
        return Err(("it has characters that are invalid in a host name", help));
    }
    Ok(())
}

/// Whether the text is labels of letters, digits, `-` and `_`, with at most one final dot. RFC 3986 §3.2.2
/// also allows percent-encoding and sub-delimiters. No name in the DNS or a hosts file has them, and each
/// would be a second spelling of a host.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut empty = true;
    for byte in name.bytes() {
        match byte {
            b'.' if empty => return false,
            b'.' => empty = true,
            b'-' | b'_' => empty = false,
            _ if byte.is_ascii_alphanumeric() => empty = false,
            _ => return false,
        }
    }
    !empty
}

/// A stack buffer for a host in normal form.
pub(super) struct NormalizedHost {
    bytes: [u8; LONGEST],
    len: usize,
}

impl NormalizedHost {
    pub(super) fn new() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }

    /// The host without port and final dot, in lower case; an IPv6 address in its shortest form (RFC 5952).
    /// `None` if it is empty, too long, or a malformed IPv6 address.
    pub(super) fn fold<'a>(&'a mut self, host: &'a str) -> Option<&'a str> {
        if host.starts_with('[') {
            return self.fold_ipv6(host);
        }
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() > LONGEST {
            return None;
        }
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some(name);
        }
        self.write(name)?;
        self.bytes[..self.len].make_ascii_lowercase();
        self.text()
    }

    fn fold_ipv6<'a>(&'a mut self, host: &'a str) -> Option<&'a str> {
        let (literal, _) = host.strip_prefix('[')?.split_once(']')?;
        let address: Ipv6Addr = literal.parse().ok()?;
        fmt::Write::write_fmt(self, format_args!("[{address}]")).ok()?;
        self.text()
    }

    fn write(&mut self, text: &str) -> Option<()> {
        let room = self.bytes.get_mut(self.len..self.len + text.len())?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Some(())
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[..self.len]).ok()
    }
}

impl fmt::Write for NormalizedHost {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text).ok_or(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn fold(host: &str) -> Option<String> {
        NormalizedHost::new().fold(host).map(str::to_owned)
    }

    #[test]
    fn a_host_has_one_normal_form() {
        for (written, folded) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:8080", "example.com"),
            ("EXAMPLE.com.:80", "example.com"),
            ("[2001:DB8:0:0::1]:443", "[2001:db8::1]"),
            ("192.0.2.1:1", "192.0.2.1"),
        ] {
            assert_eq!(fold(written).as_deref(), Some(folded), "{written}");
        }
        for written in ["", ".", ":80", "[::g]", "[::1", &"a".repeat(256)] {
            assert_eq!(fold(written), None, "{written}");
        }
    }

    #[test]
    fn a_wildcard_matches_labels_but_not_the_name_itself() {
        let pattern = HostPattern::parse("*.Example.com").unwrap();
        assert!(pattern.matches("a.example.com") && pattern.matches("a.b.example.com"));
        assert!(!pattern.matches("example.com") && !pattern.matches("badexample.com"));
        assert!(!pattern.matches(".example.com"));
    }

    #[test]
    fn a_wildcard_at_the_end_matches_one_or_more_labels() {
        let pattern = HostPattern::parse("WWW.Example.*").unwrap();
        assert!(pattern.matches("www.example.com") && pattern.matches("www.example.co.uk"));
        assert!(!pattern.matches("www.example") && !pattern.matches("www.example."));
        assert!(!pattern.matches("www.examples.com") && !pattern.matches("a.www.example.com"));
        assert_eq!(pattern.to_string(), "www.example.*");
    }

    #[test]
    fn a_regex_matches_anywhere_in_the_lower_case_host() {
        let pattern = HostPattern::parse(r"~^(?<user>[a-z]+)\.Example\.com$").unwrap();
        assert!(pattern.matches("jane.example.com"));
        assert!(!pattern.matches("jane.example.com.org") && !pattern.matches("2.example.com"));
        assert!(HostPattern::parse(r"~^\[").unwrap().matches("[::1]"), "an IPv6 address has its brackets");
        assert_eq!(pattern.to_string(), r"~^(?<user>[a-z]+)\.Example\.com$");
        for (text, part) in [
            ("~", "is empty"),
            ("~(", "unclosed group"),
            ("~*a", "modifier"),
            ("~ ^a", "modifier"),
            (r"~(\w{500}){500}", "size limit"),
            ("~(?=a)", "look-around"),
        ] {
            let problem = HostPattern::parse(text).unwrap_err();
            assert!(problem.message.contains(part), "{text}: {}", problem.message);
        }
    }

    #[test]
    fn what_a_host_field_cannot_contain_is_a_problem() {
        let bad = [
            "", "*", "*.", ".*", "*.a.*", "a.*.b", "a*.b", "a.b*", "[::1].*", "a:80", "::1", "[::1]:80",
            "[::1", "[::1]x", "ä.de", "a b", "a/b", "a..b", ".a", "a,b", "*.[::1]",
        ];
        for text in bad {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
        assert_eq!(HostPattern::parse("[0:0::1]").unwrap().to_string(), "[::1]");
    }
}
