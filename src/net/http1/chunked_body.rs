//! A look at a chunked body while it passes (RFC 9112 §7.1): where it ends, and whether every byte of
//! its framing is one that all readers take alike.
//!
//! Pingora's reader takes an empty size for the last chunk and any byte in an extension; another
//! reader may not, and what one of them calls the body is the next request to the other. Sans-io: fed
//! any split of bytes, it keeps a few counters and copies nothing. What is in the body stays out.

/// Hexadecimal digits of a size; Pingora reads no more.
const SIZE_DIGITS: u8 = 16;
/// The largest size: beyond it sums overflow somewhere, and no body comes near it.
const LARGEST: u64 = i64::MAX as u64;
/// Bytes of one chunk's extensions, for which nobody has a use (RFC 9112 §7.1.1 asks for a limit).
const EXTENSIONS: u32 = 4 << 10;
/// Bytes of all trailers.
const TRAILERS: u32 = 64 << 10;

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// It goes on.
    Open,
    /// It has ended.
    Over,
    /// It breaks the framing's rules; its end cannot be known any more.
    Broken,
}

/// Follows one chunked body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    step: Step,
    /// What is left of the chunk's data, or the size as far as its digits are read.
    size: u64,
    /// Digits of the size, bytes of the extensions or of the trailers so far.
    count: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    /// Blanks between a size and its extensions, or its end.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer's first byte, or the last line's CR.
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
    /// Follows the next bytes to the end of a chunk. Returns how many of them belong to the body and are as they should
    /// be: fewer than all when a chunk or the body ends, or it breaks, among them.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> (usize, Body) {
        let mut at = 0;
        while at < bytes.len() {
            if self.step == Step::Data {
                at += self.skip(bytes.len() - at);
                continue;
            }
            let ends_chunk = self.step == Step::DataLf;
            self.step = self.next(bytes[at]);
            if self.step == Step::Broken {
                return (at, Body::Broken);
            }
            at += 1;
            if self.step == Step::Over {
                return (at, Body::Over);
            }
            if ends_chunk {
                break;
            }
        }
        (at, Body::Open)
    }

    /// Whether the body breaks among these bytes. It is not followed.
    pub(crate) fn breaks_in(mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.follow(bytes) {
                (_, Body::Broken) => return true,
                (_, Body::Over) => return false,
                (taken, Body::Open) => bytes = &bytes[taken..],
            }
        }
        false
    }

    /// Passes over so much of the data as is here.
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
        // Sixteen digits fill a u64 exactly, so the shift loses nothing.
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

/// Bytes that a line may hold (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
