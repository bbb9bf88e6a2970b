//! Test support: a gateway process, backends that can be stopped, clients that see every byte. Every wait is
//! bounded and waits for a fact.

pub(crate) mod access_log;
pub(crate) mod busy;
pub(crate) mod certs;
pub(crate) mod collector;
pub(crate) mod discovered;
pub(crate) mod dns_server;
pub(crate) mod etcd;
pub(crate) mod eventually;
pub(crate) mod fake_etcd;
#[cfg(feature = "redis")]
pub(crate) mod fake_store;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod h2;
pub(crate) mod h2ws;
pub(crate) mod hung_file;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod name_server;
pub(crate) mod origin;
pub(crate) mod pebble;
pub(crate) mod prometheus;
pub(crate) mod raw;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod secure;
pub(crate) mod secured;
pub(crate) mod service_manager;
pub(crate) mod socket_queue;
pub(crate) mod upgraded;
pub(crate) mod ws;

pub(crate) use eventually::{Gate, LIMIT, eventually};
pub(crate) use gateway::{Gateway, moongate};
pub(crate) use load::Load;
pub(crate) use origin::{Next, Origin, Seen};
pub(crate) use raw::{Response, Wire, get};
pub(crate) use ws::Socket;
