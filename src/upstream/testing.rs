//! Builders for the tests of this module.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::address::Origin;
use super::announced::{Announced, Identity, MemberSettings};
use super::balance::Member;
use super::endpoint::Endpoint;
use super::health_score::Health;
use crate::config::{self, EndpointEntry, KindEntry};
use moongate_config::{Key, Place, Placed, Quotes, Settings, Value, ValueKind};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static READS: Cell<usize> = const { Cell::new(0) };
}

/// The state of an endpoint is read.
pub(super) fn count_read() {
    READS.set(READS.get() + 1);
}

/// How often this thread read the state of endpoints in `f`.
pub(super) fn reads_of<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = READS.get();
    let done = f();
    (READS.get() - before, done)
}

pub(super) fn place() -> Place {
    Place { file: "moongate.yaml".into(), line: 7, column: 3, width: 1, path: "upstreams.web".into() }
}

pub(super) fn placed<T>(value: T) -> Placed<T> {
    Placed { value, place: place() }
}

/// Settings of scalars, as `key: value` without quotes.
pub(super) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let scalar = |text: &str| Value {
        place: place(),
        kind: ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Absent },
    };
    let pair = |(key, text): &(&str, &str)| {
        let value = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            Some(list) => {
                let items = list.split(',').map(|item| scalar(item.trim())).collect();
                Value { place: place(), kind: ValueKind::List(items) }
            }
            None => scalar(text),
        };
        (Key { place: place(), text: (*key).to_owned() }, value)
    };
    Settings::new(Value { place: place(), kind: ValueKind::Map(pairs.iter().map(pair).collect()) })
}

pub(super) fn kind(name: &str, pairs: &[(&str, &str)]) -> KindEntry {
    KindEntry { kind: placed(name.to_owned()), settings: settings(pairs) }
}

/// An upstream of `address` or `address*weight` lines, with defaults.
pub(super) fn upstream(lines: &[&str]) -> config::Upstream {
    let entry = |line: &&str| {
        placed(match line.split_once('*') {
            None => EndpointEntry::Address((*line).to_owned()),
            Some((address, weight)) => {
                let weight = Some(placed(weight.parse().unwrap()));
                EndpointEntry::Full(config::Endpoint { weight, ..endpoint(address) })
            }
        })
    };
    config::Upstream::of(placed(lines.iter().map(entry).collect()))
}

/// An endpoint with the defaults.
pub(super) fn endpoint(address: &str) -> config::Endpoint {
    config::Endpoint {
        address: placed(address.to_owned()),
        weight: None,
        drain: false,
        backup: false,
        max_connections: None,
    }
}

/// Changes the entry of an endpoint.
pub(super) fn change(spec: &mut config::Upstream, address: &str, change: impl FnOnce(&mut config::Endpoint)) {
    let mut entries = spec.endpoints.value.iter_mut();
    let entry = entries.find(|entry| entry.value.address() == address).unwrap();
    if let EndpointEntry::Address(address) = &entry.value {
        entry.value = EndpointEntry::Full(endpoint(address));
    }
    let EndpointEntry::Full(full) = &mut entry.value else { unreachable!() };
    change(full);
}

/// Healthy members from the same syntax.
pub(super) fn members(lines: &[&str]) -> Vec<Member> {
    let member = |line: &&str| {
        let (address, weight) = line.split_once('*').unwrap_or((line, "1"));
        let Origin::Fixed(address) = Origin::parse(address).unwrap() else { panic!("an address") };
        let settings = MemberSettings { weight: weight.parse().unwrap(), ..MemberSettings::default() };
        let announced = Announced::ready(settings, "list".into());
        Member::new(
            Endpoint::new(&"web".into(), Identity::at(address), None, Health::Healthy),
            Arc::new(announced),
        )
    };
    lines.iter().map(member).collect()
}
