//! What an operator may write, and how it is read. YAML lives only here.
//!
//! `load` takes files to a [`Spec`] and reports every problem at once; `print` writes one back. What
//! the names in a `Spec` mean, whether they exist and fit together, is not asked here.

mod choice;
mod edge;
mod endpoint;
mod entry;
mod load;
mod min_rate;
mod model;
mod path_parameters;
mod paths;
mod print;
mod process;
mod schema;
mod via;
mod websocket;

pub use edge::*;
pub use endpoint::*;
pub use entry::OnError;
pub use load::{Env, Loaded, Refused, load, load_text};
pub use min_rate::{MinRate, RateAndGrace};
pub use model::*;
pub use path_parameters::PathParameters;
pub use paths::{EscapedSlashes, MergeSlashes};
pub use print::print;
pub use process::*;
pub use schema::{KindTable, schema};
pub use via::Via;
pub use websocket::{Exceed, InvalidFrames, OnEndpointLoss, PerClient, PerKey, Stay, WebSocket};
