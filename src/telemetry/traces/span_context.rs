//! Span context and its header field `traceparent` (W3C Trace Context §3.2).

use crate::telemetry::TraceId;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field of the span context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The length of the field in version 00: `00-` trace ID `-` parent ID `-` flags.
const LENGTH: usize = 55;

/// The flags that this version of the specification passes on: sampled, and random trace ID (Level 2).
const KNOWN_FLAGS: u8 = SAMPLED | 0x02;
const SAMPLED: u8 = 0x01;

/// The identity of a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SpanId(pub(crate) [u8; 8]);

impl SpanId {
    /// A random ID, which is never zero.
    pub(crate) fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }
}

/// A span as other processes know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    /// Its trace.
    pub(crate) trace: TraceId,
    /// The span.
    pub(crate) span: SpanId,
    flags: u8,
}

impl SpanContext {
    /// The first span of a new trace, not sampled yet.
    pub(crate) fn new_trace() -> Self {
        let (high, low) = moongate_sdk::random_bits();
        // Zero is invalid.
        let id = u128::from(high) << 64 | u128::from(low.max(1));
        let trace = TraceId(id.to_be_bytes());
        Self { trace, span: SpanId::random(), flags: 0 }
    }

    /// The first span of another trace with the sampling decision of this one. The lower half of the ID, from which
    /// samplers derive their decision, is kept, so that other processes decide the same.
    pub(crate) fn sibling_trace(self) -> Self {
        let mut trace = self.trace.0;
        trace[..8].copy_from_slice(&fastrand::u64(1..).to_be_bytes());
        Self { trace: TraceId(trace), span: SpanId::random(), flags: self.flags }
    }

    /// Another span of the same trace, with the same decision.
    pub(crate) fn child(self) -> Self {
        Self { span: SpanId::random(), ..self }
    }

    /// Returns whether spans of the trace are recorded.
    pub(crate) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Marks the trace as sampled.
    #[must_use]
    pub(crate) fn sampled(self) -> Self {
        Self { flags: self.flags | SAMPLED, ..self }
    }

    /// The trace flags (W3C Trace Context §3.2.2.5).
    pub(crate) fn flags(self) -> u8 {
        self.flags
    }

    /// Reads the field of a request; `None` if it is absent, repeated or invalid, which begins a new trace.
    pub(crate) fn of(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// The context that [`SpanContext::traceparent_bytes`] has written.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        Self::parse(text.as_bytes())
    }

    /// Parses the field. A later version is read as version 00, as far as it has the same parts (§4.3).
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let [version] = hex(&known[..2])?;
        let is_framed = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
        let has_valid_end =
            if version == 0 { rest.is_empty() } else { matches!(rest.first(), None | Some(b'-')) };
        if version == 0xff || !is_framed || !has_valid_end {
            return None;
        }
        let (trace, span, [flags]) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Self { trace: TraceId(trace), span: SpanId(span), flags: flags & KNOWN_FLAGS })
    }

    /// The field for the next hop.
    pub(crate) fn traceparent(self) -> HeaderValue {
        // All of its bytes are ASCII.
        HeaderValue::from_bytes(&self.traceparent_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The value of the field.
    pub(crate) fn traceparent_bytes(self) -> [u8; LENGTH] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut out[3..35], &self.trace.0);
        write_hex(&mut out[36..52], &self.span.0);
        write_hex(&mut out[53..], &[self.flags]);
        out
    }
}

/// Bytes from lower-case hexadecimal digits; upper case is invalid in the field.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_field_is_read_and_written_back() {
        let context = SpanContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.is_sampled());
        assert_eq!(context.traceparent_bytes(), *GOOD.as_bytes());
        let child = context.child();
        assert_eq!(child.trace, context.trace);
        assert_ne!(child.span, context.span);
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!SpanContext::parse(unsampled.as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn an_invalid_field_is_none() {
        let zeros = |at: std::ops::Range<usize>| {
            let mut text = GOOD.to_owned();
            text.replace_range(at.clone(), &"0".repeat(at.len()));
            text
        };
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.replace("00-0a", "ff-0a"),
            &GOOD.replace("00-0a", "0g-0a"),
            &GOOD.replace("0af7", "0AF7"),
            &GOOD.replace("b7ad", "B7AD"),
            &GOOD.replace("-01", "-0A"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("00-0a", "cc-0a").replace("-01", "-01."),
            &format!(" {}", &GOOD[..54]),
            &zeros(3..35),
            &zeros(36..52),
        ] {
            assert_eq!(SpanContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [GOOD.replace("00-0a", "cc-0a"), GOOD.replace("00-0a", "01-0a") + "-what-the-future"] {
            let context = SpanContext::parse(later.as_bytes()).unwrap();
            assert_eq!(context.traceparent_bytes(), *GOOD.as_bytes(), "written as version 00");
        }
        let flags = SpanContext::parse(GOOD.replace("-01", "-ff").as_bytes()).unwrap();
        assert!(flags.traceparent_bytes().ends_with(b"-03"), "reserved flags are not passed on");
    }

    #[test]
    fn a_repeated_field_is_none() {
        let mut fields = HeaderMap::new();
        fields.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(SpanContext::of(&fields).is_some());
        fields.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(SpanContext::of(&fields), None);
    }

    #[test]
    fn a_sibling_trace_is_another_one_with_the_same_sampling_decision() {
        let context = SpanContext::parse(GOOD.as_bytes()).unwrap();
        let sibling = context.sibling_trace();
        assert_ne!(sibling.trace, context.trace);
        assert_eq!(sibling.trace.0[8..], context.trace.0[8..]);
        assert!(sibling.is_sampled());
    }
}
