//! Names of certificates as text: of clients for plugins and header fields, of servers for SNI.
//!
//! Names have the format of RFC 4514. Everything but printable ASCII is escaped, so that any issued name is
//! safe in a header field and in a log line.

use super::HandshakeFailure;
use super::unix_time::now;
use moongate_sdk::ClientCertificate;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes with a short name (RFC 4514 §3); others are written as object identifiers.
const SHORT: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// Parses a certificate; `None` if it is invalid.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed)
}

/// The facts of a client certificate for plugins.
///
/// # Errors
/// The certificate cannot be parsed, or has expired: a resumed session has the certificate of its start.
pub(super) fn client_in_time(der: &CertificateDer<'_>) -> Result<ClientCertificate, HandshakeFailure> {
    let parsed = parse(der).ok_or(HandshakeFailure::CLIENT_CERTIFICATE)?;
    if parsed.validity().not_after.timestamp() < now() {
        return Err(HandshakeFailure::CLIENT_EXPIRED);
    }
    Ok(client(der, &parsed))
}

fn client(der: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> ClientCertificate {
    ClientCertificate {
        subject: name(parsed.subject()).into(),
        issuer: name(parsed.issuer()).into(),
        serial: serial(parsed).into(),
        fingerprint: hex(&Sha256::digest(der), false).into(),
        names: alternative(parsed).into_iter().map(|name| escaped(&name).into()).collect(),
    }
}

/// The serial number in hexadecimal digits, upper case.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    // A zero before a first digit of 8 or more only marks a positive number.
    match certificate.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => hex(rest, true),
        all => hex(all, true),
    }
}

/// The subject alternative names: DNS names, URIs, mail addresses and IP addresses.
pub(super) fn alternative(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_string())
}

/// A name in the format of RFC 4514, last part first, for example `CN=alice,O=Example`.
pub(super) fn name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (index, part) in parts.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let number = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == number);
    text.push_str(short.map_or(&*number, |(_, short)| short));
    text.push('=');
    match (short, attribute.as_str()) {
        (Some(_), Ok(value)) => text.push_str(&escaped(value)),
        // §2.4: without a short name or a text value, the encoding is written.
        _ => {
            let value = attribute.attr_value();
            text.push('#');
            text.push_str(&hex(&encoded(value.tag().0, value.data), true));
        }
    }
}

/// A value with its tag and length (X.690 §8.1).
fn encoded(tag: u32, value: &[u8]) -> Vec<u8> {
    // Tags of text types are below 31, so one byte is enough.
    let mut bytes = vec![(tag & 0x1f) as u8];
    let length = value.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    if let [short @ ..=0x7f] = length {
        bytes.push(*short);
    } else {
        bytes.push(0x80 | length.len() as u8);
        bytes.extend_from_slice(length);
    }
    bytes.extend_from_slice(value);
    bytes
}

/// Escapes by RFC 4514 §2.4, and also everything but printable ASCII.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'#' | b' ' if at == 0 => text.extend(['\\', char::from(byte)]),
            b' ' if at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_subject_is_written_last_part_first_and_escaped() {
        let der = made(|params| {
            params.distinguished_name.push(DnType::CountryName, "DE");
            params.distinguished_name.push(DnType::OrganizationName, "Müller, Söhne");
            params.distinguished_name.push(DnType::CommonName, " a\r\nX-Admin: 1 ");
        });
        let client = client_in_time(&der).unwrap();
        assert_eq!(&*client.subject, "CN=\\ a\\0D\\0AX-Admin: 1\\ ,O=M\\C3\\BCller\\, S\\C3\\B6hne,C=DE");
        assert_eq!(client.issuer, client.subject);
    }

    #[test]
    fn an_attribute_without_a_short_name_is_written_as_its_encoding() {
        let der = made(|params| {
            params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b");
        });
        assert_eq!(&*client_in_time(&der).unwrap().subject, "1.2.840.113549.1.9.1=#0C03614062");
    }

    #[test]
    fn all_types_of_alternative_names_are_read() {
        let der = made(|params| {
            params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
            params.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
            params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
            params.serial_number = Some(vec![0xff, 1].into());
        });
        let client = client_in_time(&der).unwrap();
        assert_eq!(
            client.names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["a.example", "spiffe://a/b", "a@b.example", "2001:db8::1"]
        );
        assert_eq!((&*client.serial, client.fingerprint.len()), ("FF01", 64));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = client_in_time(&CertificateDer::from(bytes));
        }

        #[test]
        fn a_changed_certificate_does_not_panic(at: prop::sample::Index, byte: u8) {
            let mut der = made(|_| ()).to_vec();
            let at = at.index(der.len());
            der[at] = byte;
            let _ = client_in_time(&CertificateDer::from(der));
        }

        #[test]
        fn an_escaped_text_can_stand_in_a_header(text: String) {
            prop_assert!(escaped(&text).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
