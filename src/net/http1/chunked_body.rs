//! Parser of a chunked body in transit (RFC 9112 §7.1): it finds the end, and refuses framing that readers
//! may interpret differently.
//!
//! Pingora accepts an empty size as the last chunk, and any byte in an extension. For another reader the same
//! bytes could contain the next request (request smuggling). The parser is sans-io, takes any split of bytes,
//! and copies nothing.

/// The limit on hexadecimal digits of a size, as in Pingora.
const SIZE_DIGITS: u8 = 16;
/// The largest size, so that sums do not overflow.
const LARGEST: u64 = i64::MAX as u64;
/// The limit on bytes of one chunk's extensions, which RFC 9112 §7.1.1 asks for.
const EXTENSIONS: u32 = 4 << 10;
/// The limit on bytes of all trailers.
const TRAILERS: u32 = 64 << 10;

/// The state of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// More bytes follow.
    Open,
    /// The body is complete.
    Over,
    /// The framing is invalid, so the end is unknown.
    Broken,
}

/// The parser of one chunked body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    step: Step,
    /// The rest of the chunk's data, or the size from the digits so far.
    size: u64,
    /// The digits of the size, or the bytes of extensions or trailers, so far.
    count: u32,
}

/// The meaning of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    /// Blanks between a size and its extensions or line end.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer, or the CR of the last line.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Over,
    Broken,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { step: Step::Size, size: 0, count: 0 }
    }
}

impl Chunks {
    /// Parses bytes up to the end of the next run of data. Returns the number of framing bytes, the number of
    /// data bytes after them, and the state; both numbers are 0 or more whatever the state is.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> (usize, usize, Body) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.step == Step::Data {
                return (at, self.skip(bytes.len() - at), Body::Open);
            }
            self.step = self.next(*byte);
            match self.step {
                Step::Broken => return (at, 0, Body::Broken),
                Step::Over => return (at + 1, 0, Body::Over),
                _ => {}
            }
        }
        (bytes.len(), 0, Body::Open)
    }

    /// Whether the framing breaks in these bytes; the state is unchanged.
    pub(crate) fn breaks_in(mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.decode(bytes) {
                (_, _, Body::Broken) => return true,
                (_, _, Body::Over) => return false,
                (framing, data, Body::Open) => bytes = &bytes[framing + data..],
            }
        }
        false
    }

    /// Skips available data of the chunk.
    fn skip(&mut self, here: usize) -> usize {
        let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(here);
        self.size -= n as u64;
        if self.size == 0 {
            self.step = Step::DataCr;
        }
        n
    }

    fn next(&mut self, byte: u8) -> Step {
        match (self.step, byte) {
            (Step::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (Step::Size, b'\r' | b';' | b' ' | b'\t') if self.count == 0 => Step::Broken,
            (Step::Size | Step::Blank, b';') => self.count_from_here(Step::Extension),
            (Step::Size, b' ' | b'\t') => self.count_from_here(Step::Blank),
            (Step::Size | Step::Blank | Step::Extension, b'\r') => Step::SizeLf,
            (Step::Blank, b' ' | b'\t') => self.counted(Step::Blank, EXTENSIONS),
            (Step::Extension, _) if is_text(byte) => self.counted(Step::Extension, EXTENSIONS),
            (Step::SizeLf, b'\n') if self.size == 0 => self.count_from_here(Step::TrailerStart),
            (Step::SizeLf, b'\n') => Step::Data,
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => self.count_from_here(Step::Size),
            (Step::TrailerStart, b'\r') => Step::LastLf,
            (Step::TrailerStart | Step::Trailer, _) if is_text(byte) => self.counted(Step::Trailer, TRAILERS),
            (Step::Trailer, b'\r') => Step::TrailerLf,
            (Step::TrailerLf, b'\n') => self.counted(Step::TrailerStart, TRAILERS),
            (Step::LastLf, b'\n') => Step::Over,
            _ => Step::Broken,
        }
    }

    fn digit(&mut self, byte: u8) -> Step {
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        // Sixteen digits fill a u64 exactly, so the shift loses no bits.
        self.size = self.size << 4 | u64::from(digit);
        let step = self.counted(Step::Size, u32::from(SIZE_DIGITS));
        if self.size > LARGEST { Step::Broken } else { step }
    }

    fn count_from_here(&mut self, step: Step) -> Step {
        self.count = 0;
        step
    }

    fn counted(&mut self, step: Step, limit: u32) -> Step {
        self.count += 1;
        if self.count > limit { Step::Broken } else { step }
    }
}

/// Bytes allowed in a line (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
