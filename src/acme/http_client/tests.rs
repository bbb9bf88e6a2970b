//! What an authority, or who stands in its place, may answer.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

/// What is made of an answer that came whole.
async fn read(method: Method, answer: &[u8]) -> Result<Response<Bytes>, AttemptError> {
    let (near, mut far) = tokio::io::duplex(LARGEST * 2);
    far.write_all(answer).await.unwrap();
    far.shutdown().await.unwrap();
    exchange(near, b"", &method).await
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
        ("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n", None),
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
    assert_eq!(read(Method::GET, &endless).await.unwrap_err().0, "the answer is too long");
}

#[tokio::test]
async fn a_head_is_asked_for_alone() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nReplay-Nonce: one\r\n\r\n";
    let answer = read(Method::HEAD, answer).await.unwrap();
    assert_eq!((answer.headers()["replay-nonce"].as_bytes(), answer.body().len()), (&b"one"[..], 0));
}

#[test]
fn a_request_names_its_host_and_its_length() {
    let request = Request::post("https://user@[::1]:14000/a?b=c").header("x-a", "1").body(()).unwrap();
    let wire = render(&request.into_parts().0, &Bytes::from_static(b"{}")).unwrap();
    let expected = "POST /a?b=c HTTP/1.1\r\nhost: [::1]:14000\r\nconnection: close\r\ncontent-length: 2\r\n\
                    x-a: 1\r\n\r\n{}";
    assert_eq!(String::from_utf8_lossy(&wire), expected);
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(bytes: Vec<u8>) {
        let _ = parse_head(&bytes, &Method::GET);
        let _ = unchunk(&bytes);
    }
}
