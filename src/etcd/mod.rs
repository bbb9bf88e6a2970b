//! Client of etcd over its JSON gateway (`/v3/…`, HTTP/1.1): the keys below a prefix, and every change of them.
//!
//! etcd serves the gateway at its client URLs since version 3.4. It needs no compiler of protocol buffers, and any member of
//! the cluster suffices.

mod connection;
mod error;
mod json_objects;
mod messages;
mod prefix_watch;
mod servers;
mod settings;

pub use error::EtcdError;
#[cfg(any(test, fuzzing))]
pub use json_objects::json_object_invariants;
pub use prefix_watch::{Change, Outcome, PrefixNews, PrefixWatch};
pub use servers::EtcdServers;
pub use settings::{EtcdKeys, check_prefix};
