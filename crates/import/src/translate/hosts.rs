//! `server_name` as hosts of routes.

use super::Context;
use crate::cel_text::{NoEquivalent, regex_text};
use crate::reader::Directive;

/// The names of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    /// The hosts as routes write them.
    pub(super) patterns: Vec<String>,
    /// The first name that is a host: the value of `$server_name`.
    pub(super) first: Option<String>,
    /// A regular expression with named captures is among them.
    pub(super) has_captures: bool,
    /// A name has no equivalent.
    pub(super) is_incomplete: bool,
}

impl Hosts {
    /// Whether a host of less specificity than an exact one is among them.
    pub(super) fn has_pattern(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.starts_with(['*', '~']) || pattern.ends_with('*'))
    }

    /// Reads the names of a server.
    pub(super) fn read(context: &mut Context<'_>, server: &Directive) -> Self {
        let mut hosts = Self::default();
        for directive in server.children().iter().filter(|directive| directive.name == "server_name") {
            let mut nothing = true;
            for name in directive.texts() {
                match hosts.add(name) {
                    Ok(true) => nothing = false,
                    Ok(false) => {}
                    Err(why) => {
                        nothing = false;
                        hosts.is_incomplete = true;
                        let help = "list the names instead";
                        context.notes.refused(directive, format!("`{name}` has no equivalent: {why}"), help);
                    }
                }
            }
            if nothing {
                context
                    .notes
                    .implied(directive, "the name matches no request; the default server needs no `host`");
            } else {
                context
                    .notes
                    .taken(directive, "`host` of the routes, where another server could get the request");
            }
        }
        hosts
    }

    /// Adds a name; returns whether requests can have it.
    fn add(&mut self, name: &str) -> Result<bool, NoEquivalent> {
        if let Some(pattern) = name.strip_prefix('~') {
            let pattern = regex_text(pattern, true)?;
            self.has_captures |= pattern.contains("?<") || pattern.contains("?P<");
            self.patterns.push(format!("~{pattern}"));
            return Ok(true);
        }
        let lower = name.to_ascii_lowercase();
        let valid = |name: &str| {
            !name.is_empty()
                && name != "_"
                && name.split('.').all(|label| {
                    !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                })
        };
        if name == "_" || name.is_empty() || name == "-" || name == "--" {
            return Ok(false);
        }
        if let Some(domain) = lower.strip_prefix('.').filter(|domain| valid(domain)) {
            self.patterns.extend([domain.to_owned(), format!("*.{domain}")]);
            self.first.get_or_insert_with(|| domain.to_owned());
        } else if let Some(domain) = lower.strip_prefix("*.").filter(|domain| valid(domain)) {
            self.patterns.push(lower.clone());
            self.first.get_or_insert_with(|| domain.to_owned());
        } else if let Some(start) = lower.strip_suffix(".*").filter(|start| valid(start)) {
            self.patterns.push(lower.clone());
            self.first.get_or_insert_with(|| start.to_owned());
        } else if valid(&lower) || lower.starts_with('[') {
            self.patterns.push(lower.clone());
            self.first.get_or_insert(lower);
        } else if name == "*" {
            return Ok(false);
        } else {
            return Err(NoEquivalent::Reason("it is not a host name".to_owned()));
        }
        Ok(true)
    }
}
