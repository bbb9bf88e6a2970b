//! TLV elements of a PROXY header, version 2 (§2.2, §2.2.1 to §2.2.7). Each must be complete; irrelevant
//! types are skipped.

use super::HeaderError;
use super::checksum::crc32c;
use moongate_sdk::Tls;

const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CIPHER: u8 = 0x23;

/// The longest `UNIQUE_ID` (§2.2.5).
const LONGEST_ID: usize = 128;

/// The flag of a TLS client in `SSL` (`PP2_CLIENT_SSL`).
const CLIENT_SSL: u8 = 0x01;

/// TLS versions as senders write them.
const VERSIONS: &[&str] = &["TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1"];

/// Cipher suites by their OpenSSL names, which senders write, and their IANA names.
const CIPHERS: &[(&str, &str)] = &[
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The relevant elements.
#[derive(Default)]
pub(super) struct Element<'a> {
    authority: Option<&'a str>,
    ssl: Option<Ssl<'a>>,
}

/// TLS between client and sender.
#[derive(Default)]
struct Ssl<'a> {
    version: &'a [u8],
    cipher: &'a [u8],
}

impl Element<'_> {
    /// The client's TLS.
    pub(super) fn tls(&self) -> Option<Tls> {
        let ssl = self.ssl.as_ref()?;
        let version = VERSIONS.iter().find(|name| name.as_bytes() == ssl.version);
        let cipher = CIPHERS.iter().find(|(name, _)| name.as_bytes() == ssl.cipher);
        Some(Tls {
            version: version.copied().unwrap_or_default(),
            cipher: cipher.map_or("", |(_, name)| name),
            server_name: self.authority.map(|name| name.to_ascii_lowercase().into()),
            client: None,
        })
    }
}

/// Parses `block`, the last bytes of `header`.
pub(super) fn read<'a>(header: &[u8], block: &'a [u8]) -> Result<Element<'a>, HeaderError> {
    let mut found = Element::default();
    let mut summed = false;
    each(block, |kind, value, rest_length| {
        match kind {
            AUTHORITY => found.authority = Some(str::from_utf8(value).map_err(|_| HeaderError::Malformed)?),
            // Each checksum covers the other one, so two of them are invalid.
            CRC32C if summed => return Err(HeaderError::Malformed),
            CRC32C => {
                verify(header, value, rest_length)?;
                summed = true;
            }
            UNIQUE_ID if value.len() > LONGEST_ID => return Err(HeaderError::Malformed),
            SSL => found.ssl = ssl(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// Calls `call` with the type and value of each element, and the number of bytes after it.
fn each<'a>(
    mut block: &'a [u8],
    mut call: impl FnMut(u8, &'a [u8], usize) -> Result<(), HeaderError>,
) -> Result<(), HeaderError> {
    while !block.is_empty() {
        let ([kind, high, low], rest) = block.split_first_chunk().ok_or(HeaderError::Malformed)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(HeaderError::Malformed)?;
        call(*kind, value, rest.len())?;
        block = rest;
    }
    Ok(())
}

/// Verifies the checksum, with zeros in its place (§2.2.3).
fn verify(header: &[u8], value: &[u8], rest_length: usize) -> Result<(), HeaderError> {
    let expected = <[u8; 4]>::try_from(value).map_err(|_| HeaderError::Malformed)?;
    let end = header.len() - rest_length;
    let sum = crc32c([&header[..end - expected.len()], &[0; 4], &header[end..]]);
    if sum == u32::from_be_bytes(expected) { Ok(()) } else { Err(HeaderError::Checksum) }
}

/// Parses `SSL`: a byte of flags, four bytes of the verification result, and nested elements.
fn ssl(value: &[u8]) -> Result<Option<Ssl<'_>>, HeaderError> {
    let ([flags, ..], inner) = value.split_first_chunk::<5>().ok_or(HeaderError::Malformed)?;
    let mut ssl = Ssl::default();
    each(inner, |kind, value, _| {
        match kind {
            SSL_VERSION => ssl.version = value,
            SSL_CIPHER => ssl.cipher = value,
            _ => {}
        }
        Ok(())
    })?;
    Ok((flags & CLIENT_SSL != 0).then_some(ssl))
}
