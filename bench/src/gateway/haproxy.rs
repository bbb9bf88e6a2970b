//! HAProxy with one thread and its master, routes in a map, the access log in a ring in memory: its cheapest log. A
//! ring backed by a file makes old workers crash at a reload.

use crate::gateway::{CIPHERS, ConfigValues, GatewayKind};
use rustix::process::Signal;
use std::fmt::Write;

/// The table's entry.
pub(crate) const HAPROXY: GatewayKind =
    GatewayKind { name: "haproxy", version: "-v", files, arguments, reload: Signal::USR2 };

fn arguments(values: &ConfigValues) -> Vec<String> {
    vec!["-W".into(), "-db".into(), "-f".into(), values.path("haproxy.cfg")]
}

fn files(values: &ConfigValues) -> Vec<(&'static str, String)> {
    let text = format!(
        "global
  nbthread 1
  maxconn {connections}
  log ring@access len 1200 local0 info
  ssl-default-bind-ciphers {ciphers}
  ssl-default-bind-options prefer-client-ciphers ssl-min-ver TLSv1.2

ring access
  format rfc3164
  maxlen 1200
  size 1048576

defaults
  mode http
  log global
  option httplog
  option forwardfor
  http-reuse always
  timeout connect 2s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout client 75s
  timeout server 60s
  timeout tunnel 1h

frontend web
  bind {address} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend %[path,map_beg({map})]

frontend secure
  bind {tls} ssl crt {bundle} alpn h2,http/1.1 backlog 4096
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend %[path,map_beg({map})]

backend service
  server one {backend}
",
        connections = values.tunnels + 256,
        address = values.target.plain,
        tls = values.target.tls,
        bundle = values.bundle,
        ciphers = CIPHERS,
        map = values.path("routes.map"),
        backend = values.backend,
    );
    let mut map = String::new();
    for prefix in values.prefixes() {
        let _ = writeln!(map, "{prefix} service");
    }
    vec![("routes.map", map), ("haproxy.cfg", text)]
}
