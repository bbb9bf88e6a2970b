//! Configuration model and loader. YAML is read and written only here.
//!
//! `load` reads files into a [`Config`] and reports every problem at once; `print` writes one back.
//! References between names are checked when the configuration is compiled.

mod access_log;
mod connection_protocols;
mod endpoint;
mod handshake_rate;
mod load;
mod masked;
mod message_rate;
mod min_rate;
mod model;
mod one_or_many;
mod path_handling;
mod path_parameters;
mod print;
mod resolver_kind;
mod schema;
mod server;
mod short_or_long;
mod tracing;
mod via;
mod websocket;
mod word_choice;

pub use access_log::{AccessLog, LogFormat, SampleRule, SampleShare, StatusRange};
pub use connection_protocols::*;
pub use endpoint::*;
pub use handshake_rate::{HandshakeRate, SharedRate};
pub use load::{
    Document, Env, Loaded, Refused, RefusedList, advise, load, load_announced, load_document, load_endpoints,
    load_text, with_documents,
};
pub use masked::print_masked;
pub use message_rate::{MessageRate, SharedMessages};
pub use min_rate::{MinRate, RateAndGrace};
pub use model::*;
pub use one_or_many::OneOrMany;
pub use path_handling::{EscapedSlashes, MergeSlashes};
pub use path_parameters::PathParameters;
pub use print::print;
pub use resolver_kind::ResolverKind;
pub use schema::{KindTable, schema};
pub use server::*;
pub use tracing::{TraceParent, Tracing};
pub use via::Via;
pub use websocket::{Exceed, ExistingTunnels, InvalidFrames, OnEndpointLoss, PerClient, PerKey, WebSocket};
