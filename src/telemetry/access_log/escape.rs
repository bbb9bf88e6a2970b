//! Escaping of text and numbers in a line. Client bytes can neither end the line nor control a terminal.

use std::io::Write as _;
use std::net::IpAddr;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `number` in decimal digits.
pub(super) fn decimal(line: &mut Vec<u8>, mut number: u64) {
    // 20 digits hold u64::MAX.
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

/// Appends an address. For IPv4, the standard library takes ten times as long.
pub(crate) fn address(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    line.push(b'.');
                }
                decimal(line, u64::from(octet));
            }
        }
        // Writing into a vector cannot fail.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
}

/// Appends `time` as milliseconds with three decimals.
pub(super) fn milliseconds(line: &mut Vec<u8>, time: std::time::Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    decimal(line, micros / 1000);
    let rest = micros % 1000;
    line.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10 % 10), digit(rest % 10)]);
}

/// Appends `text` as the inside of a JSON string (RFC 8259 §7).
///
/// Bytes that are not UTF-8 become U+FFFD; DEL and the C1 controls are escaped too, because some terminals
/// obey them.
pub(super) fn json(line: &mut Vec<u8>, text: &[u8]) {
    // Most fields are plain ASCII: one pass, one copy.
    if text.iter().all(|byte| plain(*byte)) {
        line.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_char(line, c));
        if !chunk.invalid().is_empty() {
            line.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Appends `text` as nginx and Apache do between quotes: `\xHH` for `"`, `\` and anything but printable
/// ASCII. Empty text becomes a dash.
pub(super) fn quoted(line: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        line.push(b'-');
    }
    // Most fields are plain: one pass, one copy.
    if text.iter().all(|byte| plain(*byte)) {
        line.extend_from_slice(text);
        return;
    }
    for byte in text {
        if plain(*byte) {
            line.push(*byte);
        } else {
            line.extend_from_slice(&[b'\\', b'x', nibble(byte >> 4), nibble(byte & 15)]);
        }
    }
}

fn json_char(line: &mut Vec<u8>, c: char) {
    match c {
        '"' => line.extend_from_slice(b"\\\""),
        '\\' => line.extend_from_slice(b"\\\\"),
        '\n' => line.extend_from_slice(b"\\n"),
        '\r' => line.extend_from_slice(b"\\r"),
        '\t' => line.extend_from_slice(b"\\t"),
        // Every control character lies below U+0100.
        c if c.is_control() => {
            let code = u32::from(c) as u8;
            line.extend_from_slice(&[b'\\', b'u', b'0', b'0', nibble(code >> 4), nibble(code & 15)]);
        }
        c => line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn nibble(value: u8) -> u8 {
    HEX[usize::from(value & 15)]
}

fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_would() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(shown(|line| decimal(line, number)), number.to_string());
        }
        assert_eq!(shown(|line| milliseconds(line, Duration::from_micros(12_045))), "12.045");
        assert_eq!(shown(|line| milliseconds(line, Duration::MAX)), "18446744073709551.615");
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_would() {
        for text in ["0.0.0.0", "255.10.100.9", "::1", "2001:db8::7", "::ffff:192.0.2.7"] {
            let written = text.parse().map(|ip| shown(|line| address(line, ip)));
            assert_eq!(written.as_deref(), Ok(text));
        }
    }

    #[test]
    fn any_bytes_become_a_json_string_that_reads_back() {
        for text in ["plain", "q\"b\\n\n\r\t\u{0}\u{1f}\u{7f}\u{9b}", "čeština 🦀 \u{2028}"] {
            let written = shown(|line| json(line, text.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&format!("\"{written}\"")).ok().as_deref(), Some(text));
            assert!(!written.chars().any(char::is_control), "{written}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(shown(|line| json(line, b"a\xff\xfe\xc3(")), "a\\ufffd\\ufffd\\ufffd(");
    }

    #[test]
    fn quoted_text_is_printable_ascii() {
        assert_eq!(shown(|line| quoted(line, b"a\"\\\n\xc3\xa9")), r"a\x22\x5c\x0a\xc3\xa9");
        assert_eq!(shown(|line| quoted(line, b"")), "-");
    }
}
