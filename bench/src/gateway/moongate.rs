//! Moongate with one thread and its defaults: TLS and HTTP/2, the admin listener (and so the metrics) on, the
//! access log in a file.

use crate::gateway::{Kind, Site};
use crate::http::{INSPECTED, route};
use rustix::process::Signal;
use std::fmt::Write;

/// A native plugin that inspects every message in both directions and forwards it.
const FILTER: &str = ", plugins: [{ kind: message_filter, direction: both, max_size: 1MiB }]";

/// The table's entry.
pub(crate) const MOONGATE: Kind =
    Kind { name: "moongate", version: "--version", files, arguments, reload: Signal::HUP };

fn arguments(site: &Site) -> Vec<String> {
    vec!["run".into(), "-c".into(), site.path("moongate.yaml")]
}

fn files(site: &Site) -> Vec<(&'static str, String)> {
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
        admin = site.admin,
        address = site.target.plain,
        tls = site.target.tls,
        cert = site.cert,
        key = site.key,
        access = site.path("access.log"),
        backend = site.backend,
    );
    if !site.plugins.is_empty() {
        text.insert_str(0, &format!("plugins: [{}]\n", site.plugins));
    }
    for prefix in site.prefixes() {
        let plugins = if prefix == route(INSPECTED) { FILTER } else { "" };
        let _ = writeln!(text, "  - {{ path: {prefix}, upstream: service{plugins} }}");
    }
    vec![("moongate.yaml", text)]
}
