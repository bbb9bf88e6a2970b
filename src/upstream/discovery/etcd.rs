//! Members from etcd: each key below a prefix is an endpoint. A value with an error refuses that endpoint alone, of which the
//! last good version stays.

use super::feed::{Discovery, MemberFeed, NewMember, RejectedMember};
use crate::config::{self, AnnouncedEndpoint, AnnouncedEntry, AnnouncedState, UpstreamTls};
use crate::etcd::{Change, EtcdKeys, EtcdServers, Outcome, PrefixWatch, check_prefix};
use crate::telemetry::unix_millis;
use crate::upstream::address::{Address, Origin};
use crate::upstream::monotonic_millis;
use async_trait::async_trait;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The largest value of a member, in bytes.
const LARGEST: usize = 64 << 10;
/// The pause between two announcements: changes that come meanwhile are announced together.
const PAUSE: Duration = Duration::from_millis(100);
/// The last tier.
const LAST_TIER: u8 = 99;

pub(super) const KIND: Kind<dyn Discovery> = Kind {
    name: "etcd",
    about: "The endpoints below a prefix in etcd, one key each",
    schema: |generator| generator.subschema_for::<EtcdSettings>(),
    build,
};

/// The settings of `etcd`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EtcdSettings {
    /// Reads from one of these servers of a cluster, by their client URLs as `http://10.0.0.7:2379`, or `https://…` for TLS.
    /// The next one is used after an error, and after 3 s without a response. Required.
    servers: Placed<Vec<Placed<String>>>,
    /// Reads every key that begins with this, such as `/chat/`: one endpoint a key. Required.
    prefix: Placed<String>,
    /// Sets TLS to the servers. Default the system's issuers for `https://`.
    #[serde(default)]
    tls: Option<Placed<UpstreamTls>>,
    /// Authenticates as this user. Needs a password. Default none.
    #[serde(default)]
    user: Option<Placed<String>>,
    /// Authenticates with this password, as `${ETCD_PASSWORD}`. Default none.
    #[serde(default)]
    password: Option<Placed<String>>,
    /// Reads the password from this file, without the line break at its end. A reload reads it again. Default none.
    #[serde(default)]
    password_file: Option<Placed<String>>,
    /// Keeps an endpoint for this long whose key is gone. `0s`: it leaves at once. Default 0s.
    #[serde(default)]
    hold: Option<Period>,
}

fn build(settings: &Settings) -> Result<Box<dyn Discovery>, Problems> {
    let EtcdSettings { servers, prefix, tls, user, password, password_file, hold } = settings.read()?;
    let mut problems = Problems::default();
    problems.keep(check_prefix(&prefix).map_err(Problems::from));
    let keys = EtcdKeys { servers, tls, user, password, password_file };
    let (Some(servers), false) = (problems.keep(keys.compile(settings)), problems.refuse()) else {
        return Err(problems);
    };
    let hold = hold.map_or(Duration::ZERO, |hold| hold.0);
    Ok(Box::new(EtcdPrefix { servers: Arc::new(servers), prefix: prefix.value, hold }))
}

struct EtcdPrefix {
    servers: Arc<EtcdServers>,
    prefix: String,
    hold: Duration,
}

#[async_trait]
impl Discovery for EtcdPrefix {
    fn source(&self) -> String {
        origin(&self.prefix)
    }

    fn hold(&self) -> Duration {
        self.hold
    }

    fn is_current(&self) -> bool {
        self.servers.is_current()
    }

    async fn run(&self, feed: &MemberFeed) {
        let watch = PrefixWatch::new(Arc::clone(&self.servers), &self.prefix);
        let announce = async {
            let mut members = Members::known(feed, &self.prefix);
            loop {
                watch.news().await;
                members.tell(&watch, feed);
                tokio::time::sleep(PAUSE).await;
            }
        };
        let never: (Infallible, Infallible) = tokio::join!(watch.run(), announce);
        match never.0 {}
    }
}

fn origin(key: &str) -> String {
    format!("etcd {key}")
}

/// The members by their keys.
#[derive(Default)]
struct Members {
    /// The last good version of each key.
    good: BTreeMap<Arc<str>, NewMember>,
    /// Keys whose current value has an error.
    rejected: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether all keys were read.
    is_complete: bool,
}

impl Members {
    /// The members that an earlier run announced: the last good versions, until their keys were read.
    fn known(feed: &MemberFeed, prefix: &str) -> Self {
        let start = origin(prefix);
        let known = feed.present().into_iter().filter(|(_, announced)| announced.origin.starts_with(&start));
        let member = |(address, announced): (Address, _)| {
            let member = NewMember::again(address, announced);
            let key = member.origin.as_deref().and_then(|origin| origin.strip_prefix("etcd "));
            Some((Arc::from(key?), member))
        };
        Self { good: known.filter_map(member).collect(), ..Self::default() }
    }

    fn tell(&mut self, watch: &PrefixWatch, feed: &MemberFeed) {
        let news = watch.take();
        let is_first = news.is_complete && !self.is_complete;
        if is_first {
            self.is_complete = true;
            // What an earlier run had and the first list lacks is gone.
            self.good.retain(|key, _| news.changes.contains_key(key));
        }
        let has_changed = is_first || !news.changes.is_empty();
        news.changes.into_iter().for_each(|(key, value)| self.change(key, value));
        match news.outcome {
            None | Some(Outcome::Pending) => {}
            Some(Outcome::Failed(error)) => {
                if has_changed {
                    self.announce(feed);
                }
                feed.fail(error.reason, error.detail);
            }
            Some(Outcome::Current) if has_changed => self.announce(feed),
            Some(Outcome::Current) => feed.confirm(),
        }
    }

    fn change(&mut self, key: Arc<str>, value: Change) {
        let Some(value) = value else {
            self.good.remove(&key);
            self.rejected.remove(&key);
            return;
        };
        match read(&key, &value) {
            Ok(member) => {
                self.rejected.remove(&key);
                self.good.insert(key, member);
            }
            Err(error) => drop(self.rejected.insert(key, error.into())),
        }
    }

    fn announce(&self, feed: &MemberFeed) {
        let mut rejected: Vec<_> = self
            .rejected
            .iter()
            .map(|(key, error)| RejectedMember { key: Arc::clone(key), error: Arc::clone(error) })
            .collect();
        let mut first: HashMap<(&Address, Option<&str>), &Arc<str>> = HashMap::with_capacity(self.good.len());
        let mut members = Vec::with_capacity(self.good.len());
        for (key, member) in &self.good {
            match first.get(&(&member.address, member.uid.as_deref())) {
                None => {
                    first.insert((&member.address, member.uid.as_deref()), key);
                    members.push(member.clone());
                }
                Some(other) => {
                    let error = format!("`{}` is the endpoint of {other}", member.address).into();
                    rejected.push(RejectedMember { key: Arc::clone(key), error });
                }
            }
        }
        feed.announce_without(members, rejected);
    }
}

/// The member of a value.
fn read(key: &str, value: &[u8]) -> Result<NewMember, String> {
    if value.len() > LARGEST {
        return Err(format!("the value is larger than {} KiB", LARGEST >> 10));
    }
    let text = std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_owned())?;
    let one_line = |problem: &Problem| {
        let place = problem.place.as_ref().map(|place| format!("{}:{}: ", place.line, place.column));
        let help: String = problem.help.iter().map(|help| format!("; {help}")).collect();
        format!("{}{}{help}", place.unwrap_or_default(), problem.message)
    };
    let all = |problems: &Problems| problems.0.iter().map(one_line).collect::<Vec<_>>().join("; ");
    let entry = config::load_announced(&origin(key), text).map_err(|problems| all(&problems))?;
    let place = entry.place.clone();
    member(key, entry.value).map_err(|problem| one_line(&problem.at(&place)))
}

fn member(key: &str, entry: AnnouncedEntry) -> Result<NewMember, Problem> {
    let (address, full) = match entry {
        AnnouncedEntry::Address(address) => (address, None),
        AnnouncedEntry::Full(full) => (full.address.clone(), Some(full)),
    };
    let Origin::Fixed(fixed) = Origin::parse(&address).map_err(|problem| problem.at(&address.place))? else {
        return Err(Problem::new(format!("`{}` is a name", address.value))
            .help("write an IP address; `discovery: { kind: dns }` resolves names")
            .at(&address.place));
    };
    let member = NewMember { origin: Some(origin(key).into()), ..NewMember::at(fixed) };
    let Some(full) = full else { return Ok(member) };
    let leaving = leaving(&full)?;
    Ok(NewMember {
        uid: full.uid.map(Arc::from),
        zone: full.zone.map(Arc::from),
        weight: full.weight.as_ref().map_or(1, |weight| weight.value),
        marked: full.drain,
        priority: tier(full.tier, full.backup)?.into(),
        limit: full.max_connections,
        leaving,
        ..member
    })
}

fn tier(tier: Option<u8>, backup: Option<Placed<bool>>) -> Result<u8, Problem> {
    match (tier, backup) {
        (Some(_), Some(backup)) => {
            let problem = Problem::new("`tier` and `backup` exclude each other");
            Err(problem.help("`backup: true` is `tier: 1`").at(&backup.place))
        }
        (Some(tier), None) if tier > LAST_TIER => {
            Err(Problem::new(format!("tier {tier} is too large")).help(format!("a tier is 0 to {LAST_TIER}")))
        }
        (Some(tier), None) => Ok(tier),
        (None, backup) => Ok(u8::from(backup.is_some_and(|backup| backup.value))),
    }
}

/// Set for a member that leaves: its end on the upstream clock, if that is known.
fn leaving(full: &AnnouncedEndpoint) -> Result<Option<Option<u64>>, Problem> {
    match (full.state, &full.deadline) {
        (AnnouncedState::Ready, None) => Ok(None),
        (AnnouncedState::Ready, Some(deadline)) => {
            let problem = Problem::new("`deadline` needs `state: leaving`");
            Err(problem.help("it is the end of an endpoint that leaves").at(&deadline.place))
        }
        (AnnouncedState::Leaving, deadline) => {
            let left = |at: u64| at.saturating_mul(1000).saturating_sub(unix_millis());
            let end = |at: &Placed<u64>| monotonic_millis::now().saturating_add(left(at.value));
            Ok(Some(deadline.as_ref().map(end)))
        }
    }
}
