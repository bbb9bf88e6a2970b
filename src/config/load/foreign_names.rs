//! Help for names of other gateways' settings, and for settings in the wrong place: the right setting.

use super::setting_places::Places;
use crate::config::{Config, KindTable};
use moongate_config::Problems;

/// Part of the path at which the name has this meaning. An empty scope is any place.
struct Scope {
    begin: &'static str,
    end: &'static str,
}

/// A mistake with its own message, and the help for it.
struct MistakenKey {
    message: &'static str,
    scope: Scope,
    help: &'static str,
}

const CONFUSIONS: [MistakenKey; 7] = [
    MistakenKey::new(
        "unknown value `request`",
        "listeners[",
        ".client_auth.mode",
        "did you mean `optional`?",
    ),
    MistakenKey::new("unknown value `http2`", "listeners[", "]", "HTTP/2 is `h2`, or `h2c` without TLS"),
    MistakenKey::new(
        "unknown value `http2`",
        "upstreams.",
        ".protocol",
        "HTTP/2 is `h2`, or `h2c` without `tls`",
    ),
    MistakenKey::new("unknown key `cert`", "listeners[", ".tls.cert", CERTIFICATES),
    MistakenKey::new("unknown key `key`", "listeners[", ".tls.key", CERTIFICATES),
    MistakenKey::new("missing key `from`", "listeners[", ".proxy_protocol", SENDERS),
    MistakenKey::new("expected a mapping, found `true`", "listeners[", ".proxy_protocol", SENDERS),
];

const CERTIFICATES: &str = "certificates are a list: `certificates: [{ cert: …, key: … }]`";
const SENDERS: &str = "list the load balancers, as in `from: [10.0.0.5]`";

impl MistakenKey {
    const fn new(message: &'static str, begin: &'static str, end: &'static str, help: &'static str) -> Self {
        Self { message, scope: Scope { begin, end }, help }
    }
}

/// A name from another gateway, in lower case without `-` and `_`, and the equivalent here.
struct Foreign {
    name: &'static str,
    help: &'static str,
}

const fn foreign(name: &'static str, help: &'static str) -> Foreign {
    Foreign { name, help }
}

const ENDPOINTS: &str = "an upstream lists its `endpoints`";
const UPSTREAMS: &str = "backends are `upstreams: { NAME: { endpoints: […] } }`";
const UPSTREAM: &str = "a route names its `upstream`";
const ROUTES: &str = "requests are matched by `routes`, each with `host`, `path` and `upstream`";
const LISTENERS: &str = "sockets are `listeners: [{ name: …, address: … }]`";
const TIMEOUTS: &str = "a route has `timeout` (to the response's header), `stream_idle_timeout` (silence in a body) and \
                        `websocket: { idle_timeout: … }`";
const LEAST_CONNECTIONS: &str = "use `balance: least_connections`";
const ROUND_ROBIN: &str = "use `balance: round_robin`, the default";
const CLIENT_IP_HASH: &str = "use `balance: { kind: consistent_hash, key: client_ip }`";
const STICKY: &str = "use `balance: sticky`, for cookies, or `balance: { kind: consistent_hash, key: … }`";
const HEALTH: &str = "use `health_check: { kind: http, path: … }` of an upstream";
const HEALTHY_AFTER: &str = "use `healthy_after` of `health_check`";
const UNHEALTHY_AFTER: &str = "use `unhealthy_after` of `health_check`";
const PASSIVE: &str = "use `passive_health: { failures: …, eject_for: … }` of an upstream";
const RETRIES: &str = "use `retries` of an upstream";
const PLUGINS: &str = "use `plugins`; `moongate kinds` lists them";
const HEADERS: &str =
    "use the plugin `headers`: `{ kind: headers, request: { set: … }, response: { set: … } }`";
const CERTIFICATE: &str = "use `tls: { certificates: [{ cert: …, key: … }] }` of a listener";
const CLIENT_AUTH: &str = "use `tls: { client_auth: { ca: …, mode: require } }` of a listener";
const TRUSTED: &str = "use `trusted_proxies` of `server`";
const THREADS: &str = "use `threads` of `server`";
const NOT_NEEDED: &str = "not needed: WebSocket upgrades are recognized, and bodies are streamed";
const CONNECTIONS: &str = "use `max_connections` of a listener, or of a route's `websocket`";
const RATE_LIMIT: &str = "use the plugin `rate_limit`: `{ kind: rate_limit, rate: 100/s, key: client_ip }`";
const BODY_LIMIT: &str = "use the plugin `body_limit`: `{ kind: body_limit, max_size: 10MiB }`";
const IP_ACCESS: &str = "use the plugin `ip_access`: `{ kind: ip_access, allow: […] }`";
const COMPRESS: &str = "use the plugin `compress`";
const REWRITE: &str = "use the plugin `rewrite`: `{ kind: rewrite, strip_prefix: … }`";
const ACME: &str = "use `tls: { acme: { domains: […], email: … } }` of a listener";
const LOG: &str = "the process log is `log: { level: …, format: … }`, the access log is `access_log`";

/// nginx, HAProxy, Envoy, Traefik and Caddy, in this order.
const FOREIGN: &[Foreign] = &[
    // nginx
    foreign("proxypass", UPSTREAM),
    foreign("servername", "use `host` of a route"),
    foreign("location", "use `path` of a route"),
    foreign("locations", ROUTES),
    foreign("listen", LISTENERS),
    foreign("upstream", UPSTREAMS),
    foreign("leastconn", LEAST_CONNECTIONS),
    foreign("iphash", CLIENT_IP_HASH),
    foreign("hash", STICKY),
    foreign("proxyreadtimeout", TIMEOUTS),
    foreign("readtimeout", TIMEOUTS),
    foreign("proxysendtimeout", "use `timeout` of a route, and `websocket: { write_timeout: … }`"),
    foreign("writetimeout", "use `send_timeout` of `server`, and `websocket: { write_timeout: … }`"),
    foreign("proxyconnecttimeout", "use `connect_timeout` of an upstream"),
    foreign("proxynextupstream", RETRIES),
    foreign("proxynextupstreamtries", RETRIES),
    foreign("proxysetheader", HEADERS),
    foreign("proxyredirect", "use `rewrite_location` of the plugin `rewrite`"),
    foreign("proxycookiepath", "use `rewrite_cookie_path` of the plugin `rewrite`"),
    foreign("proxycookiedomain", "use `rewrite_cookie_domain` of the plugin `rewrite`"),
    foreign("proxyhttpversion", NOT_NEEDED),
    foreign("proxybuffering", NOT_NEEDED),
    foreign("addheader", HEADERS),
    foreign("clientmaxbodysize", BODY_LIMIT),
    foreign("clientheadertimeout", "use `header_timeout` of `server`"),
    foreign("clientbodytimeout", "use `body_timeout` of `server`"),
    foreign("largeclientheaderbuffers", "use `max_header_size` of `server`"),
    foreign("workerprocesses", THREADS),
    foreign("workers", THREADS),
    foreign("workerconnections", CONNECTIONS),
    foreign("maxfails", PASSIVE),
    foreign("failtimeout", PASSIVE),
    foreign("maxconns", CONNECTIONS),
    foreign("sslcertificate", CERTIFICATE),
    foreign("sslcertificatekey", CERTIFICATE),
    foreign("sslprotocols", "use `tls: { min_version: \"1.2\" }` of a listener"),
    foreign("sslverifyclient", CLIENT_AUTH),
    foreign("sslclientcertificate", CLIENT_AUTH),
    foreign("limitreq", RATE_LIMIT),
    foreign("limitconn", CONNECTIONS),
    foreign("authbasic", "use the plugin `basic_auth`"),
    foreign("authrequest", "use the plugin `forward_auth`"),
    foreign("setrealipfrom", TRUSTED),
    foreign("realipheader", TRUSTED),
    foreign("errorlog", LOG),
    foreign("logformat", "use `access_log: { template: '{client} {method} {path} {status}' }`"),
    foreign("gzip", COMPRESS),
    foreign("return", "use the plugin `respond` or `redirect`"),
    foreign("keepalive", "use `max_idle_connections` of an upstream"),
    foreign("down", "use `weight: 0` of an endpoint, or `drain: true` to close its WebSockets too"),
    foreign("workershutdowntimeout", "use `grace_period` of `server`"),
    foreign("sslciphers", "the ciphers are those of rustls and cannot be chosen; `min_version` can"),
    foreign("resolvers", "use `name_servers` of `server`"),
    // HAProxy
    foreign("frontend", LISTENERS),
    foreign("frontends", LISTENERS),
    foreign("backend", UPSTREAMS),
    foreign("backends", UPSTREAMS),
    foreign("bind", "use `address` of a listener"),
    foreign("servers", ENDPOINTS),
    foreign("members", ENDPOINTS),
    foreign("targets", ENDPOINTS),
    foreign("hosts", ENDPOINTS),
    foreign("roundrobin", ROUND_ROBIN),
    foreign("source", CLIENT_IP_HASH),
    foreign("cookie", STICKY),
    foreign("rise", HEALTHY_AFTER),
    foreign("fall", UNHEALTHY_AFTER),
    foreign("inter", "use `interval` of `health_check`"),
    foreign("httpchk", HEALTH),
    foreign("check", HEALTH),
    foreign("maxconn", CONNECTIONS),
    foreign("nbthread", THREADS),
    foreign("timeouttunnel", "use `websocket: { idle_timeout: … }` of a route"),
    foreign("timeoutclient", "use `body_timeout` and `send_timeout` of `server`"),
    foreign("timeoutserver", TIMEOUTS),
    foreign("timeoutconnect", "use `connect_timeout` of an upstream"),
    foreign("usebackend", UPSTREAM),
    foreign("defaultbackend", "use the `upstream` of a last route without `host` and `path`"),
    foreign("acl", "a condition is `host`, `path`, `methods`, `headers`, `query` or `when` of a route"),
    foreign("sticktable", RATE_LIMIT),
    foreign("acceptproxy", "use `proxy_protocol: { from: […] }` of a listener"),
    foreign("sendproxy", "use `proxy_protocol: v1` of an upstream"),
    foreign("sendproxyv2", "use `proxy_protocol: v2` of an upstream"),
    foreign("hardstopafter", "use `grace_period` of `server`"),
    // Envoy
    foreign("clusters", UPSTREAMS),
    foreign("cluster", UPSTREAM),
    foreign("lbpolicy", "use `balance` of an upstream"),
    foreign("loadbalancing", "use `balance` of an upstream"),
    foreign("algorithm", "use `balance` of an upstream"),
    foreign("leastrequest", LEAST_CONNECTIONS),
    foreign("ringhash", "use `balance: { kind: consistent_hash, key: … }`"),
    foreign("maglev", "use `balance: { kind: consistent_hash, key: … }`"),
    foreign("loadassignment", ENDPOINTS),
    foreign("lbendpoints", ENDPOINTS),
    foreign("virtualhosts", ROUTES),
    foreign("routeconfig", ROUTES),
    foreign("httpfilters", PLUGINS),
    foreign("filters", PLUGINS),
    foreign("outlierdetection", PASSIVE),
    foreign("circuitbreakers", CONNECTIONS),
    foreign("healthythreshold", HEALTHY_AFTER),
    foreign("unhealthythreshold", UNHEALTHY_AFTER),
    foreign("healthypanicthreshold", "use `when_all_unhealthy: any | fail` of an upstream"),
    foreign("retrypolicy", RETRIES),
    foreign("numretries", RETRIES),
    foreign("maxretries", RETRIES),
    foreign(
        "upgradeconfigs",
        "WebSockets need none; `upgrades` of a route lists other protocols, as `[tcp]`",
    ),
    foreign("useremoteaddress", TRUSTED),
    foreign("xffnumtrustedhops", TRUSTED),
    foreign("prefix", "a `path` is a prefix of whole segments; `=/exact` and `~regex` are the others"),
    foreign("commontlscontext", CERTIFICATE),
    foreign("draintime", "use `grace_period` of `server`, and `drain_window` of a route's `websocket`"),
    // Traefik
    foreign("entrypoints", LISTENERS),
    foreign("routers", ROUTES),
    foreign("rule", "a condition is `host`, `path`, `methods`, `headers`, `query` or `when` of a route"),
    foreign("services", UPSTREAMS),
    foreign("service", UPSTREAM),
    foreign("middlewares", PLUGINS),
    foreign("loadbalancer", "an upstream has `endpoints` and `balance`"),
    foreign("healthcheck", "use `health_check` of an upstream"),
    foreign("certificatesresolvers", ACME),
    foreign("certresolver", ACME),
    foreign("stripprefix", REWRITE),
    foreign("forwardauth", "use the plugin `forward_auth`"),
    foreign("basicauth", "use the plugin `basic_auth`"),
    foreign("ratelimit", RATE_LIMIT),
    foreign("ipallowlist", IP_ACCESS),
    foreign("ipwhitelist", IP_ACCESS),
    foreign("passhostheader", "the Host is kept; the plugin `headers` sets another one"),
    foreign("sourcecriterion", "use `key` of the plugin `rate_limit`"),
    foreign("gracetimeout", "use `grace_period` of `server`"),
    // Caddy
    foreign("reverseproxy", UPSTREAM),
    foreign("to", UPSTREAM),
    foreign("handlepath", REWRITE),
    foreign("handle", ROUTES),
    foreign("lbretries", RETRIES),
    foreign("leastconnections", LEAST_CONNECTIONS),
    foreign("healthuri", HEALTH),
    foreign("healthinterval", "use `interval` of `health_check`"),
    foreign("healthtimeout", "use `timeout` of `health_check`"),
    foreign("headerup", HEADERS),
    foreign("headerdown", HEADERS),
    foreign("encode", COMPRESS),
    foreign("flushinterval", NOT_NEEDED),
    foreign("streamtimeout", "use `websocket: { max_age: … }` of a route"),
    foreign(
        "streamclosedelay",
        "a reload closes no WebSocket; `websocket: { on_reload: drain }` asks for it",
    ),
    foreign("sites", ROUTES),
    foreign("autohttps", ACME),
    // Other common words.
    foreign("heartbeat", "use `websocket: { ping_interval: … }` of a route"),
    foreign("loglevel", LOG),
    foreign("logging", LOG),
    foreign("logs", LOG),
    foreign("port", "write the port in `address`, as in `0.0.0.0:8080`"),
    foreign("url", "use `address`, as in `10.0.0.5:8080`"),
    foreign("uri", "use `path` of a route"),
    foreign("domain", "use `host` of a route"),
    foreign("domains", "use `host` of a route: one name or a list"),
    foreign("method", "use `methods`, a list"),
    foreign("header", "use `headers`, a mapping"),
    foreign("maxbodysize", BODY_LIMIT),
    foreign("cors", "use the plugin `cors`"),
    foreign("compression", COMPRESS),
    foreign("rewrite", REWRITE),
    foreign("letsencrypt", ACME),
];

/// A name that means something else within a part of the configuration.
struct ScopedKey {
    name: &'static str,
    within: &'static str,
    help: &'static str,
}

const fn scoped(name: &'static str, within: &'static str, help: &'static str) -> ScopedKey {
    ScopedKey { name, within, help }
}

const ENDPOINT_LIMIT: &str = "use `max_connections`";
const ADMIN_ADDRESS: &str = "use `address` of `admin`";

const SCOPED: &[ScopedKey] = &[
    scoped("server", "upstreams.", ENDPOINTS),
    scoped("maxconn", ".endpoints[", ENDPOINT_LIMIT),
    scoped("max_conns", ".endpoints[", ENDPOINT_LIMIT),
    scoped("listen", "admin.", ADMIN_ADDRESS),
    scoped("bind", "admin.", ADMIN_ADDRESS),
    scoped("verify", ".client_auth.", "use `mode: require | optional`"),
    scoped("tunnel_timeout", ".websocket.", "use `idle_timeout`"),
    scoped("code", ".plugins[", "use `status`"),
    scoped("uri", ".health_check.", "use `path`"),
    scoped("expected_status", ".health_check.", "use `expect`: a list of statuses and ranges"),
];

/// A former name of a setting, its place, and the present name.
struct RenamedKey {
    old: &'static str,
    place: RenamedPlace,
    new: &'static str,
}

enum RenamedPlace {
    /// Where the path has this form.
    Path(Scope),
    /// In entries of this plugin.
    Plugin(&'static str),
}

const fn renamed(old: &'static str, begin: &'static str, end: &'static str, new: &'static str) -> RenamedKey {
    RenamedKey { old, place: RenamedPlace::Path(Scope { begin, end }), new }
}

const fn renamed_in(plugin: &'static str, old: &'static str, new: &'static str) -> RenamedKey {
    RenamedKey { old, place: RenamedPlace::Plugin(plugin), new }
}

const RENAMED: &[RenamedKey] = &[
    renamed("drain", "routes[", ".websocket.drain", "drain_window"),
    renamed("handshakes", "routes[", ".websocket.handshakes", "handshake_rate"),
    renamed("handshakes", "listeners[", "].handshakes", "handshake_rate"),
    renamed("connections", "routes[", ".websocket.connections", "max_connections"),
    renamed(
        "connections_per_client",
        "routes[",
        ".websocket.connections_per_client",
        "max_connections_per_client",
    ),
    renamed("exceed", "routes[", ".websocket.exceed", "on_exceed"),
    renamed("panic", "upstreams.", ".panic", "when_all_unhealthy"),
    renamed("max_request_head", "server.", "", "max_header_size"),
    renamed("upstream_keepalive", "server.", "", "upstreams.….max_idle_connections"),
    renamed("idle_timeout", "upstreams.", ".idle_timeout", "keepalive_timeout"),
    renamed("when", "upstreams.", ".rebalance.when", "threshold"),
    renamed("contact", "listeners[", ".acme.contact", "email"),
    renamed("ca", "listeners[", ".acme.ca", "directory_ca"),
    renamed_in("rate_limit", "ipv6_prefix", "server.client_ipv6_prefix"),
    renamed_in("rate_limit", "exceed", "on_exceed"),
    renamed_in("cors", "credentials", "allow_credentials"),
    renamed_in("cors", "expose", "expose_headers"),
    renamed_in("jwt", "from", "token_from"),
    renamed_in("jwt", "require", "required_claims"),
    renamed_in("jwt", "claims", "claims_to_headers"),
    renamed_in("mirror", "share", "percent"),
];

impl Scope {
    fn has(&self, path: &str) -> bool {
        path.starts_with(self.begin) && path.ends_with(self.end)
    }
}

/// Replaces the general help of problems with help for the names in them. `tables` are the known kinds, and `spec` is the
/// configuration with the plugin entries, as far as they are known.
pub fn advise(problems: &mut Problems, tables: &[KindTable], spec: Option<&Config>) {
    for problem in &mut problems.0 {
        let Some(path) = problem.place.as_ref().map(|place| &*place.path) else { continue };
        let confusion = CONFUSIONS.iter().find(|one| problem.message == one.message && one.scope.has(path));
        let help = match confusion {
            Some(confusion) => Some(confusion.help.to_owned()),
            None => unknown_name(&problem.message)
                .and_then(|name| meant(name, path, tables, spec.and_then(|spec| plugin_at(spec, path)))),
        };
        if let Some(help) = help {
            problem.label = None;
            problem.help = vec![help];
        }
    }
}

/// The kind of the plugin entry that this path leads into.
fn plugin_at<'a>(spec: &'a Config, path: &str) -> Option<&'a str> {
    let mut entries = spec.routes.iter().flat_map(|route| &route.plugins).chain(&spec.plugins);
    let is_around = |entry: &str| path.strip_prefix(entry).is_some_and(|rest| rest.starts_with('.'));
    let entry = entries.find(|entry| is_around(&entry.settings.place().path))?;
    Some(&**entry.kind)
}

/// What a name may be unknown as. An upstream or a listener has a name of the operator's own.
const NAMED: [&str; 6] = ["key ", "value ", "balance ", "health_check ", "health check ", "plugin "];

/// The name in a message such as ``unknown key `servers` ``.
fn unknown_name(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown ")?;
    let rest = NAMED.iter().find_map(|named| rest.strip_prefix(named))?;
    let (_, rest) = rest.split_once('`')?;
    rest.strip_suffix('`').or_else(|| rest.split_once('`').map(|(name, _)| name))
}

/// Help for an unknown name: the equivalent setting. `plugin` is the kind of the surrounding plugin entry.
fn meant(name: &str, path: &str, tables: &[KindTable], plugin: Option<&str>) -> Option<String> {
    let is_here = |one: &&RenamedKey| match &one.place {
        RenamedPlace::Path(scope) => scope.has(path),
        RenamedPlace::Plugin(kind) => plugin == Some(kind),
    };
    if let Some(renamed) = RENAMED.iter().filter(|one| one.old == name).find(is_here) {
        return Some(format!("did you mean `{}`?", renamed.new));
    }
    if let Some(scoped) = SCOPED.iter().find(|one| one.name == name && path.contains(one.within)) {
        return Some(scoped.help.to_owned());
    }
    let plain: String =
        name.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_ascii_lowercase();
    let foreign = FOREIGN.iter().find(|one| one.name == plain).map(|one| one.help);
    let places = Places { setting: name, path, tables };
    match foreign {
        // Another gateway's name is a better guess than a setting of some plugin.
        Some(help) => places.of_mappings().or_else(|| Some(help.to_owned())),
        None => places.of_mappings_and_plugins(),
    }
}
