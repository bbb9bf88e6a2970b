//! HTTP version of the backends of `protocol: h2`: those that select HTTP/1.1 are served as those of `protocol: http1`.

use crate::support::raw::lossy;
use crate::support::secured::{Http2, Issuer, Life, Selecting, quoted};
use crate::support::{Gateway, Next, Origin, Wire, eventually};
use std::sync::atomic::Ordering::SeqCst;

fn yaml(issuer: &Issuer, endpoints: &str, more: &str) -> String {
    format!(
        "server: {{ threads: 1 }}
upstreams: {{ all: {{ endpoints: [{endpoints}], protocol: h2{more}, tls: {{ ca: {} }} }} }}
routes: [{{ upstream: all }}]",
        quoted(&issuer.file("ca.pem"))
    )
}

/// Sends a request in an unusual spelling with a body and a trailer, and returns the status and what came after it.
fn post(wire: &mut Wire) -> (u16, String, String) {
    wire.send(
        "POST /a HTTP/1.1\r\nX-oNE: 1\r\nhOST: localhost\r\ntransfer-ENCODING: chunked\r\nX-One: 2\r\n\r\n\
         2\r\nhi\r\n0\r\nX-sUM: 1\r\n\r\n",
    );
    let head = lossy(&wire.head().unwrap().unwrap());
    let status = head[9..12].parse().unwrap();
    (status, head, lossy(&wire.chunks().unwrap().0))
}

#[test]
fn a_backend_that_selects_http_1_keeps_names_order_and_trailers() {
    let issuer = Issuer::new();
    let origin = Origin::fixed(
        "HTTP/1.1 103 Early Hints\r\nliNK: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\neTAG: 1\r\ntransfer-ENCODING: chunked\r\n\r\n2\r\nok\r\n0\r\nX-lAST: 1\r\n\r\n",
        Next::Keep,
    );
    let backend = Selecting::start(issuer.server(&["127.0.0.1"], Life::Now, false), origin.address());
    let gateway = Gateway::start(&yaml(&issuer, &format!("'{}'", backend.address), ""));
    let mut wire = Wire::connect(gateway.web());
    for _ in 0..3 {
        wire.send("POST /a HTTP/1.1\r\nX-oNE: 1\r\nhOST: localhost\r\ntransfer-ENCODING: chunked\r\nX-One: 2\r\n\r\n\
                   2\r\nhi\r\n0\r\nX-sUM: 1\r\n\r\n");
        assert!(lossy(&wire.head().unwrap().unwrap()).ends_with("\r\nliNK: </a>\r\n\r\n"));
        let head = lossy(&wire.head().unwrap().unwrap());
        assert!(head.starts_with("HTTP/1.1 200 OK\r\neTAG: 1\r\ntransfer-ENCODING: chunked\r\n"), "{head}");
        assert!(wire.chunks().unwrap().0.ends_with(b"0\r\nX-lAST: 1\r\n\r\n"));
        let seen = origin.seen().pop().unwrap();
        let start =
            "POST /a HTTP/1.1\r\nX-oNE: 1\r\nhOST: localhost\r\ntransfer-ENCODING: chunked\r\nX-One: 2\r\n";
        assert!(seen.head.starts_with(start), "{}", seen.head);
        assert_eq!(lossy(&seen.wire_body), "2\r\nhi\r\n0\r\nX-sUM: 1\r\n\r\n");
    }
    // One to learn it, which ends with the closing alert of TLS, and one that is kept.
    eventually("the first connection ends", || (backend.ended[0].load(SeqCst) == 1).then_some(()));
    assert_eq!((backend.handshakes.load(SeqCst), origin.count(), backend.ended[1].load(SeqCst)), (2, 3, 0));
}

#[test]
fn a_backend_may_select_another_version_for_each_connection() {
    let issuer = Issuer::new();
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
        Next::Keep,
    );
    let backend = Selecting::start(issuer.server(&["127.0.0.1"], Life::Now, false), origin.address());
    let gateway =
        Gateway::start(&yaml(&issuer, &format!("'{}'", backend.address), ", keepalive_timeout: 0s"));
    let mut wire = Wire::connect(gateway.web());
    let mut times = 0;
    for h2 in [false, true, true, false, false, true] {
        backend.selects_h2.store(h2, SeqCst);
        // The end of a connection of HTTP/2 that is not kept takes a moment.
        eventually("the next connection has the other version", || {
            let (status, _, body) = post(&mut wire);
            times += 1;
            let sent = backend.seen.bodies.lock().unwrap().len() + origin.count();
            assert_eq!((status, sent), (200, times), "every request is sent once");
            body.contains(if h2 { "two" } else { "one" }).then_some(())
        });
    }
    assert!(origin.seen().iter().all(|seen| seen.body == b"hi"));
}

#[test]
fn endpoints_of_both_versions_are_mixed() {
    let issuer = Issuer::new();
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
        Next::Keep,
    );
    let older = Selecting::start(issuer.server(&["127.0.0.1"], Life::Now, false), origin.address());
    let newer = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    let refusing = Origin::named("refusing");
    refusing.die();
    let endpoints = format!("'{}', '{}', '{refusing}'", older.address, newer.address);
    let gateway = Gateway::start(&yaml(&issuer, &endpoints, ", retries: 2"));
    let mut wire = Wire::connect(gateway.web());
    for _ in 0..12 {
        assert_eq!(post(&mut wire).0, 200);
    }
    let (first, second) = (origin.count(), newer.seen.bodies.lock().unwrap().len());
    assert!(first >= 4 && second >= 4 && first + second == 12, "{first} {second}");
    assert!(older.handshakes.load(SeqCst) <= 2);
}

#[test]
fn a_backend_that_demands_http_1_gets_it_from_then_on() {
    let issuer = Issuer::new();
    let origin = Origin::named("a");
    let backend = Selecting::start(issuer.server(&["127.0.0.1"], Life::Now, false), origin.address());
    backend.selects_h2.store(true, SeqCst);
    let gateway = Gateway::start(&yaml(&issuer, &format!("'{}'", backend.address), ""));
    assert_eq!(gateway.get("/").text(), "two");
    assert_eq!(gateway.get("/old").status, 502);
    // The backend would select HTTP/2, which is not offered.
    assert_eq!(gateway.names("/", 3), ["a"; 3]);
}
