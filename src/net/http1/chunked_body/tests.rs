#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Feeds the parts in order.
fn follow<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (usize, Body) {
    let mut chunks = Chunks::default();
    let mut sum = 0;
    for part in parts {
        let mut at = 0;
        while at < part.len() {
            let Run { framing, data, state: body, .. } = chunks.decode(&part[at..]);
            let n = framing + data;
            at += n;
            sum += n;
            if body != Body::Open {
                return (sum, body);
            }
            assert!(n > 0, "an open body consumes bytes");
        }
    }
    (sum, Body::Open)
}

/// The verdict, which is the same for all bytes at once and byte by byte.
fn verdict(bytes: &[u8]) -> (usize, Body) {
    let whole = follow([bytes]);
    assert_eq!(follow(bytes.chunks(1)), whole, "{:?}", bytes.escape_ascii().to_string());
    whole
}

#[test]
fn a_body_ends_at_its_last_chunk_and_later_bytes_are_untouched() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;name=value\r\nhello\r\n0;x\r\n\r\n",
        "5 ; name = \"va\tl\u{fc}e\"\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n000\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "00a\r\n0123456789\r\nA\r\n0\r\n\r\n\r\n\r\nx\r\n0\r\n\r\n",
        "2\r\n\r\n\r\n0\r\nX-Trailer: here\r\nY:\r\n\r\n",
    ] {
        assert_eq!(verdict(body.as_bytes()), (body.len(), Body::Over), "{body:?}");
        let more = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(verdict(more.as_bytes()), (body.len(), Body::Over), "{body:?}");
    }
}

#[test]
fn ambiguous_framing_breaks_at_its_first_invalid_byte() {
    for (body, sound) in [
        ("\r\nhello\r\n0\r\n\r\n", 0),
        (";x\r\n\r\n", 0),
        (" 5\r\nhello\r\n", 0),
        ("x\r\n", 0),
        ("-5\r\nhello\r\n", 0),
        ("0x5\r\nhello\r\n", 1),
        ("5 5\r\nhello\r\n", 2),
        ("5,\r\nhello\r\n", 1),
        ("5\nhello\r\n", 1),
        ("5\r\r\nhello\r\n", 2),
        ("5\rhello\r\n", 2),
        ("00000000000000005\r\nhello\r\n", 16),
        ("ffffffffffffffff\r\nhello\r\n", 15),
        ("5;a\0b\r\nhello\r\n", 3),
        ("5;a\rb\r\nhello\r\n", 4),
        ("5;a\nb\r\nhello\r\n", 3),
        ("5;a\x7f\r\nhello\r\n", 3),
        ("5\r\nhelloXX0\r\n\r\n", 8),
        ("5\r\nhello0\r\n\r\n", 8),
        ("5\r\nhello\n0\r\n\r\n", 8),
        ("5\r\nhello\r0\r\n\r\n", 9),
        ("0\r\n\n", 3),
        ("0\r\nX: y\n\r\n", 7),
        ("0\r\nX: y\rz\r\n\r\n", 8),
        ("0\r\nX: \0\r\n\r\n", 6),
    ] {
        assert_eq!(verdict(body.as_bytes()), (sound, Body::Broken), "{body:?}");
    }
}

#[test]
fn extensions_and_trailers_are_limited() {
    let extension = |n: usize| verdict(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(n)).as_bytes()).1;
    assert_eq!((extension(4096), extension(4097)), (Body::Over, Body::Broken));
    let blanks = |n: usize| verdict(format!("5{}\r\nhello\r\n0\r\n\r\n", " ".repeat(n)).as_bytes()).1;
    assert_eq!((blanks(4097), blanks(4098)), (Body::Over, Body::Broken));
    let trailers = |n: usize| verdict(format!("0\r\n{}\r\n", "a: b\r\n".repeat(n)).as_bytes()).1;
    // A line counts with one byte for its end.
    assert_eq!((trailers((64 << 10) / 5), trailers((64 << 10) / 5 + 1)), (Body::Over, Body::Broken));
}

prop_compose! {
    fn chunk()(data in vec(any::<u8>(), 1..300), zeros in 0..4usize, extension in "(;[ -~\t]{0,20})?")
        -> Vec<u8> {
        let size = format!("{}{:x}{extension}\r\n", "0".repeat(zeros), data.len());
        [size.as_bytes(), &data, b"\r\n"].concat()
    }
}

proptest! {
    #[test]
    fn a_body_passes_at_any_split(
        chunks in vec(chunk(), 0..8),
        trailers in vec("[a-zA-Z-]{1,10}: [ -~]{0,20}\r\n", 0..3),
        suffix in vec(any::<u8>(), 0..50),
        sizes in vec(1..40usize, 1..60),
    ) {
        let mut wire = chunks.concat();
        wire.extend_from_slice(format!("0\r\n{}\r\n", trailers.concat()).as_bytes());
        let end = wire.len();
        wire.extend_from_slice(&suffix);
        let mut parts = Vec::new();
        let mut rest = &wire[..];
        for size in sizes.iter().cycle() {
            let (part, after) = rest.split_at((*size).min(rest.len()));
            parts.push(part);
            rest = after;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(follow(parts), (end, Body::Over));
    }

    #[test]
    fn any_bytes_get_the_same_verdict_for_any_split(bytes in vec(prop_oneof![
        Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), Just(b';'), Just(b' '), any::<u8>()
    ], 0..60)) {
        verdict(&bytes);
    }
}
