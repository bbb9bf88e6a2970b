//! Moongate with one thread and its defaults. TLS and HTTP/2 are on, and so are the admin listener and the metrics.

use crate::gateway::{ConfigValues, GatewayKind, Setup, Support, member_list};
use crate::http::{INSPECTED, route};
use rustix::process::Signal;
use std::fmt::Write;

/// A native plugin that inspects every message in both directions and forwards it.
const FILTER: &str = ", plugins: [{ kind: message_filter, direction: both, max_size: 1MiB }]";

/// The table's entry.
pub(crate) const MOONGATE: GatewayKind = GatewayKind {
    name: "moongate",
    program: |options| options.moongate.clone(),
    version: "--version",
    files,
    arguments: |values| vec!["run".into(), "-c".into(), values.path("moongate.yaml")],
    support: Support::Full { reload: Signal::HUP },
};

fn files(values: &ConfigValues) -> Vec<(&'static str, String)> {
    let (x_forwarded, access_log, routes) = match values.setup {
        Setup::Minimal | Setup::Members => {
            ("keep", "off".to_owned(), "  - { upstream: service }\n".to_owned())
        }
        Setup::Full => (
            "add",
            format!("{{ format: combined, path: \"{}\" }}", values.path("access.log")),
            routes(values),
        ),
    };
    let service = match values.setup {
        Setup::Members => {
            "discovery: { kind: file, path: members.list }, balance: least_connections, on_removal: keep"
                .to_owned()
        }
        Setup::Minimal | Setup::Full => format!("endpoints: [\"{}\"]", values.backend),
    };
    let mut text = format!(
        "server: {{ threads: 1, x_forwarded: {x_forwarded} }}
admin: {{ address: \"{admin}\" }}
listeners:
  - {{ name: web, address: \"{address}\" }}
  - name: tls
    address: \"{tls}\"
    tls: {{ certificates: [{{ cert: \"{cert}\", key: \"{key}\" }}] }}
access_log: {access_log}
upstreams:
  service: {{ {service} }}
routes:
{routes}",
        admin = values.admin,
        address = values.target.plain,
        tls = values.target.tls,
        cert = values.cert,
        key = values.key,
    );
    text.insert_str(0, &values.settings);
    let mut files = vec![("moongate.yaml", text)];
    if values.setup == Setup::Members {
        files.push(("members.list", member_list(values.backend, 0)));
    }
    files
}

fn routes(values: &ConfigValues) -> String {
    let mut routes = String::new();
    for prefix in values.prefixes() {
        let plugins = if prefix == route(INSPECTED) { FILTER } else { "" };
        let _ = writeln!(routes, "  - {{ path: {prefix}, upstream: service{plugins} }}");
    }
    routes
}
