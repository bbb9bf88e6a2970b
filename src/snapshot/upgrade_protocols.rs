//! Protocols other than WebSocket to which the requests of a route may upgrade (RFC 9110 §7.8): the configured list, the
//! part of it that a request offers, and the choice of the backend.
//!
//! Names are compared case-insensitively, and versions exactly.

use crate::websocket::{elements, has_token};
use http::{HeaderMap, HeaderValue, header};
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;

/// Protocols that are not raw relays, with the reason and the help.
const NOT_LISTED: [(&str, &str, &str); 3] = [
    (
        "websocket",
        "every route forwards WebSockets",
        "remove it; the key `websocket` of the route has their settings",
    ),
    ("h2c", EVASION, HTTP2),
    ("http", EVASION, HTTP2),
];

const EVASION: &str = "later requests on the connection would evade routes and plugins";
const HTTP2: &str = "remove it; `protocols` of a listener selects HTTP/2";

/// The protocols of a route.
#[derive(Debug, Default)]
pub struct UpgradeProtocols(Box<[Arc<str>]>);

/// The listed protocols that a request offers.
#[derive(Clone, Debug)]
pub struct UpgradeOffer {
    /// As the client sent them, in its order of preference.
    value: HeaderValue,
    /// As they are listed.
    listed: Vec<Arc<str>>,
}

impl UpgradeProtocols {
    /// Compiles the list.
    ///
    /// # Errors
    /// Every invalid entry, with its place.
    pub fn compile(written: &[Placed<String>]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut list: Vec<Arc<str>> = Vec::with_capacity(written.len());
        for entry in written {
            match problem_of(&entry.value, &list) {
                Some(problem) => problems.push(problem.at(&entry.place)),
                None => list.push(entry.value.as_str().into()),
            }
        }
        if problems.refuse() { Err(problems) } else { Ok(Self(list.into())) }
    }

    /// Returns whether no protocol is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a request with these fields offers of the list; `None` if that is nothing. The fields are those of HTTP/1.1,
    /// since other versions have no upgrade.
    pub fn offered(&self, headers: &HeaderMap) -> Option<UpgradeOffer> {
        if self.is_empty() || !has_token(headers, &header::CONNECTION, "upgrade") {
            return None;
        }
        let offered: Vec<_> = elements(headers, &header::UPGRADE).collect();
        let known = offered.iter().filter_map(|sent| Some((*sent, find(&self.0, sent)?)));
        let (sent, listed): (Vec<_>, Vec<_>) = known.map(|(sent, listed)| (sent, Arc::clone(listed))).unzip();
        let mut lines = headers.get_all(header::UPGRADE).iter();
        let value = match (lines.next(), lines.next()) {
            // The received bytes, where nothing is left out.
            (Some(line), None) if sent.len() == offered.len() => line.clone(),
            // Parts of valid values are one.
            _ => HeaderValue::from_bytes(&sent.join(&b", "[..])).ok()?,
        };
        (!listed.is_empty()).then_some(UpgradeOffer { value, listed })
    }
}

impl UpgradeOffer {
    /// The value of `Upgrade` for the backend.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The protocol that a 101 with these fields switches to, as it is listed; the uppermost one of several layers. `None`
    /// if the 101 names none, or one that was not offered.
    pub fn accepted(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let mut uppermost = None;
        for chosen in elements(headers, &header::UPGRADE) {
            uppermost = Some(find(&self.listed, chosen)?);
        }
        uppermost.cloned()
    }
}

/// What is wrong with an entry after those of `list`.
fn problem_of(entry: &str, list: &[Arc<str>]) -> Option<Problem> {
    let (name, version) = split(entry.as_bytes());
    if !is_token(name) || !version.is_none_or(is_token) {
        let help = "write a name such as `tcp`, or a name and a version such as `SPDY/3.1`";
        let what = if entry.is_empty() { "an empty text".to_owned() } else { format!("`{entry}`") };
        return Some(Problem::new(format!("{what} is not a protocol")).help(help));
    }
    let refused = NOT_LISTED.iter().find(|(refused, ..)| name.eq_ignore_ascii_case(refused.as_bytes()));
    if let Some((_, reason, help)) = refused {
        return Some(Problem::new(format!("`{entry}` must not be listed: {reason}")).help(*help));
    }
    let is_known = find(list, entry.as_bytes()).is_some();
    is_known.then(|| {
        Problem::new(format!("`{entry}` is listed twice")).help("remove one; case makes no difference")
    })
}

/// The entry of the list that equals a protocol.
fn find<'a>(list: &'a [Arc<str>], protocol: &[u8]) -> Option<&'a Arc<str>> {
    let (name, version) = split(protocol);
    list.iter().find(|listed| {
        let (listed_name, listed_version) = split(listed.as_bytes());
        listed_name.eq_ignore_ascii_case(name) && listed_version == version
    })
}

/// The name and the version of a protocol.
fn split(protocol: &[u8]) -> (&[u8], Option<&[u8]>) {
    match protocol.iter().position(|byte| *byte == b'/') {
        Some(at) => (&protocol[..at], Some(&protocol[at + 1..])),
        None => (protocol, None),
    }
}

/// Returns whether the text is a token (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn compile(list: &[&str]) -> Result<UpgradeProtocols, Problems> {
        let place = Place::nowhere;
        let written: Vec<_> =
            list.iter().map(|entry| Placed { value: (*entry).to_owned(), place: place() }).collect();
        UpgradeProtocols::compile(&written)
    }

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn offer(lines: &[&str]) -> Option<UpgradeOffer> {
        let protocols = compile(&["tcp", "SPDY/3.1"]).unwrap();
        let lines = lines.iter().map(|line| ("upgrade", *line));
        let all: Vec<_> = std::iter::once(("connection", "keep-alive, Upgrade")).chain(lines).collect();
        protocols.offered(&fields(&all))
    }

    #[test]
    fn an_offer_is_the_listed_part_in_the_client_s_order_and_spelling() {
        for (sent, forwarded) in [
            (&["tcp"][..], Some("tcp")),
            (&["TCP"], Some("TCP")),
            (&["spdy/3.1"], Some("spdy/3.1")),
            (&["SPDY/3.1,tcp"], Some("SPDY/3.1,tcp")),
            (&["foo/1, tcp ,h2c, SPDY/3.1"], Some("tcp, SPDY/3.1")),
            (&["foo", "tcp"], Some("tcp")),
            (&["tcp", "spdy/3.1"], Some("tcp, spdy/3.1")),
            (&[", tcp,"], Some(", tcp,")),
            (&["SPDY"], None),
            (&["SPDY/3"], None),
            (&["SPDY/3.1/x"], None),
            (&["tcp/1"], None),
            (&["h2c"], None),
            (&[""], None),
            (&[], None),
        ] {
            let offer = offer(sent);
            assert_eq!(offer.as_ref().map(|offer| offer.value().to_str().unwrap()), forwarded, "{sent:?}");
        }
    }

    #[test]
    fn an_upgrade_without_its_connection_option_is_none() {
        let protocols = compile(&["tcp"]).unwrap();
        for connection in ["keep-alive", "close", "upgrades"] {
            assert!(protocols.offered(&fields(&[("connection", connection), ("upgrade", "tcp")])).is_none());
        }
        assert!(protocols.offered(&fields(&[("upgrade", "tcp")])).is_none());
        assert!(protocols.offered(&fields(&[("connection", "uPGRADE"), ("upgrade", "tcp")])).is_some());
    }

    #[test]
    fn a_backend_chooses_among_what_was_offered() {
        let both = offer(&["TCP, SPDY/3.1"]).unwrap();
        let chosen = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("upgrade", *line)).collect();
            both.accepted(&fields(&lines)).map(|protocol| protocol.to_string())
        };
        assert_eq!(chosen(&["tcp"]).as_deref(), Some("tcp"));
        assert_eq!(chosen(&["spdy/3.1"]).as_deref(), Some("SPDY/3.1"));
        assert_eq!(chosen(&["tcp, SPDY/3.1"]).as_deref(), Some("SPDY/3.1"));
        for other in [&[][..], &[""], &["SPDY/3"], &["websocket"], &["tcp, foo"], &["tcp", "h2c"]] {
            assert_eq!(chosen(other), None, "{other:?}");
        }
        let one = offer(&["tcp"]).unwrap();
        assert!(
            one.accepted(&fields(&[("upgrade", "SPDY/3.1")])).is_none(),
            "it is listed, but was not offered"
        );
    }

    #[test]
    fn every_wrong_entry_is_a_problem() {
        for list in [
            &["", "tcp"][..],
            &["tcp x"],
            &["tcp,foo"],
            &["/1"],
            &["SPDY/"],
            &["SPDY/3/1"],
            &["näme"],
            &["WebSocket"],
            &["websocket/13"],
            &["h2c"],
            &["HTTP/2.0"],
            &["tcp", "TCP"],
            &["SPDY/3.1", "spdy/3.1"],
        ] {
            assert_eq!(compile(list).unwrap_err().0.len(), 1, "{list:?}");
        }
        assert_eq!(compile(&["h2c", "a b", "c", "C"]).unwrap_err().0.len(), 3);
        assert!(compile(&["SPDY/3.1", "SPDY/3", "tcp", "IRC/a", "IRC/A"]).is_ok());
        assert!(compile(&[]).unwrap().is_empty());
    }
}
