//! The conditions of `routes`, and `include`.

use super::loaded_gateway::{File, LoadedGateway};
use super::shared_checks::statuses_after_reloads;
use super::{Case, case};
use crate::support::{Origin, eventually, get};

pub(super) const CASES: &[Case] = &[
    case(&["include"], include),
    case(&["routes"], section),
    case(&["routes.name"], name),
    case(&["routes.host"], |gateway| check_condition(gateway, ["host: other.example", "host: localhost"])),
    case(&["routes.path"], path),
    case(&["routes.methods"], |gateway| check_condition(gateway, ["methods: [POST]", "methods: [GET]"])),
    case(&["routes.headers"], |gateway| {
        check_condition(gateway, ["headers: { x-a: '2' }", "headers: { x-a: '1' }"]);
    }),
    case(&["routes.query"], |gateway| check_condition(gateway, ["query: { q: '2' }", "query: { q: '1' }"])),
    case(&["routes.when"], |gateway| {
        check_condition(
            gateway,
            [r#"when: 'request.headers["x-a"] == "2"'"#, r#"when: 'request.headers["x-a"] == "1"'"#],
        );
    }),
    case(&["routes.listeners"], listeners),
    case(&["routes.path_parameters"], path_parameters),
    case(&["routes.escaped_slashes"], escaped_slashes),
    case(&["routes.merge_slashes"], merge_slashes),
    case(&["routes.upstream"], upstream),
    case(&["routes.upstream.address"], inline_address),
    case(&["routes.upstream.weight"], inline_weight),
    case(&["routes.upstream.drain"], inline_drain),
    case(&["routes.upstream.backup"], inline_backup),
    case(&["routes.upstream.max_connections"], inline_max_connections),
];

/// A GET of `/case?q=1` with `X-A: 1` matches the second condition alone.
fn check_condition(gateway: &LoadedGateway, settings: [&str; 2]) {
    let origin = Origin::named("a");
    let [other, matching] = settings;
    for (setting, status) in [(other, 404), (matching, 200), (other, 404), ("", 200)] {
        gateway.reload(&File::route(format!("name: case, path: /case, upstream: ['{origin}'], {setting}")));
        let response = gateway.get_with("/case?q=1", "X-A: 1\r\n");
        assert_eq!(response.status, status, "{setting}");
    }
}

fn include(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for name in ["one", "two"] {
        let text = format!("routes: [{{ name: {name}, path: /{name}, upstream: ['{origin}'] }}]\n");
        std::fs::write(gateway.path(&format!("{name}.yaml")), text).unwrap();
    }
    for (name, statuses) in [("one", (200, 404)), ("two", (404, 200))] {
        let file = gateway.path(&format!("{name}.yaml"));
        gateway.reload(&File::top(format!("include: '{}'", file.display())));
        assert_eq!((gateway.get("/one").status, gateway.get("/two").status), statuses);
    }
}

fn section(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let file = |path: &str| File::route(format!("name: case, path: {path}, upstream: ['{origin}']"));
    statuses_after_reloads(gateway, file, "", &[("/case", 200), ("/other", 404)]);
}

fn name(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for name in ["first", "second"] {
        gateway.reload(&File::route(format!("name: {name}, path: /case, upstream: ['{origin}']")));
        assert_eq!(gateway.get("/case").status, 200);
        crate::support::eventually("the request is counted", || {
            (gateway.metric("moongate_http_requests_total", &[("route", name)]) == 1.0).then_some(())
        });
    }
}

fn path(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let file = |path: &str| File::route(format!("name: case, path: '{path}', upstream: ['{origin}']"));
    statuses_after_reloads(gateway, file, "", &[("=/case/x", 404), ("~^/c.se$", 200), ("/other", 404)]);
}

fn listeners(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (listener, statuses) in [("web", (200, 404)), ("side", (404, 200))] {
        let route = format!("name: case, path: /case, listeners: [{listener}], upstream: ['{origin}']");
        gateway.reload(&File::route(route).and_listener("name: side, address: 127.0.0.1:0"));
        let side = get(gateway.listener("side"), "/case").status;
        assert_eq!((gateway.get("/case").status, side), statuses, "{listener}");
    }
}

fn path_parameters(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, status) in [("ignore", 200), ("reject", 400), ("keep", 404)] {
        let route = format!("name: case, path: /case/x, upstream: ['{origin}'], path_parameters: {setting}");
        gateway.reload(&File::route(route));
        assert_eq!(gateway.get("/case;a=1/x").status, status, "{setting}");
    }
}

fn escaped_slashes(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, status) in [("match", 200), ("reject", 400)] {
        let route = format!("name: case, path: /case, upstream: ['{origin}'], escaped_slashes: {setting}");
        gateway.reload(&File::route(route));
        assert_eq!(gateway.get("/case/%2fx").status, status, "{setting}");
    }
}

fn merge_slashes(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, target) in [("match", "/case//x"), ("rewrite", "/case/x")] {
        let route = format!("name: case, path: /case, upstream: ['{origin}'], merge_slashes: {setting}");
        gateway.reload(&File::route(route));
        assert_eq!(gateway.get("/case//x").status, 200);
        assert_eq!(origin.seen().last().unwrap().target(), target, "{setting}");
    }
}

fn upstream(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (upstream, name) in [("a", "a"), ("b", "b"), ("{ a: 0, b: 1 }", "b"), ("{ a: 1, b: 0 }", "a")] {
        gateway.reload(
            &File::route(format!("name: case, path: /case, upstream: {upstream}"))
                .and_upstream("a", format!("endpoints: ['{a}']"))
                .and_upstream("b", format!("endpoints: ['{b}']")),
        );
        assert_eq!(gateway.get("/case").text(), name, "{upstream}");
    }
}

/// A route to an inline list of endpoints, and the names that respond to ten requests.
fn inline(gateway: &LoadedGateway, endpoints: &[String]) -> Vec<String> {
    let endpoints = endpoints.join(", ");
    gateway.reload(&File::route(format!("name: case, path: /case, upstream: [{endpoints}]")));
    gateway.gateway().names("/case", 10)
}

fn inline_address(gateway: &LoadedGateway) {
    for name in ["a", "b"] {
        let origin = Origin::named(name);
        assert_eq!(inline(gateway, &[format!("{{ address: '{origin}' }}")]), [name; 10]);
    }
}

fn inline_weight(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (weight, name) in [(0, "b"), (1, "a")] {
        let endpoints = [(&a, weight), (&b, 1 - weight)]
            .map(|(origin, weight)| format!("{{ address: '{origin}', weight: {weight} }}"));
        assert_eq!(inline(gateway, &endpoints), [name; 10]);
    }
}

fn inline_backup(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (backup, name) in [(true, "b"), (false, "a")] {
        let endpoints = [(&a, backup), (&b, !backup)]
            .map(|(origin, backup)| format!("{{ address: '{origin}', backup: {backup} }}"));
        assert_eq!(inline(gateway, &endpoints), [name; 10]);
    }
}

fn inline_max_connections(gateway: &LoadedGateway) {
    let a = Origin::named("a");
    for (limit, further) in [(1, Err(503)), (2, Ok("a".to_owned()))] {
        let endpoint = format!("{{ address: '{a}', max_connections: {limit} }}");
        gateway.reload(&File::route(format!("name: case, path: /case, upstream: [{endpoint}]")));
        a.await_sockets(0);
        let first = eventually("a place", || gateway.open("/case").ok());
        assert_eq!(gateway.open("/case").map(|socket| socket.backend.clone()), further, "{limit}");
        first.close();
    }
}

fn inline_drain(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (drain, name) in [(true, "b"), (false, "a")] {
        let endpoints = [(&a, drain), (&b, !drain)]
            .map(|(origin, drain)| format!("{{ address: '{origin}', drain: {drain} }}"));
        assert_eq!(inline(gateway, &endpoints), [name; 10]);
    }
}
