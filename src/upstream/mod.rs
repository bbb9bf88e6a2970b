//! Upstream clusters: membership, health and selection.
//!
//! [pingora-load-balancing](pingora_load_balancing) supplies the mechanism: its `Backends` hold the
//! membership, its `LoadBalancer` rebuilds a selection when the membership changes, its health runner sends
//! the probes. Our kinds implement its traits: `pingora_selection` is its `BackendSelection` over any
//! [`Balance`], `pingora_check` is its `HealthCheck` over any [`Probe`], `discovery` is its
//! `ServiceDiscovery`. This module adds what it lacks: counts that survive a reload, the state "not probed
//! yet", passive ejection, `when_all_unhealthy`, and a selection whose time does not depend on the number of endpoints
//! (`ready_set`).
//!
//! The connection to an endpoint is here too (`connector`): TLS, HTTP/2, the PROXY protocol. `attempts` has what all
//! attempts share; the mapping of failures to responses is in the proxy and the tunnel. [`Cluster::run`] is a future that
//! the supervisor spawns.

mod address;
mod announced;
mod attempts;
pub mod balance;
mod cluster;
mod connection_pool;
mod connector;
mod dial;
mod discovery;
mod endpoint;
mod endpoint_set;
mod endpoint_watch;
mod h2c_silence_watchdog;
mod hash_key;
pub mod health;
mod health_score;
mod http1_connection;
mod http_peer;
mod into_tunnel_io;
mod join_time;
mod latency;
mod lease;
mod load_order;
mod members;
mod monotonic_millis;
mod passive_health;
mod pingora_selection;
mod proxy_header;
mod ready_set;
mod reconnects;
mod session_drain;
mod slow_start;
#[cfg(test)]
mod testing;
mod tried_endpoints;
mod upstream_stream;
mod url_connector;
mod url_server;

pub use address::Address;
pub use announced::MemberState;
pub use attempts::{AttemptEnd, Attempts};
pub use balance::{BALANCE, Balance, CookieScope};
pub(crate) use balance::{inherit_process_secret, process_secret};
pub use cluster::{
    AcceptingEndpoint, Affinity, Cluster, ClusterStatus, DrainingEndpoint, EndpointState, EndpointStatus,
    Leaving, Order, RemovedUpstream,
};
pub use connection_pool::{close_idle_connections, most_idle_connections};
pub use connector::Reuse;
pub use dial::{DialError, PlainStream, dial};
pub use discovery::{DISCOVERY, Discovery, FeedState, FeedStatus, NameState};
pub use endpoint::{BackendVersion, Endpoint, ProbeResult};
pub use hash_key::{Key, KeySource, RequestView};
pub use health::{PROBES, Probe};
pub use health_score::Health;
pub use http_peer::Versions;
pub use http1_connection::{BodyPart, Broken, Http1Connection, Progress, keeps_alive};
pub use lease::{Lease, NoEndpoint};
pub use passive_health::Reason;
pub use proxy_header::ProxyAddrs;
pub use session_drain::DrainMoment;
pub use tried_endpoints::TriedEndpoints;
pub use upstream_stream::UpstreamStream;
pub use url_server::UrlServer;
