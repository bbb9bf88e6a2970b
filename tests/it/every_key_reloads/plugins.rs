//! `plugins`: the keys of every entry, at the top level.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::{Origin, eventually};

pub(super) const CASES: &[Case] = &[
    case(&["plugins"], section),
    case(&["plugins.kind"], kind),
    case(&["plugins.name"], name),
    case(&["plugins.on_error"], on_error),
    case(&["plugins.when"], when),
    case(&["plugins.owned_headers"], owned_headers),
];

/// These plugins, and a route to this backend.
fn to(origin: &Origin, plugins: &str) -> File {
    File::top(format!("plugins: [{plugins}]"))
        .and_route(format!("name: case, path: /case, upstream: ['{origin}']"))
}

/// Requests `/case` with `X-A: 1`, and returns a field at the backend.
fn received(gateway: &LoadedGateway, origin: &Origin, field: &str) -> Option<String> {
    let response = gateway.get_with("/case", "X-A: 1\r\n");
    assert_eq!(response.status, 200, "{}", response.text());
    origin.seen().pop().unwrap().field(field).map(str::to_owned)
}

fn section(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (plugins, added) in
        [("", false), ("{ kind: headers, request: { set: { X-B: '1' } } }", true), ("", false)]
    {
        gateway.reload(&to(&origin, plugins));
        assert_eq!(received(gateway, &origin, "x-b").is_some(), added, "{plugins}");
    }
}

fn kind(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (plugin, adds_id) in
        [("{ kind: security_headers, name: one }", false), ("{ kind: request_id, name: one }", true)]
    {
        gateway.reload(&to(&origin, plugin));
        assert_eq!(received(gateway, &origin, "x-request-id").is_some(), adds_id, "{plugin}");
    }
}

fn name(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for name in ["first", "second"] {
        gateway.reload(&to(&origin, &format!("{{ kind: request_id, name: {name} }}")));
        assert_eq!(gateway.get("/case").status, 200);
        eventually("the call is counted", || {
            (gateway.metric("moongate_plugin_calls_total", &[("plugin", name)]) > 0.0).then_some(())
        });
    }
}

fn on_error(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (setting, status) in [("open", 200), ("closed", 500), ("open", 200)] {
        // The condition fails for a request without the field. The load has no field either, so this is a plugin of the
        // route.
        let when = r#"when: 'int(request.headers["x-number"]) == 1'"#;
        let plugin = format!("{{ kind: request_id, on_error: {setting}, {when} }}");
        let route = format!("name: case, path: /case, upstream: ['{origin}'], plugins: [{plugin}]");
        gateway.reload(&File::route(route));
        assert_eq!(gateway.get_with("/case", "X-Number: none\r\n").status, status, "{setting}");
    }
}

fn when(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (value, added) in [("2", false), ("1", true)] {
        let when = format!(r#"when: '"x-a" in request.headers && request.headers["x-a"] == "{value}"'"#);
        gateway.reload(&to(
            &origin,
            &format!("{{ kind: headers, request: {{ set: {{ X-B: '1' }} }}, {when} }}"),
        ));
        assert_eq!(received(gateway, &origin, "x-b").is_some(), added, "{value}");
    }
}

fn owned_headers(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (owned, passes) in [("[x-other]", true), ("[x-a]", false)] {
        gateway.reload(&to(&origin, &format!("{{ kind: request_id, owned_headers: {owned} }}")));
        assert_eq!(received(gateway, &origin, "x-a").is_some(), passes, "{owned}");
    }
}
