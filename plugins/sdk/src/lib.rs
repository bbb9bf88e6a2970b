//! The plugin interface of Moongate: all that a plugin may see of the gateway.
//!
//! It sits under every other room: problems with places, settings as the operator wrote them, the
//! one shape of every extension point ([`Kind`]), and the [`Plugin`] trait. No Pingora type, no
//! YAML and no socket comes in here.

mod body_length;
mod caught_drop;
mod client;
mod cookie;
mod exchange;
mod expression;
mod files;
mod kind;
mod line_limit;
mod own;
mod passing;
mod path;
mod path_reading;
mod plain;
mod plugin;
mod problem;
mod rate;
mod read;
mod refusal;
pub mod repeated;
mod running;
mod services;
mod settings;
mod spelling;
mod template;
pub mod testing;
mod tls;
mod units;

pub use body_length::BodyLength;
pub use caught_drop::{CaughtDrop, Guarded, call_caught};
pub use client::{ClientAddress, ClientPrefix};
pub use cookie::{cookie, cookie_in, cookies};
pub use exchange::{BadTarget, Edits, Exchange, Fields, Headers, ReadOnlyHeaders, Request, Response};
pub use expression::{Expression, ExpressionPhase, Facts};
pub use files::{Digest, FileRecord, Files, read_regular_file, regular_file};
pub use kind::Kind;
pub use line_limit::LineLimit;
pub use own::is_gateways_own;
pub use passing::{Direction, Ended, Fault, Message, MessageVerdict, Piece};
pub use path::{has_parameters, without_parameters};
pub use path_reading::{BadPath, PathReading, read_path, strip_path_prefix};
pub use plugin::{Background, Flow, Phases, Plugin, Reply, Verdict};
pub use problem::{Place, Problem, Problems, Severity};
pub use rate::Rate;
pub use read::raise;
pub use running::{ClientField, Note, Running};
pub use services::{
    Call, CallError, CallFuture, CallResponse, CallTarget, NoServices, Services, set_worker, worker,
};
pub use settings::{Key, Placed, Quotes, Settings, Value, ValueKind};
pub use spelling::is_same_spelling;
pub use template::Template;
pub use tls::{ClientCertificate, Tls};
pub use units::{Period, Size};
