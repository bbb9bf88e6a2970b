//! Asking name servers, by hickory: A and AAAA for each name of the search list until one has addresses.

use super::search::candidates;
use super::{LookupError, Records};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Resolver, TokioResolver, system_conf};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The longest wait for one name server before it is asked again; a datagram may have been lost.
const LONGEST_TRY: Duration = Duration::from_millis(2500);

/// How often a name server is asked again.
const MOST_REPETITIONS: usize = 3;

/// The name servers, with the search list.
pub(super) struct Client {
    resolver: TokioResolver,
    search: Vec<String>,
    ndots: usize,
}

impl Client {
    /// Asks `servers` for names as they are written; with none, those of `resolv_conf` in its way.
    pub(super) fn new(servers: &[SocketAddr], resolv_conf: &[u8]) -> Result<Self, LookupError> {
        let (config, mut options) = match servers {
            [] => of_system(resolv_conf),
            servers => {
                let servers = servers.iter().map(|server| at(*server)).collect();
                (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
            }
        };
        let mut search: Vec<_> = config.search().iter().map(ToString::to_string).collect();
        if search.is_empty() {
            search.extend(config.domain().map(ToString::to_string));
        }
        let ndots = if servers.is_empty() { options.ndots } else { 0 };
        options.timeout = options.timeout.min(LONGEST_TRY);
        options.attempts = options.attempts.min(MOST_REPETITIONS);
        // Answers are kept by us, hosts are read by us.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let servers = config.name_servers().to_vec();
        let config = ResolverConfig::from_name_servers(servers);
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().map_err(LookupError::failed)?;
        Ok(Self { resolver, search, ndots })
    }

    /// The addresses of the first name of the search list that has some.
    pub(super) async fn ask(&self, host: &str) -> Result<Records, LookupError> {
        let mut worst = LookupError::NotFound;
        for name in candidates(host, &self.search, self.ndots) {
            // A name that is too long with a domain of the list is not that of any host.
            let Ok(name) = Name::from_ascii(&name) else { continue };
            match self.both(name).await {
                Ok(records) => return Ok(records),
                Err(LookupError::NotFound) => {}
                // The next names would wait as long; and a later name must not stand in for this one.
                Err(timed_out @ LookupError::NoResponse) => return Err(timed_out),
                Err(error) => worst = error,
            }
        }
        Err(worst)
    }

    async fn both(&self, name: Name) -> Result<Records, LookupError> {
        let (v4, v6) =
            tokio::join!(self.family(name.clone(), RecordType::A), self.family(name, RecordType::AAAA));
        let (mut addresses, mut ttl, mut missing) = (Vec::new(), None::<Duration>, None);
        for (outcome, is_ipv6) in [(v4, false), (v6, true)] {
            match outcome {
                Ok((found, life)) => {
                    addresses.extend(found);
                    ttl = Some(ttl.map_or(life, |before| before.min(life)));
                }
                Err(LookupError::NotFound) => {}
                Err(error) => missing = Some((is_ipv6, error)),
            }
        }
        match missing {
            _ if !addresses.is_empty() => Ok(Records { addresses, ttl, missing }),
            Some((_, error)) => Err(error),
            None => Err(LookupError::NotFound),
        }
    }

    async fn family(&self, name: Name, kind: RecordType) -> Result<(Vec<IpAddr>, Duration), LookupError> {
        let lookup = self.resolver.lookup(name, kind).await.map_err(of_hickory)?;
        let addresses: Vec<_> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(LookupError::NotFound);
        }
        Ok((addresses, lookup.valid_until().saturating_duration_since(Instant::now())))
    }
}

fn of_hickory(error: NetError) -> LookupError {
    match error {
        error if error.is_no_records_found() || error.is_nx_domain() => LookupError::NotFound,
        NetError::Timeout => LookupError::NoResponse,
        error => LookupError::failed(error),
    }
}

/// What resolv.conf(5) says; without one, or without a name server in it, the one of this machine, as the system's
/// own resolver.
fn of_system(resolv_conf: &[u8]) -> (ResolverConfig, ResolverOpts) {
    let (mut config, options) = system_conf::parse_resolv_conf(resolv_conf).unwrap_or_default();
    if config.name_servers().is_empty() {
        config.add_name_server(NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    (config, options)
}

fn at(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_resolv_conf_without_sense_leaves_this_machines_name_server() {
        for text in ["", "nonsense", "nameserver x\n", "search ..bad..\n", "options ndots:99999999999"] {
            let (config, _) = of_system(text.as_bytes());
            let servers: Vec<_> = config.name_servers().iter().map(|server| server.ip).collect();
            assert_eq!(servers, [IpAddr::V4(Ipv4Addr::LOCALHOST)], "{text}");
        }
    }

    #[tokio::test]
    async fn resolv_conf_has_the_search_list_and_the_dots() {
        let text = b"nameserver 10.0.0.53\nsearch shop.test test\noptions ndots:5 timeout:1 attempts:2\n";
        let client = Client::new(&[], text).unwrap();
        assert_eq!((client.ndots, client.search.len()), (5, 2));
        let own = Client::new(&["127.0.0.1:5353".parse().unwrap()], text).unwrap();
        assert_eq!((own.ndots, own.search.len()), (0, 0));
    }

    proptest::proptest! {
        #[test]
        fn no_resolv_conf_panics(text in "((nameserver|search|domain|options|sortlist|#)[ -~]{0,40}\n){0,6}") {
            let _ = of_system(text.as_bytes());
        }
    }
}
