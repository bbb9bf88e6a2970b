//! Plugins that authorise by a credential or a service, through the real gateway: `jwt`, `forward_auth`,
//! `rate_limit`; and `mirror`, which calls services too.

use crate::support::origin::answer;
use crate::support::raw::ask;
use crate::support::secure;
use crate::support::{Gateway, Next, Origin, Response, Socket, eventually};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as B64, Engine};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "a secret of at least thirty-two bytes";

// RFC 8037, appendix A: a key of Ed25519.
const ED_KEY: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of HS256.
fn token(claims: &serde_json::Value) -> String {
    let head = B64.encode(r#"{"alg":"HS256","kid":"a"}"#);
    let message = format!("{head}.{}", B64.encode(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", B64.encode(mac.finalize().into_bytes()))
}

fn get(gateway: &Gateway, fields: &str) -> Response {
    ask(
        gateway.web(),
        format!("GET /a?b=c HTTP/1.1\r\nHost: a.example:81\r\nConnection: close\r\n{fields}\r\n"),
    )
}

#[test]
fn jwt_requires_a_token_and_sends_its_subject_to_the_backend() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: jwt, secret: {SECRET}, claims_to_headers: {{ X-User: sub }} }}] }}]"
    ));
    let refused = get(&gateway, "X-User: root\r\n");
    assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some("Bearer")));
    let good = token(&json!({ "sub": "ada", "exp": now() + 600 }));
    let welcome = get(&gateway, &format!("Authorization: Bearer {good}\r\nX-User: root\r\nX_User: root\r\n"));
    assert_eq!((welcome.status, welcome.text().as_str()), (200, "a"));
    let stale = token(&json!({ "sub": "ada", "exp": now() - 600 }));
    let late = get(&gateway, &format!("Authorization: Bearer {stale}\r\n"));
    assert!(
        late.status == 401 && late.field("www-authenticate").unwrap().contains("expired"),
        "{}",
        late.head
    );
    let seen = origin.seen();
    assert_eq!((seen.len(), seen[0].fields("x-user")), (1, vec!["ada"]));
    assert_eq!(seen[0].field("x_user"), None, "to many backends that is the same field");
}

#[test]
fn requests_are_rejected_while_the_service_is_down() {
    let origin = Origin::named("a");
    let gone = "\"http://127.0.0.1:1/\", on_error: open";
    let gateway = Gateway::start(&format!(
        "routes:
  - {{ upstream: [{origin}], plugins: [{{ kind: jwt, jwks_url: {gone}, claims_to_headers: {{ X-User: sub }} }}] }}
  - {{ methods: [POST], upstream: [{origin}], plugins: [{{ kind: forward_auth, url: {gone}, response_headers: [X-User] }}] }}"
    ));
    let fields =
        format!("Authorization: Bearer {}\r\nX-User: root\r\n", token(&json!({ "exp": now() + 600 })));
    assert_eq!(get(&gateway, &fields).status, 200);
    let post =
        format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n");
    assert_eq!(ask(gateway.web(), post).status, 200);
    assert!(origin.seen().iter().all(|seen| seen.field("x-user").is_none()));
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_living_websocket_is_closed_when_its_token_is_over() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: jwt, secret: {SECRET}, leeway: 0s, recheck: 1s, token_from: [\"query:t\"] }}] }}]"
    ));
    assert_eq!(Socket::open_with(gateway.web(), "/", &[]).err(), Some(401));
    let long = token(&json!({ "exp": now() + 600 }));
    let short = token(&json!({ "exp": now() + 2 }));
    let mut stays = Socket::open(gateway.web(), &format!("/?t={long}"));
    let mut ends = Socket::open(gateway.web(), &format!("/?t={short}"));
    ends.echo("still good");
    assert_eq!(ends.end(), Some(1008));
    stays.echo("untouched");
}

#[test]
fn keys_come_over_tls_from_a_server_that_the_system_trusts() {
    let origin = Origin::named("a");
    let keys = secure::json(ED_KEY.to_owned());
    let yaml = format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: jwt, jwks_url: \"https://localhost:{}/keys\" }}] }}]",
        keys.port()
    );
    // A key of the token's ID exists for another algorithm: the key set has been loaded.
    let bad = format!("Authorization: Bearer {}\r\n", token(&json!({ "exp": now() + 600 })));
    let trusting = Gateway::start_with("SSL_CERT_FILE", secure::authority().as_os_str(), &yaml);
    let refused = get(&trusting, &bad);
    assert!(refused.status == 401 && refused.field("www-authenticate").unwrap().contains("known key"));
    let wary = Gateway::start(&yaml);
    wary.log().wait(0, &["key set fetch failed"]);
    assert_eq!(get(&wary, &bad).status, 500, "nothing to check a token with");
    assert_eq!(get(&wary, "").status, 401, "no token to check");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_set_is_fetched_behind_a_redirect_and_serves_without_the_keys_that_cannot_be_used() {
    let origin = Origin::named("a");
    let keys = Origin::scripted("keys", |seen, wire| {
        let said = match seen.target() {
            "/keys" => answer(302, "Location: real/../set?v=1\r\n", b""),
            "/away" => answer(302, "Location: http://127.0.0.1:1/set\r\n", b""),
            _ => {
                let good: serde_json::Value = serde_json::from_str(ED_KEY).unwrap();
                let mut set = good.clone();
                let list = set["keys"].as_array_mut().unwrap();
                let mut numeric = list[0].clone();
                numeric["kid"] = json!(7);
                let mut text = list[0].clone();
                text["x5c"] = json!("no list");
                text["kid"] = json!("text-x5c");
                list.splice(0..0, [numeric, text, json!("no key"), json!({ "kty": "new", "kid": "later" })]);
                answer(200, "Content-Type: application/json\r\n", set.to_string().as_bytes())
            }
        };
        wire.try_send(said).map_or(Next::Close, |()| Next::Keep)
    });
    let yaml = |path: &str| {
        format!(
            "routes: [{{ upstream: [{origin}], plugins: [{{ kind: jwt, jwks_url: \"http://{keys}{path}\" }}] }}]"
        )
    };
    let gateway = Gateway::start(&yaml("/keys"));
    // A key of the token's ID exists for another algorithm: the key set has been loaded.
    let bad = format!("Authorization: Bearer {}\r\n", token(&json!({ "exp": now() + 600 })));
    let refused = get(&gateway, &bad);
    assert!(refused.status == 401 && refused.field("www-authenticate").unwrap().contains("known key"));
    for left_out in ["with kid 7", "text-x5c", "keys[2]", "later"] {
        let line = gateway.log().wait(0, &[left_out]);
        assert!(line.contains("key of a key set skipped"), "{line}");
    }
    let seen = keys.seen();
    assert_eq!(seen.iter().map(|seen| seen.target().to_owned()).collect::<Vec<_>>(), ["/keys", "/set?v=1"]);
    assert!(seen.iter().all(|seen| seen.field("user-agent") == Some("moongate")));
    gateway.reload(&yaml("/away")).unwrap();
    let line = gateway.log().wait(0, &["key set fetch failed"]);
    assert!(line.contains("another origin"), "{line}");
}

#[test]
fn a_changed_key_file_counts_from_the_next_reload() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let set =
        |secret: &str| json!({ "keys": [{ "kty": "oct", "kid": "a", "k": B64.encode(secret) }] }).to_string();
    fs::write(&file, set("another secret of thirty-two bytes")).unwrap();
    let yaml = format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: jwt, jwks_file: {} }}] }}]",
        file.display()
    );
    let gateway = Gateway::start(&yaml);
    let fields = format!("Authorization: Bearer {}\r\n", token(&json!({ "exp": now() + 600 })));
    assert_eq!(get(&gateway, &fields).status, 401);
    fs::write(&file, set(SECRET)).unwrap();
    gateway.reload(&yaml).unwrap();
    assert_eq!(get(&gateway, &fields).status, 200);
    fs::write(&file, "{}").unwrap();
    gateway.reload(&yaml).unwrap_err();
    assert_eq!(get(&gateway, &fields).status, 200);
}

/// A service that accepts `Authorization: yes`, until it is set to reject everything.
pub(crate) fn service() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&open);
    let service = Origin::scripted("auth", move |seen, wire| {
        let said = if seen.field("authorization") == Some("yes") && state.load(SeqCst) {
            answer(204, "Remote-User: ada\r\n", b"")
        } else {
            answer(403, "X-Why: because\r\n", b"not you")
        };
        wire.try_send(said).map_or(Next::Close, |()| Next::Keep)
    });
    (service, open)
}

#[test]
fn forward_auth_calls_the_service_and_forwards_its_response() {
    let origin = Origin::named("a");
    let (service, _) = service();
    let gateway = Gateway::start(&format!(
        "server: {{ threads: 1 }}
upstreams: {{ auth: {{ endpoints: [{service}] }} }}
routes:
  - {{ upstream: [{origin}], plugins: [{{ kind: forward_auth, upstream: auth, path: /check, response_headers: [Remote-User] }}] }}
  - {{ path: /url/, upstream: [{origin}], plugins: [{{ kind: forward_auth, url: \"http://{service}/check\" }}] }}"
    ));
    let body = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\nAuthorization: yes\r\n\r\nbody";
    assert_eq!(ask(gateway.web(), body).text(), "a");
    let welcome = get(&gateway, "Authorization: yes\r\nRemote-User: root\r\n");
    assert_eq!((welcome.status, welcome.text().as_str()), (200, "a"));
    let refused = get(&gateway, "X-Forwarded-Host: evil\r\n");
    assert_eq!(
        (refused.status, refused.text().as_str(), refused.field("x-why")),
        (403, "not you", Some("because"))
    );
    let asked = service.seen();
    assert_eq!(asked[0].line(), "GET /check HTTP/1.1");
    assert_eq!(asked[0].field("x-forwarded-method"), Some("POST"));
    assert_eq!(asked[2].fields("x-forwarded-host"), ["a.example:81"]);
    assert_eq!(asked[2].fields("x-forwarded-uri"), ["/a?b=c"]);
    assert_eq!(service.connections(), 1, "the connection is kept");
    let seen = origin.seen();
    assert_eq!((seen.len(), seen[1].fields("remote-user")), (2, vec!["ada"]));
    let by_url = ask(
        gateway.web(),
        "GET /url/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: yes\r\n\r\n",
    );
    assert_eq!(by_url.text(), "a");
    // Without the service, every request is rejected.
    service.die();
    assert_eq!(get(&gateway, "Authorization: yes\r\n").status, 500);
    assert_eq!(origin.count(), 3);
}

#[test]
fn forward_auth_asks_again_about_a_living_websocket() {
    let origin = Origin::named("a");
    let (service, open) = service();
    let gateway = Gateway::start(&format!(
        "upstreams: {{ auth: {{ endpoints: [{service}] }} }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: forward_auth, upstream: auth, recheck: 1s }}] }}]"
    ));
    assert_eq!(Socket::open_with(gateway.web(), "/", &[]).err(), Some(403));
    let mut socket = Socket::open_with(gateway.web(), "/", &[("authorization", "yes")]).ok().unwrap();
    eventually("it is asked about again", || (service.count() >= 4).then_some(()));
    socket.echo("still good");
    open.store(false, SeqCst);
    assert_eq!(socket.end(), Some(1008));
}

#[test]
fn a_refusal_is_one_whatever_its_body() {
    let origin = Origin::named("a");
    let long = Origin::fixed(answer(403, "", &vec![b'x'; (1 << 20) + 1]), Next::Keep);
    let cut = Origin::fixed("HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\nshort", Next::Close);
    let fault = Origin::fixed("nonsense\r\n\r\n", Next::Close);
    let plugin = |name| format!("{{ kind: forward_auth, on_error: open, upstream: {name} }}");
    let gateway = Gateway::start(&format!(
        "upstreams:
  long: {{ endpoints: [{long}] }}
  cut: {{ endpoints: [{cut}] }}
  fault: {{ endpoints: [{fault}] }}
routes:
  - {{ path: /long, upstream: [{origin}], plugins: [{}] }}
  - {{ path: /cut, upstream: [{origin}], plugins: [{}] }}
  - {{ path: /fault, upstream: [{origin}], plugins: [{}] }}",
        plugin("long"),
        plugin("cut"),
        plugin("fault")
    ));
    for (path, status) in [("/long", 403), ("/cut", 401), ("/fault", 200)] {
        assert_eq!(gateway.get(path).status, status, "{path}");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_upstream_that_only_a_plugin_names_must_be_there() {
    let origin = Origin::named("a");
    let yaml = |name: &str| {
        format!(
            "upstreams: {{ {name}: {{ endpoints: [{origin}] }} }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: forward_auth, upstream: auth }}] }}]"
        )
    };
    let gateway = Gateway::start(&yaml("auth"));
    let report = gateway.reload(&yaml("auht")).unwrap_err();
    assert!(
        report.contains("unknown upstream `auth`") && report.contains("did you mean `auht`?"),
        "{report}"
    );
    assert!(report.contains("upstream: auth }"), "the place is shown: {report}");
}

#[test]
fn rate_limit_refuses_requests_and_closes_websockets_beyond_the_rate() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: [{origin}], plugins: [{{ kind: rate_limit, name: api, rate: 3/h, key: \"header:x-key\", messages: {{ rate: 1/h, burst: 2 }} }}] }}]"
    ));
    let first = get(&gateway, "X-Key: a\r\n");
    assert_eq!((first.status, first.field("ratelimit-policy")), (200, Some("\"api\";q=3;w=3600")));
    assert_eq!(first.field("ratelimit"), Some("\"api\";r=2;t=1200"));
    let mut socket = Socket::open_with(gateway.web(), "/", &[("x-key", "a")]).ok().unwrap();
    assert_eq!(get(&gateway, "X-Key: a\r\n").status, 200);
    let refused = get(&gateway, "X-Key: a\r\n");
    assert_eq!(refused.status, 429);
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() <= 1200, "{}", refused.head);
    assert_eq!(Socket::open_with(gateway.web(), "/", &[("x-key", "a")]).err(), Some(429));
    assert_eq!(get(&gateway, "X-Key: b\r\n").status, 200);
    socket.echo("one");
    socket.echo("two");
    socket.say("three");
    assert_eq!(socket.end(), Some(1008));
}

#[test]
fn mirror_copies_requests_and_no_request_waits_for_its_copy() {
    let origin = Origin::named("a");
    let copies = Origin::scripted("next", |_, _| Next::Close);
    let gateway = Gateway::start(&format!(
        "upstreams: {{ next: {{ endpoints: [{copies}] }} }}
routes: [{{ upstream: [{origin}], plugins: [{{ kind: mirror, upstream: next }}] }}]"
    ));
    let post = "POST /a?b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(ask(gateway.web(), post).text(), "a");
    let copy = &copies.await_seen(1)[0];
    assert_eq!((copy.line(), copy.field("host")), ("POST /a?b HTTP/1.1", Some("a.example")));
    assert_eq!(copy.field("content-length"), Some("4"));
    // A plugin that only reads the body does not change its framing.
    let seen = &origin.seen()[0];
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (Some("4"), None));
    copies.die();
    assert_eq!(get(&gateway, "").text(), "a");
    assert_eq!(origin.count(), 2);
}
