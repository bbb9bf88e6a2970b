//! Connections to backends: TLS, HTTP/2, gRPC, the PROXY protocol, and their failures.

use crate::support::secured::{Front, Http2, Issuer, Life, quoted};
use crate::support::{Gateway, LIMIT, Next, Origin, Socket, Wire, eventually};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

fn https(issuer: &Issuer, front: SocketAddr, more: &str) -> String {
    let ca = quoted(&issuer.file("ca.pem"));
    format!(
        "upstreams: {{ all: {{ endpoints: [\"{front}\"], tls: {{ ca: {ca} }}, {more} }} }}\n\
         routes: [{{ name: all, upstream: all }}]"
    )
}

/// A backend behind TLS with a certificate for our address.
fn secured(issuer: &Issuer, names: &[&str], life: Life) -> (Origin, Front) {
    let origin = Origin::named("a");
    let front = Front::start(Some(issuer.server(names, life, false)), false, origin.address());
    (origin, front)
}

#[test]
fn requests_share_a_connection_over_tls() {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    let gateway = Gateway::start(&https(&issuer, front.address, ""));
    assert!(gateway.names("/", 20).iter().all(|name| name == "a"));
    assert_eq!(front.seen.handshakes.load(SeqCst), 1);
}

#[test]
fn websockets_run_over_tls_and_resume_sessions() {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    let gateway = Gateway::start(&https(&issuer, front.address, ""));
    for _ in 0..3 {
        let mut socket = Socket::open(gateway.web(), "/ws");
        socket.echo("hello");
        socket.echo_bytes(&vec![7; 300_000]);
        socket.close();
    }
    assert_eq!(front.seen.handshakes.load(SeqCst), 3);
    assert!(front.seen.resumed.load(SeqCst) > 0, "a session is resumed");
}

#[test]
fn a_non_101_response_to_a_handshake_is_forwarded_over_tls() {
    let issuer = Issuer::new();
    let origin = Origin::fixed("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", Next::Keep);
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)), false, origin.address());
    let gateway = Gateway::start(&https(&issuer, front.address, ""));
    let mut wire = gateway.wire();
    wire.send(crate::support::ws::handshake("/ws", ""));
    let answer = wire.response();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[test]
fn the_host_name_is_sent_as_sni_and_verified() {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["localhost"], Life::Now);
    let port = front.address.port();
    let ca = quoted(&issuer.file("ca.pem"));
    let yaml = |endpoint: &str, more: &str| {
        format!(
            "upstreams: {{ all: {{ endpoints: [\"{endpoint}:{port}\"], tls: {{ ca: {ca}{more} }} }} }}\n\
             routes: [{{ name: all, upstream: all }}]"
        )
    };
    let gateway = Gateway::start(&yaml("localhost", ""));
    assert_eq!(gateway.get("/").text(), "a");
    gateway.reload(&yaml("127.0.0.1", "")).unwrap();
    assert_eq!(gateway.get("/").status, 502, "the certificate is for another name");
    gateway.reload(&yaml("127.0.0.1", ", sni: localhost")).unwrap();
    assert_eq!(gateway.get("/").text(), "a");
    gateway.reload(&yaml("127.0.0.1", ", verify: false")).unwrap();
    assert_eq!(gateway.get("/").text(), "a");
    Socket::open(gateway.web(), "/ws").echo("unverified");
    let names = front.seen.names.lock().unwrap();
    assert_eq!(names.first().unwrap().as_deref(), Some("localhost"));
}

#[test]
fn without_ca_the_certificates_of_the_system_are_trusted() {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    let yaml = |address: SocketAddr, more: &str| {
        format!(
            "upstreams: {{ all: {{ endpoints: [\"{address}\"], tls: {{ verify: true }}, {more} }} }}\n\
             routes: [{{ name: all, upstream: all }}]"
        )
    };
    let system = issuer.file("ca.pem");
    let gateway = Gateway::start_with("SSL_CERT_FILE", system.as_os_str(), &yaml(front.address, ""));
    assert_eq!(gateway.get("/").text(), "a");
    Socket::open(gateway.web(), "/ws").echo("trusted");
    let backend = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    gateway.reload(&yaml(backend.address, "protocol: h2")).unwrap();
    assert_eq!(gateway.get("/").text(), "two");
    let (_origin, strange) = secured(&Issuer::new(), &["127.0.0.1"], Life::Now);
    gateway.reload(&yaml(strange.address, "")).unwrap();
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn a_gateway_serves_without_certificates_of_the_system() {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    let nowhere = issuer.file("nowhere.pem");
    let gateway =
        Gateway::start_with("SSL_CERT_FILE", nowhere.as_os_str(), &https(&issuer, front.address, ""));
    gateway.log().wait(0, &["system root certificates not read"]);
    assert_eq!(gateway.get("/").text(), "a");
    let unverified = https(&issuer, front.address, "").replace("ca: ", "verify: false, ca: ");
    gateway.reload(&unverified).unwrap();
    assert_eq!(gateway.get("/").text(), "a");
    let ca = format!("ca: {}", quoted(&issuer.file("ca.pem")));
    gateway.reload(&unverified.replace(&format!(", {ca}"), "")).unwrap();
    assert_eq!(gateway.get("/").text(), "a", "nothing is verified");
}

#[test]
fn a_certificate_that_is_not_to_be_trusted_gets_nothing() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let strangers = [
        (secured(&other, &["127.0.0.1"], Life::Now), "UnknownIssuer"),
        (secured(&issuer, &["other.test"], Life::Now), "only valid for DnsName(\\\"other.test\\\")"),
        (secured(&issuer, &[], Life::Now), "not valid for any names"),
        (secured(&issuer, &["127.0.0.1"], Life::Over), "certificate expired"),
    ];
    for ((origin, front), cause) in &strangers {
        let gateway = Gateway::start(&https(&issuer, front.address, "retries: 0"));
        let answer = gateway.get("/secret");
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("tls_certificate"), "{}", answer.text());
        let refused = Socket::open_with(gateway.web(), "/ws", &[]).map(drop).unwrap_err();
        assert_eq!(refused, 502);
        assert_eq!(origin.seen().len(), 0, "nothing was sent");
        let failed = [("upstream", "all"), ("reason", "tls_certificate")];
        assert_eq!(gateway.metrics().sum("moongate_upstream_failures_total", &failed), 2.0);
        // The log gives the cause for both, without advice to disable verification.
        for path in ["/secret", "/ws"] {
            let line = gateway.log().wait(0, &[&format!("path={path} ")]);
            let (_, told) =
                line.split_once(" server_name=127.0.0.1 error=\"invalid peer certificate: ").unwrap();
            assert!(told.contains(cause) && told.ends_with('"'), "{line}");
        }
    }
}

#[test]
fn a_backend_without_tls_fails_the_handshake() {
    let issuer = Issuer::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let gateway = Gateway::start(&https(&issuer, address, "retries: 0"));
    let answer = gateway.get("/");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("tls_handshake"), "{}", answer.text());
    let line = gateway.log().wait(0, &["request failed"]);
    assert!(
        line.ends_with(
            " server_name=127.0.0.1 error=\"received corrupt message of type InvalidContentType\""
        ),
        "{line}"
    );
}

#[test]
fn a_client_certificate_is_shown_where_there_is_one() {
    let issuer = Issuer::new();
    issuer.issue("gateway", &["gateway.test"], Life::Now);
    let origin = Origin::named("a");
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, true)), false, origin.address());
    let (ca, cert, key) = (issuer.file("ca.pem"), issuer.file("gateway.pem"), issuer.file("gateway.key"));
    let yaml = |identity: &str| {
        format!(
            "upstreams: {{ all: {{ endpoints: [\"{}\"], retries: 0, tls: {{ ca: {}{identity} }} }} }}\n\
             routes: [{{ name: all, upstream: all }}]",
            front.address,
            quoted(&ca)
        )
    };
    let gateway = Gateway::start(&yaml(&format!(", cert: {}, key: {}", quoted(&cert), quoted(&key))));
    assert_eq!(gateway.get("/").text(), "a");
    Socket::open(gateway.web(), "/ws").echo("known");
    gateway.reload(&yaml("")).unwrap();
    let answer = gateway.get("/http");
    assert!(answer.status == 502 && answer.text().contains("tls_handshake"), "{}", answer.text());
    assert_eq!(Socket::open_with(gateway.web(), "/ws", &[]).map(drop).unwrap_err(), 502);
    for path in ["/http", "/ws"] {
        let line = gateway.log().wait(0, &[&format!("path={path} ")]);
        assert!(line.ends_with("error=\"received fatal alert: CertificateRequired\""), "{line}");
    }
}

#[test]
fn backends_that_reject_the_certificate_after_the_handshake_are_ejected() {
    let issuer = Issuer::new();
    let origin = Origin::named("a");
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, true)), false, origin.address());
    for path in ["/http", "/ws"] {
        let gateway = Gateway::start(&https(
            &issuer,
            front.address,
            "retries: 0, passive_health: { failures: 2, eject_for: 1h }",
        ));
        for _ in 0..2 {
            let status = match path {
                "/ws" => Socket::open_with(gateway.web(), path, &[]).map(drop).unwrap_err(),
                _ => gateway.get(path).status,
            };
            assert_eq!(status, 502, "{path}");
        }
        let line = gateway.log().wait(0, &["endpoint ejected"]);
        assert!(line.contains("reason=tls_handshake"), "{path}: {line}");
    }
}

#[test]
fn a_reload_that_trusts_somebody_else_uses_no_old_connection() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    let ca = issuer.file("trusted.pem");
    std::fs::copy(issuer.file("ca.pem"), &ca).unwrap();
    let yaml = format!(
        "upstreams: {{ all: {{ endpoints: [\"{}\"], tls: {{ ca: {} }} }} }}\nroutes: [{{ upstream: all }}]",
        front.address,
        quoted(&ca)
    );
    let gateway = Gateway::start(&yaml);
    let mut wire = gateway.wire();
    let mut ask = |status| {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().status, status);
    };
    ask(200);
    gateway.reload(&yaml).unwrap();
    ask(200);
    assert_eq!(front.seen.handshakes.load(SeqCst), 1, "nothing changed");
    // The settings are equal, and the file is changed.
    std::fs::copy(other.file("ca.pem"), &ca).unwrap();
    gateway.reload(&yaml).unwrap();
    ask(502);
}

#[test]
fn probes_go_the_same_way() {
    let issuer = Issuer::new();
    for kind in ["tcp", "http", "websocket"] {
        let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
        let (_stranger, wrong) = secured(&issuer, &["other.test"], Life::Now);
        let ca = quoted(&issuer.file("ca.pem"));
        let gateway = Gateway::start(&format!(
            "upstreams:\n  all: {{ endpoints: [\"{}\", \"{}\"], tls: {{ ca: {ca} }}, health_check: {{ kind: {kind}, \
             interval: 50ms, unhealthy_after: 1 }} }}\nroutes: [{{ upstream: all }}]",
            front.address, wrong.address
        ));
        gateway.await_health("all", front.address, "healthy");
        gateway.await_health("all", wrong.address, "unhealthy");
    }
}

#[test]
fn http_2_backends_are_probed_in_http_2() {
    let backend = Http2::start(None);
    for kind in ["http", "grpc"] {
        let gateway = Gateway::start(&format!(
            "upstreams: {{ all: {{ endpoints: [\"{}\"], protocol: h2c, health_check: {{ kind: {kind}, interval: 50ms }} }} }}\n\
             routes: [{{ upstream: all }}]",
            backend.address
        ));
        gateway.await_health("all", backend.address, "healthy");
    }
    assert!(
        backend
            .seen
            .heads
            .lock()
            .unwrap()
            .iter()
            .any(|(uri, _)| uri.ends_with("/grpc.health.v1.Health/Check"))
    );
}

fn h2c(backend: SocketAddr, more: &str) -> Gateway {
    Gateway::start_whole(&both(backend, more))
}

/// Listeners of both versions before an HTTP/2 backend.
fn both(backend: SocketAddr, more: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0 }}, {{ name: two, address: 127.0.0.1:0, protocols: [h2c] }}]\n\
         upstreams: {{ all: {{ endpoints: [\"{backend}\"], protocol: h2c }} }}\n\
         routes: [{{ upstream: all{more} }}]"
    )
}

#[test]
fn http_1_clients_are_served_by_http_2_backends() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, "");
    let mut wire = gateway.wire();
    for _ in 0..5 {
        wire.send("POST /x?y=1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nbody");
        let answer = wire.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "two"));
    }
    let (uri, fields) = backend.last();
    assert_eq!(uri, "http://a.example/x?y=1");
    assert!(!fields.contains_key("x-hop") && fields.contains_key("x-forwarded-for"));
    assert_eq!(backend.seen.bodies.lock().unwrap()[..], [b"body"; 5].map(|body| body.to_vec()));
    assert_eq!(backend.seen.connections.load(SeqCst), 1, "one connection");
}

#[test]
fn http_2_over_tls_is_chosen_by_alpn_and_its_scheme_is_https() {
    let issuer = Issuer::new();
    let backend = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    let gateway = Gateway::start(&https(&issuer, backend.address, "protocol: h2"));
    assert_eq!(gateway.get("/a").text(), "two");
    assert_eq!(backend.last().0, format!("https://{}/a", "localhost"));
    // A backend that supports only HTTP/1.1 gets HTTP/1.1.
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], Life::Now);
    gateway.reload(&https(&issuer, front.address, "protocol: h2")).unwrap();
    assert_eq!(gateway.names("/", 5), ["a"; 5]);
    Socket::open(gateway.web(), "/ws").echo("http/1.1");
}

#[test]
fn unprocessed_requests_are_retried() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, "");
    let post = |path: &str| {
        let mut wire = gateway.wire();
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"));
        wire.response().status
    };
    // The endpoint is the only one, and a rejecting one is not tried twice for one request.
    assert_eq!(post("/refused"), 502);
    assert_eq!(post("/refused"), 200);
    assert_eq!(post("/reset"), 502);
    let asked =
        |path: &str| backend.seen.heads.lock().unwrap().iter().filter(|(uri, _)| uri.ends_with(path)).count();
    assert_eq!(asked("/reset"), 1, "it may have been done");
}

#[test]
fn a_websocket_to_h2c_backends_gets_the_reason() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, "");
    let mut wire = gateway.wire();
    wire.send(crate::support::ws::handshake("/ws", ""));
    let answer = wire.response();
    assert!(answer.status == 502 && answer.text().contains("websocket_over_h2c"), "{}", answer.text());
}

/// The result of a gRPC call.
struct Call {
    status: StatusCode,
    fields: HeaderMap,
    /// The header ended the stream.
    alone: bool,
    body: Vec<u8>,
    trailers: HeaderMap,
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, work).await.unwrap() })
}

async fn client(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn call_head(path: &str) -> Request<()> {
    let head = Request::post(format!("http://grpc.example{path}"));
    let head = head.header("content-type", "application/grpc+proto").header("te", "trailers");
    head.header("grpc-timeout", "5S").body(()).unwrap()
}

async fn call(sender: &mut h2::client::SendRequest<Bytes>, path: &str, message: &'static [u8]) -> Call {
    let (answer, mut stream) = sender.send_request(call_head(path), false).unwrap();
    stream.send_data(Bytes::from_static(message), true).unwrap();
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let alone = body.is_end_stream();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        let _ = body.flow_control().release_capacity(piece.len());
        whole.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    Call { status: parts.status, fields: parts.headers, alone, body: whole, trailers }
}

#[test]
fn unary_calls_of_grpc_have_their_trailers() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, "");
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let done = call(&mut sender, "/grpc/unary", b"\0\0\0\0\x02hi").await;
        assert_eq!((done.status, &done.body[..]), (StatusCode::OK, &b"\0\0\0\0\x02hi"[..]));
        assert_eq!(
            (&done.trailers["grpc-status"], &done.trailers["x-last"]),
            (&"0".parse().unwrap(), &"word".parse().unwrap())
        );
        let (uri, fields) = backend.last();
        assert_eq!(uri, "http://grpc.example/grpc/unary");
        assert_eq!(
            (&fields["te"], &fields["grpc-timeout"]),
            (&"trailers".parse().unwrap(), &"5S".parse().unwrap())
        );
        let none = call(&mut sender, "/grpc/none", b"").await;
        assert_eq!((none.status, &none.fields["grpc-status"]), (StatusCode::OK, &"5".parse().unwrap()));
    });
}

#[test]
fn a_body_that_was_read_whole_reaches_http_2_backends() {
    let backend = Http2::start(None);
    let gateway = Gateway::start_own_whole(&both(
        backend.address,
        ", plugins: [{ kind: replace, whole: 1MiB, request: { from: body, to: LOUD } }]",
    ));
    let mut wire = gateway.wire();
    wire.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(wire.response().status, 200);
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let done = call(&mut sender, "/grpc/whole", b"\0\0\0\0\x02hi").await;
        assert_eq!(done.trailers["grpc-status"], "0");
    });
    let bodies = backend.seen.bodies.lock().unwrap();
    assert_eq!(bodies[..], [b"LOUD".to_vec(), b"\0\0\0\0\x02hi".to_vec()]);
}

#[test]
fn a_stream_in_both_directions_outlives_the_route_s_timeout() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, ", timeout: 300ms");
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let (answer, mut stream) = sender.send_request(call_head("/grpc/chat"), false).unwrap();
        let mut body = None;
        let mut answer = Some(answer);
        for round in 0..4_u8 {
            // Longer than the timeout, without data in either direction.
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            stream.send_data(Bytes::from(vec![round; 9]), false).unwrap();
            if let Some(answer) = answer.take() {
                body = Some(answer.await.unwrap().into_body());
            }
            let body = body.as_mut().unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), vec![round; 9]);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let mut body = body.unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn the_timeouts_apply_to_requests_that_merely_claim_grpc() {
    let backend = Http2::start(None);
    let gateway = h2c(backend.address, ", timeout: 300ms");
    let mut wire = gateway.wire();
    wire.send("POST /silent HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.response().status, 504);
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        for (method, te) in [("GET", Some("trailers")), ("PUT", Some("trailers")), ("POST", None)] {
            let head = Request::builder().method(method).uri("http://a/silent");
            let mut head = head.header("content-type", "application/grpc").body(()).unwrap();
            head.headers_mut().extend(te.map(|te| (http::header::TE, te.parse().unwrap())));
            let (answer, _) = sender.send_request(head, true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 504, "{method} {te:?}");
        }
    });
}

#[test]
fn a_client_may_be_silent_once_its_response_has_begun() {
    let backend = Http2::start(None);
    let gateway =
        Gateway::start_whole(&format!("server: {{ body_timeout: 300ms }}\n{}", both(backend.address, "")));
    let head = |path: &str| {
        let head = Request::post(format!("http://a{path}"));
        head.header("content-type", "application/connect+proto").body(()).unwrap()
    };
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let (answer, mut stream) = sender.send_request(head("/grpc/chat"), false).unwrap();
        let mut body = answer.await.unwrap().into_body();
        for round in 0..2_u8 {
            stream.send_data(Bytes::from(vec![round; 9]), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), vec![round; 9]);
            // A later one is ended for its silence, which shows how much time has passed.
            let (answer, _stalled) = sender.send_request(head("/silent"), false).unwrap();
            assert!(answer.await.map_or(true, |answer| !answer.status().is_success()));
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
    });
}

#[test]
fn silence_after_the_end_of_a_response_is_not_awaited() {
    let backend = Http2::start(None);
    let gateway =
        Gateway::start_whole(&format!("server: {{ body_timeout: 300ms }}\n{}", both(backend.address, "")));
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let (answer, mut stream) = sender.send_request(call_head("/grpc/none"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(std::future::poll_fn(|cx| stream.poll_reset(cx)).await.is_ok());
    });
    eventually("the endpoint is free", || (gateway.active("all", backend.address) == Some(0)).then_some(()));
}

#[test]
fn a_rejected_call_gets_a_grpc_status() {
    let gone = Origin::named("gone").address();
    let gateway = h2c(gone, "");
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let done = call(&mut sender, "/grpc/unary", b"\0\0\0\0\0").await;
        assert_eq!((done.status, &done.fields["grpc-status"]), (StatusCode::OK, &"14".parse().unwrap()));
        assert_eq!(done.fields["grpc-message"], "connect_refused");
        assert!(done.alone, "behind its status nothing comes");
    });
}

#[test]
fn a_call_never_goes_by_http_1() {
    let issuer = Issuer::new();
    let backend = Http2::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)));
    let ca = quoted(&issuer.file("ca.pem"));
    let gateway = Gateway::start_whole(
        &both(backend.address, "")
            .replace("protocol: h2c }", &format!("protocol: h2, tls: {{ ca: {ca} }} }}")),
    );
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let old = call(&mut sender, "/grpc/old", b"\0\0\0\0\0").await;
        assert_eq!(old.fields["grpc-status"], "14");
        // The backend ends the connection, so the next call is on a new one.
        call(&mut sender, "/goodbye", b"\0\0\0\0\0").await;
        let done = call(&mut sender, "/grpc/unary", b"\0\0\0\0\x02hi").await;
        assert!(!done.alone && done.trailers["grpc-status"] == "0", "{:?}", done.fields);
    });
    assert_eq!(backend.seen.connections.load(SeqCst), 2);
}

/// Accepts connections in the kernel alone, and sends nothing.
fn mute() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn an_h2c_backend_without_settings_gets_no_more_calls() {
    let well = Http2::start(None);
    let (_mute, hung) = mute();
    for more in ["", ", proxy_protocol: v2"] {
        let gateway = Gateway::start_whole(&format!(
            "admin: {{ address: 127.0.0.1:0 }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:0 }}, {{ name: two, address: 127.0.0.1:0, protocols: [h2c] }}]\n\
             upstreams: {{ all: {{ endpoints: [\"{hung}\"], protocol: h2c, connect_timeout: 200ms,\n\
             \x20 passive_health: {{ failures: 1, eject_for: 1h }}{more} }} }}\n\
             routes: [{{ upstream: all }}]"
        ));
        run(async {
            let mut sender = client(gateway.listener("two")).await;
            let done = call(&mut sender, "/grpc/unary", b"\0\0\0\0\0").await;
            assert_eq!(
                (&done.fields["grpc-status"], &done.fields["grpc-message"]),
                (&"14".parse().unwrap(), &"upstream_closed".parse().unwrap())
            );
        });
        gateway.await_health("all", hung, "unhealthy");
    }
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0 }}, {{ name: two, address: 127.0.0.1:0, protocols: [h2c] }}]\n\
         upstreams: {{ all: {{ endpoints: [\"{hung}\", \"{}\"], protocol: h2c, connect_timeout: 200ms,\n\
         \x20 passive_health: {{ failures: 1, eject_for: 1h }} }} }}\n\
         routes: [{{ upstream: all }}]",
        well.address
    ));
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let mut lost = 0;
        for _ in 0..8 {
            let done = call(&mut sender, "/grpc/unary", b"\0\0\0\0\x02hi").await;
            lost += usize::from(done.alone);
        }
        assert_eq!(lost, 1, "the first call there, and no other");
    });
}

#[test]
fn a_backend_that_has_sent_settings_may_be_silent() {
    let backend = Http2::start(None);
    let gateway = Gateway::start_whole(
        &both(backend.address, "").replace("protocol: h2c }", "protocol: h2c, connect_timeout: 100ms }"),
    );
    run(async {
        let mut sender = client(gateway.listener("two")).await;
        let (answer, mut stream) = sender.send_request(call_head("/grpc/chat"), false).unwrap();
        // Longer than the limit.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        stream.send_data(Bytes::from_static(b"hi"), false).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hi");
    });
}

fn announced(version: &str, front: &Front, more: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: {{ all: {{ endpoints: [\"{}\"], proxy_protocol: {version}{more} }} }}\nroutes: [{{ upstream: all }}]",
        front.address
    ))
}

#[test]
fn backends_get_the_client_s_address() {
    let origin = Origin::named("a");
    let front = Front::start(None, true, origin.address());
    let gateway = announced("v1", &front, "");
    let mut one = gateway.wire();
    let ask = |wire: &mut Wire| {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().text(), "a");
    };
    ask(&mut one);
    ask(&mut one);
    let mut two = gateway.wire();
    ask(&mut two);
    ask(&mut one);
    let headers = front.headers();
    assert_eq!(headers.len(), 2, "clients do not share a connection");
    let (first, _) = one.into_parts();
    let port = |stream: &std::net::TcpStream| stream.local_addr().unwrap().port();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", port(&first), gateway.web().port());
    assert_eq!(String::from_utf8_lossy(&headers[0]), expected);
    Socket::open(gateway.web(), "/ws").echo("behind a header");
    assert_eq!(front.headers().len(), 3);
}

#[test]
fn version_2_comes_before_tls_and_probes_speak_for_themselves() {
    let issuer = Issuer::new();
    let origin = Origin::named("a");
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)), true, origin.address());
    let ca = quoted(&issuer.file("ca.pem"));
    let more = format!(", tls: {{ ca: {ca} }}, health_check: {{ kind: http, interval: 1h }}");
    let gateway = announced("v2", &front, &more);
    gateway.await_health("all", front.address, "healthy");
    assert_eq!(front.headers()[0][12..], [0x20, 0, 0, 0], "LOCAL");
    assert_eq!(gateway.get("/").text(), "a");
    let told = front.headers().last().unwrap().clone();
    assert_eq!(told[12..24], [0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    Socket::open(gateway.web(), "/ws").echo("behind both");
}
