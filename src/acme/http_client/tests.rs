//! Tests of responses from a CA, or from a load balancer in front of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

/// The result of a completely received response.
async fn read(method: Method, response: &[u8]) -> Result<Response<Bytes>, AttemptError> {
    let (near, mut far) = tokio::io::duplex(LARGEST * 2);
    far.write_all(response).await.unwrap();
    far.shutdown().await.unwrap();
    exchange(near, b"", &method).await
}

async fn body(response: &str) -> Option<String> {
    let response = read(Method::POST, response.as_bytes()).await.ok()?;
    Some(String::from_utf8_lossy(response.body()).into_owned())
}

#[tokio::test]
async fn a_body_ends_according_to_its_framing() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (fields, wire, meant) in [
        ("content-length: 2\r\n", "hi and more", Some("hi")),
        ("content-length: 3\r\n", "hi", None),
        ("content-length: x\r\n", "hi", None),
        ("transfer-encoding: Chunked\r\n", "2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n", Some("hi!")),
        ("transfer-encoding: chunked\r\n", "2\r\nhi\r\n", None),
        ("transfer-encoding: chunked\r\n", "2\r\nhi!!0\r\n\r\n", None),
        ("transfer-encoding: chunked\r\n", "fffffffffffffff\r\nhi", None),
        ("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n", None),
        ("", "hi", Some("hi")),
    ] {
        let response = format!("{head}{fields}\r\n{wire}");
        assert_eq!(body(&response).await.as_deref(), meant, "{fields}{wire}");
    }
    assert_eq!(body(&format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}\r\nhi")).await.as_deref(), Some("hi"));
}

#[tokio::test]
async fn invalid_and_endless_responses_are_refused() {
    for broken in ["", "HTTP/1.1 200", "nonsense\r\n\r\n", "HTTP/1.1 99 X\r\n\r\n"] {
        assert!(read(Method::GET, broken.as_bytes()).await.is_err(), "{broken}");
    }
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(LARGEST + 64, b'x');
    assert_eq!(read(Method::GET, &endless).await.unwrap_err().0, "the response is too large");
}

#[tokio::test]
async fn a_head_response_has_no_body() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nReplay-Nonce: one\r\n\r\n";
    let response = read(Method::HEAD, response).await.unwrap();
    assert_eq!((response.headers()["replay-nonce"].as_bytes(), response.body().len()), (&b"one"[..], 0));
}

#[test]
fn a_request_has_host_and_length() {
    let request = Request::post("https://user@[::1]:14000/a?b=c").header("x-a", "1").body(()).unwrap();
    let wire = render(&request.into_parts().0, &Bytes::from_static(b"{}")).unwrap();
    let expected = "POST /a?b=c HTTP/1.1\r\nhost: [::1]:14000\r\nconnection: close\r\ncontent-length: 2\r\n\
                    x-a: 1\r\n\r\n{}";
    assert_eq!(String::from_utf8_lossy(&wire), expected);
}

proptest::proptest! {
    #[test]
    fn no_response_panics(bytes: Vec<u8>) {
        let _ = parse_head(&bytes, &Method::GET);
        let _ = unchunk(&bytes);
    }
}
