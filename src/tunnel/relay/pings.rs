//! Payloads of the gateway's pings (RFC 6455 §5.5.2). The pings to one peer have a random number in their first six bytes,
//! and their own in the last two. So the latest one identifies the pongs to all of them, however many are outstanding.

use crate::websocket::random_nonzero;
use std::num::NonZeroU64;

/// The part of a payload that differs between the pings to one peer.
const SEQUENCE: u64 = 0xffff;

/// Which ping a pong answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PingAnswered {
    Latest,
    /// A response that was overtaken, or a second one.
    Earlier,
}

/// The payload of the ping after `latest`, which is the first one without it.
pub(super) fn following(latest: Option<NonZeroU64>) -> NonZeroU64 {
    let Some(latest) = latest else { return random_nonzero() };
    let (peer, sequence) = (latest.get() & !SEQUENCE, latest.get() & SEQUENCE);
    NonZeroU64::new(peer | (sequence.wrapping_add(1) & SEQUENCE)).unwrap_or(latest)
}

/// The ping of the gateway that a pong with `payload` answers, if `latest` was the last one.
pub(super) fn answered(latest: NonZeroU64, payload: &[u8]) -> Option<PingAnswered> {
    let payload = u64::from_be_bytes(payload.try_into().ok()?);
    if payload == latest.get() {
        return Some(PingAnswered::Latest);
    }
    (payload & !SEQUENCE == latest.get() & !SEQUENCE).then_some(PingAnswered::Earlier)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn the_latest_ping_identifies_all_earlier_ones() {
        let mut sent = vec![following(None)];
        for _ in 0..300 {
            sent.push(following(sent.last().copied()));
        }
        let latest = *sent.last().unwrap();
        for (at, payload) in sent.iter().enumerate() {
            let expected = if at == 300 { PingAnswered::Latest } else { PingAnswered::Earlier };
            assert_eq!(answered(latest, &payload.get().to_be_bytes()), Some(expected), "{at}");
        }
        assert!(sent.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn other_pongs_answer_no_ping() {
        let latest = NonZeroU64::new(0x0102_0304_0506_ffff).unwrap();
        for payload in
            [&b""[..], b"unasked", &[1, 2, 3, 4, 5, 7, 0xff, 0xff], &[1, 2, 3, 4, 5, 6, 0xff, 0xff, 0]]
        {
            assert_eq!(answered(latest, payload), None, "{payload:?}");
        }
        assert_eq!(following(Some(latest)).get(), 0x0102_0304_0506_0000);
    }
}
