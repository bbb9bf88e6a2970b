//! Moongate with one thread and its defaults: TLS and HTTP/2, the admin listener (and so the metrics) on, the
//! access log in a file.

use crate::gateway::{ConfigValues, GatewayKind};
use crate::http::{INSPECTED, route};
use rustix::process::Signal;
use std::fmt::Write;

/// A native plugin that inspects every message in both directions and forwards it.
const FILTER: &str = ", plugins: [{ kind: message_filter, direction: both, max_size: 1MiB }]";

/// The table's entry.
pub(crate) const MOONGATE: GatewayKind =
    GatewayKind { name: "moongate", version: "--version", files, arguments, reload: Signal::HUP };

fn arguments(values: &ConfigValues) -> Vec<String> {
    vec!["run".into(), "-c".into(), values.path("moongate.yaml")]
}

fn files(values: &ConfigValues) -> Vec<(&'static str, String)> {
    let mut text = format!(
        "server: {{ threads: 1 }}
admin: {{ address: \"{admin}\" }}
listeners:
  - {{ name: web, address: \"{address}\" }}
  - name: tls
    address: \"{tls}\"
    tls: {{ certificates: [{{ cert: \"{cert}\", key: \"{key}\" }}] }}
access_log: {{ format: combined, path: \"{access}\" }}
upstreams:
  service: {{ endpoints: [\"{backend}\"] }}
routes:
",
        admin = values.admin,
        address = values.target.plain,
        tls = values.target.tls,
        cert = values.cert,
        key = values.key,
        access = values.path("access.log"),
        backend = values.backend,
    );
    if !values.plugins.is_empty() {
        text.insert_str(0, &format!("plugins: [{}]\n", values.plugins));
    }
    for prefix in values.prefixes() {
        let plugins = if prefix == route(INSPECTED) { FILTER } else { "" };
        let _ = writeln!(text, "  - {{ path: {prefix}, upstream: service{plugins} }}");
    }
    vec![("moongate.yaml", text)]
}
