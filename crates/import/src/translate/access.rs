//! Access rules and limits: `allow`, `deny`, `auth_basic`, `auth_request`, `limit_req`, `limit_conn` and
//! `client_max_body_size`.

use super::Context;
use super::upstreams::key_of;
use crate::cel::Variables;
use crate::cel_text::{literal, sole_variable};
use crate::reader::Directive;
use crate::scope::Scope;
use crate::units;
use crate::yaml::{Map, Yaml};

/// `allow` and `deny` as the plugin `ip_access`.
pub(super) fn addresses(context: &mut Context<'_>, scope: &Scope<'_>) -> Option<Map> {
    let mut rules: Vec<(bool, String)> = Vec::new();
    for directive in scope.any_of(&["allow", "deny"]) {
        let entry = directive.argument(0);
        let address = entry.split('/').next().unwrap_or_default();
        if entry != "all" && address.parse::<std::net::IpAddr>().is_err() {
            context.notes.refused(
                directive,
                format!("`{entry}` is not an address"),
                "write addresses or networks",
            );
            // The rules after it could allow what it denies. Clients of Unix sockets have no address, and are denied.
            if directive.name == "deny" && entry != "unix:" {
                rules.push((false, "all".to_owned()));
            }
            continue;
        }
        rules.push((directive.name == "allow", entry.to_owned()));
        context.notes.taken(directive, "the plugin `ip_access`");
    }
    let mut plugin = Map::default().with("kind", Yaml::text("ip_access"));
    let ends_with_deny_all = rules.last() == Some(&(false, "all".to_owned()));
    let named = |wanted: bool| {
        rules.iter().filter(move |(allow, _)| *allow == wanted).map(|(_, entry)| entry.clone())
    };
    match rules.as_slice() {
        [] => return None,
        [(true, all)] if all == "all" => return None,
        rest if rest.iter().all(|(allow, _)| !allow) => plugin.set("deny", Yaml::texts(named(false))),
        rest if ends_with_deny_all && rest[..rest.len() - 1].iter().all(|(allow, _)| *allow) => {
            plugin.set("allow", Yaml::texts(named(true)));
        }
        rest => {
            let mut list: Vec<Yaml> = Vec::new();
            for (allow, entry) in rest {
                let key = if *allow { "allow" } else { "deny" };
                match list.last_mut() {
                    Some(Yaml::Map(last)) if last.get(key).is_some() => {
                        last.push(key, Yaml::text(entry.clone()));
                    }
                    _ => list.push(Map::default().with(key, Yaml::texts([entry.clone()])).into()),
                }
            }
            // A client in none of the rules is allowed by nginx.
            if !ends_with_deny_all && rest.last() != Some(&(true, "all".to_owned())) {
                list.push(Map::default().with("allow", Yaml::texts(["all"])).into());
            }
            plugin.set("rules", Yaml::List(list));
        }
    }
    Some(plugin)
}

/// The condition under which `allow` and `deny` allow a client, where another reason suffices too. `None` if an entry is
/// not an address.
pub(super) fn allowed(scope: &Scope<'_>) -> Option<String> {
    let mut rules = scope.any_of(&["allow", "deny"]);
    // A client in no rule needs another reason.
    let mut condition = "false".to_owned();
    if rules.last().is_some_and(|rule| rule.name == "deny" && rule.argument(0) == "all") {
        rules.pop();
    }
    for rule in rules.into_iter().rev() {
        let (entry, is_allowed) = (rule.argument(0), rule.name == "allow");
        if entry == "all" {
            condition = is_allowed.to_string();
            continue;
        }
        let address = entry.split('/').next().unwrap_or_default();
        let bits = if address.parse::<std::net::IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
        let network = if entry.contains('/') { entry.to_owned() } else { format!("{entry}/{bits}") };
        let test = format!("cidr({}).containsIP(request.client_ip)", literal(&network));
        condition = match (is_allowed, condition.as_str()) {
            (true, "false") => test,
            (true, other) => format!("{test} || {other}"),
            (false, other) => format!("(!{test} && ({other}))"),
        };
    }
    Some(condition)
}

/// Whether every client is denied here.
pub(super) fn denies_all(scope: &Scope<'_>) -> bool {
    scope
        .any_of(&["allow", "deny"])
        .first()
        .is_some_and(|rule| rule.name == "deny" && rule.argument(0) == "all")
}

/// `auth_basic` as the plugin `basic_auth`.
pub(super) fn basic_auth(context: &mut Context<'_>, scope: &Scope<'_>) -> Option<Map> {
    let realm = scope.find("auth_basic")?;
    if realm.argument(0) == "off" {
        context.notes.implied(realm, "without the plugin `basic_auth`, no password is needed");
        return None;
    }
    let Some(file) = scope.find("auth_basic_user_file") else {
        context.notes.refused(realm, "there is no `auth_basic_user_file`", "add it");
        return None;
    };
    if file.argument(0).contains('$') {
        let help = "write a route for each file";
        context.notes.refused(realm, "the file is chosen by a variable", help);
        context.notes.refused(file, "the file is chosen by a variable", help);
        return None;
    }
    let mut plugin = Map::default().with("kind", Yaml::text("basic_auth"));
    plugin.set("file", Yaml::text(context.secret(file.argument(0))));
    if realm.argument(0).contains('$') {
        context.notes.changed(realm, "the realm has a variable and is `restricted`");
    } else {
        plugin.set("realm", Yaml::text(realm.argument(0)));
        context.notes.taken(realm, "the plugin `basic_auth`");
    }
    context.notes.taken(file, "`file` of `basic_auth`");
    Some(plugin)
}

/// `limit_req` as plugins `rate_limit`.
pub(super) fn rate_limits(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
) -> Vec<Map> {
    let mut plugins = Vec::new();
    for directive in scope.all("limit_req") {
        let option = |name: &str| directive.texts().find_map(|word| word.strip_prefix(name));
        let zone_name = option("zone=").unwrap_or_default().to_owned();
        let zone = zone(scope, "limit_req_zone", &zone_name);
        let Some(zone) = zone else {
            context.notes.refused(directive, format!("there is no zone `{zone_name}`"), "");
            continue;
        };
        let rate = zone.texts().find_map(|word| word.strip_prefix("rate=")).and_then(rate);
        let key = key_of(zone.argument(0), variables);
        let (Some(rate), Ok(key)) = (rate, key) else {
            let why = "its key or its rate has no equivalent";
            context.notes.refused(zone, why, "set `key` of the plugin `rate_limit`");
            context.notes.refused(directive, why, "");
            continue;
        };
        let mut plugin =
            Map::default().with("kind", Yaml::text("rate_limit")).with("rate", Yaml::text(rate.clone()));
        // One request is allowed beside the burst.
        let burst = option("burst=").and_then(|burst| burst.parse::<u64>().ok()).unwrap_or(0);
        plugin.set("burst", Yaml::word(&burst.saturating_add(1)));
        if key != "client_ip" {
            plugin.set("key", Yaml::text(key));
        }
        context.notes.taken(zone, format!("`rate: {rate}` of the plugin `rate_limit`"));
        let mut differences = Vec::new();
        match scope.find("limit_req_status") {
            Some(status) if status.argument(0) == "429" => {
                context.notes.implied(status, "a refused request gets 429");
            }
            Some(status) => context.notes.changed(status, "a refused request gets 429"),
            None => differences.push("a refused request gets 429, not 503"),
        }
        if burst > 0 && !directive.texts().any(|word| word == "nodelay") {
            differences.push("requests within the burst are not delayed");
        }
        differences.push("each route counts separately");
        differences.push("responses have RateLimit fields (`headers: false` leaves them out)");
        context.notes.changed(directive, format!("the plugin `rate_limit`; {}", differences.join("; ")));
        plugins.push(plugin);
    }
    plugins
}

/// The zone of that name.
fn zone<'a>(scope: &Scope<'a>, kind: &str, name: &str) -> Option<&'a Directive> {
    scope.all(kind).into_iter().find(|zone| {
        let word = zone.texts().find_map(|word| word.strip_prefix("zone=")).unwrap_or_default();
        word.split(':').next() == Some(name)
    })
}

fn rate(text: &str) -> Option<String> {
    let (count, unit) = text.split_once("r/")?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    ["s", "m"].contains(&unit).then(|| format!("{count}/{unit}"))
}

/// `limit_conn` as limits of WebSockets.
pub(super) fn connection_limits(
    context: &mut Context<'_>,
    scope: &Scope<'_>,
    variables: &Variables<'_>,
    route: &mut Map,
) {
    for directive in scope.all("limit_conn") {
        let found = zone(scope, "limit_conn_zone", directive.argument(0));
        let limit = directive.argument(1).parse::<u32>().ok().filter(|limit| *limit > 0);
        let (Some(zone), Some(limit)) = (found, limit) else {
            context.notes.refused(directive, "its zone or its number is not known", "");
            continue;
        };
        if let Some(status) = scope.find("limit_conn_status") {
            context.notes.changed(status, "a refused WebSocket gets 429, above the limit of a route 503");
        }
        if sole_variable(zone.argument(0)).as_deref() == Some("server_name") {
            route.map("websocket").set("max_connections", Yaml::word(&limit));
            context.notes.taken(zone, "`websocket.max_connections` of the routes");
            context
                .notes
                .changed(directive, "`websocket.max_connections` of each route; requests are not counted");
            continue;
        }
        match key_of(zone.argument(0), variables) {
            Ok(key) => {
                let value = if key == "client_ip" {
                    Yaml::word(&limit)
                } else {
                    Map::default().with("limit", Yaml::word(&limit)).with("key", Yaml::text(key)).into()
                };
                route.map("websocket").set("max_connections_per_client", value);
                context.notes.taken(zone, "`websocket.max_connections_per_client` of the routes");
                context.notes.changed(
                    directive,
                    "`websocket.max_connections_per_client` of each route; requests are not counted, and the status is 429",
                );
            }
            Err(_) => {
                let help = "set `websocket.max_connections_per_client` of the route";
                context.notes.refused(zone, "its key has no equivalent", help);
                context.notes.refused(directive, "its key has no equivalent", help);
            }
        }
    }
}

/// `client_max_body_size` as the plugin `body_limit`.
pub(super) fn body_limit(context: &mut Context<'_>, scope: &Scope<'_>) -> Option<Map> {
    let Some(directive) = scope.find("client_max_body_size") else {
        context.remark("nginx refuses bodies of more than 1 MiB (`client_max_body_size`); the gateway has no limit without the plugin `body_limit`.");
        return None;
    };
    match units::size(directive.argument(0)) {
        Some(moongate_config::Size(0)) => {
            context.notes.implied(directive, "there is no limit without the plugin `body_limit`");
            None
        }
        Some(size) => {
            context.notes.taken(directive, format!("`max_size: {size}` of the plugin `body_limit`"));
            Some(Map::default().with("kind", Yaml::text("body_limit")).with("max_size", Yaml::word(&size)))
        }
        None => {
            context.notes.refused(directive, "it is not a size", "");
            None
        }
    }
}
