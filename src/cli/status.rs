//! `moongate status`: the process, its listeners, certificates, upstreams and endpoints as tables.

use super::admin_client::{AdminArguments, RequestTarget};
use super::human_units::duration;
use super::text_table::{ColumnAlign, TableCell, TextStyle, TextTable};
use super::{print_out, stdout_color};
use crate::diagnostics::Color;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Print the JSON object of the API
    #[arg(long)]
    json: bool,
}

/// `/api/v1/status`; a member that an older gateway lacks has its default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GatewayStatus {
    version: String,
    generation: u64,
    uptime_seconds: f64,
    draining: bool,
    last_reload: LastReload,
    listeners: Vec<ListenerStatus>,
    acme: Vec<AcmeStatus>,
    sources: Vec<SourceStatus>,
    stores: Vec<StoreStatus>,
    pub(super) upstreams: BTreeMap<String, UpstreamStatus>,
    websockets: u64,
    upgraded: u64,
    requests: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LastReload {
    ok: bool,
    at: f64,
    report: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListenerStatus {
    name: String,
    address: String,
    certificates: Vec<CertificateStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CertificateStatus {
    names: Vec<String>,
    not_after: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AcmeStatus {
    certificate: String,
    domains: Vec<String>,
    expires: Option<f64>,
    last_failure: Option<AcmeFailure>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AcmeFailure {
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StoreStatus {
    name: String,
    server: String,
    up: bool,
    since: f64,
    gateways: u64,
    on_failure: String,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UpstreamStatus {
    pub(super) endpoints: Vec<EndpointStatus>,
    discovery: Option<DiscoveryStatus>,
}

/// The discovery of an upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DiscoveryStatus {
    source: String,
    /// In Unix milliseconds.
    last_success: Option<f64>,
    error: Option<String>,
    ready: u64,
    leaving: u64,
    absent: u64,
    rejected: u64,
}

/// A source of documents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SourceStatus {
    source: String,
    /// In Unix milliseconds.
    last_success: Option<f64>,
    error: Option<String>,
    documents: u64,
    rejected: u64,
    rejections: Vec<RejectedDocument>,
}

/// A document that is not in use, or only in an earlier version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RejectedDocument {
    document: String,
    place: String,
    error: String,
    has_earlier_version: bool,
}

/// An endpoint of an upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointStatus {
    pub(super) address: String,
    pub(super) weight: u64,
    pub(super) tier: u8,
    pub(super) max_connections: Option<u64>,
    pub(super) health: String,
    pub(super) ejected: bool,
    pub(super) origin: Option<String>,
    pub(super) state: Option<String>,
    pub(super) draining: Option<String>,
    pub(super) active: u64,
}

/// The request of the status.
pub(super) fn target() -> RequestTarget {
    RequestTarget::new("/api/v1/status")
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    arguments.admin.run(async |client| {
        let status = client.get(&target()).await?;
        if arguments.json {
            return Ok(print_out(&format!("{status}\n")));
        }
        let status = client.parse(status)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(print_out(&render(&status, now, stdout_color())))
    })
}

/// The status at the Unix time `now`.
fn render(status: &GatewayStatus, now: f64, color: Color) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {value}", TextStyle::Heading.paint(&format!("{name:<11}"), color));
    };
    let paint = |style: TextStyle, text: &str| style.paint(text, color);
    fact("version", &paint(TextStyle::Plain, &status.version));
    fact("generation", &status.generation.to_string());
    fact("uptime", &duration(status.uptime_seconds));
    let state = if status.draining { (TextStyle::Warning, "draining") } else { (TextStyle::Good, "serving") };
    fact("state", &paint(state.0, state.1));
    let age = duration(now - status.last_reload.at);
    let reload = match status.last_reload.ok {
        true => format!("{} {age} ago", paint(TextStyle::Good, "applied")),
        false => {
            format!(
                "{} {age} ago; the previous configuration stays in use",
                paint(TextStyle::Bad, "rejected")
            )
        }
    };
    fact("last reload", &reload);
    fact("websockets", &status.websockets.to_string());
    if status.upgraded > 0 {
        fact("upgraded", &status.upgraded.to_string());
    }
    fact("requests", &status.requests.to_string());
    let tables = [
        listeners(&status.listeners, now),
        acme(&status.acme, now),
        sources(&status.sources, now),
        rejected_documents(&status.sources),
        stores(&status.stores, now),
        discoveries(&status.upstreams, now),
        endpoints(&status.upstreams),
    ];
    for table in tables {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.render(color));
        }
    }
    if let Some(report) = &status.last_reload.report {
        text.push('\n');
        for line in report.lines() {
            text.push_str(&paint(TextStyle::Plain, line));
            text.push('\n');
        }
    }
    text
}

fn listeners(listeners: &[ListenerStatus], now: f64) -> TextTable {
    let mut table = TextTable::new(&[
        ("LISTENER", ColumnAlign::Left),
        ("ADDRESS", ColumnAlign::Left),
        ("CERTIFICATES", ColumnAlign::Left),
    ]);
    for listener in listeners {
        let certificate = |certificate: &CertificateStatus| {
            format!("{} ({})", certificate.names.join(" "), expiry(certificate.not_after, now))
        };
        let certificates: Vec<_> = listener.certificates.iter().map(certificate).collect();
        let certificates = if certificates.is_empty() { "-".to_owned() } else { certificates.join(", ") };
        table.row(vec![listener.name.as_str().into(), listener.address.as_str().into(), certificates.into()]);
    }
    table
}

fn acme(certificates: &[AcmeStatus], now: f64) -> TextTable {
    let mut table = TextTable::new(&[
        ("ACME CERTIFICATE", ColumnAlign::Left),
        ("DOMAINS", ColumnAlign::Left),
        ("EXPIRY", ColumnAlign::Left),
        ("LAST FAILURE", ColumnAlign::Left),
    ]);
    for certificate in certificates {
        let failure = match &certificate.last_failure {
            Some(failure) => TableCell::new(failure.reason.as_str(), TextStyle::Bad),
            None => "-".into(),
        };
        let expiry = match certificate.expires {
            Some(expires) => expiry(expires, now).into(),
            None => TableCell::new("not issued", TextStyle::Warning),
        };
        let domains = certificate.domains.join(" ");
        table.row(vec![certificate.certificate.as_str().into(), domains.into(), expiry, failure]);
    }
    table
}

fn sources(sources: &[SourceStatus], now: f64) -> TextTable {
    let mut table = TextTable::new(&[
        ("SOURCE", ColumnAlign::Left),
        ("DOCUMENTS", ColumnAlign::Right),
        ("REJECTED", ColumnAlign::Right),
        ("READ", ColumnAlign::Left),
        ("ERROR", ColumnAlign::Left),
    ]);
    for source in sources {
        table.row(vec![
            source.source.as_str().into(),
            source.documents.into(),
            source.rejected.into(),
            last_read(source.last_success, now),
            last_error(source.error.as_deref()),
        ]);
    }
    table
}

fn rejected_documents(sources: &[SourceStatus]) -> TextTable {
    let mut table = TextTable::new(&[
        ("REJECTED DOCUMENT", ColumnAlign::Left),
        ("IN USE", ColumnAlign::Left),
        ("PROBLEM", ColumnAlign::Left),
    ]);
    for rejected in sources.iter().flat_map(|source| &source.rejections) {
        let used = if rejected.has_earlier_version { "the last good version" } else { "no" };
        let problem = TableCell::new(format!("{}: {}", rejected.place, rejected.error), TextStyle::Bad);
        table.row(vec![rejected.document.as_str().into(), used.into(), problem]);
    }
    table
}

/// How long ago a source was read.
fn last_read(at: Option<f64>, now: f64) -> TableCell {
    match at {
        Some(at) => format!("{} ago", duration((now - at / 1000.0).max(0.0))).into(),
        None => TableCell::new("never", TextStyle::Warning),
    }
}

/// The first line of an error: a report of a file has several.
fn last_error(error: Option<&str>) -> TableCell {
    match error {
        Some(error) => TableCell::new(error.trim().lines().next().unwrap_or_default(), TextStyle::Bad),
        None => "-".into(),
    }
}

fn stores(stores: &[StoreStatus], now: f64) -> TextTable {
    let mut table = TextTable::new(&[
        ("STORE", ColumnAlign::Left),
        ("SERVER", ColumnAlign::Left),
        ("GATEWAYS", ColumnAlign::Right),
        ("STATE", ColumnAlign::Left),
    ]);
    for store in stores {
        let age = duration(now - store.since);
        let state = match &store.error {
            _ if store.up => TableCell::new(format!("up {age}"), TextStyle::Good),
            None => TableCell::new("connecting", TextStyle::Warning),
            Some(error) => {
                TableCell::new(format!("down {age}, {}: {error}", store.on_failure), TextStyle::Bad)
            }
        };
        table.row(vec![
            store.name.as_str().into(),
            store.server.as_str().into(),
            store.gateways.into(),
            state,
        ]);
    }
    table
}

fn expiry(at: f64, now: f64) -> String {
    if at > now { format!("in {}", duration(at - now)) } else { "expired".to_owned() }
}

fn discoveries(upstreams: &BTreeMap<String, UpstreamStatus>, now: f64) -> TextTable {
    let mut table = TextTable::new(&[
        ("UPSTREAM", ColumnAlign::Left),
        ("DISCOVERY", ColumnAlign::Left),
        ("READY", ColumnAlign::Right),
        ("LEAVING", ColumnAlign::Right),
        ("ABSENT", ColumnAlign::Right),
        ("REJECTED", ColumnAlign::Right),
        ("READ", ColumnAlign::Left),
        ("ERROR", ColumnAlign::Left),
    ]);
    for (name, upstream) in upstreams {
        let Some(discovery) = &upstream.discovery else { continue };
        table.row(vec![
            name.as_str().into(),
            discovery.source.as_str().into(),
            discovery.ready.into(),
            discovery.leaving.into(),
            discovery.absent.into(),
            discovery.rejected.into(),
            last_read(discovery.last_success, now),
            last_error(discovery.error.as_deref()),
        ]);
    }
    table
}

fn endpoints(upstreams: &BTreeMap<String, UpstreamStatus>) -> TextTable {
    let mut table = TextTable::new(&[
        ("UPSTREAM", ColumnAlign::Left),
        ("ENDPOINT", ColumnAlign::Left),
        ("WEIGHT", ColumnAlign::Right),
        ("HEALTH", ColumnAlign::Left),
        ("ACTIVE", ColumnAlign::Right),
        ("STATE", ColumnAlign::Left),
    ]);
    for (name, upstream) in upstreams {
        for endpoint in &upstream.endpoints {
            table.row(vec![
                name.as_str().into(),
                endpoint.address.as_str().into(),
                endpoint.weight.into(),
                TableCell::new(endpoint.health.as_str(), health_style(&endpoint.health)),
                endpoint.active.into(),
                state(endpoint),
            ]);
        }
    }
    table
}

/// The style of a health state.
pub(super) fn health_style(health: &str) -> TextStyle {
    match health {
        "healthy" => TextStyle::Good,
        "unhealthy" => TextStyle::Bad,
        _ => TextStyle::Warning,
    }
}

fn state(endpoint: &EndpointStatus) -> TableCell {
    let draining = endpoint.draining.as_deref().map(|cause| format!("draining ({cause})"));
    let is_full = endpoint.max_connections.is_some_and(|limit| endpoint.active >= limit);
    let full = is_full.then(|| "full".to_owned());
    let absent = (endpoint.state.as_deref() == Some("absent")).then(|| "not announced".to_owned());
    let parts = [endpoint.ejected.then(|| "ejected".to_owned()), full, absent, draining];
    let warnings: Vec<_> = parts.into_iter().flatten().collect();
    match (endpoint.tier > 0, warnings.is_empty()) {
        (false, true) => "-".into(),
        (true, true) => "backup".into(),
        (false, false) => TableCell::new(warnings.join(", "), TextStyle::Warning),
        (true, false) => TableCell::new(format!("backup, {}", warnings.join(", ")), TextStyle::Warning),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_is_shown_with_aligned_tables() {
        let status = serde_json::from_value(json!({
            "version": "1.2.3", "generation": 7, "uptime_seconds": 90_061, "draining": false,
            "last_reload": { "ok": false, "at": 700, "report": "error: unknown upstream `x`\n  --> a.yaml:1:2\n" },
            "listeners": [
                { "name": "web", "address": "127.0.0.1:8080" },
                { "name": "secure", "address": "0.0.0.0:8443", "certificates": [{ "names": ["a.example", "b.example"], "not_after": 87_400 }] },
            ],
            "acme": [{ "certificate": "site", "domains": ["c.example"], "expires": null, "last_failure": { "reason": "dns" } }],
            "stores": [
                { "name": "fleet", "server": "redis://a:6379", "up": true, "since": 900, "gateways": 3, "on_failure": "local" },
                { "name": "lost", "server": "redis://b:6379", "up": false, "since": 990, "gateways": 1, "on_failure": "open", "error": "timed out" },
            ],
            "upstreams": {
                "chat": { "endpoints": [
                    { "address": "127.0.0.1:8081", "weight": 1, "health": "healthy", "ejected": false, "draining": null, "active": 12_345 },
                    { "address": "[::1]:80", "weight": 10, "health": "unhealthy", "ejected": true, "draining": "operator", "active": 0 },
                    { "address": "[::1]:81", "weight": 1, "tier": 1, "health": "healthy", "active": 0 },
                    { "address": "[::1]:82", "weight": 1, "tier": 1, "max_connections": 2, "health": "healthy", "active": 2 },
                ] },
            },
            "websockets": 3, "upgraded": 2, "requests": 11,
        }))
        .unwrap();
        let expected = "\
version     1.2.3
generation  7
uptime      1d1h
state       serving
last reload rejected 5m0s ago; the previous configuration stays in use
websockets  3
upgraded    2
requests    11

LISTENER  ADDRESS         CERTIFICATES
web       127.0.0.1:8080  -
secure    0.0.0.0:8443    a.example b.example (in 1d0h)

ACME CERTIFICATE  DOMAINS    EXPIRY      LAST FAILURE
site              c.example  not issued  dns

STORE  SERVER          GATEWAYS  STATE
fleet  redis://a:6379         3  up 1m40s
lost   redis://b:6379         1  down 10s, open: timed out

UPSTREAM  ENDPOINT        WEIGHT  HEALTH     ACTIVE  STATE
chat      127.0.0.1:8081       1  healthy     12345  -
chat      [::1]:80            10  unhealthy       0  ejected, draining (operator)
chat      [::1]:81             1  healthy         0  backup
chat      [::1]:82             1  healthy         2  backup, full

error: unknown upstream `x`
  --> a.yaml:1:2
";
        assert_eq!(render(&status, 1000.0, Color::Never), expected);
        let colored = render(&status, 1000.0, Color::Always);
        assert!(colored.contains("\x1b[31munhealthy\x1b[0m") && colored.contains("\x1b[31mrejected\x1b[0m"));
    }

    #[test]
    fn a_status_with_fewer_members_is_shown_too() {
        let status = serde_json::from_value(json!({ "version": "9", "new": [1] })).unwrap();
        let shown = render(&status, 0.0, Color::Never);
        assert!(shown.starts_with("version     9\n") && !shown.contains("UPSTREAM"), "{shown}");
    }
}
