//! Refusals without an equivalent. A route whose refusals are not translated is closed: it must not serve what nginx
//! protects.

use super::Context;
use crate::reader::Directive;
use crate::scope::Scope;

/// Directives of third parties and of the commercial edition that decide about access.
const GUARDS: [&str; 11] = [
    "SecRulesEnabled",
    "auth_digest",
    "auth_gss",
    "auth_jwt",
    "auth_jwt_require",
    "auth_ldap",
    "auth_oidc",
    "auth_pam",
    "js_access",
    "modsecurity",
    "waf",
];

/// Files that Debian and nginx ship for `include`, and parts of names of such files. None has access rules.
const HARMLESS: [&str; 7] =
    ["mime.types", "fastcgi_params", "fastcgi.conf", "proxy_params", "scgi_params", "uwsgi_params", "ssl"];

/// Why the routes of a scope are closed: directives around them that the import does not translate and that may refuse
/// requests. The first of a name decides, as its value may be `off`.
pub(super) fn reasons(context: &Context<'_>, scope: &Scope<'_>) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let mut add = |directive: &Directive| {
        reasons.push(format!("not translated: `{}`; the route is closed until it is", directive.line()));
    };
    // An include beside the servers has servers, or settings of the whole process.
    for directive in scope.inner().filter(|directive| context.failed.contains(&directive.id)) {
        if !HARMLESS.iter().any(|part| directive.argument(0).contains(part)) {
            add(directive);
        }
    }
    for directive in scope.inner().chain(scope.outermost(is_guard)) {
        if is_guard(&directive.name) && !names.contains(&directive.name.as_str()) {
            names.push(&directive.name);
            if directive.argument(0) != "off" {
                add(directive);
            }
        }
    }
    reasons
}

fn is_guard(name: &str) -> bool {
    GUARDS.contains(&name) || name.starts_with("access_by_lua") || name.starts_with("rewrite_by_lua")
}

/// Whether a directive refuses requests, or one in its block does.
pub(super) fn may_refuse(directive: &Directive) -> bool {
    match directive.name.as_str() {
        "deny" | "internal" | "limit_except" | "auth_request" => true,
        "auth_basic" => directive.argument(0) != "off",
        "return" => is_refusal(directive.argument(0)),
        name => is_guard(name) || directive.children().iter().any(may_refuse),
    }
}

/// Whether the status of a `return` refuses the request.
pub(super) fn is_refusal(status: &str) -> bool {
    status.parse::<u16>().is_ok_and(|status| (400..500).contains(&status))
}
