#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use crate::proxy::request::request_validation;
use http::header;
use proptest::prelude::*;

fn parsed(head: &[u8]) -> ReceivedHead {
    parse(&Bytes::copy_from_slice(head))
}

#[test]
fn an_ordinary_header_is_kept_as_it_is() {
    for (head, method, target) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "GET", "/"),
        (b"\r\nOPTIONS * HTTP/1.0\r\n\r\n", "OPTIONS", "*"),
        (b"POST /a{b}|c?d=\\ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "POST", "/a{b}|c?d=\\"),
    ] {
        let received = parsed(head);
        assert_eq!((received.refused, received.target.as_deref(), received.size), (None, None, head.len()));
        assert_eq!(received.header.method.as_str(), method);
        assert_eq!(received.header.raw_path(), target.as_bytes());
    }
    let received = parsed(b"GET / HTTP/1.1\r\nhOST: a\r\nX: 1\r\nX:\t2 \r\n\r\n");
    assert_eq!(received.header.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(received.names.spelled(b"host", &mut 0), Some(&b"hOST"[..]));
}

#[test]
fn a_target_that_the_type_does_not_hold_is_kept_beside_it() {
    for (target, form) in [
        (&b"http://b/a<c>?\"x"[..], "/a%3Cc%3E?%22x"),
        (b"/\xff\xc3\x9f", "/%FF%C3%9F"),
        (b"/<\xff", "/%3C%FF"),
    ] {
        let received = parsed(&[b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert_eq!((received.target.as_deref(), received.refused), (Some(target), None));
        assert_eq!(received.header.raw_path(), form.as_bytes());
    }
}

#[test]
fn the_framing_is_that_of_one_length_or_one_coding() {
    let framing = |fields: &str| {
        let received = parsed(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        received.refused.map_or(Ok(received.framing), Err)
    };
    for (fields, expected) in [
        ("", RequestFraming::Length(0)),
        ("content-LENGTH:\t 5 \r\n", RequestFraming::Length(5)),
        ("Transfer-Encoding: Chunked\r\n", RequestFraming::Chunked),
        ("Content-Language: 5\r\nX-Content-Length: 5\r\nContent-Length-X: 5\r\n", RequestFraming::Length(0)),
    ] {
        assert_eq!(framing(fields), Ok(expected), "{fields:?}");
    }
    for fields in [
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 000000000000000000005\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Host: b\r\n",
    ] {
        assert!(matches!(framing(fields), Err(Failure::BadRequest(_))), "{fields:?}");
    }
}

#[test]
fn many_fields_are_all_kept() {
    let fields: String = (0..1000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    let received = parsed(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    assert_eq!((received.refused, received.header.headers.len()), (None, 1001));
}

proptest! {
    /// What is accepted is one message, for the parser and for the validation of requests.
    #[test]
    fn an_accepted_header_has_one_reading(
        line in "(GET|POST|CONNECT|HEAD|G T|\u{16})? ?(/[a-c%2F<>\"`{}|^\\\\#ß ]{0,8}|http://[a-b:@/]{0,4}|\\*|[ -~]{0,6}) (HTTP/1\\.[01]|HTTP/2\\.0|[ -~]{0,9})",
        fields in proptest::collection::vec(
            "(Host|content-length|Transfer-Encoding|X-A|[ -~]{0,5}): ?(a|a@b|5|5, 5|chunked|gzip|[ -~\u{80}-\u{ff}]{0,6})", 0..6),
        end in "(\r\n|\n)",
    ) {
        let fields: String = fields.iter().map(|field| format!("{field}{end}")).collect();
        let head = format!("{line}{end}{fields}{end}");
        let received = parsed(head.as_bytes());
        if received.refused.is_none() && request_validation::check(&received.header).is_ok() {
            let headers = &received.header.headers;
            let length = headers.get(header::CONTENT_LENGTH).map(|length| length.to_str().unwrap().parse().unwrap());
            let expected = match headers.contains_key(header::TRANSFER_ENCODING) {
                true => RequestFraming::Chunked,
                false => RequestFraming::Length(length.unwrap_or(0)),
            };
            prop_assert_eq!(received.framing, expected);
        }
    }

    #[test]
    fn no_bytes_panic(head in any::<Vec<u8>>()) {
        parsed(&head);
        prop_assert!(refuse(&head, Failure::HeaderTimeout).refused.is_some());
    }
}
