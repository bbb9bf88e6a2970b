//! `listen`, and the TLS settings of the servers at an address, as listeners.

use super::Context;
use super::client_certificate::{self, Requirement};
use crate::names::UniqueNames;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};
use std::collections::HashMap;
use std::net::Ipv6Addr;

/// An address at which servers listen.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) address: String,
    /// The port, if it has one: the value of `$server_port`.
    pub(super) port: Option<u16>,
    /// The servers at it, by their numbers.
    pub(super) servers: Vec<usize>,
    /// The server of requests for other hosts.
    pub(super) default: usize,
    has_explicit_default: bool,
    pub(super) is_tls: bool,
    is_proxied: bool,
    has_h2c: bool,
    accepts_ipv4: bool,
    settings: Map,
}

/// The parts of a `listen`.
struct Listen {
    address: String,
    port: Option<u16>,
}

/// Reads the listeners of all servers, and what the routes of each server require of client certificates.
pub(super) fn read(
    context: &mut Context<'_>,
    servers: &[(&Directive, Scope<'_>)],
) -> (Vec<Listener>, Vec<Requirement>) {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut requirements = vec![Requirement::None; servers.len()];
    for (number, (server, scope)) in servers.iter().enumerate() {
        let listens: Vec<&Directive> =
            server.children().iter().filter(|child| child.name == "listen").collect();
        if listens.is_empty() {
            add(
                &mut listeners,
                &mut known,
                Listen { address: "0.0.0.0:80".to_owned(), port: Some(80) },
                number,
            );
        }
        for directive in listens {
            let words: Vec<&str> = directive.texts().skip(1).collect();
            if words.contains(&"quic") {
                let help = "leave the `Alt-Svc` field out too, if nginx adds one";
                context.notes.refused(directive, "the gateway has no HTTP/3", help);
                continue;
            }
            match address(directive.argument(0)) {
                Some(listen) => {
                    let listener = add(&mut listeners, &mut known, listen, number);
                    options(context, directive, &words, listener, number);
                    if words.contains(&"proxy_protocol") && trusted(scope, "proxy_protocol").is_empty() {
                        forged(context, directive);
                    }
                }
                None if has_wrong_port(directive.argument(0)) => {
                    context.notes.refused(directive, "the port is not between 1 and 65535", "");
                }
                None => context.notes.refused(
                    directive,
                    "the address is neither an IP address nor a Unix socket",
                    "write a listener with the address of the name",
                ),
            }
        }
        if scope.is("ssl", "on") {
            for listener in listeners.iter_mut().filter(|listener| listener.servers.contains(&number)) {
                listener.is_tls = true;
            }
        }
    }
    for listener in &mut listeners {
        let default = listener.default;
        if listener.is_tls {
            let mut order = listener.servers.clone();
            order.sort_by_key(|number| (*number != default, *number));
            let scopes: Vec<(usize, &Scope<'_>)> =
                order.iter().map(|number| (*number, &servers[*number].1)).collect();
            let mut tls = tls(context, &scopes);
            client_certificate::translate(context, &scopes, &mut tls, &mut requirements);
            listener.settings.set("tls", tls);
        }
        if listener.is_proxied {
            let mut from: Vec<String> = Vec::new();
            for server in &listener.servers {
                let trusted = trusted(&servers[*server].1, "proxy_protocol");
                from.extend(trusted.into_iter().filter(|entry| !from.contains(entry)).collect::<Vec<_>>());
            }
            if from.is_empty() {
                from = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
            }
            listener.settings.set("proxy_protocol", Map::default().with("from", Yaml::texts(from)));
        }
        if listener.has_h2c && !listener.is_tls {
            listener.settings.set("protocols", Yaml::texts(["http1", "h2c"]));
        }
        if listener.accepts_ipv4 {
            listener.settings.set("ipv6_only", Yaml::word(&false));
        }
    }
    name(&mut listeners);
    (listeners, requirements)
}

/// Notes a `listen` with the PROXY protocol whose senders nginx does not trust.
fn forged(context: &mut Context<'_>, listen: &Directive) {
    context.notes.changed(
        listen,
        "every client may send a PROXY header, and is then the client that it names, also to `ip_access` and limits; \
         without `set_real_ip_from`, nginx only offers `$proxy_protocol_addr`",
    );
    context.notes.help(listen, "set `proxy_protocol.from` of the listener to the addresses of the balancer");
    context.remark("A listener accepts PROXY headers from every address: set its `proxy_protocol.from`.");
}

/// The addresses whose reports of the client count, if the field is this one.
pub(super) fn trusted(scope: &Scope<'_>, field: &str) -> Vec<String> {
    let header = scope.find("real_ip_header").map_or("X-Real-IP", |directive| directive.argument(0));
    if !header.eq_ignore_ascii_case(field) {
        return Vec::new();
    }
    let addresses = scope.all("set_real_ip_from").into_iter();
    addresses.map(|directive| directive.argument(0).trim_end_matches(':').to_owned()).collect()
}

/// Adds listeners to the document.
pub(super) fn write(listeners: Vec<Listener>, document: &mut Map) {
    let items: Vec<Yaml> = listeners
        .into_iter()
        .map(|listener| {
            let mut map = Map::default();
            map.set("name", Yaml::text(listener.name));
            map.set("address", Yaml::text(listener.address));
            map.append(listener.settings);
            Yaml::Map(map)
        })
        .collect();
    document.set("listeners", Yaml::List(items));
}

fn add<'l>(
    listeners: &'l mut Vec<Listener>,
    known: &mut HashMap<String, usize>,
    listen: Listen,
    server: usize,
) -> &'l mut Listener {
    let at = match known.get(&listen.address) {
        Some(at) => *at,
        None => {
            known.insert(listen.address.clone(), listeners.len());
            listeners.push(Listener {
                name: String::new(),
                address: listen.address,
                port: listen.port,
                servers: Vec::new(),
                default: server,
                has_explicit_default: false,
                is_tls: false,
                is_proxied: false,
                has_h2c: false,
                accepts_ipv4: false,
                settings: Map::default(),
            });
            listeners.len() - 1
        }
    };
    let listener = &mut listeners[at];
    // Servers are read in their order.
    if listener.servers.last() != Some(&server) {
        listener.servers.push(server);
    }
    listener
}

fn options(
    context: &mut Context<'_>,
    directive: &Directive,
    words: &[&str],
    listener: &mut Listener,
    server: usize,
) {
    let mut differences = Vec::new();
    for word in words {
        let key = word.split('=').next().unwrap_or_default();
        match key {
            "ssl" => listener.is_tls = true,
            "http2" => listener.has_h2c = true,
            "proxy_protocol" => listener.is_proxied = true,
            "default_server" | "default" => {
                if !listener.has_explicit_default {
                    listener.default = server;
                    listener.has_explicit_default = true;
                }
            }
            "ipv6only" => listener.accepts_ipv4 = *word == "ipv6only=off",
            // The gateway listens with SO_REUSEPORT where its threads need it.
            "reuseport" | "backlog" | "so_keepalive" | "rcvbuf" | "sndbuf" | "bind" | "deferred"
            | "fastopen" => {}
            "accept_filter" | "setfib" => {}
            other => differences.push(format!("`{other}` has no equivalent")),
        }
    }
    if differences.is_empty() {
        context.notes.taken(directive, format!("the listener at `{}`", listener.address));
    } else {
        context.notes.changed(directive, differences.join("; "));
    }
}

/// Whether the port of a `listen` is a number that is none.
fn has_wrong_port(text: &str) -> bool {
    let port = text.rsplit(':').next().unwrap_or_default();
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The address of a `listen`.
fn address(text: &str) -> Option<Listen> {
    if text.starts_with("unix:") {
        return Some(Listen { address: text.to_owned(), port: None });
    }
    if let Ok(port) = text.parse::<u16>() {
        return Some(Listen { address: format!("0.0.0.0:{port}"), port: Some(port) });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, 80),
    };
    let host = match host {
        "*" => "0.0.0.0".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        host => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => format!("[{}]", inner.parse::<Ipv6Addr>().ok()?),
            None => host.parse::<std::net::Ipv4Addr>().ok()?.to_string(),
        },
    };
    Some(Listen { address: format!("{host}:{port}"), port: Some(port) })
}

fn name(listeners: &mut [Listener]) {
    let mut names = UniqueNames::default();
    for listener in listeners {
        let kind = match listener.port {
            None => "unix",
            Some(_) if listener.is_tls => "https",
            Some(_) => "http",
        };
        let usual = matches!((kind, listener.port), ("https", Some(443)) | ("http", Some(80)) | ("unix", _));
        let mut name = match listener.port {
            Some(port) if !usual => format!("{kind}-{port}"),
            _ => kind.to_owned(),
        };
        if listener.address.starts_with('[') {
            name.push_str("-ipv6");
        }
        listener.name = names.unique(name);
    }
}

/// The `tls` of a listener; the default server's scope is the first.
fn tls(context: &mut Context<'_>, scopes: &[(usize, &Scope<'_>)]) -> Map {
    let mut tls = Map::default();
    for (_, scope) in scopes {
        let certificates = scope.all("ssl_certificate");
        let keys = scope.all("ssl_certificate_key");
        for (certificate, key) in certificates.iter().zip(&keys) {
            let entry = Map::default()
                .with("cert", Yaml::text(context.paths.written(certificate.argument(0))))
                .with("key", Yaml::text(context.secret(key.argument(0))));
            let known = matches!(tls.get("certificates"), Some(Yaml::List(list)) if list.contains(&Yaml::Map(entry.clone())));
            let variable = certificate.argument(0).contains('$') || key.argument(0).contains('$');
            if variable {
                context.notes.refused(
                    certificate,
                    "a certificate chosen by a variable has no equivalent",
                    "list the certificates; SNI selects one",
                );
                continue;
            }
            if !known {
                tls.push("certificates", entry);
            }
            context.notes.taken(certificate, "`cert` of the listener's `tls`");
            context.notes.taken(key, "`key` of the listener's `tls`");
        }
        for directive in scope.all("ssl_session_ticket_key") {
            let file = context.secret(directive.argument(0));
            tls.push("ticket_keys", Yaml::text(file));
            context.notes.taken(directive, "`tls.ticket_keys` of the listener");
        }
    }
    let Some((_, default)) = scopes.first() else { return tls };
    if let Some(directive) = default.find("ssl_reject_handshake").filter(|found| found.argument(0) == "on") {
        tls.set("unknown_sni", Yaml::text("reject"));
        context.notes.taken(directive, "`tls.unknown_sni: reject` of the listener");
    }
    for (_, scope) in scopes {
        protocols(context, scope, &mut tls);
        for name in ["ssl_ciphers", "ssl_ecdh_curve"] {
            if let Some(directive) = scope.find(name) {
                context
                    .notes
                    .changed(directive, "the ciphers and curves are those of Mozilla's intermediate profile");
            }
        }
    }
    tls
}

fn protocols(context: &mut Context<'_>, scope: &Scope<'_>, tls: &mut Map) {
    let Some(directive) = scope.find("ssl_protocols") else { return };
    let old: Vec<&str> = directive.texts().filter(|word| !["TLSv1.2", "TLSv1.3"].contains(word)).collect();
    let has_12 = directive.texts().any(|word| word == "TLSv1.2");
    let has_13 = directive.texts().any(|word| word == "TLSv1.3");
    if !old.is_empty() {
        context.notes.changed(directive, format!("`{}` is not supported", old.join(" ")));
    } else if has_13 && !has_12 {
        tls.set("min_version", Yaml::text("1.3"));
        context.notes.taken(directive, "`tls.min_version: \"1.3\"` of the listener");
    } else if !has_13 {
        context.notes.changed(directive, "TLS 1.3 is accepted too");
    } else {
        context.notes.implied(directive, "TLS 1.2 and 1.3 are the default");
    }
}
