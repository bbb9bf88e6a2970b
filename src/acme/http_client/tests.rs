//! Responses of a CA, and of a load balancer in front of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use http::Method;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn request(method: Method, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("https://user@[::1]:14000/a?b=c").header("x-a", "1");
    origin_form(request.body(Full::from(body)).unwrap()).unwrap()
}

/// The result of a complete response.
async fn read(method: Method, answer: &[u8]) -> Result<Response<Bytes>, AttemptError> {
    let (near, mut far) = tokio::io::duplex(LARGEST * 2);
    let request = exchange(near, request(method, ""));
    let respond = async {
        // hyper rejects a response before the request.
        far.read_u8().await.unwrap();
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        far
    };
    tokio::join!(request, respond).0
}

async fn body(answer: &str) -> Option<String> {
    let answer = read(Method::POST, answer.as_bytes()).await.ok()?;
    Some(String::from_utf8_lossy(answer.body()).into_owned())
}

#[tokio::test]
async fn a_body_ends_where_its_framing_says() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (fields, wire, meant) in [
        ("content-length: 2\r\n", "hi and more", Some("hi")),
        ("content-length: 3\r\n", "hi", None),
        ("content-length: x\r\n", "hi", None),
        ("transfer-encoding: Chunked\r\n", "2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n", Some("hi!")),
        ("transfer-encoding: chunked\r\n", "2\r\nhi\r\n", None),
        ("transfer-encoding: chunked\r\n", "2\r\nhi!!0\r\n\r\n", None),
        ("transfer-encoding: chunked\r\n", "fffffffffffffff\r\nhi", None),
        ("", "hi", Some("hi")),
    ] {
        let answer = format!("{head}{fields}\r\n{wire}");
        assert_eq!(body(&answer).await.as_deref(), meant, "{fields}{wire}");
    }
    assert_eq!(body(&format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}\r\nhi")).await.as_deref(), Some("hi"));
}

#[tokio::test]
async fn what_is_no_answer_or_has_no_end_is_refused() {
    for broken in ["", "HTTP/1.1 200", "nonsense\r\n\r\n", "HTTP/1.1 99 X\r\n\r\n"] {
        assert!(read(Method::GET, broken.as_bytes()).await.is_err(), "{broken}");
    }
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(LARGEST + 64, b'x');
    assert_eq!(read(Method::GET, &endless).await.unwrap_err().0, "the response is too long");
    let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    head.resize(LARGEST_HEAD + 64, b'x');
    assert!(read(Method::GET, &head).await.is_err(), "a head without end");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MOST_FIELDS + 1));
    assert!(read(Method::GET, many.as_bytes()).await.is_err(), "fields without number");
}

#[tokio::test]
async fn a_head_is_asked_for_alone() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nReplay-Nonce: one\r\n\r\n";
    let answer = read(Method::HEAD, answer).await.unwrap();
    assert_eq!((answer.headers()["replay-nonce"].as_bytes(), answer.body().len()), (&b"one"[..], 0));
}

#[tokio::test]
async fn a_request_names_its_host_and_its_length() {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let asked = exchange(near, request(Method::POST, "{}"));
    let respond = async {
        let mut wire = String::new();
        while !wire.ends_with("{}") {
            wire.push(char::from(far.read_u8().await.unwrap()));
        }
        far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        wire
    };
    let (answer, wire) = tokio::join!(asked, respond);
    assert_eq!(answer.unwrap().status(), 204);
    let expected = "POST /a?b=c HTTP/1.1\r\nx-a: 1\r\nhost: [::1]:14000\r\nconnection: close\r\n\
                    content-length: 2\r\n\r\n{}";
    assert_eq!(wire, expected);
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_sends_no_response_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let url = format!("http://{}/directory", silent.local_addr().unwrap());
    let request = Request::get(&url).body(BodyWrapper::default()).unwrap();
    let began = tokio::time::Instant::now();
    let error = Client(Arc::new(config)).request(request).await.err().unwrap();
    assert_eq!(error.to_string(), format!("{url}: no response in time"));
    assert!(matches!(error, Error::Other(other) if other.is::<AttemptError>()));
    assert_eq!(began.elapsed().as_secs(), WHOLE.as_secs());
}

#[tokio::test]
async fn a_connection_ends_with_the_alert() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/directory", listener.local_addr().unwrap());
    let client = Client::new(Some(&[made.cert.der().clone()])).unwrap();
    for _ in 0..50 {
        // One with a response, and one whose response breaks off.
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nX: "] {
            let request = Request::get(&url).body(BodyWrapper::default()).unwrap();
            let respond = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                if !answer.ends_with("hi") {
                    stream.get_mut().1.send_close_notify();
                    stream.flush().await.unwrap();
                }
                stream.read_to_end(&mut Vec::new()).await
            };
            let (answer, end) = tokio::join!(client.request(request), respond);
            assert!(end.is_ok_and(|read| read == 0), "{:?}", answer.map(|answer| answer.parts.status));
        }
    }
}
