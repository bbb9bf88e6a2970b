//! The routes of a location that is forwarded.

use super::super::locations::Location;
use super::super::paths::LocationPath;
use super::super::proxy::{self, Target};
use super::super::responses::{self, Rewrite};
use super::super::{Context, compression, fields};
use super::route::{self, Destination, Draft};
use super::{Routes, Site, mapping, mirror, redirect};
use crate::cel::Variables;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// A location with its `proxy_pass`.
pub(super) struct Forwarding<'f, 'a> {
    pub(super) site: &'f Site<'f, 'a>,
    pub(super) location: &'f Location<'a>,
    pub(super) pass: &'a Directive,
    /// The scope of `proxy_pass`.
    pub(super) scope: &'f Scope<'a>,
    pub(super) variables: &'f Variables<'f>,
    /// Changes of the path.
    pub(super) rewrites: &'f [Rewrite],
}

impl<'a> Forwarding<'_, 'a> {
    /// Adds the routes: one for each target, and for each rewrite where several are possible.
    pub(super) fn routes(
        &self,
        context: &mut Context<'_>,
        routes: &mut Routes<'a>,
        draft: Draft,
        drafts: &mut Vec<Draft>,
    ) {
        let cases = match proxy::cases(self.pass, self.variables) {
            Ok(cases) => cases,
            Err(why) => {
                let help = "write a route for each target, with `when` for its condition";
                context.notes.refused(self.pass, format!("{why}; the route responds 404"), help);
                let mut draft = draft;
                draft.comments.push(format!("not translated: {}", self.pass.line()));
                draft.plugins.splice(0..0, fields::always(context, self.scope, self.variables));
                draft.plugins.push(responses::respond(404));
                drafts.push(draft);
                return;
            }
        };
        let has_cases = cases.len() > 1;
        let has_uri = |target: &Option<Target>| target.as_ref().is_some_and(|target| target.uri.is_some());
        if !cases.iter().any(|case| has_uri(&case.target)) {
            self.slash_redirect(context, &draft, drafts);
        }
        for case in cases {
            let mut draft = draft.clone();
            draft.when.extend(case.when);
            let Some(target) = case.target else {
                // nginx fails on an address without a host.
                draft.suffix = "none";
                draft.plugins.push(responses::respond(500));
                drafts.push(draft);
                continue;
            };
            if has_cases {
                draft.suffix_text = Some(target.authority.clone());
            }
            self.target(context, routes, &target, draft, drafts);
        }
        if !context.notes.has(self.pass) {
            let became =
                if has_cases { "a route for each value of the variable" } else { "`upstream` of the route" };
            context.notes.taken(self.pass, became);
        }
    }

    /// Adds the routes of one target.
    fn target(
        &self,
        context: &mut Context<'_>,
        routes: &mut Routes<'a>,
        target: &Target,
        mut draft: Draft,
        drafts: &mut Vec<Draft>,
    ) {
        let host = target.proxy_host();
        let mut variables = self.variables.clone();
        variables.define("proxy_host", host.clone());
        let settings = proxy::upstream_settings(context, self.scope, &variables, target.scheme);
        let number = routes.upstreams.number(context, &variables, target, settings);
        if routes.upstreams.is_missing(&target.authority) {
            let name = &target.authority;
            context.notes.changed(
                self.pass,
                format!("there is no `upstream {name}` in the files read; it is resolved as a host name"),
            );
            context
                .notes
                .help(self.pass, "import nginx.conf, which includes the file with it, or correct the name");
        }
        draft.destination = Destination::Upstream(number);
        route::proxy_settings(context, self.scope, &mut draft, &variables);
        let fields =
            fields::RequestFields::read(context, self.scope, &variables, &draft.copied_fields, &host);
        let keeps_host = fields.host.is_none();
        let headers = fields::response_plugins(context, self.scope, &variables, fields.into_maps());
        draft.plugins.extend(mirror::plugins(context, routes, self.scope, &variables, self.site.all));
        let compression = compression::plugin(context, self.scope);
        let mut finish = |context: &mut Context<'_>, mut draft: Draft, uri: Option<&str>| {
            let rewrite = uri.map(|uri| proxy::path_rewrite(&self.location.path, uri));
            let keeps_host = keeps_host || uri.is_none();
            match rewrite.transpose() {
                Ok(plugin) => {
                    let plugin = plugin.flatten();
                    mapping::map_back(context, self.scope, &variables, plugin, keeps_host, &mut draft);
                }
                Err(why) => context.notes.refused(self.pass, why, "write the plugin `rewrite`"),
            }
            draft.plugins.extend(headers.iter().cloned());
            draft.plugins.extend(compression.clone());
            drafts.push(draft);
        };
        // A rewritten path is forwarded without the path of `proxy_pass`, and is rewritten once.
        let uri = target.uri.as_deref();
        let (last, earlier) = match self.rewrites.split_last() {
            Some((last, earlier)) if uri.is_none() || self.is_whole(last) => (Some(last), earlier),
            _ => (None, self.rewrites),
        };
        for rewrite in earlier {
            let mut draft = draft.clone();
            draft.when.push(rewrite.condition());
            draft.plugins.extend(rewrite.plugins.iter().cloned());
            finish(context, draft, None);
        }
        draft.plugins.extend(last.into_iter().flat_map(|rewrite| rewrite.plugins.iter().cloned()));
        finish(context, draft, uri.filter(|_| last.is_none()));
    }

    /// Whether a rewrite concerns every path of the location.
    fn is_whole(&self, rewrite: &Rewrite) -> bool {
        let Some(path) = self.location.path.literal() else { return false };
        let pattern = rewrite.pattern.strip_prefix('^').unwrap_or_default();
        let rest = pattern.strip_prefix(path).or_else(|| pattern.strip_prefix(regex::escape(path).as_str()));
        rest.is_some_and(|rest| ["", "(.*)", "(.*)$", ".*", ".*$"].contains(&rest))
    }

    /// Adds the redirect of `/a` to `/a/` that nginx makes for a location `/a/` that is forwarded, after the server's
    /// own steps and with the fields of the location.
    fn slash_redirect(&self, context: &mut Context<'_>, draft: &Draft, drafts: &mut Vec<Draft>) {
        let LocationPath::Prefix { path, .. } = &self.location.path else { return };
        let Some(short) = path.strip_suffix('/').filter(|short| !short.is_empty()) else { return };
        if self.site.literals.contains(short) {
            return;
        }
        let mut slash = Draft::new(&LocationPath::Exact(short.to_owned()), Some(format!("={short}")));
        slash.suffix = "slash";
        slash.access_log = draft.access_log;
        let steps = self.site.steps;
        slash.comments.clone_from(&steps.comments);
        slash.plugins.clone_from(&steps.plugins);
        drafts.extend(steps.redirects_of(short).map(|rewrite| redirect(&slash, rewrite)));
        let fields = fields::response_plugins(context, &self.location.scope, self.variables, Vec::new());
        slash.plugins.splice(0..0, fields);
        slash.plugins.push(
            Map::default()
                .with("kind", Yaml::text("redirect"))
                .with("to", Yaml::text(path.clone()))
                .with("keep_query", Yaml::word(&true))
                .with("status", Yaml::word(&301)),
        );
        drafts.push(slash);
    }
}
