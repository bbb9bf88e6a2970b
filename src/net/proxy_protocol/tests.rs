//! Tests of headers from the specification, and of arbitrary bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::checksum::crc32c;
use super::*;
use crate::config::ProxyVersion::{V1, V2};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A header of version 2 with that command, family and block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, block].concat()
}

/// An element.
fn element(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// 192.0.2.1:1000 to 192.0.2.2:443.
const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x03, 0xe8, 0x01, 0xbb];

fn ends(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

fn addresses(header: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, HeaderError> {
    parse(header).map(|addresses| addresses.ends)
}

#[test]
fn a_text_header_has_both_addresses() {
    let four = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_eq!(addresses(four), Ok(ends("192.168.0.1:56324", "192.168.0.11:443")));
    let six = b"PROXY TCP6 2001:DB8::1 ::ffff:192.0.2.1 65535 0\r\n";
    assert_eq!(addresses(six), Ok(ends("[2001:db8::1]:65535", "[::ffff:192.0.2.1]:0")));
    let long = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(long.len(), 107);
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN any \0 \r thing\r\n", &long] {
        assert_eq!(addresses(unknown.as_bytes()), Ok(None), "{unknown:?}");
    }
}

#[test]
fn inexact_text_headers_are_malformed() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP6 fe80::1%1 ::1 1 1\r\n",
        "PROXY TCP6 [::1] ::1 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 -1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4\t1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nG",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1",
        "",
    ] {
        assert_eq!(addresses(line.as_bytes()), Err(HeaderError::Malformed), "{line:?}");
    }
}

#[test]
fn other_bytes_are_a_missing_header() {
    for bytes in ["GET / HTTP/1.1\r\n", "proxy TCP4", "PRI * HTTP/2.0\r\n", "\r\nGET", "\x16\x03\x01", "\n"] {
        assert_eq!(extent(bytes.as_bytes()), Err(HeaderError::Missing), "{bytes:?}");
    }
    assert_eq!(extent(b"\r\n\r\n\0\r\nQUIT\r"), Err(HeaderError::Missing));
}

#[test]
fn a_header_has_a_maximum_length() {
    let endless = [&b"PROXY UNKNOWN "[..], &[b'a'; 200]].concat();
    assert_eq!(extent(&endless[..106]), Ok(HeaderLength::Beyond));
    assert_eq!(extent(&endless[..107]), Err(HeaderError::TooLong));
    let late = [&endless[..106], b"\r\n"].concat();
    assert_eq!(addresses(&late), Err(HeaderError::TooLong));
    let room = LONGEST - 16 - FOUR.len() - 3;
    let block = |size| [&FOUR[..], &element(4, &vec![0; size])].concat();
    assert_eq!(addresses(&v2(0x21, 0x11, &block(room))), Ok(ends("192.0.2.1:1000", "192.0.2.2:443")));
    assert_eq!(addresses(&v2(0x21, 0x11, &block(room + 1))), Err(HeaderError::TooLong));
}

#[test]
fn a_binary_header_has_both_addresses() {
    for transport in [1, 2] {
        let four = v2(0x21, 0x10 | transport, &FOUR);
        assert_eq!(addresses(&four), Ok(ends("192.0.2.1:1000", "192.0.2.2:443")));
        let (one, two) = (Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets());
        let six = v2(0x21, 0x20 | transport, &[&one[..], &two, &[0, 1, 0, 2]].concat());
        assert_eq!(addresses(&six), Ok(ends("[::1]:1", "[::]:2")));
        assert_eq!(addresses(&v2(0x21, 0x30 | transport, &[b'a'; 216])), Ok(None));
    }
}

#[test]
fn local_and_unknown_headers_have_no_addresses() {
    // LOCAL: any family and block are ignored.
    for (family, block) in [(0, &[][..]), (0x11, &FOUR), (0xff, b"\x03\0"), (0x11, b"short")] {
        assert_eq!(addresses(&v2(0x20, family, block)), Ok(None), "{family:#x}");
    }
    for family in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30] {
        assert_eq!(addresses(&v2(0x21, family, b"any")), Ok(None), "{family:#x}");
    }
}

#[test]
fn invalid_binary_headers_are_malformed() {
    for (command, family) in
        [(0x22, 0x11), (0x11, 0x11), (0x31, 0x11), (0x21, 0x13), (0x21, 0x41), (0x21, 0xf0), (0x21, 0x03)]
    {
        let header = v2(command, family, &FOUR);
        assert_eq!(addresses(&header), Err(HeaderError::Malformed), "{command:#x} {family:#x}");
    }
    for (family, size) in [(0x11, 11), (0x21, 35), (0x31, 215), (0x11, 0)] {
        assert_eq!(addresses(&v2(0x21, family, &vec![0; size])), Err(HeaderError::Malformed), "{family:#x}");
    }
    let long_id = element(5, &[0; 129]);
    for elements in [
        &b"\x04"[..],
        b"\x04\0",
        b"\x04\0\x01",
        b"\x02\0\x01\xff",
        b"\x20\0\x04\0\0\0\0",
        &long_id,
        b"\x03\0\0",
    ] {
        let header = v2(0x21, 0x11, &[&FOUR, elements].concat());
        assert_eq!(addresses(&header), Err(HeaderError::Malformed), "{elements:?}");
    }
    let mut cut = v2(0x21, 0x11, &FOUR);
    cut.pop();
    assert_eq!(addresses(&cut), Err(HeaderError::Malformed));
}

#[test]
fn a_checksum_covers_all_other_bytes() {
    assert_eq!(crc32c([b"1234", b"", b"56789"]), 0xe306_9283);
    let block = [&FOUR[..], &element(3, &[0; 4]), &element(0xe0, b"ours")].concat();
    let mut header = v2(0x21, 0x11, &block);
    assert_eq!(addresses(&header), Err(HeaderError::Checksum));
    let sum = crc32c([&header, b"", b""]).to_be_bytes();
    header[31..35].copy_from_slice(&sum);
    assert_eq!(addresses(&header), Ok(ends("192.0.2.1:1000", "192.0.2.2:443")));
    for at in 16..header.len() {
        let mut changed = header.clone();
        changed[at] ^= 0x40;
        // With another type in the place of the checksum, there is no checksum.
        assert_eq!(addresses(&changed).is_err(), at != 28, "byte {at}");
    }
    let twice = [&FOUR[..], &element(3, &[0; 4]), &element(3, &[0; 4])].concat();
    assert!(addresses(&v2(0x21, 0x11, &twice)).is_err());
}

#[test]
fn the_tls_of_the_client_is_read() {
    let inner = [element(0x21, b"TLSv1.2"), element(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")].concat();
    let with = |flags: u8| {
        let ssl = element(0x20, &[&[flags, 0, 0, 0, 1], &inner[..]].concat());
        let block = [&FOUR[..], &element(2, b"Example.com"), &ssl].concat();
        parse(&v2(0x21, 0x11, &block)).unwrap().tls
    };
    let tls = with(1).unwrap();
    assert_eq!((tls.version, tls.cipher), ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"));
    assert_eq!((tls.server_name.as_deref(), tls.client), (Some("example.com"), None));
    assert_eq!(with(0), None);
    let bare = v2(0x21, 0x31, &[&[0; 216][..], &element(0x20, &[1, 0, 0, 0, 0])].concat());
    let tls = parse(&bare).unwrap().tls.unwrap();
    assert_eq!((tls.version, tls.cipher, tls.server_name), ("", "", None));
}

#[test]
fn without_a_client_the_header_is_local() {
    assert_eq!(write(V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(write(V2, None), v2(0x20, 0, &[]));
    for version in [V1, V2] {
        assert_eq!(addresses(&write(version, None)), Ok(None));
    }
}

#[test]
fn addresses_of_two_families_are_both_written_as_ipv6() {
    for version in [V1, V2] {
        let mixed = ends("192.0.2.1:1", "[2001:db8::1]:2");
        assert_eq!(addresses(&write(version, mixed)), Ok(ends("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2")));
        let mapped = ends("[::ffff:192.0.2.1]:1", "192.0.2.2:2");
        assert_eq!(addresses(&write(version, mapped)), Ok(ends("192.0.2.1:1", "192.0.2.2:2")));
    }
}

fn address(wide: bool) -> BoxedStrategy<SocketAddr> {
    // No IPv4-mapped IPv6 addresses: they would be written as IPv4.
    let ip = if wide {
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits | 1 << 127))).boxed()
    } else {
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))).boxed()
    };
    (ip, any::<u16>()).prop_map(SocketAddr::from).boxed()
}

/// Bytes that start like a header.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(Vec::new()),
        Just(b"PROXY TCP4 ".to_vec()),
        Just(b"PROXY UNKNOWN".to_vec()),
        (any::<u8>(), any::<u8>(), 0..300_u16).prop_map(|(command, family, length)| {
            let mut header = v2(0x20 | (command & 1), family & 0x33, &[]);
            header[14..].copy_from_slice(&length.to_be_bytes());
            header
        }),
    ];
    (start, prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #[test]
    fn written_headers_are_read_back(
        (source, destination) in any::<bool>().prop_flat_map(|wide| (address(wide), address(wide))),
        suffix in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        for version in [V1, V2] {
            let header = write(version, Some((source, destination)));
            prop_assert_eq!(addresses(&header), Ok(Some((source, destination))));
            prop_assert_eq!(extent(&[&header[..], &suffix].concat()), Ok(HeaderLength::At(header.len())));
            for cut in 0..header.len() {
                match extent(&header[..cut]) {
                    Ok(HeaderLength::Beyond) => {}
                    found => prop_assert!(cut >= 16 && found == Ok(HeaderLength::At(header.len()))),
                }
            }
        }
    }

    #[test]
    fn any_bytes_get_the_same_result_for_any_split(bytes in almost()) {
        let whole = extent(&bytes);
        for cut in 0..bytes.len() {
            match extent(&bytes[..cut]) {
                Ok(HeaderLength::Beyond) => {}
                Ok(HeaderLength::At(end)) => prop_assert_eq!(whole, Ok(HeaderLength::At(end))),
                Err(wrong) => prop_assert_eq!(whole, Err(wrong)),
            }
        }
        if let Ok(HeaderLength::At(end)) = whole {
            prop_assert!(end <= LONGEST);
            if let Some(header) = bytes.get(..end) {
                let _ = parse(header);
            }
        }
    }
}
