//! Tests of tokens: the examples of the RFCs, tokens signed here, and attacks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as B64, Engine};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use keys::{Keys, TokenError};
use moongate_sdk::testing::{TestExchange, settings};
use moongate_sdk::{Call, CallError, CallFuture, CallResponse};
use ring::rand::SystemRandom;
use ring::signature::{self as sig, KeyPair};
use ring::{hmac, signature};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

const RSA_PK8: &[u8] = include_bytes!("testdata/rsa.pk8");
const RSA_PEM: &str = include_str!("testdata/rsa.pem");
const RSA_PKCS1_PEM: &str = include_str!("testdata/rsa-pkcs1.pem");
const SECRET: &str = "a secret of at least thirty-two bytes";
/// 2100-01-01.
const LATER: u64 = 4_102_444_800;

// RFC 7515, appendices A.1 to A.3: one payload, three signatures. It expired in 2011.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const EXPIRES: u64 = 1_300_819_380;
const A1_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const A1: [&str; 2] =
    ["eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"];
const A2_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const A2: [&str; 2] = [
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
];
const A3_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const A3_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const A3: [&str; 2] = [
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
];

fn rfc7515(parts: [&str; 2]) -> String {
    format!("{}.{PAYLOAD}.{}", parts[0], parts[1])
}

fn rfc7515_keys() -> Vec<u8> {
    let keys = json!({ "keys": [
        { "kty": "oct", "k": A1_KEY },
        { "kty": "RSA", "n": A2_N, "e": "AQAB" },
        { "kty": "EC", "crv": "P-256", "x": A3_X, "y": A3_Y },
    ]});
    serde_json::to_vec(&keys).unwrap()
}

/// A token with this head and these claims, signed by `sign`.
fn token(head: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", B64.encode(head.to_string()), B64.encode(claims.to_string()));
    let signature = B64.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// `all` with the entries of `extra`, which take precedence.
fn with(mut all: Value, extra: Value) -> Value {
    let (Value::Object(map), Value::Object(extra)) = (&mut all, extra) else { panic!("both are objects") };
    map.extend(extra);
    all
}

fn simple(claims: Value) -> String {
    let all = with(json!({ "exp": LATER, "sub": "ada" }), claims);
    token(&json!({ "alg": "HS256" }), &all, hs256(SECRET))
}

fn plugin(extra: Value) -> Box<dyn Plugin> {
    build(&settings(with(json!({ "secret": SECRET }), extra))).unwrap()
}

fn ask(plugin: &dyn Plugin, token: &str) -> Verdict {
    TestExchange::new("/").field("authorization", &format!("Bearer {token}")).request_headers(plugin)
}

fn why(plugin: &dyn Plugin, token: &str) -> String {
    let reply =
        TestExchange::new("/").field("authorization", &format!("Bearer {token}")).expect_reply(plugin);
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    reply.headers[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
}

fn pem(prefix: &str, public: &[u8]) -> String {
    let prefix = (0..prefix.len()).step_by(2).map(|at| u8::from_str_radix(&prefix[at..at + 2], 16).unwrap());
    let der: Vec<u8> = prefix.chain(public.iter().copied()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der))
}

#[test]
fn the_examples_of_rfc_7515_are_verified_until_they_expire() {
    let requirements = TokenRequirements::default();
    let keys = Keys::set(&rfc7515_keys(), false, &requirements).unwrap();
    for parts in [A1, A2, A3] {
        let claims = keys.check(rfc7515(parts).as_bytes(), &requirements, EXPIRES - 1).unwrap();
        assert_eq!((&claims["iss"], &claims["http://example.com/is_root"]), (&json!("joe"), &json!(true)));
        assert_eq!(keys.check(rfc7515(parts).as_bytes(), &requirements, EXPIRES), Err(TokenError::Expired));
        let mut forged = rfc7515(parts);
        forged.replace_range(50..51, if &forged[50..51] == "A" { "B" } else { "A" });
        assert!(keys.check(forged.as_bytes(), &requirements, 0).is_err());
    }
    // The signature of one under the head of another.
    let mixed = format!("{}.{PAYLOAD}.{}", A1[0], A3[1]);
    assert_eq!(keys.check(mixed.as_bytes(), &requirements, 0), Err(TokenError::Signature));
}

#[test]
fn the_unsecured_token_of_rfc_7519_is_refused() {
    let unsecured = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");
    let requirements = TokenRequirements::default();
    let keys = Keys::set(&rfc7515_keys(), false, &requirements).unwrap();
    assert_eq!(keys.check(unsecured.as_bytes(), &requirements, 0), Err(TokenError::Malformed));
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1"] {
        let token = token(&json!({ "alg": alg }), &json!({ "exp": LATER }), |_| Vec::new());
        assert!(why(&*plugin(json!({})), &token).contains("malformed"), "{alg}");
    }
}

#[test]
fn the_example_of_rfc_8037_is_verified() {
    super::crypto::install();
    let key =
        jsonwebtoken::DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let verify =
        |message| jsonwebtoken::crypto::verify(signature, message, &key, jsonwebtoken::Algorithm::EdDSA);
    assert!(verify(message).unwrap());
    assert!(!verify(b"another").unwrap());
}

/// A key in PEM, and the function that signs tokens with it.
type Signer = (&'static str, String, Box<dyn Fn(&[u8]) -> Vec<u8>>);

fn rsa(name: &'static str, pem: &str, how: &'static dyn sig::RsaEncoding) -> Signer {
    let key = sig::RsaKeyPair::from_pkcs8(RSA_PK8).unwrap();
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(how, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    (name, pem.to_owned(), Box::new(sign))
}

fn ec(name: &'static str, how: &'static sig::EcdsaSigningAlgorithm, prefix: &str) -> Signer {
    let random = SystemRandom::new();
    let pk8 = sig::EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
    let key = sig::EcdsaKeyPair::from_pkcs8(how, pk8.as_ref(), &random).unwrap();
    let pem = pem(prefix, key.public_key().as_ref());
    (name, pem, Box::new(move |message| key.sign(&random, message).unwrap().as_ref().to_vec()))
}

fn ed() -> Signer {
    let pk8 = sig::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = sig::Ed25519KeyPair::from_pkcs8(pk8.as_ref()).unwrap();
    let pem = pem("302a300506032b6570032100", key.public_key().as_ref());
    ("EdDSA", pem, Box::new(move |message| key.sign(message).as_ref().to_vec()))
}

fn signers() -> Vec<Signer> {
    vec![
        rsa("RS256", RSA_PEM, &signature::RSA_PKCS1_SHA256),
        rsa("RS384", RSA_PEM, &signature::RSA_PKCS1_SHA384),
        rsa("RS512", RSA_PKCS1_PEM, &signature::RSA_PKCS1_SHA512),
        rsa("PS256", RSA_PEM, &signature::RSA_PSS_SHA256),
        rsa("PS384", RSA_PKCS1_PEM, &signature::RSA_PSS_SHA384),
        rsa("PS512", RSA_PEM, &signature::RSA_PSS_SHA512),
        ec(
            "ES256",
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            "3059301306072a8648ce3d020106082a8648ce3d030107034200",
        ),
        ec(
            "ES384",
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            "3076301006072a8648ce3d020106052b81040022036200",
        ),
        ed(),
    ]
}

#[test]
fn every_algorithm_verifies_only_signatures_of_its_key() {
    let claims = json!({ "exp": LATER });
    let requirements = TokenRequirements::default();
    for (name, pem, sign) in &signers() {
        let keys = Keys::pem(pem.as_bytes(), &requirements).unwrap();
        let good = token(&json!({ "alg": name, "kid": "any" }), &claims, sign);
        keys.check(good.as_bytes(), &requirements, 0).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        let other = token(&json!({ "alg": name }), &claims, |message| sign(&[message, b"x"].concat()));
        assert_eq!(keys.check(other.as_bytes(), &requirements, 0), Err(TokenError::Signature), "{name}");
        // The public key used as a secret: the classic attack.
        for secret in [pem.as_str(), pem.trim_end()] {
            let confused = token(&json!({ "alg": "HS256" }), &claims, hs256(secret));
            assert_eq!(keys.check(confused.as_bytes(), &requirements, 0), Err(TokenError::NoKey), "{name}");
        }
    }
}

#[test]
fn only_listed_algorithms_pass() {
    let requirements = TokenRequirements {
        algorithms: vec![jsonwebtoken::Algorithm::RS256],
        ..TokenRequirements::default()
    };
    let keys = Keys::pem(RSA_PEM.as_bytes(), &requirements).unwrap();
    let all = signers();
    for (name, _, sign) in &all[..6] {
        let token = token(&json!({ "alg": name }), &json!({}), sign);
        assert_eq!(keys.check(token.as_bytes(), &requirements, 0).is_ok(), *name == "RS256", "{name}");
    }
    assert!(Keys::pem(all[8].1.as_bytes(), &requirements).unwrap_err().contains("none of `algorithms`"));
}

#[test]
fn a_valid_token_passes_and_its_claims_are_forwarded() {
    let plugin = plugin(json!({
        "claims_to_headers": { "X-User": "sub", "X-Roles": "realm.roles", "X-Age": "age", "X-Gone": "nobody" },
        "forward": false,
    }));
    let token = simple(json!({ "realm": { "roles": ["a", "b"] }, "age": 42 }));
    let visit = TestExchange::new("/").field("authorization", &format!("bearer {token}"));
    let mut visit = visit.field("x-user", "root").field("x-gone", "root");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    for (field, wanted) in [("x-user", "ada"), ("x-roles", "a,b"), ("x-age", "42")] {
        assert_eq!(visit.request[field], wanted);
    }
    assert!(!visit.request.contains_key("x-gone") && !visit.request.contains_key("authorization"));
    assert_eq!((&*visit.running.notes()[0].key, visit.running.notes()[0].value.as_str()), ("sub", "ada"));
}

#[test]
fn a_request_without_a_token_gets_the_challenge_of_rfc_6750() {
    let plain = plugin(json!({}));
    assert_eq!(TestExchange::new("/").expect_reply(&*plain).headers[WWW_AUTHENTICATE], "Bearer");
    let basic = TestExchange::new("/").field("authorization", "Basic YTpi").expect_reply(&*plain);
    assert_eq!(basic.status, StatusCode::UNAUTHORIZED);
    let realm = plugin(json!({ "realm": "the api" }));
    assert_eq!(
        TestExchange::new("/").expect_reply(&*realm).headers[WWW_AUTHENTICATE],
        "Bearer realm=\"the api\""
    );
    let bad = why(&*realm, "x.y.z");
    assert_eq!(
        bad,
        "Bearer realm=\"the api\", error=\"invalid_token\", error_description=\"the token is malformed\""
    );
    let twice = TestExchange::new("/")
        .field("authorization", "Bearer a")
        .field("authorization", "Bearer b")
        .expect_reply(&*plain);
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    let optional = plugin(json!({ "optional": true, "claims_to_headers": { "X-User": "sub" } }));
    let mut visit = TestExchange::new("/").field("x-user", "root");
    assert!(matches!(visit.request_headers(&*optional), Verdict::Continue));
    assert!(!visit.request.contains_key("x-user"), "it was not verified");
    assert!(why(&*optional, "x.y.z").contains("invalid_token"));
}

#[test]
fn a_token_is_read_from_the_configured_parts() {
    let token = simple(json!({}));
    let plugin = plugin(json!({ "token_from": ["cookie:session", "query:t", "header:X-Token", "bearer"] }));
    let passes = |mut visit: TestExchange| matches!(visit.request_headers(&*plugin), Verdict::Continue);
    assert!(passes(TestExchange::new("/").field("cookie", &format!("a=b; session={token}"))));
    assert!(passes(TestExchange::new(&format!("/?a=b&t={token}"))));
    assert!(passes(TestExchange::new("/").field("x-token", &token)));
    assert!(passes(TestExchange::new("/").field("authorization", &format!("Bearer {token}"))));
    assert!(!passes(TestExchange::new("/?other=1")));
    // The first token counts, even if it is invalid.
    assert!(!passes(TestExchange::new("/?t=bad").field("authorization", &format!("Bearer {token}"))));
}

#[test]
fn every_requirement_is_checked() {
    let plugin = plugin(json!({
        "issuer": ["us", "them"], "audience": "api", "required_claims": ["team"], "leeway": "0",
    }));
    let with = |extra: Value| {
        let mut all = json!({ "iss": "us", "aud": ["web", "api"], "team": 1 });
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        simple(all)
    };
    assert!(matches!(ask(&*plugin, &with(json!({}))), Verdict::Continue));
    for (extra, wanted) in [
        (json!({ "iss": "others" }), "issuer"),
        (json!({ "iss": null }), "claim"),
        (json!({ "aud": "web" }), "audience"),
        (json!({ "aud": null }), "claim"),
        (json!({ "team": null }), "claim"),
        (json!({ "exp": null }), "claim"),
        (json!({ "exp": 1 }), "expired"),
        (json!({ "exp": "never" }), "claim"),
        (json!({ "nbf": LATER }), "not valid yet"),
        (json!({ "nbf": {} }), "claim"),
    ] {
        let why = why(&*plugin, &with(extra.clone()));
        assert!(why.contains(wanted), "{extra}: {why}");
    }
    let critical = token(
        &json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        &json!({ "exp": LATER }),
        hs256(SECRET),
    );
    assert!(why(&*super::tests::plugin(json!({})), &critical).contains("malformed"));
}

#[test]
fn a_token_without_exp_passes_only_where_configured() {
    let endless = token(&json!({ "alg": "HS256" }), &json!({ "sub": "ada" }), hs256(SECRET));
    for requirements in [
        json!({}),
        json!({ "required_claims": ["sub"] }),
        json!({ "required_claims": [] }),
        json!({ "required_claims": ["exp"] }),
    ] {
        assert!(why(&*plugin(requirements.clone()), &endless).contains("claim"), "{requirements}");
    }
    let lenient = plugin(json!({ "require_exp": false, "required_claims": ["sub"] }));
    assert!(matches!(ask(&*lenient, &endless), Verdict::Continue));
    assert!(why(&*lenient, &simple(json!({ "exp": 1, "sub": "ada" }))).contains("expired"));
    let both = json!({ "secret": SECRET, "require_exp": false, "required_claims": ["exp"] });
    assert!(build(&settings(both)).is_err());
}

#[test]
fn malformed_tokens_are_refused_without_a_panic() {
    let plugin = plugin(json!({}));
    let long = "a".repeat(LONGEST_TOKEN + 1);
    for broken in
        ["a", ".", "..", "...", "a.b.c.d", "eyJhbGciOiJIUzI1NiJ9..", "\u{e9}.\u{e9}.\u{e9}", "=.=.=", &long]
    {
        let reply =
            TestExchange::new("/").field("authorization", &format!("Bearer {broken}")).expect_reply(&*plugin);
        assert!(reply.status.is_client_error(), "{broken}");
    }
    let array = token(&json!({ "alg": "HS256" }), &json!([1]), hs256(SECRET));
    assert!(why(&*plugin, &array).contains("malformed"));
    let empty = TestExchange::new("/").field("authorization", "Bearer ").expect_reply(&*plugin);
    assert_eq!(empty.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_websocket_is_refused_when_its_token_has_expired() {
    let plugin = plugin(json!({ "recheck": "5m", "forward": false, "leeway": "0" }));
    assert_eq!(plugin.phases().recheck, Some(Duration::from_secs(300)));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let token = simple(json!({ "exp": now + 1.0 }));
    let mut visit = TestExchange::new("/").field("authorization", &format!("Bearer {token}"));
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    assert!(!visit.request.contains_key("authorization"));
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while matches!(visit.request_headers(&*plugin), Verdict::Continue) {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    assert_eq!(visit.expect_reply(&*plugin).status, StatusCode::UNAUTHORIZED);
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    let long = "x".repeat(32);
    for (written, wanted) in [
        (json!({}), "`jwt` has no key"),
        (json!({ "secret": "short" }), "it has 5 bytes; HS256 needs at least 32"),
        (json!({ "secret": long, "algorithms": ["HS512"] }), "it has 32 bytes; HS512 needs at least 64"),
        (
            json!({ "secret": long, "algorithms": ["RS256"] }),
            "none of `algorithms` can be used with this key",
        ),
        (json!({ "secret": long, "algorithms": ["none"] }), "unsigned tokens cannot be verified"),
        (json!({ "secret": long, "algorithms": ["RS257"] }), "unknown algorithm `RS257`"),
        (json!({ "secret": long, "jwks_url": "https://a/" }), "`jwt` needs exactly one key source"),
        (json!({ "jwks_url": "ftp://a/" }), "`ftp://a/` is not a usable URL"),
        (json!({ "jwks_url": "https://a/", "refresh": "1s" }), "`refresh` must be at least 10s"),
        (json!({ "secret": long, "token_from": ["client_ip"] }), "a client address is not a token"),
        (json!({ "secret": long, "token_from": ["beaver"] }), "`beaver` does not name a part of a request"),
        (
            json!({ "secret": long, "token_from": ["header:Authorization"] }),
            "`header:Authorization` includes the scheme",
        ),
        (
            json!({ "secret": long, "claims_to_headers": { "Content-Length": "sub" } }),
            "`Content-Length` is the gateway's own",
        ),
        (
            json!({ "secret": long, "token_from": ["header:X-Token"], "claims_to_headers": { "X_Token": "sub" } }),
            "`X_Token` carries the token",
        ),
        (
            json!({ "secret": long, "claims_to_headers": { "X-Auth": "sub", "X.Auth": "iss" } }),
            "`X.Auth` is set twice",
        ),
        (json!({ "secret": long, "realm": "a\"b" }), "`realm` cannot be quoted"),
        (json!({ "secret": long, "recheck": "999ms" }), "`recheck` must be at least 1s"),
    ] {
        let problems =
            build(&settings(written.clone())).err().unwrap_or_else(|| panic!("{written} was taken"));
        assert_eq!(problems.0[0].message, wanted, "{written}");
    }
    assert!(
        Keys::pem(b"-----BEGIN PRIVATE KEY-----\n", &TokenRequirements::default())
            .unwrap_err()
            .contains("private")
    );
    assert!(Keys::pem(b"nonsense", &TokenRequirements::default()).is_err());
    assert!(Keys::set(b"{}", false, &TokenRequirements::default()).is_err());
    let mixed = json!({ "keys": [
        { "kty": "oct", "k": A1_KEY, "kid": 1 },
        { "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "text", "x5c": "text" },
        { "kty": "OKP", "crv": "X25519", "x": "AA", "kid": "curve" },
        { "kty": "oct", "k": A1_KEY, "use": "enc" },
        { "kty": "oct", "k": A1_KEY, "key_ops": ["sign"] },
        { "kty": "oct", "k": A1_KEY, "alg": "A128KW" },
        { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "short" },
        { "kty": "RSA", "n": "", "e": "AQAB", "kid": "empty" },
        { "kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed" },
        { "kty": "FOO", "kid": "type" },
        { "kty": "oct", "k": A1_KEY, "kid": "alg", "alg": "XX99" },
        { "kty": "oct", "k": A1_KEY, "kid": "use", "use": "weird" },
        { "kty": "oct", "k": A1_KEY, "kid": "good", "key_ops": ["verify"] },
    ]});
    let keys = Keys::set(mixed.to_string().as_bytes(), false, &TokenRequirements::default()).unwrap();
    let left_out: Vec<_> = keys.left_out().iter().map(|why| why.split(':').next().unwrap()).collect();
    let named = |index: usize, id: &str| format!("keys[{index}] with kid \"{id}\"");
    let mut expected = vec!["keys[0] with kid 1".to_owned(), named(1, "text"), named(2, "curve")];
    for (index, id) in [(6, "short"), (7, "empty"), (8, "ed"), (9, "type"), (10, "alg"), (11, "use")] {
        expected.push(named(index, id));
    }
    assert_eq!(left_out, expected);
    let why = keys.left_out().iter().find(|why| why.contains("FOO")).unwrap();
    assert!(why.ends_with("its type `FOO` is not known"), "{why}");
    let public = json!({ "keys": [{ "kty": "oct", "k": A1_KEY }] }).to_string();
    assert!(
        Keys::set(public.as_bytes(), true, &TokenRequirements::default()).is_err(),
        "a secret in a public key set"
    );
}

/// A gateway that completes calls from a list.
#[derive(Default)]
struct QueuedResponses {
    next: Mutex<VecDeque<Result<(u16, String), CallError>>>,
    calls: std::sync::atomic::AtomicUsize,
}

impl QueuedResponses {
    fn calls(&self) -> usize {
        self.calls.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn push(&self, response: Result<(u16, String), CallError>) {
        self.next.lock().unwrap().push_back(response);
    }
}

impl Services for QueuedResponses {
    fn call(&self, _: Call) -> CallFuture {
        self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let response = self.next.lock().unwrap().pop_front().unwrap_or(Err(CallError::Unreachable));
        Box::pin(std::future::ready(response.map(|(status, body)| CallResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(body),
        })))
    }
    fn spawn(&self, _: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {}
    fn has_upstream(&self, _: &str) -> bool {
        false
    }
}

/// A set with one key for each of these IDs.
fn set(signers: &[(&str, &Signer)]) -> String {
    let keys: Vec<_> = signers
        .iter()
        .map(|(id, signer)| {
            let der = BASE64_STANDARD.decode(signer.1.lines().nth(1).unwrap()).unwrap();
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": B64.encode(&der[12..]) })
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

async fn decide(plugin: &dyn Plugin, token: &str) -> Result<(), Option<StatusCode>> {
    let mut visit = TestExchange::new("/").field("authorization", &format!("Bearer {token}"));
    let (mut request, mut running) = (visit.request.clone(), std::mem::take(&mut visit.running));
    let method = http::Method::GET;
    let services = visit.services.clone();
    let mut exchange = Exchange {
        request: moongate_sdk::Request::internal(&method, "/", visit.client),
        headers: moongate_sdk::Headers::request(&mut request),
        running: &mut running,
        services: &services,
    };
    let verdict = match plugin.request_headers(&mut exchange) {
        Flow::Wait(future) => future.await,
        flow => moongate_sdk::testing::resolve_flow(flow),
    };
    match verdict {
        Verdict::Continue => Ok(()),
        Verdict::Respond(reply) => Err(Some(reply.status)),
        _ => Err(None),
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_at_a_url_is_fetched_rotated_and_kept() {
    let (first, second) = (ed(), ed());
    let sign = |id: &str, signer: &Signer| {
        token(&json!({ "alg": "EdDSA", "kid": id }), &json!({ "exp": LATER }), &signer.2)
    };
    let (one, two) = (sign("one", &first), sign("two", &second));
    let responses = Arc::new(QueuedResponses::default());
    let plugin =
        build(&settings(json!({ "jwks_url": "https://issuer.example/keys", "refresh": "10m" }))).unwrap();
    let services: Arc<dyn Services> = responses.clone();
    let refused = Err(Some(StatusCode::UNAUTHORIZED));

    responses.push(Err(CallError::TimedOut));
    responses.push(Ok((200, set(&[("one", &first)]))));
    let work = tokio::spawn(plugin.background(&services).unwrap());
    // The first fetch fails: a fault of the gateway, not of the token. The next one succeeds.
    assert_eq!(decide(&*plugin, &one).await, Err(None));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(decide(&*plugin, &one).await, Ok(()));
    // Within the minimum time an unknown key does not cause another fetch.
    assert_eq!(decide(&*plugin, &two).await, refused);
    assert_eq!(responses.calls(), 2);
    // Later it does, and the request waits for it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    responses.push(Ok((200, set(&[("two", &second)]))));
    assert_eq!(decide(&*plugin, &two).await, Ok(()));
    assert_eq!(responses.calls(), 3);
    // The first key was removed. Invented IDs do not cause more fetches.
    assert_eq!(decide(&*plugin, &one).await, refused);
    assert_eq!(responses.calls(), 3);
    // A failed fetch, or an invalid set, removes no key.
    responses.push(Ok((500, String::new())));
    responses.push(Ok((200, "{}".to_owned())));
    tokio::time::sleep(Duration::from_secs(605)).await;
    assert!(responses.calls() >= 5);
    assert_eq!(decide(&*plugin, &two).await, Ok(()));
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_recovered_set_is_fetched_for_an_unknown_key() {
    let (first, second) = (ed(), ed());
    let sign = |id: &str, signer: &Signer| {
        token(&json!({ "alg": "EdDSA", "kid": id }), &json!({ "exp": LATER }), &signer.2)
    };
    let (one, two) = (sign("one", &first), sign("two", &second));
    let responses = Arc::new(QueuedResponses::default());
    let plugin = build(&settings(json!({ "jwks_url": "https://issuer.example/keys" }))).unwrap();
    let services: Arc<dyn Services> = responses.clone();
    let work = tokio::spawn(plugin.background(&services).unwrap());
    // No fetch succeeds for an hour, so that the pauses are long; then one does.
    tokio::time::sleep(Duration::from_secs(3605)).await;
    responses.push(Ok((200, set(&[("one", &first)]))));
    assert_eq!(decide(&*plugin, &one).await, Err(None));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(decide(&*plugin, &one).await, Ok(()));
    tokio::time::sleep(Duration::from_secs(3605)).await;
    responses.push(Ok((200, set(&[("two", &second)]))));
    assert_eq!(decide(&*plugin, &two).await, Ok(()), "a rotated key works at once");
    work.abort();
}
