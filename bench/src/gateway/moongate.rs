//! Moongate with one thread: its defaults, the admin address (and so the metrics) on, the access log in
//! a file.

use crate::gateway::{Kind, Site};
use rustix::process::Signal;
use std::fmt::Write;

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
access_log: {{ format: combined, path: \"{access}\" }}
upstreams:
  service: {{ endpoints: [\"{backend}\"] }}
routes:
",
        admin = site.admin,
        address = site.address,
        access = site.path("access.log"),
        backend = site.backend,
    );
    for prefix in site.prefixes() {
        let _ = writeln!(text, "  - {{ path: {prefix}, upstream: service }}");
    }
    vec![("moongate.yaml", text)]
}
