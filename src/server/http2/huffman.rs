//! HPACK Huffman code (RFC 7541, appendix B), decoded only to the end of each symbol and a few known octets.

/// For each code length, the first 32 bits after its last code. The code is canonical: shorter codes are less
/// than longer ones.
const ENDS: [(u32, u64); 21] = [
    (5, 0x5000_0000),
    (6, 0xb800_0000),
    (7, 0xf800_0000),
    (8, 0xfe00_0000),
    (10, 0xff40_0000),
    (11, 0xffa0_0000),
    (12, 0xffc0_0000),
    (13, 0xfff0_0000),
    (14, 0xfff8_0000),
    (15, 0xfffe_0000),
    (19, 0xfffe_6000),
    (20, 0xfffe_e000),
    (21, 0xffff_4800),
    (22, 0xffff_b000),
    (23, 0xffff_ea00),
    (24, 0xffff_f600),
    (25, 0xffff_f800),
    (26, 0xffff_fbc0),
    (27, 0xffff_fe20),
    (28, 0xffff_fff0),
    (30, 0x1_0000_0000),
];

/// The known octets with their codes.
const KNOWN: [(u32, u32, u8); 6] =
    [(7, 0x5c, b':'), (6, 0x2b, b'p'), (5, 0x3, b'a'), (5, 0x9, b't'), (6, 0x27, b'h'), (12, 0xffa, b'#')];

/// Stands for every other octet; occurs in no name or path.
const OTHER: u8 = 0;

/// Bits of an incomplete symbol.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bits: u64,
    count: u32,
}

impl Bits {
    /// Adds a byte; call [`Bits::next`] until it returns `None`.
    pub(super) fn push(&mut self, byte: u8) {
        // At most 29 bits are left, of a code of 30.
        self.bits = self.bits << 8 | u64::from(byte);
        self.count += 8;
    }

    /// The next complete symbol.
    pub(super) fn next(&mut self) -> Option<u8> {
        let window = self.bits << (64 - self.count.clamp(1, 64)) >> 32;
        let (length, _) = *ENDS.iter().find(|(_, end)| window < *end)?;
        if length > self.count {
            return None;
        }
        let code = (window >> (32 - length)) as u32;
        self.count -= length;
        let known = KNOWN.iter().find(|(bits, known, _)| (*bits, *known) == (length, code));
        Some(known.map_or(OTHER, |(.., octet)| *octet))
    }

    /// The number of bits after the last symbol.
    pub(super) fn unread(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut bits = Bits::default();
        let mut octets = Vec::new();
        for byte in bytes {
            bits.push(*byte);
            octets.extend(std::iter::from_fn(|| bits.next()));
        }
        assert!(bits.unread() < 8, "what is left is padding");
        octets
    }

    #[test]
    fn symbols_end_where_the_rfc_says() {
        // RFC 7541, C.4.1 and C.6.1: `www.example.com` and `Mon, 21 Oct 2013 20:13:21 GMT`.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(read(&host), b"\0\0\0\0\0\0a\0p\0\0\0\0\0\0");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        let octets = read(&date);
        assert_eq!(octets.len(), "Mon, 21 Oct 2013 20:13:21 GMT".len());
        let colons: Vec<_> =
            octets.iter().enumerate().filter(|(_, octet)| **octet == b':').map(|(at, _)| at).collect();
        assert_eq!((octets[10], colons), (b't', vec![19, 22]), "those of the time");
    }

    #[test]
    fn the_code_is_complete_and_has_every_octet() {
        let mut first = 0;
        let mut symbols = 0;
        for (length, end) in ENDS {
            assert_eq!((end - first) % (1 << (32 - length)), 0);
            symbols += (end - first) >> (32 - length);
            first = end;
        }
        assert_eq!(symbols, 257, "256 octets and the end of the text");
    }
}
