//! Translation of directives into a document of our configuration, with a finding for every directive.

mod access;
mod compression;
mod fields;
mod hosts;
mod listeners;
mod locations;
mod logs;
mod paths;
mod process;
mod proxy;
mod responses;
mod routes;
mod upstreams;

use crate::maps::{Maps, is_upgrade_map};
use crate::reader::{Directive, Source};
use crate::report::{Finding, Notes, Outcome};
use crate::scope::Scope;
use crate::tables;
use crate::yaml::Map;
use std::path::PathBuf;

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
}

impl Context<'_> {
    /// Adds a remark once.
    pub(crate) fn remark(&mut self, remark: &str) {
        if !self.remarks.iter().any(|known| known == remark) {
            self.remarks.push(remark.to_owned());
        }
    }
}

/// Translates a read configuration.
pub(crate) fn translate(source: &Source, paths: &Paths) -> Translation {
    let http = http_level(&source.directives);
    let maps = Maps::read(&http);
    let mut context = Context { notes: Notes::new(source.count), maps: &maps, paths, remarks: Vec::new() };
    for failed in &source.failed {
        if let Some(directive) = find(&source.directives, failed.id) {
            failed_include(&mut context, directive, &failed.reason);
        }
    }
    let scope = Scope::of(&http);
    let mut document = Map::default();
    process::translate(&mut context, &scope, &source.directives, &mut document);
    logs::translate(&mut context, &scope, &mut document);
    routes::translate(&mut context, &http, &scope, &mut document);
    for directive in &source.directives {
        leftover(&mut context, directive);
    }
    let Context { notes, remarks, .. } = context;
    Translation { document, findings: notes.into_findings(), remarks }
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

fn find(directives: &[Directive], id: usize) -> Option<&Directive> {
    directives.iter().find_map(|directive| {
        if directive.id == id { Some(directive) } else { find(directive.children(), id) }
    })
}

fn failed_include(context: &mut Context<'_>, directive: &Directive, reason: &str) {
    let file = directive.argument(0);
    let is_implied = ["mime.types", "proxy_params", "fastcgi_params", "fastcgi.conf", "modules-enabled"];
    if file.ends_with(is_implied[0]) {
        context.notes.implied(directive, "it concerns files, which the gateway does not serve");
    } else if file.contains(is_implied[4]) {
        context.notes.implied(directive, "it loads nginx's modules");
    } else {
        let help = tables::refused("include").map_or("", |(_, help)| help);
        context.notes.refused(directive, reason.to_owned(), help);
    }
}

/// Gives a finding to a directive that has none, and to those in its block.
fn leftover(context: &mut Context<'_>, directive: &Directive) {
    let name = directive.name.as_str();
    if is_upgrade_map(directive) {
        context.notes.block(directive, Outcome::Implied, "every route forwards WebSockets", None);
        return;
    }
    if ["map", "geo", "types", "split_clients", "events", "stream", "mail"].contains(&name) {
        if !context.notes.has(directive) {
            if let Some((why, help)) = tables::refused(name) {
                context.notes.block(directive, Outcome::NotTranslated, why, Some(help));
            } else {
                let why =
                    tables::implied(name).unwrap_or("its variable is not used in a translated directive");
                context.notes.block(directive, Outcome::Implied, why, None);
            }
        } else {
            context.notes.block(
                directive,
                Outcome::TakenOver,
                "expressions where the variable is used",
                None,
            );
        }
        return;
    }
    if !context.notes.has(directive) {
        if name == "include" {
            context.notes.implied(directive, "the contents of the files are included");
        } else if let Some(why) = tables::implied(name) {
            context.notes.implied(directive, why);
        } else if tables::is_translated(name) {
            context.notes.implied(directive, "it applies to no translated location");
        } else if let Some((why, help)) = tables::refused(name) {
            context.notes.refused(directive, why, help);
        } else {
            let why = "the import does not know this directive";
            context.notes.refused(
                directive,
                why,
                "look for an equivalent in the reference of the configuration",
            );
        }
    }
    for child in directive.children() {
        leftover(context, child);
    }
}
