//! The plugin interface of Moongate. Settings and problems are in `moongate_config`, expressions in
//! `moongate_expr`. The crate depends on neither Pingora nor a YAML parser, and opens no sockets.

mod body_and_messages;
mod body_length;
mod caught_drop;
mod client_address;
mod cookie;
mod error_response;
mod exchange;
mod gateway_services;
mod header_fields;
mod header_spelling;
mod keyed_hash;
mod limiter;
pub mod log_throttle;
mod path_parameters;
mod path_reading;
mod plugin;
mod plugin_log_limit;
mod request_edits;
mod request_state;
mod reserved_headers;
mod saved_request_state;
pub mod testing;
mod tls_info;
mod token_bucket;

pub use body_and_messages::{
    CHOSEN_CLOSE_CODES, Direction, Fault, Message, MessageVerdict, Piece, WebSocketEnd, may_choose_close_code,
};
pub use body_length::BodyLength;
pub use caught_drop::{CaughtDrop, CaughtFuture, call_caught};
pub use client_address::{ClientAddress, ClientPrefix};
pub use cookie::{cookie, cookie_in, cookies};
pub use exchange::{BadTarget, Exchange, Request, Response};
pub use gateway_services::{
    Call, CallError, CallFuture, CallResponse, CallTarget, NoServices, Services, set_worker, worker,
};
pub use header_fields::{Fields, Headers, ReadOnlyHeaders};
pub use header_spelling::is_same_spelling;
pub use keyed_hash::{HashedKey, fleet_hash, hash_key, inherit_hash_key, keyed_hash};
pub use limiter::{
    LimitStores, Limiter, SharedFuture, SharedLimit, SharedLimiter, SharedOutcome, TokenOutcome, share_of,
};
pub use path_parameters::{has_parameters, without_parameters};
pub use path_reading::{BadPath, PathReading, SegmentParameters, read_path, strip_path_prefix};
pub use plugin::{Background, Flow, Phases, Plugin, Reply, Verdict};
pub use plugin_log_limit::LineLimit;
pub use request_edits::Edits;
pub use request_state::{ClientField, Note, PluginCall, PluginCalls, RequestState, random_bits};
pub use reserved_headers::is_reserved_header;
pub use saved_request_state::{SavedRequestState, saved_fields};
pub use tls_info::{ClientCertificate, Tls};
pub use token_bucket::{TokenBucket, TokenRate, nanoseconds};
