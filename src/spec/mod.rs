//! What an operator may write. YAML lives only here.

mod entry;
mod model;
mod websocket;

pub use model::*;
pub use websocket::WebSocket;
