//! Refusals without an equivalent. A route whose refusals are not translated is closed: it must not serve what nginx
//! protects.

use super::Context;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::tables;

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

/// Directives that refuse requests, or decide which ones another one refuses.
const REFUSING: [&str; 11] = [
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_request",
    "deny",
    "if",
    "internal",
    "limit_except",
    "return",
    "satisfy",
    "ssl_verify_client",
];

/// The longest name that is compared with others.
const LONGEST_NAME: usize = 40;

/// Files that Debian, nginx and certbot (`options-ssl-nginx.conf`) ship for `include`, and parts of names of such
/// files. None has access rules.
const HARMLESS: [&str; 8] = [
    "mime.types",
    "modules-enabled",
    "fastcgi_params",
    "fastcgi.conf",
    "proxy_params",
    "scgi_params",
    "uwsgi_params",
    "ssl",
];

/// Why the routes of a scope are closed: directives around them that the import does not translate and that may refuse
/// requests. The first of a name decides, as its value may be `off`.
pub(super) fn reasons(context: &Context<'_>, scope: &Scope<'_>) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let mut add = |directive: &Directive| {
        reasons.push(format!("not translated: `{}`; the route is closed until it is", directive.line()));
    };
    // An include beside the servers may have refusals for all of them.
    let includes = scope.inner().chain(scope.outermost(|name| name == "include"));
    for directive in includes.filter(|directive| context.failed.contains(&directive.id)) {
        if !HARMLESS.iter().any(|part| directive.argument(0).contains(part)) {
            add(directive);
        }
    }
    let mut has_unknown = false;
    let is_wanted = |name: &str| is_guard(name) || is_unknown(name);
    for directive in scope.inner().chain(scope.outermost(is_wanted)) {
        let name = directive.name.as_str();
        if is_guard(name) && !names.contains(&name) {
            names.push(name);
            if directive.argument(0) != "off" {
                add(directive);
            }
        } else if is_unknown(name) {
            has_unknown = true;
            if is_mistyped_refusal(context, directive) {
                add(directive);
            }
        }
    }
    // nginx refuses the file: the unknown directive may be the one that the other needs.
    if has_unknown {
        for (name, partner) in [("auth_basic_user_file", "auth_basic"), ("allow", "deny")] {
            if let Some(directive) = scope.find(name).filter(|_| scope.find(partner).is_none()) {
                add(directive);
            }
        }
    }
    reasons
}

/// Whether the import does not know a directive of that name.
fn is_unknown(name: &str) -> bool {
    name != "include" && tables::treatment(name).is_none() && !is_guard(name)
}

/// The known directive whose name is similar to one that is not known.
pub(super) fn meant(context: &Context<'_>, name: &str) -> Option<&'static str> {
    if !is_unknown(name) || name.len() > LONGEST_NAME {
        return None;
    }
    let mut known = context.meant.borrow_mut();
    if let Some(meant) = known.get(name) {
        return *meant;
    }
    let meant = moongate_config::nearest(name, tables::names().chain(GUARDS)).first().copied();
    known.insert(name.to_owned(), meant);
    meant
}

/// Whether an unknown directive is a refusal with a typing error, or a block with one that may refuse.
fn is_mistyped_refusal(context: &Context<'_>, directive: &Directive) -> bool {
    let meant = meant(context, &directive.name);
    meant.is_some_and(|name| REFUSING.contains(&name) || is_guard(name))
        || directive.children().iter().any(|child| may_refuse(context, child))
}

fn is_guard(name: &str) -> bool {
    GUARDS.contains(&name) || name.starts_with("access_by_lua") || name.starts_with("rewrite_by_lua")
}

/// Whether a directive refuses requests, or one in its block does.
pub(super) fn may_refuse(context: &Context<'_>, directive: &Directive) -> bool {
    match directive.name.as_str() {
        "deny" | "internal" | "limit_except" | "auth_request" => true,
        "auth_basic" => directive.argument(0) != "off",
        "return" => is_refusal(directive.argument(0)),
        name if is_unknown(name) => is_mistyped_refusal(context, directive),
        name => is_guard(name) || directive.children().iter().any(|child| may_refuse(context, child)),
    }
}

/// Whether the status of a `return` refuses the request.
pub(super) fn is_refusal(status: &str) -> bool {
    status.parse::<u16>().is_ok_and(|status| (400..500).contains(&status))
}
