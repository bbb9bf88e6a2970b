//! Members from a host name: each of its addresses, with one port.

use super::feed::{Discovery, MemberFeed, NewMember};
use super::host_addresses::{HalfAddresses, reason, record_type, retry};
use super::name_settings::{self, Resolve};
use crate::net::resolver::{self, Family, HostAnswer};
use crate::upstream::address::Address;
use async_trait::async_trait;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) const KIND: Kind<dyn Discovery> = Kind {
    name: "dns",
    about: "The addresses of a host name, by A and AAAA records",
    schema: |generator| generator.subschema_for::<DnsSettings>(),
    build,
};

/// The settings of `dns`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DnsSettings {
    /// Resolves this host name; each of its addresses is an endpoint. A final dot saves the queries of the search list of
    /// `/etc/resolv.conf`. Required.
    name: Placed<String>,
    /// Connects to this port of every address, 1 to 65535. Required.
    #[schemars(range(min = 1))]
    port: Placed<u16>,
    /// Keeps an endpoint for this long that the name does not resolve to any more. `0s`: it leaves at once. Default 30s.
    #[serde(default)]
    hold: Option<Period>,
    /// Resolves the name again at least this often, 1s or more. A shorter TTL applies. Default that of the upstream.
    #[serde(default)]
    resolve: Option<Placed<Period>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Discovery>, Problems> {
    let DnsSettings { name, port, hold, resolve } = settings.read()?;
    let mut problems = Problems::default();
    let host = problems.keep(name_settings::host(&name).map_err(Into::into));
    let resolve = problems.keep(Resolve::read(resolve).map_err(Into::into));
    if port.value == 0 {
        let problem = Problem::new("invalid port `0`").help("a port is a number from 1 to 65535");
        problems.push(problem.at(&port.place));
    }
    let (Some(host), Some(resolve), false) = (host, resolve, problems.refuse()) else {
        return Err(problems);
    };
    let hold = name_settings::hold(hold);
    Ok(Box::new(HostName { host, port: port.value, hold, resolve }))
}

#[derive(Debug)]
struct HostName {
    /// In lower case, with its final dot if it was written with one.
    host: Arc<str>,
    port: u16,
    hold: Duration,
    resolve: Resolve,
}

#[async_trait]
impl Discovery for HostName {
    fn source(&self) -> String {
        format!("dns {}", self.host)
    }

    fn hold(&self) -> Duration {
        self.hold
    }

    async fn run(&self, feed: &MemberFeed) {
        let resolver = resolver::global();
        let (kind, max_age) = (feed.lookups().kind, self.resolve.within(feed));
        let mut changes = resolver.changes();
        let [mut v4, mut v6] = self.known(feed);
        loop {
            let HostAnswer { v4: first, v6: second } = resolver.query_host(&self.host, kind).await;
            let now = Instant::now();
            v4.take(first, max_age, now);
            v6.take(second, max_age, now);
            self.tell(feed, &v4, &v6);
            tokio::select! {
                () = sleep_until(due(&v4, &v6, now + retry(max_age))) => {}
                // The resolver lives as long as the process.
                _ = changes.changed() => {}
            }
        }
    }
}

impl HostName {
    /// The addresses that an earlier run announced.
    fn known(&self, feed: &MemberFeed) -> [HalfAddresses; 2] {
        let is_own = |host: Option<&Arc<str>>| host.is_some_and(|host| **host == *self.host);
        let present = feed.present().into_iter().filter_map(|(address, announced)| match address {
            Address::Tcp(at) if at.port() == self.port && is_own(announced.host.as_ref()) => Some(at.ip()),
            _ => None,
        });
        let (v4, v6) = present.partition(|ip| Family::of(*ip) == Family::V4);
        [v4, v6].map(|addresses| HalfAddresses::known(addresses, Instant::now()))
    }

    fn tell(&self, feed: &MemberFeed, v4: &HalfAddresses, v6: &HalfAddresses) {
        let addresses = v4.addresses.iter().chain(&v6.addresses);
        let members: Vec<_> = addresses.map(|ip| self.member(SocketAddr::new(*ip, self.port))).collect();
        let failure = |half: &HalfAddresses, family| {
            half.failure.as_ref().map(|error| (reason(error), format!("{}: {error}", record_type(family))))
        };
        match (failure(v4, Family::V4), failure(v6, Family::V6)) {
            (Some((reason, first)), Some((_, second))) => feed.fail(reason, format!("{first}; {second}")),
            (Some((reason, detail)), None) | (None, Some((reason, detail))) => {
                feed.announce_despite(members, reason, detail);
            }
            (None, None) if members.is_empty() => {
                feed.announce_despite(members, "not_found", "the name has no addresses");
            }
            (None, None) => feed.announce(members),
        }
    }

    fn member(&self, address: SocketAddr) -> NewMember {
        NewMember { host: Some(Arc::clone(&self.host)), ..NewMember::at(Address::Tcp(address)) }
    }
}

/// When to resolve the name again: when the addresses of one family end or a failed lookup is due, otherwise `soon`.
fn due(v4: &HalfAddresses, v6: &HalfAddresses, soon: Instant) -> Instant {
    let lasting = [v4, v6].into_iter().filter(|half| !half.is_empty());
    lasting.map(|half| half.due).min().unwrap_or(soon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::resolver::{FamilyAddresses, LookupError};

    const MAX_AGE: Duration = Duration::from_secs(30);

    fn half(answer: Result<&[[u8; 4]], LookupError>, ttl: u64) -> HalfAddresses {
        let answer = answer.map(|addresses| FamilyAddresses {
            addresses: addresses.iter().map(|address| (*address).into()).collect(),
            ttl: Some(Duration::from_secs(ttl)),
        });
        let mut half = HalfAddresses::known(Vec::new(), Instant::now());
        half.take(answer, MAX_AGE, Instant::now());
        half
    }

    #[test]
    fn a_name_is_resolved_again_when_its_addresses_end() {
        let (now, soon) = (Instant::now(), Instant::now() + Duration::from_secs(4));
        let one: &[[u8; 4]] = &[[10, 0, 0, 1]];
        // A family without addresses has no say, however short its negative answer lives.
        let lasting = due(&half(Ok(one), 20), &half(Ok(&[]), 1), soon);
        assert!(lasting > now + Duration::from_secs(15) && lasting < now + Duration::from_secs(20));
        assert_eq!(due(&half(Ok(&[]), 3600), &half(Ok(&[]), 3600), soon), soon);
        let failed = due(&half(Ok(one), 20), &half(Err(LookupError::NoResponse), 0), soon);
        assert!(failed < now + Duration::from_secs(6));
    }
}
