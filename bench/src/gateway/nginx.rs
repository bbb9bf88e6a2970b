//! nginx with one worker: a WebSocket proxy with upstream keep-alive, as its documentation configures it. Bodies are
//! not buffered on disk, as in the other gateways.

use crate::gateway::{CIPHERS, ConfigValues, GatewayKind, Setup, Support, in_sbin};
use rustix::process::Signal;
use std::fmt::Write;

/// The table's entry.
pub(crate) const NGINX: GatewayKind = GatewayKind {
    name: "nginx",
    program: |_| in_sbin("nginx"),
    version: "-v",
    files,
    arguments,
    support: Support::Full { reload: Signal::HUP },
};

const FORWARDED: &str = "
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $host;";

fn arguments(values: &ConfigValues) -> Vec<String> {
    vec![
        "-e".into(),
        values.path("error.log"),
        "-p".into(),
        values.path(""),
        "-c".into(),
        values.path("nginx.conf"),
    ]
}

fn files(values: &ConfigValues) -> Vec<(&'static str, String)> {
    // A proxied connection takes two, and some are spare.
    let connections = values.connections * 2 + 512;
    let (access_log, forwarded, locations) = match values.setup {
        Setup::Minimal | Setup::Members => ("off".to_owned(), "", location("/")),
        Setup::Full => (
            format!("{} combined buffer=64k flush=1s", values.path("access.log")),
            FORWARDED,
            values.prefixes().map(|prefix| location(&prefix)).collect(),
        ),
    };
    let mut text = format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {pid};
error_log {error} warn;
events {{ worker_connections {connections}; }}
http {{
  access_log {access_log};
  client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp};
  uwsgi_temp_path {temp}; scgi_temp_path {temp};
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}
  proxy_http_version 1.1;
  proxy_read_timeout 1h;
  proxy_set_header Host $host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;{forwarded}
  server {{
    listen {address} backlog=4096;
    listen {tls} ssl http2 backlog=4096;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers {CIPHERS};
    ssl_prefer_server_ciphers off;
    ssl_session_timeout 1d;
    ssl_session_cache shared:tls:10m;
    ssl_session_tickets on;
",
        files = connections + 64,
        pid = values.path("nginx.pid"),
        error = values.path("error.log"),
        temp = values.path("temp"),
        backend = values.backend,
        address = values.target.plain,
        tls = values.target.tls,
        cert = values.cert,
        key = values.key,
    );
    let _ = writeln!(text, "{locations}  }}\n}}");
    vec![("nginx.conf", text)]
}

fn location(prefix: &str) -> String {
    format!("    location {prefix} {{ proxy_pass http://backend; }}\n")
}
