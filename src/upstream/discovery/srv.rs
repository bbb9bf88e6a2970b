//! Members from SRV records (RFC 2782): each address of each target, with the record's port, priority and weight.

use super::feed::{Discovery, MemberFeed};
use super::name_settings::{self, Resolve};
use super::srv_targets::{Answer, Question, Targets};
use crate::net::resolver;
use crate::upstream::address::Address;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use moongate_config::{Kind, Period, Placed, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) const KIND: Kind<dyn Discovery> = Kind {
    name: "srv",
    about: "The targets of SRV records, with their ports, priorities and weights",
    schema: |generator| generator.subschema_for::<SrvSettings>(),
    build,
};

/// The settings of `srv`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SrvSettings {
    /// Queries name servers for the SRV records of this name, as `_ws._tcp.chat.internal.`. Each address of their targets
    /// is an endpoint; the priority is its tier, the weight its weight. Required.
    name: Placed<String>,
    /// Keeps an endpoint for this long that the records do not name any more. `0s`: it leaves at once. Default 30s.
    #[serde(default)]
    hold: Option<Period>,
    /// Queries again at least this often, 1s or more. A shorter TTL applies. Default that of the upstream.
    #[serde(default)]
    resolve: Option<Placed<Period>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Discovery>, Problems> {
    let SrvSettings { name, hold, resolve } = settings.read()?;
    let mut problems = Problems::default();
    let name = problems.keep(name_settings::host(&name).map_err(Into::into));
    let resolve = problems.keep(Resolve::read(resolve).map_err(Into::into));
    let (Some(name), Some(resolve)) = (name, resolve) else { return Err(problems) };
    Ok(Box::new(ServiceName { name, hold: name_settings::hold(hold), resolve }))
}

#[derive(Debug)]
struct ServiceName {
    name: Arc<str>,
    hold: Duration,
    resolve: Resolve,
}

#[async_trait]
impl Discovery for ServiceName {
    fn source(&self) -> String {
        format!("srv {}", self.name)
    }

    fn hold(&self) -> Duration {
        self.hold
    }

    async fn run(&self, feed: &MemberFeed) {
        let mut changes = resolver::global().changes();
        let mut targets = Targets::new(self.resolve.within(feed), known(feed), Instant::now());
        let mut running: FuturesUnordered<LookupFuture> = FuturesUnordered::new();
        loop {
            for question in targets.begin(Instant::now()) {
                running.push(look_up(Arc::clone(&self.name), question));
            }
            tokio::select! {
                Some((question, answer)) = running.next() => targets.take(question, answer, Instant::now()),
                () = sleep_until(targets.wake()) => {}
                // The resolver lives as long as the process.
                _ = changes.changed() => {
                    running.clear();
                    targets.look_up_all(Instant::now());
                }
            }
            if targets.has_news(Instant::now()) {
                targets.tell(feed);
            }
        }
    }
}

type LookupFuture = Pin<Box<dyn Future<Output = (Question, Answer)> + Send>>;

fn look_up(name: Arc<str>, question: Question) -> LookupFuture {
    Box::pin(async move {
        let resolver = resolver::global();
        let answer = match &question {
            Question::Records => Answer::Records(resolver.query_services(&name).await),
            Question::Target(target, family) => Answer::Target(resolver.query_family(target, *family).await),
        };
        (question, answer)
    })
}

/// The addresses that an earlier run announced, by target.
fn known(feed: &MemberFeed) -> BTreeMap<Arc<str>, Vec<IpAddr>> {
    let mut known: BTreeMap<Arc<str>, Vec<IpAddr>> = BTreeMap::new();
    for (address, announced) in feed.present() {
        if let (Address::Tcp(address), Some(target)) = (address, announced.uid) {
            known.entry(target).or_default().push(address.ip());
        }
    }
    known
}
