//! Warnings about ineffective session affinity: cookies that overwrite each other or are never sent, and
//! weighted upstreams without a common key.

use super::{Destination, Route};
use crate::route::{HostPattern, PathPattern, Rule};
use crate::upstream::{Cluster, CookieScope, KeySource};
use moongate_config::{Place, Problem};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The warnings for these rules; `places` are those of the routes, in the same order.
pub(super) fn warnings(rules: &[Rule<Arc<Route>>], places: &[&Place]) -> Vec<Problem> {
    let mut warnings = overwritten(rules, places);
    for (rule, place) in rules.iter().zip(places) {
        let found = drawn_anew(&rule.target.destination).into_iter().chain(never_sent(rule));
        warnings.extend(found.map(|problem| problem.at(place)));
    }
    warnings
}

/// Pairs of upstreams whose cookies are identical to a browser, each with a route of its own under one host.
/// Upstreams that share every such route are excluded, since each sees the other's cookie.
fn overwritten(rules: &[Rule<Arc<Route>>], places: &[&Place]) -> Vec<Problem> {
    let mut warned = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        for earlier in rules.iter().take(index).filter(|earlier| share_a_host(earlier, rule)) {
            for (cluster, other) in pairs(rule, earlier) {
                let (Some(cookie), Some(place)) = (cluster.cookie(), places.get(index)) else { continue };
                let pair = (cluster.name().min(other.name()), cluster.name().max(other.name()));
                if other.cookie() == Some(cookie) && warned.insert(pair) {
                    problems.push(overwrites(cluster, other, cookie).at(place));
                }
            }
        }
    }
    problems
}

/// The pairs of an upstream of one rule only and an upstream of the other rule only.
fn pairs<'a>(
    one: &'a Rule<Arc<Route>>,
    other: &'a Rule<Arc<Route>>,
) -> impl Iterator<Item = (&'a Arc<Cluster>, &'a Arc<Cluster>)> {
    let leads_to = |rule: &Rule<Arc<Route>>, cluster: &Arc<Cluster>| {
        rule.target.destination.clusters().any(|known| Arc::ptr_eq(known, cluster))
    };
    let mine = one.target.destination.clusters().filter(move |cluster| !leads_to(other, cluster));
    mine.flat_map(move |cluster| {
        let theirs = other.target.destination.clusters();
        theirs.filter(move |theirs| !leads_to(one, theirs)).map(move |theirs| (cluster, theirs))
    })
}

fn overwrites(cluster: &Cluster, other: &Cluster, cookie: &CookieScope) -> Problem {
    Problem::warning(format!(
        "the upstreams `{}` and `{}` set the same cookie `{}`: each overwrites the session of the other",
        other.name(),
        cluster.name(),
        cookie.name
    ))
    .help("set different values of `cookie` or `path`, or omit `cookie`")
}

fn share_a_host(one: &Rule<Arc<Route>>, other: &Rule<Arc<Route>>) -> bool {
    one.hosts.is_empty()
        || other.hosts.is_empty()
        || one.hosts.iter().any(|a| other.hosts.iter().any(|b| overlap(a, b)))
}

fn overlap(a: &HostPattern, b: &HostPattern) -> bool {
    match (a, b) {
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Exact(name), HostPattern::Under(suffix))
        | (HostPattern::Under(suffix), HostPattern::Exact(name)) => name.ends_with(&**suffix),
        (HostPattern::Under(a), HostPattern::Under(b)) => a.ends_with(&**b) || b.ends_with(&**a),
        (HostPattern::Exact(name), HostPattern::Before(prefix))
        | (HostPattern::Before(prefix), HostPattern::Exact(name)) => name.starts_with(&**prefix),
        (HostPattern::Before(a), HostPattern::Before(b)) => a.starts_with(&**b) || b.starts_with(&**a),
        (HostPattern::Under(_), HostPattern::Before(_)) | (HostPattern::Before(_), HostPattern::Under(_)) => {
            true
        }
        (HostPattern::Exact(name), HostPattern::Regex(regex))
        | (HostPattern::Regex(regex), HostPattern::Exact(name)) => regex.is_match(name),
        (HostPattern::Regex(a), HostPattern::Regex(b)) => a.as_str() == b.as_str(),
        // Unknown; a warning that is wrong is worse than none.
        (HostPattern::Regex(_), _) | (_, HostPattern::Regex(_)) => false,
    }
}

/// Warns of weighted upstreams between which a client moves although one of the upstreams has affinity.
fn drawn_anew(destination: &Destination) -> Option<Problem> {
    let Destination::Weighted { key, .. } = destination else { return None };
    let all: Vec<_> = destination.clusters().collect();
    if let Some(sticky) = all.iter().find(|cluster| cluster.cookie().is_some()) {
        let other = all.iter().find(|cluster| cluster.cookie().is_none())?;
        return Some(
            Problem::warning(format!(
                "clients of `{}` do not keep their upstream: only `{}` has a cookie",
                other.name(),
                sticky.name()
            ))
            .help(format!("write `balance: sticky` for `{}` too", other.name())),
        );
    }
    let hashed = all.iter().find(|cluster| *cluster.key_source() != KeySource::Nothing)?;
    if key.is_some() || all.len() < 2 {
        return None;
    }
    Some(
        Problem::warning(format!(
            "the keys of `{}` do not keep their upstream: it is drawn for each request",
            hashed.name()
        ))
        .help("write `balance: consistent_hash` with the same `key` for every upstream of this route"),
    )
}

/// Warns of a cookie whose `path` matches none of a route's paths (RFC 6265 §5.1.4).
fn never_sent(rule: &Rule<Arc<Route>>) -> Vec<Problem> {
    let cookies = rule.target.destination.clusters().filter_map(|cluster| Some((cluster, cluster.cookie()?)));
    let problem = |(cluster, cookie): (&Arc<Cluster>, &CookieScope)| {
        if rule.paths.iter().all(|path| may_be_sent(&cookie.path, path)) {
            return None;
        }
        let whole = !rule.paths.iter().any(|path| may_be_sent(&cookie.path, path));
        let what = if whole { "this route" } else { "all paths of this route" };
        let problem = Problem::warning(format!(
            "browsers do not send the cookie of `{}` to {what}: its `path` is {}",
            cluster.name(),
            cookie.path
        ));
        Some(problem.help("omit `path`, or write the path of the route"))
    };
    cookies.filter_map(problem).collect()
}

fn may_be_sent(cookie: &str, route: &PathPattern) -> bool {
    match route {
        PathPattern::Regex(_) => true,
        PathPattern::Exact(path) => path_matches(path, cookie),
        PathPattern::Prefix(prefix) => {
            path_matches(prefix, cookie)
                || path_matches(cookie, prefix)
                || cookie.trim_end_matches('/') == &**prefix
        }
    }
}

/// Returns whether a request path path-matches a cookie's path (RFC 6265 §5.1.4).
fn path_matches(path: &str, cookie: &str) -> bool {
    let Some(rest) = path.strip_prefix(cookie) else { return false };
    rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_cookie_is_sent_where_its_path_covers_a_part_of_the_route() {
        for (cookie, route, sent) in [
            ("/", "/app", true),
            ("/app", "/app", true),
            ("/app/", "/app/", true),
            ("/app/room", "/app", true),
            ("/app", "/application", false),
            ("/socket.io/", "/chat", false),
            ("/x", "=/x/y", true),
            ("/x/y/z", "=/x/y", false),
            ("/x", "~^/y", true),
            ("/x", "/", true),
        ] {
            let pattern = PathPattern::parse(route).unwrap();
            assert_eq!(may_be_sent(cookie, &pattern), sent, "{cookie} {route}");
        }
    }

    #[test]
    fn hosts_overlap_when_one_name_matches_both() {
        for (a, b, both) in [
            ("a.example", "a.example", true),
            ("a.example", "b.example", false),
            ("a.b.example", "*.example", true),
            ("example", "*.example", false),
            ("*.b.example", "*.example", true),
            ("*.a.example", "*.b.example", false),
            ("www.example.*", "www.example.com", true),
            ("www.example.*", "www.*", true),
            ("www.example.*", "www.other.*", false),
            ("www.*", "*.example", true),
            ("~^www", "www.example", true),
            ("~^www", "web.example", false),
            ("~^www", "~^www", true),
            ("~^www", "~^web", false),
            ("~^www", "*.example", false),
        ] {
            let (a, b) = (HostPattern::parse(a).unwrap(), HostPattern::parse(b).unwrap());
            assert_eq!((overlap(&a, &b), overlap(&b, &a)), (both, both), "{a} {b}");
        }
    }
}
