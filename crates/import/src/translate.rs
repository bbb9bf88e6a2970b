//! Translation of directives into a document of our configuration, with a finding for every directive.

mod access;
mod client_certificate;
mod closed;
mod compression;
mod fields;
mod hosts;
mod listeners;
mod locations;
mod logs;
mod paths;
mod precedence;
mod process;
mod proxy;
mod responses;
mod routes;
mod upstreams;

use crate::maps::{Maps, is_upgrade_map};
use crate::reader::{Directive, Source};
use crate::report::{Finding, Notes, Outcome};
use crate::scope::Scope;
use crate::tables::{self, Treatment};
use crate::yaml::{Map, Yaml};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The port of the admin address, unless nginx listens there.
const ADMIN_PORT: u16 = 9901;

/// Where relative paths of the result begin.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The directory before relative paths of nginx's files; empty if both are the same.
    pub before: PathBuf,
}

impl Paths {
    /// A path of nginx's files as the result writes it.
    pub(crate) fn written(&self, path: &str) -> String {
        self.before.join(path).display().to_string()
    }
}

/// The result.
pub(crate) struct Translation {
    pub(crate) document: Map,
    pub(crate) findings: Vec<Finding>,
    /// What differs without a directive that says so.
    pub(crate) remarks: Vec<String>,
}

/// What every part of the translation needs.
pub(crate) struct Context<'a> {
    pub(crate) notes: Notes,
    pub(crate) maps: &'a Maps,
    pub(crate) paths: &'a Paths,
    pub(crate) remarks: Vec<String>,
    /// The numbers of includes that were not read.
    pub(crate) failed: &'a BTreeSet<usize>,
    /// Whether proxies are trusted to report the client.
    pub(crate) trusts_proxies: bool,
    /// Whether the server listens at a port that clients write in Host.
    pub(crate) has_port_in_host: bool,
    /// What lines of the access log name.
    pub(crate) log_lines: &'static str,
    /// Names that are not known, with the known ones that are similar.
    pub(crate) meant: RefCell<BTreeMap<String, Option<&'static str>>>,
}

impl Context<'_> {
    /// Adds a remark once.
    pub(crate) fn remark(&mut self, remark: &str) {
        if !self.remarks.iter().any(|known| known == remark) {
            self.remarks.push(remark.to_owned());
        }
    }

    /// The path of a file with a key or a password.
    pub(crate) fn secret(&mut self, path: &str) -> String {
        self.remark(
            "The user of the gateway, `moongate` in the packages, must be able to read the files of keys and passwords.",
        );
        self.paths.written(path)
    }
}

/// Translates a read configuration.
pub(crate) fn translate(source: &Source, paths: &Paths) -> Translation {
    let http = http_level(&source.directives);
    let reasons: BTreeMap<usize, &str> =
        source.failed.iter().map(|failed| (failed.id, failed.reason.as_str())).collect();
    let failed: BTreeSet<usize> = reasons.keys().copied().collect();
    let maps = Maps::read(&http, &failed);
    let mut context = Context {
        notes: Notes::new(source.count),
        maps: &maps,
        paths,
        remarks: Vec::new(),
        failed: &failed,
        trusts_proxies: false,
        has_port_in_host: false,
        log_lines: logs::NAMED,
        meant: RefCell::default(),
    };
    failed_includes(&mut context, &source.directives, &reasons);
    let scope = Scope::of(&http);
    let mut document = Map::default();
    process::translate(&mut context, &scope, &source.directives, &mut document);
    logs::translate(&mut context, &scope, &mut document);
    admin(&source.directives, &mut document);
    routes::translate(&mut context, &http, &scope, &mut document);
    for directive in &source.directives {
        leftover(&mut context, directive);
    }
    fold(&mut context.notes, &source.directives);
    let Context { notes, remarks, .. } = context;
    Translation { document, findings: notes.into_findings(), remarks }
}

/// Adds the admin address, at a port that no `listen` has.
fn admin(files: &[Directive], document: &mut Map) {
    let ports: BTreeSet<u16> = process::everywhere(files, "listen")
        .into_iter()
        .filter_map(|listen| listen.argument(0).rsplit(':').next()?.parse().ok())
        .collect();
    let port = (ADMIN_PORT..u16::MAX).find(|port| !ports.contains(port)).unwrap_or(ADMIN_PORT);
    document.set("admin", Map::default().with("address", Yaml::text(format!("127.0.0.1:{port}"))));
    document
        .comment("admin", "for `systemctl reload`, `moongate status`, `moongate check --live` and /metrics");
}

/// The directives of `http`, or of a file without it: those of a site, as in `sites-available`. The directives of the
/// main level are among them.
fn http_level(directives: &[Directive]) -> Vec<Directive> {
    let mut level = Vec::new();
    for directive in directives {
        if directive.name == "http" {
            level.extend(directive.children().iter().cloned());
        } else if !["events", "stream", "mail"].contains(&directive.name.as_str()) {
            level.push(directive.clone());
        }
    }
    level
}

/// Notes the includes that were not read.
fn failed_includes(context: &mut Context<'_>, directives: &[Directive], reasons: &BTreeMap<usize, &str>) {
    for directive in directives {
        if let Some(reason) = reasons.get(&directive.id) {
            failed_include(context, directive, reason);
        }
        failed_includes(context, directive.children(), reasons);
    }
}

fn failed_include(context: &mut Context<'_>, directive: &Directive, reason: &str) {
    let file = directive.argument(0);
    if file.ends_with("mime.types") {
        context.notes.implied(directive, "it concerns files, which the gateway does not serve");
    } else if file.contains("modules-enabled") {
        context.notes.implied(directive, "it loads nginx's modules");
    } else {
        let help = "copy it beside the others and import again, or set `--prefix`";
        context.notes.refused(directive, reason.to_owned(), help);
    }
}

/// Counts the entries of tables.
fn fold(notes: &mut Notes, directives: &[Directive]) {
    for directive in directives {
        match directive.name.as_str() {
            "types" | "map" | "geo" | "split_clients" | "upstream" => notes.fold(directive),
            _ => fold(notes, directive.children()),
        }
    }
}

/// Gives a finding to a directive that has none, and to those in its block.
fn leftover(context: &mut Context<'_>, directive: &Directive) {
    let name = directive.name.as_str();
    if is_upgrade_map(directive) {
        context.notes.block(directive, Outcome::Implied, "every route forwards WebSockets", None);
        return;
    }
    if ["map", "geo"].contains(&name) {
        return if context.maps.is_used(directive) {
            let became = "expressions where the variable is used";
            context.notes.block(directive, Outcome::TakenOver, became, None);
        } else {
            let why = "its variable is not used in a translated directive";
            context.notes.block(directive, Outcome::Implied, why, None);
        };
    }
    if ["types", "split_clients", "events", "stream", "mail"].contains(&name) {
        return match tables::treatment(name) {
            Some(Treatment::Refused(why, help)) => {
                context.notes.block(directive, Outcome::NotTranslated, why, Some(help));
            }
            Some(Treatment::Implied(why)) => context.notes.block(directive, Outcome::Implied, why, None),
            _ => context.notes.block(directive, Outcome::NotTranslated, "it has no equivalent", None),
        };
    }
    if !context.notes.has(directive) {
        if name == "include" {
            context.notes.implied(directive, "the contents of the files are included");
        } else {
            let meant = closed::meant(context, &directive.name);
            tables::note(&mut context.notes, directive, meant);
        }
    }
    for child in directive.children() {
        leftover(context, child);
    }
}
