#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use pingora::protocols::http::v1::server::HttpSession;
use proptest::prelude::*;
use std::io::Cursor;

/// The header that the parser gets, and the kept one.
fn judged(head: &[u8]) -> (Vec<u8>, SentHead) {
    match judge(head) {
        Judgement::Plain => (head.to_vec(), SentHead::default()),
        Judgement::Other(head, sent) => (head, *sent),
    }
}

/// Returns whether Pingora accepts a whole header.
fn is_taken(head: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = HttpSession::new(Box::new(Cursor::new(head.to_vec())));
        matches!(session.read_request().await, Ok(Some(size)) if size == head.len())
    })
}

#[test]
fn an_ordinary_head_stays_as_it_is() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nOPTIONS * HTTP/1.0\r\n\r\n",
        "POST /a{b}|c?d=\\\" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    ] {
        let head = head.replace("\\\"", "");
        assert!(matches!(judge(head.as_bytes()), Judgement::Plain), "{head:?}");
    }
}

#[test]
fn what_the_parser_does_not_take_is_kept_beside_it() {
    let (given, sent) = judged(b"GET http://b/a<c>?\"x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(given, b"GET /a%3Cc%3E?%22x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((sent.target.as_deref(), sent.refused), (Some(&b"http://b/a<c>?\"x"[..]), None));
    let (given, sent) = judged(b"GET /\xff\xc3\x9f HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(given, b"GET /%FF%C3%9F HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((sent.target.as_deref(), sent.refused), (Some(&b"/\xff\xc3\x9f"[..]), None));
}

proptest! {
    /// For any input, Pingora accepts the header that it gets.
    #[test]
    fn the_parser_takes_what_it_is_given(
        line in "(GET|POST|CONNECT|HEAD|G T|\u{16})? ?(/[a-c%2F<>\"`{}|^\\\\#ß ]{0,8}|http://[a-b:@/]{0,4}|\\*|[ -~]{0,6}) (HTTP/1\\.[01]|HTTP/2\\.0|[ -~]{0,9})",
        fields in proptest::collection::vec(
            "(Host|content-length|Transfer-Encoding|X-A|[ -~]{0,5}): ?(a|a@b|5|5, 5|chunked|gzip|[ -~\u{80}-\u{ff}]{0,6})", 0..6),
        end in "(\r\n|\n)",
    ) {
        let head = format!("{line}{end}{}{end}", fields.iter().map(|field| format!("{field}{end}")).collect::<String>());
        let (given, _) = judged(head.as_bytes());
        prop_assert!(is_taken(&given), "{:?} became {:?}", head, String::from_utf8_lossy(&given));
    }

    #[test]
    fn no_bytes_panic(head in any::<Vec<u8>>()) {
        let (given, _) = judged(&head);
        prop_assert!(is_taken(&given) || head == given);
        let Judgement::Other(given, sent) = refuse(&head, Failure::HeaderTimeout) else { panic!() };
        prop_assert!(is_taken(&given) && sent.refused.is_some());
    }
}
