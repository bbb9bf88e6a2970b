//! proxy-wasm's encoding of header maps: the number of pairs, the lengths of each name and value, then each name
//! and value followed by a NUL. Numbers are 32 bits, little-endian.

/// An iteration over all pairs, more than once: the lengths come before the texts.
pub(crate) trait Pairs {
    /// Calls `visit` for each pair.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8]));
}

/// Appends `pairs` to `out`.
pub(crate) fn write(out: &mut Vec<u8>, pairs: &impl Pairs) {
    let number = |out: &mut Vec<u8>, number: usize| {
        out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    };
    let begin = out.len();
    let mut count = 0_u32;
    number(out, 0);
    pairs.each(&mut |name, value| {
        count += 1;
        number(out, name.len());
        number(out, value.len());
    });
    out[begin..begin + 4].copy_from_slice(&count.to_le_bytes());
    pairs.each(&mut |name, value| {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    });
}

/// The number of bytes that [`write()`] appends.
pub(crate) fn size(pairs: &impl Pairs) -> usize {
    let mut size = 4;
    pairs.each(&mut |name, value| size += 10 + name.len() + value.len());
    size
}

/// Decodes pairs; `None` for malformed bytes.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, mut lengths) = number(bytes)?;
    // Each pair has two lengths and two NULs, so a forged count allocates nothing.
    let table = count.checked_mul(8).filter(|table| *table <= lengths.len())?;
    let mut rest = &lengths[table..];
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, behind) = number(lengths)?;
        let (value, behind) = number(behind)?;
        lengths = behind;
        pairs.push((text(&mut rest, name)?, text(&mut rest, value)?));
    }
    rest.is_empty().then_some(pairs)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number) as usize, rest))
}

fn text<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (text, behind) = rest.split_at_checked(length)?;
    let (end, behind) = behind.split_first()?;
    *rest = behind;
    (*end == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    struct Some3([(&'static [u8], &'static [u8]); 3]);

    impl Pairs for Some3 {
        fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
            self.0.iter().for_each(|(name, value)| visit(name, value));
        }
    }

    const PAIRS: [(&[u8], &[u8]); 3] = [(b":path", b"/a"), (b"x", b""), (b"", b"y")];

    #[test]
    fn encoded_pairs_are_decoded() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Some3(PAIRS));
        assert_eq!(bytes.len(), size(&Some3(PAIRS)));
        assert_eq!(read(&bytes).unwrap(), PAIRS);
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn malformed_pairs_are_rejected() {
        let mut whole = Vec::new();
        write(&mut whole, &Some3(PAIRS));
        for end in 1..whole.len() {
            assert!(read(&whole[..end]).is_none(), "cut at {end}");
        }
        for at in 0..4 {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            assert!(read(&bytes).is_none(), "a forged count");
        }
        let mut bytes = whole.clone();
        bytes.push(0);
        assert!(read(&bytes).is_none(), "bytes after the end");
        bytes = whole;
        *bytes.last_mut().unwrap() = b'x';
        assert!(read(&bytes).is_none(), "no NUL at the end");
    }
}
