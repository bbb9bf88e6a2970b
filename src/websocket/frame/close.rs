//! Body of a Close frame (§5.5.1), and the codes that may be sent (§7.4).

use super::FrameError;

/// The code for a Close without a body (§7.1.5). Never sent in a frame.
pub const NO_STATUS: u16 = 1005;

/// The content of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// The status code; [`NO_STATUS`] for an empty body (§7.1.5).
    pub code: u16,
    /// The reason, at most 123 bytes; may be empty (§7.1.6).
    pub reason: &'a str,
}

impl<'a> Close<'a> {
    /// Parses the unmasked payload of a Close frame.
    ///
    /// # Errors
    /// [`FrameError::CloseBody`] for a single byte, [`FrameError::CloseCode`] for a code that must not be
    /// sent, [`FrameError::CloseReason`] for a reason that is not UTF-8.
    pub fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (code, reason) = match payload {
            [] => return Ok(Self { code: NO_STATUS, reason: "" }),
            [_] => return Err(FrameError::CloseBody),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !may_be_sent(code) {
            return Err(FrameError::CloseCode(code));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| FrameError::CloseReason)?;
        Ok(Self { code, reason })
    }
}

/// Whether a Close frame may have `code` (§7.4.1, §7.4.2 and IANA's registry): 1000 to 1003, 1007 to 1014,
/// and 3000 to 4999 for libraries and applications. 1004 is reserved; 1005, 1006 and 1015 are for ends
/// without a Close frame; other codes below 3000 are reserved for later protocols.
#[must_use]
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_has_no_status() {
        assert_eq!(Close::read(b""), Ok(Close { code: NO_STATUS, reason: "" }));
    }

    #[test]
    fn a_code_and_its_reason_are_read() {
        assert_eq!(Close::read(b"\x03\xf4moved on"), Ok(Close { code: 1012, reason: "moved on" }));
        assert_eq!(Close::read(b"\x03\xe8"), Ok(Close { code: 1000, reason: "" }));
    }

    #[test]
    fn invalid_bodies_are_distinguished() {
        assert_eq!(Close::read(b"\x03"), Err(FrameError::CloseBody));
        assert_eq!(Close::read(b"\x03\xe8\xff"), Err(FrameError::CloseReason));
        assert_eq!(Close::read(b"\x03\xed"), Err(FrameError::CloseCode(1005)));
    }

    #[test]
    fn only_codes_for_frames_may_be_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }
}
