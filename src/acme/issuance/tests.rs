//! Tests with CAs that behave differently from Pebble: canned responses over real sockets.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::acme::renewal_info;
use crate::acme::storage::tests::{pem, settings};
use moongate_config::Place;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Responses by request path, the last one repeated: a status and a body. `HERE` stands for the CA's URL, and
/// `CHAIN` for a certificate of a.example with another key.
type Responses = &'static [(&'static str, u16, &'static str)];

const DIRECTORY: (&str, u16, &str) =
    ("/dir", 200, r#"{"newNonce":"HERE/nonce","newAccount":"HERE/account","newOrder":"HERE/order"}"#);
const NONCE: (&str, u16, &str) = ("/nonce", 200, "");
const ACCOUNT: (&str, u16, &str) = ("/account", 201, "{}");

/// Whether a response is for that path, or for all paths with that prefix.
fn is_for(known: &str, path: &str) -> bool {
    known.strip_suffix('*').map_or(known == path, |start| path.starts_with(start))
}

/// Starts a CA. Returns its URL and its request count.
async fn authority(responses: Responses) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::<AtomicUsize>::default();
    let (url, count) = (here.clone(), Arc::clone(&requests));
    let chain = pem(&["a.example"], 4000);
    let chain = chain[chain.find("-----BEGIN CERT").unwrap()..].to_owned();
    tokio::spawn(async move {
        let mut times = std::collections::HashMap::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let mut known = responses.iter().filter(|(known, ..)| is_for(known, path));
            let time = times.entry(path.to_owned()).or_insert(0_usize);
            let (_, status, body) =
                known.clone().nth(*time).or_else(|| known.next_back()).unwrap_or(&("", 404, "{}"));
            *time += 1;
            let body = body.replace("HERE", &url).replace("CHAIN", &chain);
            // For orders, the client would wait that long.
            let again = if path.starts_with("/renewal/") { "Retry-After: 21600\r\n" } else { "" };
            let kind = if body.starts_with('{') { "Content-Type: application/problem+json\r\n" } else { "" };
            let response = format!(
                "HTTP/1.1 {status} X\r\nReplay-Nonce: one\r\nLocation: {url}{path}/1\r\nContent-Length: {}\r\n{kind}{again}\r\n",
                body.len()
            );
            let body = if head.starts_with("HEAD") { "" } else { &body };
            let _ = stream.write_all(format!("{response}{body}").as_bytes()).await;
        }
    });
    (here, requests)
}

/// A job with this folder and CA.
fn job(folder: &Path, authority: &str) -> Arc<Job> {
    let mut settings = settings(folder, &["a.example"]);
    settings.directory = format!("{authority}/dir");
    let root = pem(&["issuer"], 4000);
    settings.roots = Some(KeyedCertificate::read(root.as_bytes()).unwrap().key.cert.clone());
    Arc::new(Job::new(settings, &Place::nowhere(), &Arc::default()))
}

async fn fails(responses: Responses) -> (Failure, Arc<Job>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (here, _) = authority(responses).await;
    let job = job(folder.path(), &here);
    let failure = issue(&job).await.unwrap_err();
    (failure, job, folder)
}

#[tokio::test]
async fn a_refusal_has_the_reason_and_the_text_of_the_ca() {
    const LIMITED: &str = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
    const ODD: &str = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"not this one"}"#;
    const DOWN: &str = r#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"sorry"}"#;
    const STALE: &str = r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"stale"}"#;
    let cases: &[(Responses, Reason, &str)] = &[
        (&[("/dir", 503, "<html>sorry</html>")], Reason::Unreachable, "503"),
        (&[("/dir", 200, "<html>")], Reason::Unreachable, "JSON"),
        (&[DIRECTORY, ("/nonce", 500, "")], Reason::Unreachable, "500"),
        (&[DIRECTORY, NONCE, ("/account", 429, LIMITED)], Reason::RateLimited, "too many"),
        (&[DIRECTORY, NONCE, ("/account", 400, ODD)], Reason::Account, "not this one"),
        (&[DIRECTORY, NONCE, ACCOUNT, ("/order", 429, LIMITED)], Reason::RateLimited, "too many"),
        (&[DIRECTORY, NONCE, ACCOUNT, ("/order", 400, ODD)], Reason::Rejected, "not this one"),
        (&[DIRECTORY, NONCE, ACCOUNT, ("/order", 500, DOWN)], Reason::Unreachable, "sorry"),
        (&[DIRECTORY, NONCE, ACCOUNT, ("/order", 400, STALE)], Reason::Unreachable, "stale"),
        (&[DIRECTORY, NONCE, ACCOUNT, ("/order", 201, "{}")], Reason::Unreachable, "JSON"),
    ];
    for (responses, reason, words) in cases {
        let (failure, ..) = fails(responses).await;
        assert_eq!(failure.reason, *reason, "{responses:?}: {}", failure.detail);
        assert!(failure.detail.contains(words), "{}", failure.detail);
    }
}

#[tokio::test]
async fn an_unknown_account_is_replaced() {
    const GONE: &str = r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist","detail":"who?"}"#;
    let (failure, job, _folder) = fails(&[DIRECTORY, NONCE, ACCOUNT, ("/order", 400, GONE)]).await;
    assert_eq!(failure.reason, Reason::Account);
    let path = storage::account(&job.settings);
    assert!(!path.exists() && path.with_extension("json.unknown").exists());
}

#[tokio::test]
async fn urls_without_tls_and_missing_challenges_are_refused() {
    const ELSEWHERE: &str =
        r#"{"status":"pending","authorizations":["http://192.0.2.1/"],"finalize":"http://192.0.2.1/"}"#;
    let (failure, ..) = fails(&[DIRECTORY, NONCE, ACCOUNT, ("/order", 201, ELSEWHERE)]).await;
    assert!(failure.detail.contains("the URL is not an https: URL"), "{}", failure.detail);
    const ORDER: (&str, u16, &str) =
        ("/order", 201, r#"{"status":"pending","authorizations":["HERE/name"],"finalize":"HERE/end"}"#);
    const NAME: (&str, u16, &str) = (
        "/name",
        200,
        r#"{"identifier":{"type":"dns","value":"a.example"},"status":"pending","challenges":[
            {"type":"dns-01","url":"HERE/dns","token":"t","status":"pending"}]}"#,
    );
    let (failure, ..) = fails(&[DIRECTORY, NONCE, ACCOUNT, ORDER, NAME]).await;
    assert_eq!(failure.detail, "the CA does not offer this challenge for a.example");
}

#[tokio::test]
async fn a_certificate_for_another_key_is_refused_and_not_stored() {
    const ORDER: (&str, u16, &str) =
        ("/order", 201, r#"{"status":"pending","authorizations":[],"finalize":"HERE/end"}"#);
    const READY: (&str, u16, &str) =
        ("/order/1", 200, r#"{"status":"ready","authorizations":[],"finalize":"HERE/end"}"#);
    const VALID: (&str, u16, &str) = (
        "/order/1",
        200,
        r#"{"status":"valid","authorizations":[],"finalize":"HERE/end","certificate":"HERE/cert"}"#,
    );
    const END: (&str, u16, &str) = ("/end", 200, VALID.2);
    const FOREIGN: (&str, u16, &str) = ("/cert", 200, "CHAIN");
    const NONE: (&str, u16, &str) = ("/cert", 200, "");
    for last in [
        &[DIRECTORY, NONCE, ACCOUNT, ORDER, READY, VALID, END, FOREIGN][..],
        &[DIRECTORY, NONCE, ACCOUNT, ORDER, READY, VALID, END, NONE],
    ] {
        let (failure, job, _folder) = fails(last).await;
        assert_eq!(failure.reason, Reason::Rejected, "{}", failure.detail);
        assert!(failure.detail.starts_with("issued certificate: "), "{}", failure.detail);
        assert!(job.slot().get().is_none() && storage::load(&job.settings).unwrap().is_none());
    }
}

#[tokio::test]
async fn an_unsaved_certificate_is_stored_later_without_a_new_order() {
    let folder = tempfile::tempdir().unwrap();
    let (here, requests) = authority(&[]).await;
    let job = job(folder.path(), &here);
    *job.unsaved.lock() = Some(pem(&["a.example"], 4000));
    issue(&job).await.unwrap();
    assert!(storage::load(&job.settings).unwrap().is_some());
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_unwritable_folder_causes_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").unwrap();
    let (here, requests) = authority(&[DIRECTORY, NONCE, ACCOUNT]).await;
    let job = job(&taken, &here);
    assert_eq!(issue(&job).await.unwrap_err().reason, Reason::Storage);
    assert!(job.prepare().map(drop).unwrap_err().message.contains("cannot be stored"));
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_validation_certificate_is_used_for_acme_handshakes_only() {
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    let challenges = Arc::<Challenges>::default();
    let shown = challenges.show_handshake("a.example", proof("a.example", &[7; 32]).unwrap()).unwrap();
    let offers = |name: &str, alpn: &[&[u8]]| {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut wire.as_slice()).unwrap();
        let accepted = acceptor.accept().ok().flatten().unwrap();
        challenges.handshake(&accepted.client_hello()).is_some()
    };
    assert!(offers("a.example", &[b"acme-tls/1"]) && offers("A.Example", &[b"acme-tls/1"]));
    assert!(!offers("b.example", &[b"acme-tls/1"]), "a name without a challenge");
    assert!(
        !offers("a.example", &[b"acme-tls/1", b"h2"])
            && !offers("a.example", &[b"h2"])
            && !offers("a.example", &[])
    );
    drop(shown);
    assert!(!offers("a.example", &[b"acme-tls/1"]));
}

#[tokio::test]
async fn renewal_information_sets_the_time_of_renewal() {
    const DIRECTORY: (&str, u16, &str) = (
        "/dir",
        200,
        r#"{"newNonce":"HERE/nonce","newAccount":"HERE/account","newOrder":"HERE/order","renewalInfo":"HERE/renewal"}"#,
    );
    const WINDOW: (&str, u16, &str) = (
        "/renewal/*",
        200,
        r#"{"suggestedWindow":{"start":"2001-09-09T01:46:40Z","end":"2001-09-09T01:46:50Z"}}"#,
    );
    let folder = tempfile::tempdir().unwrap();
    let (here, requests) = authority(&[DIRECTORY, NONCE, ACCOUNT, WINDOW]).await;
    let job = job(folder.path(), &here);
    storage::prepare(&job.settings).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let text = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
    let served = KeyedCertificate::read(text.as_bytes()).unwrap();
    job.renewed(served.key, served.validity);
    assert_eq!(renewal_info::wanted(&job).await, None, "no account is created for it");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
    account(&job.settings).await.unwrap();
    let (when, again) = renewal_info::wanted(&job).await.unwrap();
    assert!((1_000_000_000..=1_000_000_010).contains(&when), "{when}");
    assert!(again.as_secs().abs_diff(21_600) < 60, "{again:?}");
}
