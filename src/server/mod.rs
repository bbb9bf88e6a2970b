//! The process: sockets, workers, signals, the admin address, and the order in which they start and
//! end. What a request meets is the proxy's.

pub mod admin;
mod deadline;
mod entrance;
mod farewell;
mod handshake;
mod http1;
mod http2;
mod lifecycle;
mod lingering_close;
mod listen;
mod preamble;
mod preface;
mod signals;
mod state;
mod worker;

pub use lifecycle::{Failed, run};
pub use signals::SignalReceiver;
