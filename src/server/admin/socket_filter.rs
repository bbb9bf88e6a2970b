//! Filter of open WebSockets: words that all have to match.

use super::socket_fields::{client, endpoint, host, path, protocol, subprotocol, upstream};
use crate::tunnel::{Side, TunnelSnapshot};
use moongate_config::{Period, Size};
use std::time::Duration;

/// The words of a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SocketFilter(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// The text is part of the field; in lower case.
    Contains(TextField, String),
    /// The text is part of any field; in lower case.
    Anywhere(String),
    Id(u64),
    Generation(u64),
    Compare(NumberField, Comparison, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextField {
    Client,
    Route,
    Upstream,
    Endpoint,
    Host,
    Path,
    Protocol,
    Subprotocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberField {
    Age,
    Idle,
    RoundTrip,
    Messages,
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Greater,
    Less,
}

const TEXT_FIELDS: [(&str, TextField); 8] = [
    ("client", TextField::Client),
    ("route", TextField::Route),
    ("upstream", TextField::Upstream),
    ("endpoint", TextField::Endpoint),
    ("host", TextField::Host),
    ("path", TextField::Path),
    ("protocol", TextField::Protocol),
    ("subprotocol", TextField::Subprotocol),
];

const NUMBER_FIELDS: [(&str, NumberField); 5] = [
    ("age", NumberField::Age),
    ("idle", NumberField::Idle),
    ("rtt", NumberField::RoundTrip),
    ("messages", NumberField::Messages),
    ("bytes", NumberField::Bytes),
];

impl SocketFilter {
    /// Parses `field:text`, `field>number`, `field<number` and words.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split_whitespace().map(Term::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether every word matches.
    pub(super) fn matches(&self, seen: &TunnelSnapshot) -> bool {
        self.0.iter().all(|term| term.matches(seen))
    }
}

impl Term {
    fn parse(word: &str) -> Result<Self, String> {
        if let Some(at) = word.find(['>', '<']) {
            let (name, rest) = word.split_at(at);
            if let Some((_, field)) = NUMBER_FIELDS.iter().find(|(known, _)| *known == name) {
                let comparison = if rest.starts_with('>') { Comparison::Greater } else { Comparison::Less };
                return Ok(Self::Compare(*field, comparison, field.parse(&rest[1..])?));
            }
            if is_word(name) {
                return Err(format!(
                    "`{name}` is not a number; the numbers are age, idle, rtt, messages and bytes"
                ));
            }
        }
        let Some((name, text)) = word.split_once(':') else { return Ok(Self::Anywhere(word.to_lowercase())) };
        let number = || text.parse().map_err(|_| format!("`{text}` is not a number, in `{word}`"));
        match name {
            "id" => Ok(Self::Id(number()?)),
            "generation" => Ok(Self::Generation(number()?)),
            _ => match TEXT_FIELDS.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => Ok(Self::Contains(*field, text.to_lowercase())),
                None if is_word(name) => Err(format!(
                    "unknown field `{name}`; the fields are client, route, upstream, endpoint, host, path, \
                     protocol, subprotocol, id and generation"
                )),
                // An address such as `127.0.0.1:8081` or `[::1]:80`.
                None => Ok(Self::Anywhere(word.to_lowercase())),
            },
        }
    }

    fn matches(&self, seen: &TunnelSnapshot) -> bool {
        match self {
            Self::Id(id) => seen.id == *id,
            Self::Generation(generation) => seen.generation == *generation,
            Self::Contains(field, text) => field.of(seen).to_lowercase().contains(text),
            Self::Anywhere(text) => {
                TEXT_FIELDS.iter().any(|(_, field)| field.of(seen).to_lowercase().contains(text))
            }
            Self::Compare(field, Comparison::Greater, number) => {
                field.of(seen).is_some_and(|value| value > *number)
            }
            Self::Compare(field, Comparison::Less, number) => {
                field.of(seen).is_some_and(|value| value < *number)
            }
        }
    }
}

/// Returns whether a text is meant as the name of a field.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

impl TextField {
    fn of(self, seen: &TunnelSnapshot) -> String {
        match self {
            Self::Client => client(seen),
            Self::Route => seen.route.to_string(),
            Self::Upstream => upstream(seen),
            Self::Endpoint => endpoint(seen),
            Self::Host => host(seen),
            Self::Path => path(seen),
            Self::Protocol => protocol(seen).to_owned(),
            Self::Subprotocol => subprotocol(seen),
        }
    }
}

impl NumberField {
    /// Parses a duration, a size or a number, in the unit of [`NumberField::of`].
    fn parse(self, text: &str) -> Result<u64, String> {
        let number = text.parse::<u64>().ok();
        match self {
            Self::Age | Self::Idle | Self::RoundTrip => {
                let period =
                    number.map(Duration::from_secs).or_else(|| text.parse::<Period>().ok().map(|p| p.0));
                period.map(micros).ok_or_else(|| format!("`{text}` is not a duration such as 30s or 5m"))
            }
            Self::Messages => number.ok_or_else(|| format!("`{text}` is not a number")),
            Self::Bytes => number
                .or_else(|| text.parse::<Size>().ok().map(|size| size.0))
                .ok_or_else(|| format!("`{text}` is not a size such as 64KiB")),
        }
    }

    fn of(self, seen: &TunnelSnapshot) -> Option<u64> {
        match self {
            Self::Age => Some(micros(seen.age)),
            Self::Idle => Some(micros(seen.idle)),
            Self::RoundTrip => seen.round_trips[Side::Client as usize].map(micros),
            Self::Messages => Some(seen.messages.iter().sum()),
            Self::Bytes => Some(seen.bytes.iter().sum()),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn socket() -> TunnelSnapshot {
        TunnelSnapshot {
            id: 7,
            endpoint: 1,
            route: "chat".into(),
            generation: 3,
            age: Duration::from_secs(600),
            idle: Duration::from_secs(5),
            messages: [10, 20],
            bytes: [1000, 4000],
            round_trips: [Some(Duration::from_millis(3)), None],
            protocol: None,
            origin: None,
        }
    }

    #[test]
    fn every_word_has_to_match() {
        for matching in [
            "",
            "route:CHA",
            "id:7",
            "generation:3",
            "age>5m",
            "age<1h",
            "idle<10",
            "messages>29",
            "bytes>4KiB",
            "rtt>1ms",
            "protocol:websocket",
            "hat age>1m",
        ] {
            assert!(SocketFilter::parse(matching).unwrap().matches(&socket()), "{matching}");
        }
        for other in ["route:x", "id:8", "age>10m", "idle>1m", "nothing", "route:chat id:1", "bytes<1KiB"] {
            assert!(!SocketFilter::parse(other).unwrap().matches(&socket()), "{other}");
        }
    }

    #[test]
    fn a_mistake_is_told() {
        for wrong in ["id:x", "colour:red", "age>soon", "bytes>1x", "route>1"] {
            assert!(SocketFilter::parse(wrong).is_err(), "{wrong}");
        }
        assert!(SocketFilter::parse("127.0.0.1:8081 [::1]:80").is_ok());
    }
}
