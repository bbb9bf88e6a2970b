//! Certificate changes, by a reload and without one, without an effect on connected clients.

use crate::support::certs::{Authority, Client, Pair, Secure, Sort, der, replace};
use crate::support::ws::{handshake, masked};
use crate::support::{Gateway, Origin, eventually};
use crate::tls::{file, listed};
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Active clients: one keeps its connection, one does a handshake for every request.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(client: &Client, address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = [false, true].map(|anew| {
            let (stop, answered, client) = (Arc::clone(&stop), Arc::clone(&answered), client.clone());
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                let mut kept = client.connect(address, "a.example").unwrap();
                while !stop.load(SeqCst) && wrong.len() < 10 {
                    let answer = match anew {
                        true => client.get(address, "a.example", "/"),
                        false => kept.get("a.example", "/"),
                    };
                    match answer {
                        Ok(response) if response.status == 200 => _ = answered.fetch_add(1, SeqCst),
                        Ok(response) => wrong.push(response.head),
                        Err(error) => wrong.push(format!("{error:?}")),
                    }
                }
                wrong
            })
        });
        Self { stop, answered, clients: clients.into() }
    }

    fn await_more(&self, more: usize) {
        let goal = self.answered.load(SeqCst) + more;
        eventually("more requests are answered", || (self.answered.load(SeqCst) >= goal).then_some(()));
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn serves(ca: &Authority, secure: SocketAddr, pair: &Pair) -> Option<()> {
    (ca.client().connect(secure, "a.example").unwrap().shown() == der(pair)).then_some(())
}

fn rotations(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("moongate_tls_rotations_total", &[("listener", "secure"), ("result", result)])
}

#[test]
fn a_certificate_that_changes_serves_without_a_signal_and_by_one_and_drops_nothing() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let gateway = Gateway::start_whole(&file(&format!("certificates: [{}]", listed(&pair)), &origin, ""));
    let secure = gateway.listener("secure");
    let load = Load::start(&ca.client(), secure);
    let mut socket = SecureSocket::open(ca.client().connect(secure, "a.example").unwrap());
    socket.echo("before");
    for round in 1..=3 {
        load.await_more(10);
        // The certificate first and then the key, as most tools write them.
        ca.issue("a", &["a.example"]);
        eventually("the new one serves", || serves(&ca, secure, &pair));
        assert_eq!(rotations(&gateway, "taken"), f64::from(round));
    }
    socket.echo("after");
    assert_eq!(gateway.generation(), 1, "no reload was needed");

    // By a signal at once; only the reload reads the files of a new name.
    for name in ["a", "b", "a"] {
        load.await_more(10);
        let pair = ca.issue(name, &["a.example"]);
        gateway.reload_whole(&file(&format!("certificates: [{}]", listed(&pair)), &origin, "")).unwrap();
        serves(&ca, secure, &pair).unwrap();
        socket.echo("and after");
    }
    assert_eq!(gateway.generation(), 4);
    load.await_more(10);
    assert_eq!(load.stop(), Vec::<String>::new());
}

#[test]
fn problems_with_new_files_are_logged_once_and_the_old_ones_stay_in_use() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let gateway = Gateway::start_whole(&file(&format!("certificates: [{}]", listed(&pair)), &origin, ""));
    let secure = gateway.listener("secure");
    let (old, first) = (der(&pair), fs::read(&pair.cert).unwrap());
    let shown = || ca.client().connect(secure, "a.example").unwrap().shown();

    let refused = "new certificates rejected";
    for (bad, why) in [
        (&b"garbage"[..], "the file has no certificate"),
        (
            fs::read(ca.issue_expired("late", &["a.example"]).cert).unwrap().as_slice(),
            "the certificate expired",
        ),
        (fs::read(ca.issue("other", &["a.example"]).cert).unwrap().as_slice(), "does not match"),
    ] {
        let mark = gateway.log().mark();
        replace(&pair.cert, bad);
        gateway.log().wait(mark, &[refused]);
        gateway.log().wait(mark, &[why]);
        assert_eq!(shown(), old, "{why}");
    }
    assert_eq!(rotations(&gateway, "refused"), 3.0);
    // The next change shows that reads happened without further log lines.
    replace(&pair.cert, &first);
    let pair = ca.issue("a", &["a.example"]);
    eventually("the new one serves", || serves(&ca, secure, &pair));
    assert_eq!(gateway.log().count(0, refused), 3);
    assert_eq!(rotations(&gateway, "refused"), 3.0);
}

#[test]
fn a_bad_file_refuses_a_reload_at_its_place() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let with = |tls: &str| file(tls, &origin, "");
    let good = with(&format!("certificates: [{}]", listed(&pair)));
    let gateway = Gateway::start_whole(&good);
    let secure = gateway.listener("secure");
    let written = |name: &str, bytes: &[u8]| {
        let path = ca.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (cert, key) = (pair.cert.display(), pair.key.display());
    let late = ca.issue_expired("late", &["a.example"]);
    let early = ca.issue_with("early", &["a.example"], Sort::Ecdsa, |params| {
        params.not_before = rcgen::date_time_ymd(2900, 1, 1);
        params.not_after = rcgen::date_time_ymd(2901, 1, 1);
    });
    let other = ca.issue("other", &["a.example"]);
    let binary = written("binary.pem", &der(&pair));
    let empty = written("empty.pem", b"\n");
    let locked = written(
        "locked.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let short = written("short.tickets", &[1; 32]);
    let half = fs::read(&pair.cert).unwrap();
    let half = written("half.pem", &half[..half.len() / 2]);
    for (tls, place, why) in [
        (
            format!("certificates: [{{ cert: {cert}.not, key: {key} }}]"),
            "certificates[0].cert",
            "cannot read",
        ),
        (
            format!("certificates: [{{ cert: {}, key: {key} }}]", empty.display()),
            "certificates[0].cert",
            "the file is empty",
        ),
        (
            format!("certificates: [{{ cert: {}, key: {key} }}]", binary.display()),
            "certificates[0].cert",
            "is DER",
        ),
        (
            format!("certificates: [{{ cert: {}, key: {key} }}]", half.display()),
            "certificates[0].cert",
            "truncated",
        ),
        (
            format!("certificates: [{{ cert: {key}, key: {cert} }}]"),
            "certificates[0].cert",
            "private key and no certificate",
        ),
        (
            format!("certificates: [{{ cert: {cert}, key: {cert} }}]"),
            "certificates[0].key",
            "certificate and no private key",
        ),
        (
            format!("certificates: [{{ cert: {cert}, key: {} }}]", other.key.display()),
            "certificates[0].key",
            "does not match",
        ),
        (
            format!("certificates: [{{ cert: {cert}, key: {} }}]", locked.display()),
            "certificates[0].key",
            "is encrypted",
        ),
        (format!("certificates: [{}]", listed(&late)), "certificates[0].cert", "expired"),
        (format!("certificates: [{}]", listed(&early)), "certificates[0].cert", "not valid before"),
        (
            format!("certificates: [{{ cert: {cert}, key: {key}, ocsp: {cert} }}]"),
            "certificates[0].ocsp",
            "no OCSP response",
        ),
        (
            format!("certificates: [{}], ticket_keys: [{}]", listed(&pair), short.display()),
            "ticket_keys[0]",
            "48 or 80 bytes",
        ),
        (
            format!("certificates: [{}], client_auth: {{ ca: {} }}", listed(&pair), empty.display()),
            "client_auth.ca",
            "the file is empty",
        ),
        ("certificates: []".to_owned(), "listeners[1].tls", "no certificate"),
    ] {
        let report = gateway.reload_whole(&with(&tls)).unwrap_err();
        assert!(report.contains(place) && report.contains(why), "{place}: {why}\n{report}");
        serves(&ca, secure, &pair).unwrap();
    }
    assert_eq!(gateway.generation(), 1);
}

#[test]
fn a_certificate_that_expired_while_it_served_is_no_reason_to_refuse_other_changes() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let soon = now() + 4;
    let pair = ca.issue_with("a", &["a.example"], Sort::Ecdsa, |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(soon);
    });
    let good = file(&format!("certificates: [{}]", listed(&pair)), &origin, "");
    let gateway = Gateway::start_whole(&good);
    gateway.log().wait(0, &["certificate expires soon"]);
    eventually("it has expired", || (now() > soon).then_some(()));
    gateway.reload_whole(&good).unwrap();
    let last = gateway.status()["last_reload"]["report"].as_str().unwrap().to_owned();
    assert!(last.contains("warning: the certificate expired"), "{last}");
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A WebSocket with TLS, as far as needed here.
struct SecureSocket(Secure);

impl SecureSocket {
    fn open(mut connection: Secure) -> Self {
        assert_eq!(connection.ask(&handshake("/ws", "")).unwrap().status, 101);
        Self(connection)
    }

    fn echo(&mut self, text: &str) {
        self.0.send(&masked(1, text.as_bytes())).unwrap();
        let heard = self.0.exactly(2 + text.len()).unwrap();
        assert_eq!(&heard[2..], text.as_bytes());
    }
}
