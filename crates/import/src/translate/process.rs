//! Directives of the main and the `http` level as `server` and `log`.

use super::Context;
use super::listeners::trusted;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};
use moongate_config::Period;
use std::collections::BTreeSet;

/// Times of `server`: the directive, the key and the gateway's default in seconds.
const TIMES: &[(&str, &str, u64)] = &[
    ("client_header_timeout", "header_timeout", 10),
    ("client_body_timeout", "body_timeout", 60),
    ("send_timeout", "send_timeout", 60),
    ("keepalive_timeout", "keepalive_timeout", 75),
    ("worker_shutdown_timeout", "grace_period", 30),
];

/// Directives that only the whole process has in the gateway, where nginx has one for each server.
pub(super) fn translate(
    context: &mut Context<'_>,
    http: &Scope<'_>,
    files: &[Directive],
    document: &mut Map,
) {
    let mut server = Map::block();
    threads(context, http, &mut server);
    for (name, key, default) in TIMES {
        for directive in everywhere(files, name) {
            let Some(period) = units::time(directive.argument(0)) else {
                context.notes.refused(directive, "it is not a time", "");
                continue;
            };
            context.notes.taken(directive, format!("`server.{key}: {period}`"));
            match server.get(key) {
                Some(known) if *known != Yaml::word(&period) => {
                    context.notes.changed(
                        directive,
                        format!("`server.{key}` is one setting for all servers, the first one's"),
                    );
                }
                Some(_) => {}
                None if period != Period::seconds(*default) => server.set(key, Yaml::word(&period)),
                None => {}
            }
        }
    }
    header_size(context, http, &mut server);
    name_servers(context, files, &mut server);
    real_ip(context, http, files, &mut server);
    if let Some(directive) = http.find("merge_slashes") {
        if directive.argument(0) == "on" {
            context.notes.implied(directive, "several slashes match as one");
        } else {
            context.notes.changed(directive, "several slashes match as one, and are forwarded as sent");
        }
    }
    if !server.is_empty() {
        document.set("server", server);
    }
    log_level(context, files, document);
}

/// Every directive of that name, at any level.
pub(super) fn everywhere<'a>(directives: &'a [Directive], name: &str) -> Vec<&'a Directive> {
    let mut found = Vec::new();
    for directive in directives {
        if directive.name == name && directive.block.is_none() {
            found.push(directive);
        }
        if !["stream", "mail", "types", "map", "geo", "upstream"].contains(&directive.name.as_str()) {
            found.extend(everywhere(directive.children(), name));
        }
    }
    found
}

fn threads(context: &mut Context<'_>, http: &Scope<'_>, server: &mut Map) {
    let Some(directive) = http.find("worker_processes") else { return };
    match directive.argument(0).parse::<u32>() {
        Ok(count) if count > 1 => {
            server.set("threads", Yaml::word(&count));
            context.notes.taken(directive, format!("`server.threads: {count}`"));
        }
        // One is nginx's default, not a decision.
        _ => context.notes.implied(directive, "the gateway has a thread for each core: `server.threads`"),
    }
}

fn header_size(context: &mut Context<'_>, http: &Scope<'_>, server: &mut Map) {
    let Some(directive) = http.find("large_client_header_buffers") else { return };
    let count = directive.argument(0).parse::<u64>().ok();
    let size = units::size(directive.argument(1));
    match count.zip(size).and_then(|(count, size)| count.checked_mul(size.0)) {
        Some(total) => {
            let size = moongate_config::Size(total.clamp(1 << 10, 800 << 10));
            server.set("max_header_size", Yaml::word(&size));
            context.notes.taken(directive, format!("`server.max_header_size: {size}`"));
        }
        None => context.notes.refused(directive, "it is not a number and a size", ""),
    }
}

fn name_servers(context: &mut Context<'_>, files: &[Directive], server: &mut Map) {
    for directive in everywhere(files, "resolver") {
        if context.notes.has(directive) {
            continue;
        }
        let is_option = |word: &&str| word.contains('=');
        let (options, servers): (Vec<&str>, Vec<&str>) = directive.texts().partition(is_option);
        let is_address = |text: &str| {
            text.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok()
        };
        if servers.iter().any(|name| !is_address(name.trim_matches(['[', ']']))) {
            context.notes.refused(directive, "name servers are addresses", "set `server.name_servers`");
            continue;
        }
        for name in servers {
            let known = matches!(server.get("name_servers"), Some(Yaml::List(list)) if list.contains(&Yaml::text(name)));
            if !known {
                server.push("name_servers", Yaml::text(name));
            }
        }
        match options.iter().find(|option| option.starts_with("ipv6=off") || option.starts_with("ipv4=off")) {
            Some(option) => context
                .notes
                .changed(directive, format!("`server.name_servers`; `{option}` has no equivalent")),
            None => context.notes.taken(
                directive,
                "`server.name_servers`; TTLs are honoured, and `resolve` of an upstream limits them",
            ),
        }
    }
}

fn real_ip(context: &mut Context<'_>, http: &Scope<'_>, files: &[Directive], server: &mut Map) {
    let mut from = trusted(http, "X-Forwarded-For");
    let header = http.find("real_ip_header");
    let field = header.map_or("X-Real-IP", |directive| directive.argument(0)).to_ascii_lowercase();
    let inner: Vec<&Directive> = everywhere(files, "set_real_ip_from");
    let of_http: BTreeSet<usize> =
        http.all("set_real_ip_from").iter().map(|directive| directive.id).collect();
    let is_http = |directive: &&Directive| of_http.contains(&directive.id);
    let mut known: BTreeSet<String> = from.iter().cloned().collect();
    for directive in inner {
        let entry = directive.argument(0);
        match (field.as_str(), entry) {
            (_, "unix:") => context.notes.refused(directive, "peers of Unix sockets have no address", ""),
            ("proxy_protocol", _) => context.notes.taken(directive, "`proxy_protocol.from` of the listener"),
            ("x-forwarded-for", _) if is_http(&directive) => {
                context.notes.taken(directive, "`server.trusted_proxies`");
            }
            _ => {
                if known.insert(entry.to_owned()) {
                    from.push(entry.to_owned());
                }
                context.notes.changed(directive, "`server.trusted_proxies`, for all servers; X-Forwarded-For and Forwarded name the client");
            }
        }
    }
    from.retain(|entry| {
        entry.split('/').next().is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
    });
    for directive in everywhere(files, "real_ip_header") {
        match directive.argument(0).to_ascii_lowercase().as_str() {
            "x-forwarded-for" => {
                context.notes.implied(directive, "trusted proxies report the client by X-Forwarded-For");
            }
            "proxy_protocol" => context.notes.taken(directive, "`proxy_protocol` of the listener"),
            _ => context.notes.changed(
                directive,
                "trusted proxies report the client by X-Forwarded-For or Forwarded alone",
            ),
        }
    }
    for directive in everywhere(files, "real_ip_recursive") {
        if directive.argument(0) == "on" {
            context.notes.implied(directive, "the nearest hop that is not trusted is the client");
        } else {
            context.notes.changed(directive, "the nearest hop that is not trusted is the client");
        }
    }
    context.trusts_proxies = !from.is_empty();
    if !from.is_empty() {
        server.set("trusted_proxies", Yaml::texts(from));
    }
}

fn log_level(context: &mut Context<'_>, files: &[Directive], document: &mut Map) {
    for directive in everywhere(files, "error_log") {
        let level = match directive.argument(1) {
            "debug" => "debug",
            "info" | "notice" => "info",
            "warn" => "warn",
            _ => "error",
        };
        // nginx's level without a word hides everything that the gateway reports about its work.
        if directive.argument(1).is_empty() {
            context.notes.implied(directive, "the process log is on standard error: `log.level`");
            continue;
        }
        if document.get("log").is_none() && level != "info" {
            document.set("log", Map::default().with("level", Yaml::text(level)));
        }
        let to = if directive.argument(0) == "stderr" { "" } else { ", on standard error" };
        if to.is_empty() {
            context.notes.taken(directive, format!("`log.level: {level}`"));
        } else {
            context.notes.changed(directive, format!("`log.level: {level}`{to}"));
            context.notes.help(directive, "the service manager keeps standard error, as journald does");
        }
    }
}
