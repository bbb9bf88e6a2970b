//! Tests of fields owned by plugins.

use super::*;
use moongate_sdk::testing::settings;

const USER: HeaderName = HeaderName::from_static("x-user");
const AUTHORIZATION: HeaderName = http::header::AUTHORIZATION;

/// Owns `X-User` and `Authorization`, and records in `trail` their values and those that the client sent.
struct Owner;

impl Plugin for Owner {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn owned_headers(&self) -> Vec<HeaderName> {
        vec![USER, AUTHORIZATION]
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let (user, authorization) = (USER, AUTHORIZATION);
        let shown =
            [&user, &authorization].iter().filter(|name| exchange.headers.contains_key(**name)).count();
        let sent: Vec<_> =
            exchange.client_values(&authorization).chain(exchange.client_values(&user)).collect();
        let seen_fields = format!("{shown} {sent:?}");
        exchange.headers.append(&TRAIL, HeaderValue::try_from(seen_fields).unwrap());
        exchange.headers.set(&USER, HeaderValue::from_static("ada"));
        Flow::Continue
    }
}

/// Sets `Authorization` as an operator's default, and records in `trail` the `X-User` that it saw.
struct Before;

impl Plugin for Before {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let seen = format!(
            "{} {}",
            exchange.headers.contains_key(&USER),
            exchange.headers.contains_key(&AUTHORIZATION)
        );
        exchange.headers.append(&TRAIL, HeaderValue::try_from(seen).unwrap());
        exchange.headers.append(&AUTHORIZATION, HeaderValue::from_static("default"));
        Flow::Continue
    }
}

const KINDS: &[Kind<dyn Plugin>] = &[
    Kind { name: "owner", about: "Owns.", schema: |_| true.into(), build: |_| Ok(Box::new(Owner)) },
    Kind { name: "before", about: "Sets.", schema: |_| true.into(), build: |_| Ok(Box::new(Before)) },
];

fn written(kind: &str, when: Option<&str>) -> PluginEntry {
    let when = when.map(|when| Placed { value: when.to_owned(), place: place(3) });
    PluginEntry { when, settings: settings(serde_json::json!({})), ..entry(kind, "", "", 1) }
}

fn chain(entries: &[PluginEntry]) -> Result<Chain, Problems> {
    let prior = Instances::default();
    let mut builder = Builder::new(KINDS, &prior);
    let entries: Result<Vec<_>, _> = entries.iter().map(|entry| builder.entry("r", entry)).collect();
    Ok(Chain::build(&entries?))
}

/// The request header after the chain, for a client with forged fields.
fn asked(chain: &Chain) -> HeaderMap {
    let forged = [("x-user", "root"), ("x_user", "root"), ("authorization", "Bearer x"), ("x-other", "1")];
    let mut visit =
        forged.into_iter().fold(TestExchange::new("/"), |visit, (name, value)| visit.field(name, value));
    visit.with_exchange(|exchange| wait(chain.request_headers(exchange)));
    visit.request
}

fn all<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn an_owner_alone_sees_what_the_client_sent() {
    let headers = asked(&chain(&[written("owner", None)]).unwrap());
    assert_eq!(all(&headers, &TRAIL), [r#"0 ["Bearer x", "root"]"#]);
    assert_eq!((all(&headers, &USER), all(&headers, &AUTHORIZATION)), (vec!["ada"], vec![]));
    assert!(!headers.contains_key("x_user") && headers.contains_key("x-other"));
}

#[test]
fn a_field_is_withdrawn_before_the_first_plugin_and_a_credential_at_the_owners_turn() {
    let headers = asked(&chain(&[written("before", None), written("owner", None)]).unwrap());
    assert_eq!(all(&headers, &TRAIL)[0], "false true");
    assert_eq!(all(&headers, &AUTHORIZATION), ["default"], "a value that a plugin has set stays");
}

#[test]
fn nothing_of_the_client_is_left_when_the_owner_is_left_out() {
    for when in ["request.path == '/never'", "int('x') == 1"] {
        for on_error in [OnError::Open, OnError::Closed] {
            let left_out = PluginEntry { on_error, ..written("owner", Some(when)) };
            let headers = asked(&chain(&[left_out]).unwrap());
            assert!(
                !headers.contains_key(&USER) && !headers.contains_key(&AUTHORIZATION),
                "{when} {on_error:?}"
            );
            assert!(!headers.contains_key("x_user"), "{when} {on_error:?}");
        }
    }
    // The owner's condition sees the credential, but not the other field.
    let headers = asked(&chain(&[written("owner", Some("request.headers.authorization != ''"))]).unwrap());
    assert_eq!(all(&headers, &USER), ["ada"]);
    let headers = asked(&chain(&[written("owner", Some("request.headers['x-user'] != ''"))]).unwrap());
    assert!(all(&headers, &USER).is_empty());
}

#[test]
fn one_owner_s_value_stays_when_another_is_skipped() {
    let entries = [written("owner", None), written("owner", Some("request.path == '/never'"))];
    assert_eq!(all(&asked(&chain(&entries).unwrap()), &USER), ["ada"]);
}

#[test]
fn an_entry_owns_what_the_operator_names() {
    let named = |name: &str| {
        let owned_headers = vec![Placed { value: name.to_owned(), place: place(4) }];
        PluginEntry { owned_headers, ..written("before", Some("request.path == '/never'")) }
    };
    assert!(!asked(&chain(&[named("X-Other")]).unwrap()).contains_key("x-other"));
    for (name, message) in
        [("a b", "`a b` is not a field name"), ("Connection", "no plugin can own `Connection`")]
    {
        assert_eq!(chain(&[named(name)]).unwrap_err().0[0].message, message);
    }
    assert!(chain(&[named("Host")]).is_err());
}
