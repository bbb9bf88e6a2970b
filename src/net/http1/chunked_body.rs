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

/// A part of a body, up to the end of the next run of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The bytes of framing before the data.
    pub(crate) framing: usize,
    /// How many of them, the last ones, are of the trailer section with its empty line.
    pub(crate) trailers: usize,
    /// The bytes of data.
    pub(crate) data: usize,
    /// The state after them.
    pub(crate) state: Body,
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
    /// Parses bytes up to the end of the next run of data.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Run {
        let mut trailers_at = if self.is_in_trailers() { Some(0) } else { None };
        let trailers = |end: usize, at: Option<usize>| at.map_or(0, |at| end - at);
        for (at, byte) in bytes.iter().enumerate() {
            if self.step == Step::Data {
                return Run {
                    framing: at,
                    trailers: 0,
                    data: self.skip(bytes.len() - at),
                    state: Body::Open,
                };
            }
            self.step = self.next(*byte);
            match self.step {
                Step::Broken => return Run { framing: at, trailers: 0, data: 0, state: Body::Broken },
                Step::Over => {
                    let trailers = trailers(at + 1, trailers_at);
                    return Run { framing: at + 1, trailers, data: 0, state: Body::Over };
                }
                Step::TrailerStart if trailers_at.is_none() => trailers_at = Some(at + 1),
                _ => {}
            }
        }
        let trailers = trailers(bytes.len(), trailers_at);
        Run { framing: bytes.len(), trailers, data: 0, state: Body::Open }
    }

    fn is_in_trailers(self) -> bool {
        matches!(self.step, Step::TrailerStart | Step::Trailer | Step::TrailerLf | Step::LastLf)
    }

    /// Whether the framing breaks in these bytes; the state is unchanged.
    pub(crate) fn breaks_in(mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let run = self.decode(bytes);
            match run.state {
                Body::Broken => return true,
                Body::Over => return false,
                Body::Open => bytes = &bytes[run.framing + run.data..],
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
