//! `upstreams.balance` of the kind `sticky`.

use super::balance::alternates;
use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::Origin;

pub(super) const CASES: &[Case] = &[
    case(&["upstreams.balance.sticky.cookie"], |gateway| {
        check_cookie_part(gateway, ["cookie: one", "cookie: two"], "two=");
    }),
    case(&["upstreams.balance.sticky.secret"], secret),
    case(&["upstreams.balance.sticky.path"], |gateway| {
        check_cookie_part(gateway, ["", "path: /case"], "Path=/case");
    }),
    case(&["upstreams.balance.sticky.http_only"], |gateway| {
        check_cookie_part(gateway, ["http_only: false", "http_only: true"], "HttpOnly");
    }),
    case(&["upstreams.balance.sticky.secure"], |gateway| {
        check_cookie_part(gateway, ["secure: false", "secure: true"], "Secure");
    }),
    case(&["upstreams.balance.sticky.same_site"], |gateway| {
        check_cookie_part(gateway, ["same_site: lax", "same_site: strict"], "SameSite=Strict");
    }),
    case(&["upstreams.balance.sticky.max_age"], |gateway| {
        check_cookie_part(gateway, ["", "max_age: 1h"], "Max-Age=3600");
    }),
    case(&["upstreams.balance.sticky.fallback"], fallback),
];

/// Reloads these settings of `sticky` for these endpoints.
fn reload(gateway: &LoadedGateway, endpoints: [&Origin; 2], settings: &str) {
    let [a, b] = endpoints;
    gateway.reload(&File::upstream(&[a, b], format!("balance: {{ kind: sticky, {settings} }}"), ""));
}

/// The cookie has this part after the second setting and not after the first.
fn check_cookie_part(gateway: &LoadedGateway, settings: [&str; 2], part: &str) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (settings, expected) in settings.into_iter().zip([false, true]) {
        reload(gateway, [&a, &b], settings);
        let response = gateway.get("/case");
        let cookie = response.field("set-cookie").unwrap();
        assert_eq!(cookie.contains(part), expected, "{settings}: {cookie}");
    }
}

fn secret(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    reload(gateway, [&a, &b], "cookie: seat, secret: the first secret");
    let response = gateway.get("/case");
    let cookie = response.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for (secret, replaced) in [("the first secret", false), ("the second secret", true)] {
        reload(gateway, [&a, &b], &format!("cookie: seat, secret: {secret}"));
        let response = gateway.get_with("/case", &format!("Cookie: {cookie}\r\n"));
        assert_eq!(response.field("set-cookie").is_some(), replaced, "{secret}");
    }
}

fn fallback(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (fallback, expected) in [("random", false), ("round_robin", true), ("random", false)] {
        reload(gateway, [&a, &b], &format!("fallback: {fallback}"));
        assert_eq!(alternates(gateway), expected, "{fallback}");
    }
}
