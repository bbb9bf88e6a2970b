//! DNS client, with hickory: A, AAAA and SRV queries, the names of the search list, and one name server after another.

use super::answers::{Family, FamilyAddresses, HostAnswer, ServiceRecord, Services};
use super::search::candidates;
use super::{LookupError, Records};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver, system_conf};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The longest wait before a query is repeated; datagrams may be lost.
const LONGEST_TRY: Duration = Duration::from_millis(2500);

/// Repetitions of a query at one name server.
const MOST_REPETITIONS: usize = 3;

/// The time without a response after which the next name server is queried too.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long an answer without records waits for a name server that comes first: only that one may know the name.
const PATIENCE_WITHOUT_RECORDS: Duration = Duration::from_secs(2);

/// A name server that did not respond this often in a row is queried after the others, for some time.
const MOST_SILENCES: u32 = 3;
const REST: Duration = Duration::from_secs(30);

/// The longest chain of aliases.
const MOST_ALIASES: usize = 8;

/// The name servers, with the search list.
pub(super) struct Client {
    servers: Vec<Server>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
}

struct Server {
    resolver: TokioResolver,
    /// How often in a row it did not respond, and the last time of that.
    silences: Mutex<(u32, Option<Instant>)>,
}

impl Server {
    async fn query(&self, name: &Name, kind: RecordType) -> Result<Found, LookupError> {
        let outcome = found(self.resolver.lookup(name.clone(), kind).await);
        match outcome {
            Err(LookupError::NoResponse) => self.note_silence(),
            _ => *self.silences.lock() = (0, None),
        }
        outcome
    }

    fn note_silence(&self) {
        let mut silences = self.silences.lock();
        *silences = (silences.0.saturating_add(1), Some(Instant::now()));
    }

    fn rests(&self) -> bool {
        let (count, last) = *self.silences.lock();
        count >= MOST_SILENCES && last.is_some_and(|last| last.elapsed() < REST)
    }
}

impl Client {
    /// Queries `servers` for names as written; without servers, those of `resolv_conf` with its search list.
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
        // The resolver has its own cache, and reads the hosts file.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // Without EDNS a response of more than 512 bytes needs TCP.
        options.edns0 = true;
        let server = |server: &NameServerConfig| {
            let config = ResolverConfig::from_name_servers(vec![server.clone()]);
            let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            let resolver = builder.with_options(options.clone()).build().map_err(LookupError::failed)?;
            Ok(Server { resolver, silences: Mutex::default() })
        };
        let servers = config.name_servers().iter().map(server).collect::<Result<_, LookupError>>()?;
        Ok(Self { servers, search, ndots })
    }

    /// The addresses of the first name of the search list that has any, or that a name server fails to look up: a later
    /// name must not stand in for that one.
    pub(super) async fn host(&self, host: &str) -> HostAnswer {
        let mut last = HostAnswer::without_ttl(&[]);
        for name in candidates(host, &self.search, self.ndots) {
            // A name that is too long with a domain of the search list cannot exist.
            let Ok(name) = Name::from_ascii(&name) else { continue };
            let (v4, v6) = tokio::join!(self.addresses(&name, Family::V4), self.addresses(&name, Family::V6));
            let has_any = |half: &Result<FamilyAddresses, LookupError>| {
                half.as_ref().map_or(true, |found| !found.addresses.is_empty())
            };
            let is_settled = has_any(&v4) || has_any(&v6);
            last = HostAnswer { v4, v6 };
            if is_settled {
                break;
            }
        }
        last
    }

    /// The addresses of one family of an absolute name.
    pub(super) async fn family(&self, host: &str, family: Family) -> Result<FamilyAddresses, LookupError> {
        let name = Name::from_ascii(host).map_err(LookupError::failed)?;
        self.addresses(&name, family).await
    }

    async fn addresses(&self, name: &Name, family: Family) -> Result<FamilyAddresses, LookupError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        match self.query(name, kind).await {
            Ok(Found::Records(lookup)) => {
                let records = lookup.answers().iter();
                let addresses = records.filter_map(|record| record.data.ip_addr()).collect();
                let life = lookup.valid_until().saturating_duration_since(Instant::now());
                Ok(FamilyAddresses { addresses, ttl: Some(life) })
            }
            Ok(Found::Nothing(ttl)) => Ok(FamilyAddresses { addresses: Vec::new(), ttl }),
            Err(error) => Err(error),
        }
    }

    /// The SRV records of the first name of the search list that has any.
    pub(super) async fn services(&self, name: &str) -> Result<Services, LookupError> {
        for name in candidates(name, &self.search, self.ndots) {
            let Ok(name) = Name::from_ascii(&name) else { continue };
            let services = self.services_at(name).await?;
            if !services.records.is_empty() {
                return Ok(services);
            }
        }
        Ok(Services::default())
    }

    async fn services_at(&self, mut name: Name) -> Result<Services, LookupError> {
        let mut life = Duration::MAX;
        for _ in 0..MOST_ALIASES {
            let outcome = self.query(&name, RecordType::SRV).await;
            match &outcome {
                Ok(Found::Records(lookup)) => {
                    let services = services(lookup, life);
                    if !services.records.is_empty() {
                        return Ok(services);
                    }
                }
                Ok(Found::Nothing(_)) | Err(LookupError::Failed(_)) => {}
                Err(error) => return Err(error.clone()),
            }
            // hickory follows no alias of an SRV record: it takes the target for the next name.
            let alias = match self.query(&name, RecordType::CNAME).await {
                Ok(Found::Records(lookup)) => alias(&lookup, &name),
                _ => None,
            };
            match (alias, outcome) {
                (Some((next, ttl)), _) => (name, life) = (next, life.min(ttl)),
                (None, Ok(_)) => return Ok(Services::default()),
                (None, Err(error)) => return Err(error),
            }
        }
        Err(LookupError::failed(format!("more than {MOST_ALIASES} aliases")))
    }

    /// Queries one name server after another until one has an answer: the next one after an error, and also after a time
    /// without a response.
    async fn query(&self, name: &Name, kind: RecordType) -> Result<Found, LookupError> {
        let mut order: Vec<_> = self.servers.iter().collect();
        order.sort_by_key(|server| server.rests());
        let mut left = order.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        // Those without a response so far, by their ranks.
        let mut silent: BTreeMap<usize, &Server> = BTreeMap::new();
        let (mut nothing, mut failure) = (None, None);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            if let Some((rank, server)) = left.next().filter(|_| nothing.is_none()) {
                silent.insert(rank, server);
                running.push(async move { (rank, server.query(name, kind).await) });
                patience.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
            }
            tokio::select! {
                outcome = running.next() => {
                    // None is in progress after the last one.
                    let Some((rank, outcome)) = outcome else { break };
                    silent.remove(&rank);
                    match outcome {
                        Ok(found @ Found::Records(_)) => {
                            silent.range(..rank).for_each(|(_, server)| server.note_silence());
                            return Ok(found);
                        }
                        Ok(found) if silent.range(..rank).next().is_none() => return Ok(found),
                        Ok(found) => {
                            nothing = Some(found);
                            let latest = tokio::time::Instant::now() + PATIENCE_WITHOUT_RECORDS;
                            patience.as_mut().reset(latest);
                        }
                        Err(error) => failure = failure.or(Some(error)),
                    }
                }
                () = patience.as_mut(), if nothing.is_some() || left.len() > 0 => {
                    if nothing.is_some() {
                        silent.values().for_each(|server| server.note_silence());
                        break;
                    }
                }
            }
        }
        nothing.ok_or(failure.unwrap_or(LookupError::NoResponse))
    }
}

/// An answer of a name server.
enum Found {
    Records(Lookup),
    /// No such name, or no records of that type; with the lifetime of that answer, if it has one.
    Nothing(Option<Duration>),
}

fn found(outcome: Result<Lookup, NetError>) -> Result<Found, LookupError> {
    match outcome {
        Ok(lookup) => Ok(Found::Records(lookup)),
        Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
            Ok(Found::Nothing(nothing.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()))))
        }
        Err(NetError::Timeout) => Err(LookupError::NoResponse),
        Err(error) => Err(LookupError::failed(error)),
    }
}

/// The SRV records of a response, with the addresses that it has beside them.
fn services(lookup: &Lookup, life: Duration) -> Services {
    let mut services = Services::default();
    let mut ttl = life;
    for record in lookup.answers() {
        let RData::SRV(srv) = &record.data else { continue };
        ttl = ttl.min(lifetime(record));
        services.records.push(ServiceRecord {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: absolute(&srv.target).into(),
        });
    }
    services.ttl = Some(ttl);
    for record in lookup.additionals() {
        let Some(address) = record.data.ip_addr() else { continue };
        let family = Family::of(address);
        let addresses = services.additional.entry((absolute(&record.name).into(), family)).or_default();
        addresses.addresses.push(address);
        let life = lifetime(record);
        addresses.ttl = Some(addresses.ttl.map_or(life, |before| before.min(life)));
    }
    services
}

fn alias(lookup: &Lookup, name: &Name) -> Option<(Name, Duration)> {
    lookup.answers().iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some((target.0.clone(), lifetime(record))),
        _ => None,
    })
}

fn lifetime(record: &Record) -> Duration {
    Duration::from_secs(record.ttl.into())
}

/// A name in lower case, with its final dot.
fn absolute(name: &Name) -> String {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name.to_ascii()
}

impl HostAnswer {
    /// Both families together, for the cache.
    pub(super) fn into_records(self) -> Result<Records, LookupError> {
        let (mut addresses, mut ttl, mut missing) = (Vec::new(), None::<Duration>, None);
        for (outcome, is_ipv6) in [(self.v4, false), (self.v6, true)] {
            match outcome {
                Ok(found) if found.addresses.is_empty() => {}
                Ok(found) => {
                    addresses.extend(found.addresses);
                    ttl = match (ttl, found.ttl) {
                        (Some(before), Some(life)) => Some(before.min(life)),
                        (before, life) => before.or(life),
                    };
                }
                Err(error) => missing = Some((is_ipv6, error)),
            }
        }
        match missing {
            _ if !addresses.is_empty() => Ok(Records { addresses, ttl, missing }),
            Some((_, error)) => Err(error),
            None => Err(LookupError::NotFound),
        }
    }
}

/// The configuration of resolv.conf(5). Without a name server in it, the one on this machine, as in the
/// system's resolver.
pub(super) fn of_system(resolv_conf: &[u8]) -> (ResolverConfig, ResolverOpts) {
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
