//! Stock Pingora (`bench/stock-pingora`) with one worker. Its addresses, upstream and certificate are arguments.

use crate::gateway::{ConfigValues, GatewayKind, Support};

/// The table's entry.
pub(crate) const PINGORA: GatewayKind = GatewayKind {
    name: "pingora",
    program: |_| std::env::current_exe().unwrap_or_default().with_file_name("stock-pingora"),
    version: "--version",
    files: |_| Vec::new(),
    arguments,
    support: Support::Minimal,
};

fn arguments(values: &ConfigValues) -> Vec<String> {
    vec![
        values.target.plain.to_string(),
        values.target.tls.to_string(),
        values.backend.to_string(),
        values.cert.clone(),
        values.key.clone(),
    ]
}
