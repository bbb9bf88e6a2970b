//! Registry of the built-in plugins: one file and one entry in [`PLUGINS`] each.
//!
//! Built-in plugins use only the interface of [`moongate_sdk`], like external ones. `README.md` in this directory
//! has a complete example.

mod basic_auth;
mod body_limit;
mod common;
mod compress;
mod cors;
mod forward_auth;
mod headers;
mod ip_access;
mod jwt;
mod maintenance;
mod message_filter;
mod mirror;
mod origin_check;
mod rate_limit;
mod redirect;
mod request_id;
mod respond;
mod rewrite;
mod security_headers;

use moongate_config::Kind;
use moongate_sdk::Plugin;

/// All built-in kinds of plugins.
pub const PLUGINS: &[Kind<dyn Plugin>] = &[
    basic_auth::KIND,
    body_limit::KIND,
    compress::KIND,
    cors::KIND,
    forward_auth::KIND,
    headers::KIND,
    ip_access::KIND,
    jwt::KIND,
    maintenance::KIND,
    message_filter::KIND,
    mirror::KIND,
    origin_check::KIND,
    rate_limit::KIND,
    redirect::KIND,
    request_id::KIND,
    respond::KIND,
    rewrite::KIND,
    security_headers::KIND,
];

/// The README's plugin is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
pub struct Readme;
