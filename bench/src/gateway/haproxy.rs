//! HAProxy with one thread and its master. With [`Setup::Full`] it has routes in a map, and the access log in a ring in
//! memory, its cheapest log. A ring backed by a file makes old workers crash at a reload.

use crate::gateway::{CIPHERS, ConfigValues, GatewayKind, Setup, Support, in_sbin};
use rustix::process::Signal;
use std::fmt::Write;

/// The table's entry.
pub(crate) const HAPROXY: GatewayKind = GatewayKind {
    name: "haproxy",
    program: |_| in_sbin("haproxy"),
    version: "-v",
    files,
    arguments: |values| vec!["-W".into(), "-db".into(), "-f".into(), values.path("haproxy.cfg")],
    support: Support::Full { reload: Signal::USR2 },
};

/// HAProxy delays each event by 200 ms without `option http-no-delay`, which its documentation recommends for such
/// applications.
const MINIMAL_FRONTEND: &str = "  use_backend events if { path_end /events }
  default_backend service";

/// The settings that differ between the setups.
struct Differing {
    global: &'static str,
    defaults: &'static str,
    plain: String,
    tls: String,
}

fn differing(values: &ConfigValues) -> Differing {
    let frontend = |scheme| {
        format!(
            "  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend %[path,map_beg({map})]",
            map = values.path("routes.map")
        )
    };
    match values.setup {
        Setup::Minimal | Setup::Members => Differing {
            global: "",
            defaults: "",
            plain: MINIMAL_FRONTEND.to_owned(),
            tls: MINIMAL_FRONTEND.to_owned(),
        },
        Setup::Full => Differing {
            global: "  log ring@access len 1200 local0 info

ring access
  format rfc3164
  maxlen 1200
  size 1048576
",
            defaults: "  log global
  option httplog
  option forwardfor
",
            plain: frontend("http"),
            tls: frontend("https"),
        },
    }
}

fn files(values: &ConfigValues) -> Vec<(&'static str, String)> {
    let differing = differing(values);
    let text = format!(
        "global
  nbthread 1
  maxconn {connections}
  ssl-default-bind-ciphers {CIPHERS}
  ssl-default-bind-options prefer-client-ciphers ssl-min-ver TLSv1.2
{global}
defaults
  mode http
  http-reuse always
  timeout connect 2s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout client 75s
  timeout server 60s
  timeout tunnel 1h
{defaults}
frontend web
  bind {address} backlog 4096
{plain}

frontend secure
  bind {tls} ssl crt {bundle} alpn h2,http/1.1 backlog 4096
{secure}

backend service
  server one {backend}

backend events
  option http-no-delay
  server one {backend}
",
        connections = values.connections + 256,
        global = differing.global,
        defaults = differing.defaults,
        address = values.target.plain,
        plain = differing.plain,
        tls = values.target.tls,
        bundle = values.bundle,
        secure = differing.tls,
        backend = values.backend,
    );
    let mut map = String::new();
    for prefix in values.prefixes() {
        let _ = writeln!(map, "{prefix} service");
    }
    vec![("routes.map", map), ("haproxy.cfg", text)]
}
