//! Kinds of `plugins`: a reload changes the settings of a plugin, and requests see it. A reload keeps the instance of a
//! plugin only while all its settings are equal, so one setting stands for those of its kind.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::origin::answer;
use crate::support::{Next, Origin};

pub(super) const CASES: &[Case] = &[
    case(&["plugins.basic_auth"], basic_auth),
    case(&["plugins.body_limit"], |gateway| {
        let settings = ["kind: body_limit, max_size: 1MiB", "kind: body_limit, max_size: 1B"];
        check(gateway, settings, |gateway, _| post(gateway).to_string(), ["200", "413"]);
    }),
    case(&["plugins.compress"], compress),
    case(&["plugins.cors"], |gateway| {
        let settings = ["a", "b"].map(|name| format!("kind: cors, origins: ['https://{name}.example']"));
        let allowed = |gateway: &LoadedGateway, _: &Origin| {
            let response = gateway.get_with("/case", "Origin: https://a.example\r\n");
            response.field("access-control-allow-origin").unwrap_or("none").to_owned()
        };
        check(gateway, settings.each_ref().map(|setting| &**setting), allowed, ["https://a.example", "none"]);
    }),
    case(&["plugins.forward_auth"], forward_auth),
    case(&["plugins.headers"], |gateway| {
        let settings = [
            "kind: headers, response: { set: { X-A: '1' } }",
            "kind: headers, response: { set: { X-A: '2' } }",
        ];
        check(gateway, settings, |gateway, _| response_field(gateway, "x-a"), ["1", "2"]);
    }),
    case(&["plugins.ip_access"], |gateway| {
        check(
            gateway,
            ["kind: ip_access, deny: [192.0.2.1]", "kind: ip_access, deny: [127.0.0.1]"],
            status,
            ["200", "403"],
        );
    }),
    case(&["plugins.jwt"], |gateway| {
        let secret = "secret: 0123456789abcdef0123456789abcdef";
        let settings = [true, false].map(|optional| format!("kind: jwt, {secret}, optional: {optional}"));
        check(gateway, settings.each_ref().map(|setting| &**setting), status, ["200", "401"]);
    }),
    #[cfg(feature = "luau")]
    case(&["plugins.luau"], |gateway| {
        let settings = ["one", "two"].map(|value| {
            format!(
                "kind: luau, source: 'function request_headers(req) req:set_header(\"x-a\", \"{value}\") end'"
            )
        });
        check(
            gateway,
            settings.each_ref().map(|setting| &**setting),
            |gateway, origin| sent(gateway, origin, "x-a"),
            ["one", "two"],
        );
    }),
    case(&["plugins.maintenance"], |gateway| {
        check(
            gateway,
            ["kind: maintenance, body: one", "kind: maintenance, body: two"],
            body,
            ["one", "two"],
        );
    }),
    case(&["plugins.message_filter"], |gateway| {
        let settings = ["kind: message_filter, deny: [b]", "kind: message_filter, deny: [a]"];
        let code = |gateway: &LoadedGateway, _: &Origin| {
            format!("{:?}", gateway.open("/case").unwrap().try_echo("a"))
        };
        check(gateway, settings, code, ["Ok(())", "Err(Some(1008))"]);
    }),
    case(&["plugins.mirror"], mirror),
    case(&["plugins.origin_check"], |gateway| {
        let settings =
            ["a", "b"].map(|name| format!("kind: origin_check, origins: ['https://{name}.example']"));
        let refusal = |gateway: &LoadedGateway, _: &Origin| {
            gateway.get_with("/case", "Origin: https://a.example\r\n").status.to_string()
        };
        check(gateway, settings.each_ref().map(|setting| &**setting), refusal, ["200", "403"]);
    }),
    case(&["plugins.rate_limit"], |gateway| {
        let second = |gateway: &LoadedGateway, origin: &Origin| {
            status(gateway, origin);
            status(gateway, origin)
        };
        check(
            gateway,
            ["kind: rate_limit, rate: 100/s", "kind: rate_limit, rate: 1/h"],
            second,
            ["200", "429"],
        );
    }),
    case(&["plugins.redirect"], |gateway| {
        let settings = ["kind: redirect, to: /one", "kind: redirect, to: /two"];
        check(gateway, settings, |gateway, _| response_field(gateway, "location"), ["/one", "/two"]);
    }),
    case(&["plugins.request_id"], |gateway| {
        let settings = ["kind: request_id, header: X-A", "kind: request_id, header: X-B"];
        let absent =
            |gateway: &LoadedGateway, origin: &Origin| (sent(gateway, origin, "x-a") == "none").to_string();
        check(gateway, settings, absent, ["false", "true"]);
    }),
    case(&["plugins.respond"], |gateway| {
        check(gateway, ["kind: respond, body: one", "kind: respond, body: two"], body, ["one", "two"]);
    }),
    case(&["plugins.rewrite"], |gateway| {
        let target = |gateway: &LoadedGateway, origin: &Origin| {
            status(gateway, origin);
            origin.seen().pop().unwrap().target().to_owned()
        };
        check(
            gateway,
            ["kind: rewrite, add_prefix: /one", "kind: rewrite, add_prefix: /two"],
            target,
            ["/one/case", "/two/case"],
        );
    }),
    case(&["plugins.security_headers"], |gateway| {
        let settings =
            ["DENY", "SAMEORIGIN"].map(|value| format!("kind: security_headers, frame_options: {value}"));
        let field = |gateway: &LoadedGateway, _: &Origin| response_field(gateway, "x-frame-options");
        check(gateway, settings.each_ref().map(|setting| &**setting), field, ["DENY", "SAMEORIGIN"]);
    }),
    #[cfg(feature = "wasm")]
    case(&["plugins.wasm"], wasm),
];

/// Reloads both settings of a plugin of the route, and compares what a request shows.
fn check(
    gateway: &LoadedGateway,
    settings: [&str; 2],
    show: impl Fn(&LoadedGateway, &Origin) -> String,
    expected: [&str; 2],
) {
    check_with(gateway, &Origin::named("a"), settings, show, expected);
}

fn check_with(
    gateway: &LoadedGateway,
    origin: &Origin,
    settings: [&str; 2],
    show: impl Fn(&LoadedGateway, &Origin) -> String,
    expected: [&str; 2],
) {
    for (settings, expected) in settings.into_iter().zip(expected) {
        let plugins = format!("plugins: [{{ {settings} }}]");
        gateway.reload(&File::route(format!("name: case, path: /case, upstream: ['{origin}'], {plugins}")));
        assert_eq!(show(gateway, origin), expected, "{settings}");
    }
}

fn status(gateway: &LoadedGateway, _: &Origin) -> String {
    gateway.get("/case").status.to_string()
}

fn body(gateway: &LoadedGateway, _: &Origin) -> String {
    gateway.get("/case").text()
}

fn response_field(gateway: &LoadedGateway, name: &str) -> String {
    gateway.get("/case").field(name).unwrap_or("none").to_owned()
}

/// A field of a request at the backend.
fn sent(gateway: &LoadedGateway, origin: &Origin, name: &str) -> String {
    assert_eq!(gateway.get("/case").status, 200);
    origin.seen().pop().unwrap().field(name).unwrap_or("none").to_owned()
}

fn post(gateway: &LoadedGateway) -> u16 {
    let mut wire = gateway.gateway().wire();
    wire.send("POST /case HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
    wire.response().status
}

fn basic_auth(gateway: &LoadedGateway) {
    let users = "users: { ada: $$2y$$10$$abcdefghijklmnopqrstuuYoA/Ig5dOcHJ1Uzls.zCgSC7r9v4W76 }";
    let settings = ["one", "two"].map(|realm| format!("kind: basic_auth, {users}, realm: {realm}"));
    let realm = |gateway: &LoadedGateway, _: &Origin| {
        response_field(gateway, "www-authenticate").contains("realm=\"two\"").to_string()
    };
    check(gateway, settings.each_ref().map(|setting| &**setting), realm, ["false", "true"]);
}

fn compress(gateway: &LoadedGateway) {
    let origin = Origin::fixed(answer(200, "Content-Type: text/plain\r\n", &[b'x'; 4000]), Next::Keep);
    let settings = ["kind: compress, encodings: [gzip]", "kind: compress, encodings: [br]"];
    let coding = |gateway: &LoadedGateway, _: &Origin| {
        let response = gateway.get_with("/case", "Accept-Encoding: gzip, br\r\n");
        response.field("content-encoding").unwrap_or("none").to_owned()
    };
    check_with(gateway, &origin, settings, coding, ["gzip", "br"]);
}

fn forward_auth(gateway: &LoadedGateway) {
    let services = [200, 403].map(|status| Origin::fixed(answer(status, "", b""), Next::Keep));
    let settings = services.each_ref().map(|service| format!("kind: forward_auth, url: 'http://{service}/'"));
    check(gateway, settings.each_ref().map(|setting| &**setting), status, ["200", "403"]);
}

fn mirror(gateway: &LoadedGateway) {
    let (origin, copies) = (Origin::named("a"), ["one", "two"].map(Origin::named));
    for (number, copy) in copies.iter().enumerate() {
        let plugins = "plugins: [{ kind: mirror, upstream: copies }]";
        let route = format!("name: case, path: /case, upstream: ['{origin}'], {plugins}");
        gateway.reload(&File::route(route).and_upstream("copies", format!("endpoints: ['{copy}']")));
        assert_eq!(gateway.get(&format!("/case/{number}")).status, 200);
        assert_eq!(copy.await_seen(1)[0].target(), format!("/case/{number}"));
    }
    assert_eq!(copies[0].count(), 1);
}

#[cfg(feature = "wasm")]
fn wasm(gateway: &LoadedGateway) {
    let (origin, called) = (Origin::named("a"), Origin::named("called"));
    let module = format!("{}/crates/wasm/fixtures/rust-http.wasm", env!("CARGO_MANIFEST_DIR"));
    for (config, calls) in [("", 0), (", config: ask=called, allow: { upstreams: [called] }", 1)] {
        let plugins = format!("plugins: [{{ kind: wasm, module: '{module}'{config} }}]");
        let route = format!("name: case, path: /case, upstream: ['{origin}'], {plugins}");
        gateway.reload(&File::route(route).and_upstream("called", format!("endpoints: ['{called}']")));
        assert_eq!(gateway.get_with("/case", "X-Team: blue\r\n").status, 200);
        assert_eq!(called.count(), calls, "{config}");
    }
}
