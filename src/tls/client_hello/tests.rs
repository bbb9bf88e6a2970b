//! Tests with ClientHellos of rustls, and with any bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use proptest::prelude::*;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::LazyLock;

const NAME: &[u8] = b"localhost:8443";

/// A ClientHello of rustls with the name `localhost:8443`, without the header of its record.
fn hello() -> Vec<u8> {
    static CONFIG: LazyLock<std::sync::Arc<ClientConfig>> = LazyLock::new(|| {
        let config = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let roots = std::sync::Arc::new(RootCertStore::empty());
        std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    });
    let valid = ServerName::try_from("localhost.8x43").unwrap();
    let mut record = Vec::new();
    ClientConnection::new(std::sync::Arc::clone(&CONFIG), valid).unwrap().write_tls(&mut record).unwrap();
    let at = record.windows(NAME.len()).position(|window| window == b"localhost.8x43").unwrap();
    record[at..at + NAME.len()].copy_from_slice(NAME);
    record.split_off(RECORD_HEADER)
}

/// The message in records of these lengths, repeated.
fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut bytes, mut rest, mut lengths) = (Vec::new(), message, lengths.iter().cycle());
    while !rest.is_empty() {
        let (content, after) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        bytes.extend([HANDSHAKE, 3, 1]);
        bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content);
        rest = after;
    }
    bytes
}

/// The bytes of the messages in these records.
fn content(bytes: &[u8]) -> Vec<u8> {
    let mut records = HelloRecords { bytes: bytes.to_vec(), ..HelloRecords::default() };
    let mut message = Vec::new();
    while let Some((_, content)) = records.record() {
        records.read = content.end;
        message.extend_from_slice(&bytes[content]);
    }
    message
}

/// The message before its change.
fn restored(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(at) = replaced_type(&message) {
        message[at..at + 2].copy_from_slice(&SERVER_NAME);
    }
    message
}

/// What rustls reads.
fn accept(bytes: &[u8]) -> Result<Option<String>, rustls::Error> {
    let (mut acceptor, mut unread) = (Acceptor::default(), bytes);
    loop {
        assert!(!unread.is_empty(), "incomplete");
        acceptor.read_tls(&mut unread).unwrap();
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            return Ok(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
}

#[test]
fn the_first_name_of_the_list_is_the_host_name() {
    let name = |content: &[u8]| IgnoredName(content.to_vec()).host_name().map(Cow::into_owned);
    assert_eq!(name(b"\0\x08\0\0\x05[::1]").as_deref(), Some("[::1]"));
    assert_eq!(name(b"\0\x05\0\0\x02\xfca").as_deref(), Some("\u{fffd}a"));
    for other in [&b""[..], b"\0", b"\0\x03", b"\0\x03\0\0", b"\0\x08\0\0\x05[::1", b"\0\x08\x01\0\x05[::1]"]
    {
        assert_eq!(name(other), None, "{other:?}");
    }
}

#[test]
fn a_hello_with_the_other_type_or_without_a_name_stays() {
    // Both types are free in turn; the content does not matter.
    for kinds in
        [[SERVER_NAME, REPLACEMENT], [SERVER_NAME, SERVER_NAME], [[0, 5], REPLACEMENT], [[0, 5], [0, 7]]]
    {
        let extensions = kinds.map(|[high, low]| vec![high, low, 0, 1, 9]).concat();
        let fields = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 10], &extensions].concat();
        let message = [&[CLIENT_HELLO, 0, 0, u8::try_from(fields.len()).unwrap()], &fields[..]].concat();
        let mut read = HelloRecords::default();
        let sent = records(&message, &[100]);
        assert_eq!(read.push(&sent), HelloProgress::Complete);
        assert_eq!(read.ignore_server_name(None), None, "{kinds:?}");
        assert_eq!(read.into_parts().0, sent);
    }
}

#[test]
fn a_second_name_must_be_the_first() {
    let mut read = HelloRecords::default();
    let sent = records(&hello(), &[100]);
    assert_eq!(read.push(&sent), HelloProgress::Complete);
    assert_eq!(read.ignore_server_name(Some(&IgnoredName(b"\0\x08\0\0\x05[::1]".to_vec()))), None);
    let name = IgnoredName([&b"\0\x11\0\0\x0e"[..], NAME].concat());
    assert_eq!(read.ignore_server_name(Some(&name)), Some(name));
}

#[test]
fn other_messages_and_large_ones_are_left_to_rustls() {
    for (bytes, progress) in [
        (&b"\x16\x03\x01\0\x04\x02\0\0\0"[..], HelloProgress::Other),
        (b"\x16\x03\x01\0\x04\x01\x01\0\0", HelloProgress::Other),
        (b"\x16\x03\x01\0\x04\x01\0\xff\xff", HelloProgress::Other),
        (b"\x16\x03\x01\0\x04\x01\0\xff\xfb", HelloProgress::Incomplete),
        // ChangeCipherSpec before and within.
        (b"\x14\x03\x03\0\x01\x01\x16\x03\x01\0\x01\x01", HelloProgress::Incomplete),
        (b"\x16\x03\x01\0\x01\x01\x14\x03\x03\0\x01\x01", HelloProgress::Other),
        (b"\x16\x03\x01\0\0\x16\x03\x01", HelloProgress::Incomplete),
        // Early data, and an alert.
        (b"\x17\x03\x03\0\x01\x01\x16\x03\x01\0\x01\x01", HelloProgress::Incomplete),
        (b"\x15\x03\x03\0\x02\x02\x28", HelloProgress::Other),
    ] {
        assert_eq!(HelloRecords::default().push(bytes), progress, "{bytes:?}");
    }
    let mut many = HelloRecords::default();
    let spec = b"\x14\x03\x03\0\x01\x01".repeat(1000);
    let pushes = (0..).take_while(|_| many.push(&spec) == HelloProgress::Incomplete).count();
    assert_eq!(pushes, LARGEST / spec.len());
}

proptest! {
    #[test]
    fn rustls_reads_no_name_and_the_change_can_be_undone(
        lengths in prop::collection::vec(1_usize..400, 1..10),
        pieces in prop::collection::vec(1_usize..300, 1..10),
        after in prop::collection::vec(any::<u8>(), 0..40),
        cut: prop::sample::Index,
    ) {
        let message = hello();
        let sent = records(&message, &lengths);
        prop_assert!(accept(&sent).is_err());
        let all = [&sent[..], &after].concat();
        let (mut read, mut rest, mut pieces) = (HelloRecords::default(), &all[..], pieces.iter().cycle());
        loop {
            let (piece, others) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
            rest = others;
            if read.push(piece) == HelloProgress::Complete {
                break;
            }
            prop_assert!(!rest.is_empty());
        }
        let name = read.ignore_server_name(None).unwrap();
        let text = name.host_name().map(|text| text.as_bytes().to_vec());
        prop_assert_eq!(text.as_deref(), Some(NAME));
        let (changed, end) = read.into_parts();
        prop_assert_eq!(end, sent.len());
        prop_assert_eq!(&changed[end..], &all[end..all.len() - rest.len()]);
        prop_assert_eq!(accept(&changed[..end]), Ok(None));
        let changed = content(&changed[..end]);
        prop_assert_ne!(&changed, &message);
        prop_assert_eq!(restored(&changed), &message[..]);
        // Followed by other messages; and cut as for a binder, after the name or before.
        prop_assert_eq!(restored(&[&changed[..], &after].concat()), [&message[..], &after].concat());
        let cut = cut.index(message.len());
        let restored = restored(&changed[..cut]);
        prop_assert!(restored == message[..cut] || restored == changed[..cut]);
        if replaced_type(&changed).is_some_and(|at| at + 4 <= cut) {
            prop_assert_eq!(restored, &message[..cut]);
        }
    }

    #[test]
    fn a_damaged_hello_does_not_panic_and_can_be_restored(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        lengths in prop::collection::vec(0_usize..200, 1..5),
    ) {
        let mut message = hello();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let lengths: Vec<_> = lengths.into_iter().map(|length| length + 1).collect();
        let sent = records(&message, &lengths);
        let mut read = HelloRecords::default();
        read.push(&sent);
        if let Some(name) = read.ignore_server_name(None) {
            let _ = name.host_name();
            let changed = content(&read.into_parts().0);
            prop_assert_eq!(restored(&changed), message);
        } else {
            prop_assert_eq!(read.into_parts().0, sent);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), starts_as_hello: bool) {
        let start: &[u8] = if starts_as_hello { &[HANDSHAKE, 3, 1, 0, 200, CLIENT_HELLO, 0, 0] } else { &[] };
        let bytes = [start, &bytes].concat();
        let mut read = HelloRecords::default();
        for piece in bytes.chunks(7) {
            read.push(piece);
        }
        if read.ignore_server_name(None).is_none() {
            prop_assert_eq!(read.into_parts().0, &bytes[..]);
        }
        let _ = replaced_type(&bytes);
        let _ = replaced_type(&bytes[bytes.len().min(RECORD_HEADER)..]);
        let _ = IgnoredName(bytes).host_name();
    }
}
