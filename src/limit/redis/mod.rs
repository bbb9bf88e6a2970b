//! The kind `redis`: Redis 6 and later, Valkey, and servers with their protocol and scripts.

mod client;
mod scripts;

use super::store::{OnFailure, StoreParts, StoreSettings};
use client::{RedisClient, Servers, SharedClient, Tls};
use moongate_config::{Credentials, Kind, Period, Placed, Problem, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// The limits of `deadline`.
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);
/// The largest file of certificates, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

pub(super) const KIND: Kind<StoreParts> = Kind {
    name: "redis",
    about: "Shares limits through Redis or Valkey",
    schema: <RedisSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RedisSettings {
    /// Connects to this server, as `redis://host:port/database`, with TLS as `rediss://…`, or over a Unix socket as
    /// `redis+unix:///path`. One of `url`, `sentinel` and `cluster` is required.
    url: Option<Placed<String>>,
    /// Connects to the master that Sentinel names.
    sentinel: Option<Sentinel>,
    /// Connects to the masters of a cluster, of which these nodes (`host:port`) name the others.
    cluster: Option<Placed<Vec<Placed<String>>>>,
    /// Connects with TLS to `sentinel` and `cluster`; with `url`, `rediss://` does. Default none (plain).
    tls: Option<Placed<StoreTls>>,
    /// Authenticates as this user (ACL). Needs a password. Default none.
    user: Option<Placed<String>>,
    /// Authenticates with this password, as `${REDIS_PASSWORD}`. Default none.
    password: Option<Placed<String>>,
    /// Reads the password from this file, without the line break at its end. A reload reads it again. Default none.
    password_file: Option<Placed<String>>,
    /// Waits this long for a response, 1ms to 5s. Three time-outs in a row make the store unavailable. Default 20ms.
    deadline: Option<Placed<Period>>,
    /// Applies the share of this gateway (`local`: the limit divided by the gateways seen last), no limit (`open`), or
    /// refuses (`closed`) while the store is unavailable. Default local.
    #[serde(default)]
    on_failure: OnFailure,
    /// Begins every key in the store. Gateways share limits only under one prefix. Default `moongate:`.
    #[serde(default = "key_prefix")]
    key_prefix: Placed<String>,
}

/// Sentinel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedisSentinel")]
struct Sentinel {
    /// Asks these Sentinels (`host:port`), one after another. Required.
    servers: Placed<Vec<Placed<String>>>,
    /// Names the master, as in `sentinel monitor NAME …`. Required.
    master: Placed<String>,
    /// Authenticates to the Sentinels as this user. Default none.
    user: Option<Placed<String>>,
    /// Authenticates to the Sentinels with this password. Default none.
    password: Option<Placed<String>>,
    /// Reads the password for the Sentinels from this file. Default none.
    password_file: Option<Placed<String>>,
}

/// TLS to the servers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RedisTls")]
struct StoreTls {
    /// Trusts the issuers in this PEM file, in place of the system's. Default the system's.
    ca: Option<Placed<String>>,
}

fn key_prefix() -> Placed<String> {
    Placed { value: "moongate:".to_owned(), place: moongate_config::Place::nowhere() }
}

fn build(settings: &Settings) -> Result<Box<StoreParts>, Problems> {
    let written: RedisSettings = settings.read()?;
    let mut problems = Problems::default();
    let deadline = written.deadline.as_ref().map_or(Duration::from_millis(20), |deadline| {
        if !DEADLINES.contains(&deadline.value.0) {
            problems.push(Problem::new("`deadline` must be 1ms to 5s").at(&deadline.place));
        }
        deadline.value.0
    });
    if written.key_prefix.value.contains(char::is_control) {
        problems.push(Problem::new("`key_prefix` has a control character").at(&written.key_prefix.place));
    }
    let credentials = Credentials::read(
        settings,
        [&written.user, &written.password, &written.password_file],
        &mut problems,
    );
    let tls = tls(settings, &written, &mut problems);
    let servers = servers(settings, &written, &mut problems);
    let (Some(servers), false) = (servers, problems.refuse()) else { return Err(problems) };
    let client = RedisClient { servers, credentials, tls, deadline, first: AtomicUsize::new(0) };
    if let Err(error) = client.check() {
        let cause = error.detail().map_or_else(|| error.to_string(), ToOwned::to_owned);
        return Err(Problem::new(format!("the store cannot be used: {cause}")).at(settings.place()).into());
    }
    let settings =
        StoreSettings { deadline, on_failure: written.on_failure, key_prefix: written.key_prefix.value };
    Ok(Box::new(StoreParts { settings, client: Arc::new(SharedClient(Arc::new(client))) }))
}

fn tls(settings: &Settings, written: &RedisSettings, problems: &mut Problems) -> Option<Tls> {
    if let (Some(url), Some(tls)) = (&written.url, &written.tls)
        && !url.value.starts_with("rediss://")
    {
        let problem = Problem::new("`tls` needs a URL with TLS");
        problems.push(problem.help("write `rediss://` in `url`").at(&tls.place));
    }
    let is_secure = written.url.as_ref().is_some_and(|url| url.value.starts_with("rediss://"));
    let ca = written.tls.as_ref().and_then(|tls| tls.value.ca.as_ref()).and_then(|path| {
        let record = problems.keep(settings.file(path, LONGEST_FILE).map_err(Problems::from))?;
        Some(record.bytes.to_vec())
    });
    (is_secure || written.tls.is_some()).then_some(Tls { ca })
}

fn servers(settings: &Settings, written: &RedisSettings, problems: &mut Problems) -> Option<Servers> {
    let forms = [written.url.is_some(), written.sentinel.is_some(), written.cluster.is_some()];
    if forms.iter().filter(|form| **form).count() != 1 {
        let problem = Problem::new("a store has one of `url`, `sentinel` and `cluster`");
        problems
            .push(problem.help("for one server write `url: redis://127.0.0.1:6379`").at(settings.place()));
        return None;
    }
    if let Some(url) = &written.url {
        return problems.keep(single(url).map_err(Problems::from));
    }
    if let Some(nodes) = &written.cluster {
        return Some(Servers::Cluster(hosts("cluster", nodes, problems)));
    }
    let sentinel = written.sentinel.as_ref()?;
    if sentinel.master.value.is_empty() {
        problems.push(Problem::new("`master` is empty").at(&sentinel.master.place));
    }
    let own = [&sentinel.user, &sentinel.password, &sentinel.password_file];
    Some(Servers::Sentinel {
        sentinels: hosts("servers", &sentinel.servers, problems),
        master: sentinel.master.value.clone(),
        credentials: Credentials::read(settings, own, problems),
    })
}

fn single(url: &Placed<String>) -> Result<Servers, Problem> {
    let (scheme, rest) = url.value.split_once("://").unwrap_or_default();
    if !matches!(scheme, "redis" | "rediss" | "redis+unix" | "unix") {
        return Err(Problem::new(format!("`{}` is not the URL of a store", url.value))
            .help("write a URL such as redis://127.0.0.1:6379, or rediss://… for TLS")
            .at(&url.place));
    }
    if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        // The URL is not repeated: it has credentials.
        return Err(Problem::new("the URL of a store must have no credentials")
            .help("write them in `user` and `password` or `password_file`")
            .at(&url.place));
    }
    if rest.contains(['?', '#']) {
        return Err(Problem::new(format!("`{}` has parameters", url.value))
            .help("write host, port and the number of a database, as redis://127.0.0.1:6379/0")
            .at(&url.place));
    }
    Ok(Servers::Single(url.value.clone()))
}

fn hosts(name: &str, written: &Placed<Vec<Placed<String>>>, problems: &mut Problems) -> Vec<String> {
    if written.value.is_empty() {
        problems.push(Problem::new(format!("`{name}` is empty")).at(&written.place));
    }
    for server in &written.value {
        let port = server
            .value
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) || server.value.contains(['/', '@', '?', '#', ' ']) {
            let problem = Problem::new(format!("`{}` is not a server", server.value));
            problems.push(problem.help("write host:port, as 10.0.0.7:26379").at(&server.place));
        }
    }
    written.value.iter().map(|server| server.value.clone()).collect()
}

#[cfg(test)]
mod tests;
