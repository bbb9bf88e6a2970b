//! Fields that a client may not send: they reach no expression, authentication service, mirror or backend.
//! This holds in any spelling, over every HTTP version, and whatever happens to the plugin that owns them.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Seen, Socket, eventually, h2, h2ws, moongate};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as B64, Engine};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// An address without a listener.
const GONE: &str = "http://127.0.0.1:1/";

/// Forged fields, each of which some backend or service would trust.
const CLAIMS: [(&str, &str); 14] = [
    ("x_forwarded_uri", "/public"),
    ("x-forwarded-uri", "/public"),
    ("x.forwarded.uri", "/public"),
    ("x_original_url", "/public"),
    ("x-original-method", "OPTIONS"),
    ("x_real_ip", "6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "inner.example"),
    ("x-forwarded-user", "root"),
    ("forwarded", "for=6.6.6.6"),
    ("proxy", "6.6.6.6:80"),
];

fn gateway(rest: &str) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
{rest}"
    ))
}

fn lines(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// Sends these fields over HTTP/1.0, 1.1 and 2, and with a WebSocket over both.
fn ask_all(gateway: &Gateway, fields: &[(&str, &str)]) {
    for version in ["1.0", "1.1"] {
        let head = format!("GET /secret HTTP/{version}\r\nHost: a.example:81\r\nConnection: close\r\n");
        ask(gateway.web(), format!("{head}{}\r\n", lines(fields)));
    }
    let client = h2::Client::connect(gateway.web());
    let mut request = h2::request("GET", "/secret");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.ask(request.body(()).unwrap(), &[]);
    let _ = Socket::open_with(gateway.web(), "/secret", fields);
    let _ = h2ws::Client::plain(gateway.web()).open_with("/secret", fields);
}

/// The number of requests of [`ask_all`].
const ALL: usize = 5;

/// Asserts that no forged value is left; fields that the gateway sets have its own value.
fn assert_clean(seen: &Seen, method: &str) {
    for (name, value) in CLAIMS {
        assert!(!seen.fields(name).contains(&value), "{name} in {}", seen.head);
        if name.contains(['_', '.'])
            || matches!(name, "proxy" | "forwarded" | "x-real-ip" | "x-forwarded-user")
        {
            assert_eq!(seen.field(name), None, "{}", seen.head);
        }
    }
    assert_eq!(seen.fields("x-forwarded-for"), ["127.0.0.1"], "{method}: {}", seen.head);
    assert_eq!(seen.fields("x-forwarded-proto"), ["http"], "{method}: {}", seen.head);
}

#[test]
fn forged_fields_of_an_untrusted_client_reach_no_backend() {
    let (origin, auth, copies) = (Origin::named("a"), Origin::named("auth"), Origin::named("copy"));
    let gateway = gateway(&format!(
        "upstreams: {{ auth: {{ endpoints: ['{auth}'] }}, copies: {{ endpoints: ['{copies}'] }} }}
routes:
  - {{ name: claimed, when: '\"x-forwarded-uri\" in request.headers', upstream: ['127.0.0.1:1'] }}
  - name: all
    upstream: ['{origin}']
    plugins:
      - {{ kind: respond, status: 500, when: '\"x_forwarded_uri\" in request.headers || request.headers.proxy != \"\"' }}
      - {{ kind: mirror, upstream: copies }}
      - {{ kind: forward_auth, upstream: auth }}"
    ));
    ask_all(&gateway, &CLAIMS);
    let (asked, seen) = (auth.await_seen(ALL), origin.await_seen(ALL));
    for request in &asked {
        assert_clean(request, "auth");
        assert_eq!(request.fields("x-forwarded-uri"), ["/secret"], "{}", request.head);
        assert_eq!(request.fields("x-forwarded-method"), ["GET"], "{}", request.head);
    }
    for request in &seen {
        assert_clean(request, "backend");
        assert_eq!(request.field("x-forwarded-host"), request.field("host"), "{}", request.head);
    }
    // WebSockets are not copied.
    eventually("copies of what is no WebSocket", || (copies.count() == ALL - 2).then_some(()));
    for request in copies.seen() {
        assert_clean(&request, "mirror");
        assert_eq!(request.field("x-forwarded-host"), request.field("host"), "{}", request.head);
    }
}

#[test]
fn what_connection_nominates_is_gone_before_an_expression_reads_it() {
    let (origin, other) = (Origin::named("a"), Origin::named("other"));
    let gateway = gateway(&format!(
        "routes:
  - {{ name: beta, when: 'request.headers[\"x-beta\"] == \"1\"', upstream: ['{other}'] }}
  - {{ name: all, upstream: ['{origin}'] }}"
    ));
    let response =
        ask(gateway.web(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Beta\r\nX-Beta: 1\r\n\r\n");
    assert_eq!((response.status, other.count()), (200, 0));
    assert_eq!(origin.seen()[0].field("x-beta"), None);
}

#[test]
fn of_several_values_the_nearest_trusted_proxys_counts_and_goes_on_alone() {
    let (origin, auth) = (Origin::named("a"), Origin::named("auth"));
    for policy in ["add", "keep"] {
        let gateway = gateway(&format!(
            "server: {{ trusted_proxies: [127.0.0.1], x_forwarded: {policy} }}
upstreams: {{ auth: {{ endpoints: ['{auth}'] }} }}
routes:
  - {{ path: =/https, upstream: ['{origin}'], plugins: [{{ kind: redirect, https: true }}] }}
  - {{ upstream: ['{origin}'], plugins: [{{ kind: forward_auth, upstream: auth }}] }}"
        ));
        // The proxy has appended to both lists: the first element is the client's own.
        let hops = "X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\n";
        let twice = format!("{hops}X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n");
        let list = format!("{hops}X-Forwarded-Proto: https, http\r\n");
        for proto in [twice, list] {
            let head = "GET /https HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
            assert_eq!(ask(gateway.web(), format!("{head}{proto}\r\n")).status, 308, "{policy}");
        }
        let fields = [
            ("x-forwarded-for", "1.1.1.1, 203.0.113.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "80"),
            ("x-forwarded-port", "443"),
        ];
        origin.forget();
        auth.forget();
        // The WebSocket client of the tests sends one line per name.
        let head = "GET /x HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n";
        assert_eq!(ask(gateway.web(), format!("{head}{}\r\n", lines(&fields))).status, 200);
        let client = h2::Client::connect(gateway.web());
        let request =
            fields.iter().fold(h2::request("GET", "/x"), |all, (name, value)| all.header(*name, *value));
        assert_eq!(client.ask(request.body(()).unwrap(), &[]).status, 200);
        let stream = h2ws::Client::plain(gateway.web());
        stream.open_with("/x", &fields).map_err(|refused| refused.status()).unwrap();
        for seen in [origin.await_seen(3), auth.await_seen(3)].concat() {
            assert_eq!(seen.fields("x-forwarded-proto"), ["https"], "{policy} {}", seen.head);
            assert_eq!(seen.fields("x-forwarded-host"), ["shop.example"], "{policy} {}", seen.head);
            assert_eq!(seen.fields("x-forwarded-port"), ["443"], "{policy} {}", seen.head);
        }
    }
}

fn token(claims: &serde_json::Value) -> String {
    let message = format!("{}.{}", B64.encode(r#"{"alg":"HS256"}"#), B64.encode(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", B64.encode(mac.finalize().into_bytes()))
}

#[test]
fn an_owned_field_comes_only_from_its_plugin() {
    let origin = Origin::named("a");
    let forged = [("x-user", "root"), ("x_user", "root"), ("x.user", "root")];
    let never = "when: 'request.path == \"/never\"'";
    let broken = "when: 'int(request.headers[\"x-none\"]) == 1', on_error: open";
    let hash = "'$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O'";
    for entry in [
        format!("kind: jwt, secret: {SECRET}, claims_to_headers: {{ X-User: sub }}, {never}"),
        format!("kind: jwt, secret: {SECRET}, claims_to_headers: {{ X-User: sub }}, {broken}"),
        format!("kind: jwt, secret: {SECRET}, claims_to_headers: {{ X-User: sub }}, optional: true"),
        format!("kind: jwt, jwks_url: '{GONE}', claims_to_headers: {{ X-User: sub }}, optional: true, on_error: open"),
        format!("kind: basic_auth, users: {{ ada: {hash} }}, user_header: X-User, {never}"),
        format!("kind: basic_auth, users: {{ ada: {hash} }}, user_header: X-User, {broken}"),
        format!("kind: forward_auth, url: '{GONE}', response_headers: [X-User], {never}"),
        format!("kind: forward_auth, url: '{GONE}', response_headers: [X-User], {broken}"),
        format!("kind: forward_auth, url: '{GONE}', response_headers: [X-User], on_error: open"),
        format!("kind: luau, source: 'function request_headers(req) end', owned_headers: [X-User], {never}"),
        "kind: luau, source: 'function request_headers(req) error(1) end', owned_headers: [X-User], on_error: open"
            .to_owned(),
        format!(
            "kind: wasm, module: '{}/conf/plugins/tag.wasm', owned_headers: [X-User], {never}",
            env!("CARGO_MANIFEST_DIR")
        ),
        format!("kind: respond, owned_headers: [X-User], {never}"),
    ] {
        let gateway = gateway(&format!(
            "routes:
  - upstream: ['{origin}']
    plugins:
      - {{ kind: respond, name: early, status: 500, when: 'request.headers[\"x-user\"] != \"\"' }}
      - {{ {entry} }}
      - {{ kind: respond, name: late, status: 500, when: 'request.headers[\"x-user\"] != \"\"' }}"
        ));
        origin.forget();
        ask_all(&gateway, &forged);
        for seen in origin.await_seen(ALL) {
            for (name, _) in forged {
                assert_eq!(seen.field(name), None, "{name} past {entry}: {}", seen.head);
            }
        }
    }
}

#[test]
fn owners_that_exclude_each_other_leave_the_other_s_value() {
    let origin = Origin::named("a");
    let jwt = |path: &str| {
        format!(
            "{{ kind: jwt, secret: {SECRET}, claims_to_headers: {{ X-User: sub }}, when: 'request.path == \"{path}\"' }}"
        )
    };
    let gateway = gateway(&format!(
        "routes: [{{ upstream: ['{origin}'], plugins: [{}, {}] }}]",
        jwt("/one"),
        jwt("/two")
    ));
    let token = token(&json!({ "sub": "ada", "exp": 4_000_000_000_u64 }));
    for path in ["/one", "/two", "/three"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nX-User: ada\r\n\r\n"
        );
        assert_eq!(ask(gateway.web(), request).status, 200);
    }
    let users: Vec<_> = origin.seen().iter().map(|seen| seen.field("x-user").map(str::to_owned)).collect();
    assert_eq!(users, [Some("ada".to_owned()), Some("ada".to_owned()), None]);
}

#[test]
fn a_credential_is_judged_and_replaced_by_its_owner() {
    let (origin, auth) = (
        Origin::named("a"),
        Origin::scripted("auth", |seen, wire| {
            let good = seen.field("authorization") == Some("Bearer outside");
            let status = if good { 200 } else { 401 };
            let fields = if seen.target() == "/silent" { "" } else { "Authorization: Bearer inside\r\n" };
            let answer = crate::support::origin::answer(status, fields, b"");
            wire.try_send(answer).map_or(crate::support::Next::Close, |()| crate::support::Next::Keep)
        }),
    );
    let auth_entry = "kind: forward_auth, upstream: auth, response_headers: [Authorization]";
    let gateway = gateway(&format!(
        "upstreams: {{ auth: {{ endpoints: ['{auth}'] }} }}
routes:
  - {{ path: =/silent, upstream: ['{origin}'], plugins: [{{ {auth_entry}, path: /silent }}] }}
  - {{ path: =/skipped, upstream: ['{origin}'], plugins: [{{ {auth_entry}, when: 'request.headers.authorization == \"\"' }}] }}
  - {{ upstream: ['{origin}'], plugins: [{{ {auth_entry} }}] }}"
    ));
    let get = |path: &str, value: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        ask(gateway.web(), format!("{head}Authorization: {value}\r\n\r\n")).status
    };
    assert_eq!(get("/", "Bearer wrong"), 401);
    assert_eq!(get("/", "Bearer outside"), 200);
    assert_eq!(get("/silent", "Bearer outside"), 200);
    // The condition sees the credential; the backend does not.
    assert_eq!(get("/skipped", "Bearer outside"), 200);
    let passed: Vec<_> =
        origin.seen().iter().map(|seen| seen.field("authorization").map(str::to_owned)).collect();
    assert_eq!(passed, [Some("Bearer inside".to_owned()), None, None]);
}

#[test]
fn a_credential_reaches_every_plugin_that_judges_it_and_none_that_an_earlier_one_took_it_from() {
    let (origin, auth) = (Origin::named("a"), Origin::named("auth"));
    let hash = "'$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O'";
    let never = "when: 'request.path == \"/never\"'";
    let gateway = gateway(&format!(
        "upstreams: {{ auth: {{ endpoints: ['{auth}'] }} }}
routes:
  - path: =/jwt
    upstream: ['{origin}']
    plugins:
      - {{ kind: forward_auth, upstream: auth, response_headers: [Authorization, Cookie], {never} }}
      - {{ kind: jwt, secret: {SECRET}, token_from: [bearer, 'cookie:token'] }}
  - path: =/replaced
    upstream: ['{origin}']
    plugins:
      - {{ kind: headers, request: {{ set: {{ Authorization: ours }} }} }}
      - {{ kind: forward_auth, upstream: auth, response_headers: [Authorization] }}
  - path: =/removed
    upstream: ['{origin}']
    plugins:
      - {{ kind: headers, request: {{ remove: [Authorization] }} }}
      - {{ kind: forward_auth, upstream: auth, response_headers: [Authorization] }}
  - path: =/basic
    upstream: ['{origin}']
    plugins:
      - {{ kind: forward_auth, upstream: auth, response_headers: [Authorization], {never} }}
      - {{ kind: basic_auth, users: {{ ada: {hash} }} }}"
    ));
    let get = |path: &str, field: &str| {
        ask(gateway.web(), format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n"))
    };
    let token = token(&json!({ "sub": "ada", "exp": 4_000_000_000_u64 }));
    assert_eq!(get("/jwt", &format!("Authorization: Bearer {token}")).status, 200);
    assert_eq!(get("/jwt", &format!("Cookie: token={token}")).status, 200);
    assert!(origin.seen().iter().all(|seen| seen.field("authorization").or(seen.field("cookie")).is_none()));
    assert_eq!(get("/replaced", "Authorization: Bearer client").status, 200);
    assert_eq!(get("/removed", "Authorization: Bearer client").status, 200);
    let asked: Vec<_> = auth.seen().iter().map(|seen| seen.fields("authorization").join("|")).collect();
    assert_eq!(asked, ["ours", ""]);
    // The challenge shows that the password was checked: without one it is the same.
    assert_eq!(get("/basic", "Authorization: Basic YWRhOndyb25n").status, 401);
}

#[test]
fn a_plugin_that_sets_or_removes_a_field_means_all_its_spellings() {
    let origin = Origin::named("a");
    let c = format!("{}/crates/wasm/fixtures/c.wasm", env!("CARGO_MANIFEST_DIR"));
    let assembly = format!("{}/crates/wasm/fixtures/assemblyscript.wasm", env!("CARGO_MANIFEST_DIR"));
    for entry in [
        "kind: luau, source: 'function request_headers(req) req:set_header(\"x-seen-team\", \"blue\") end'".to_owned(),
        "kind: luau, source: 'function request_headers(req) req:remove_header(\"x_seen_team\") req:add_header(\"x-seen-team\", \"blue\") end'".to_owned(),
        format!("kind: wasm, module: '{c}'"),
        format!("kind: wasm, module: '{assembly}'"),
        "kind: headers, request: { set: { X-Seen-Team: blue } }".to_owned(),
        "kind: headers, request: { remove: [X.Seen.Team], add: { X-Seen-Team: blue } }".to_owned(),
    ] {
        let gateway = gateway(&format!("routes: [{{ upstream: ['{origin}'], plugins: [{{ {entry} }}] }}]"));
        origin.forget();
        let forged =
            [("x-team", "blue"), ("x_seen_team", "red"), ("x-seen_team", "red"), ("x.seen.team", "red")];
        ask_all(&gateway, &forged);
        for seen in origin.await_seen(ALL) {
            assert_eq!(seen.fields("x-seen-team"), ["blue"], "{entry}: {}", seen.head);
            for (name, _) in &forged[1..] {
                assert_eq!(seen.field(name), None, "{entry}: {}", seen.head);
            }
        }
    }
}

#[test]
fn no_plugin_owns_what_the_gateway_judges_itself() {
    let hash = "'$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O'";
    for name in ["Host", "Via", "X-Forwarded-For"] {
        for entry in [
            format!("kind: jwt, secret: {SECRET}, claims_to_headers: {{ {name}: sub }}"),
            format!("kind: basic_auth, users: {{ ada: {hash} }}, user_header: {name}"),
            format!("kind: forward_auth, upstream: auth, response_headers: [{name}]"),
            format!("kind: request_id, owned_headers: [{name}]"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let routes = format!(
                "upstreams: {{ auth: {{ endpoints: ['127.0.0.1:9'] }} }}\nroutes: [{{ upstream: auth, plugins: [{{ {entry} }}] }}]"
            );
            std::fs::write(file.path(), routes).unwrap();
            let output = moongate(&["check", "-c", file.path().to_str().unwrap()]);
            let report = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
            .to_lowercase();
            assert_eq!(output.status.code(), Some(78), "{entry}: {report}");
            let said = format!("no plugin can own `{}`", name.to_lowercase());
            assert!(report.contains(&said), "{entry}: {report}");
        }
    }
}
