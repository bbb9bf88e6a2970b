//! Documents from etcd: each key below a prefix is one.

use super::{ConfigSource, DocumentFeed};
use crate::config::UpstreamTls;
use crate::etcd::{EtcdKeys, EtcdServers, Outcome, PrefixNews, PrefixWatch, check_prefix};
use async_trait::async_trait;
use moongate_config::{Kind, Placed, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) const KIND: Kind<dyn ConfigSource> = Kind {
    name: "etcd",
    about: "The documents below a prefix in etcd, one key each",
    schema: <EtcdSourceSettings as JsonSchema>::json_schema,
    build,
};

/// The settings of `etcd`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EtcdSourceSettings {
    /// Reads from one of these servers of a cluster, by their client URLs as `http://10.0.0.7:2379`, or `https://…` for TLS.
    /// The next one is used after an error, and after 3 s without a response. Required.
    servers: Placed<Vec<Placed<String>>>,
    /// Reads every key that begins with this, such as `/moongate/`: one document a key. Required.
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
}

fn build(settings: &Settings) -> Result<Box<dyn ConfigSource>, Problems> {
    let EtcdSourceSettings { servers, prefix, tls, user, password, password_file } = settings.read()?;
    let mut problems = Problems::default();
    problems.keep(check_prefix(&prefix).map_err(Problems::from));
    let keys = EtcdKeys { servers, tls, user, password, password_file };
    let (Some(servers), false) = (problems.keep(keys.compile(settings)), problems.refuse()) else {
        return Err(problems);
    };
    Ok(Box::new(EtcdDocuments { servers: Arc::new(servers), prefix: prefix.value }))
}

struct EtcdDocuments {
    servers: Arc<EtcdServers>,
    prefix: String,
}

#[async_trait]
impl ConfigSource for EtcdDocuments {
    fn origin(&self) -> String {
        format!("etcd {}", self.prefix)
    }

    fn is_current(&self) -> bool {
        self.servers.is_current()
    }

    async fn run(&self, feed: &DocumentFeed) {
        let watch = PrefixWatch::new(Arc::clone(&self.servers), &self.prefix);
        let report = async {
            let mut has_all = false;
            loop {
                watch.news().await;
                let PrefixNews { changes, outcome, is_complete } = watch.take();
                match (is_complete, has_all) {
                    // Documents of an earlier run that the first list lacks are gone.
                    (true, false) => {
                        has_all = true;
                        feed.replace(
                            changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
                        );
                    }
                    _ if !changes.is_empty() => feed.change(changes),
                    _ => {}
                }
                match outcome {
                    Some(Outcome::Current) => feed.confirm(),
                    Some(Outcome::Failed(error)) => feed.fail(error.reason, error.detail),
                    Some(Outcome::Pending) | None => {}
                }
            }
        };
        let never: (std::convert::Infallible, std::convert::Infallible) = tokio::join!(watch.run(), report);
        match never.0 {}
    }
}
