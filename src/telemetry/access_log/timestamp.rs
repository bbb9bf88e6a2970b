//! Timestamps of a line in both formats, in UTC. The date is computed once per second.

use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// The last second of 9999: later years have five digits, which no format here allows.
const LAST: u64 = 253_402_300_799;

/// A formatted moment, kept by a thread from line to line.
#[derive(Debug)]
pub(super) struct Timestamp {
    second: u64,
    /// `2026-10-18T09:00:00.000Z`
    rfc3339: [u8; 24],
    /// `18/Oct/2026:09:00:00 +0000`
    common: [u8; 26],
}

impl Timestamp {
    /// The epoch.
    pub(super) const fn new() -> Self {
        Self { second: 0, rfc3339: *b"1970-01-01T00:00:00.000Z", common: *b"01/Jan/1970:00:00:00 +0000" }
    }

    /// Advances to `now`, clamped to 1970 to 9999.
    pub(super) fn update(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST);
        if second != self.second {
            self.second = second;
            self.spell();
        }
        digits(&mut self.rfc3339[20..23], u64::from(since.subsec_millis()));
    }

    /// RFC 3339 format with milliseconds.
    pub(super) fn rfc3339(&self) -> &[u8] {
        &self.rfc3339
    }

    /// Common log format, without its brackets.
    pub(super) fn common(&self) -> &[u8] {
        &self.common
    }

    fn spell(&mut self) {
        // `LAST` is in the calendar's range: the epoch is never read instead.
        let moment = i64::try_from(self.second)
            .ok()
            .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
        let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u64::from(moment.year().unsigned_abs());
        let [month, day, hour, minute, second] =
            [moment.month().into(), moment.day(), moment.hour(), moment.minute(), moment.second()]
                .map(u64::from);
        for (range, number) in
            [(0..4, year), (5..7, month), (8..10, day), (11..13, hour), (14..16, minute), (17..19, second)]
        {
            digits(&mut self.rfc3339[range], number);
        }
        for (range, number) in
            [(0..2, day), (7..11, year), (12..14, hour), (15..17, minute), (18..20, second)]
        {
            digits(&mut self.common[range], number);
        }
        let name = (month as usize - 1) * 3;
        self.common[3..6].copy_from_slice(&MONTHS[name..name + 3]);
    }
}

/// Fills `place` with the last digits of `number`.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spelled(seconds: u64, millis: u64) -> (String, String) {
        let mut stamp = Timestamp::new();
        stamp.update(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(stamp.rfc3339()), text(stamp.common()))
    }

    #[test]
    fn moments_are_formatted_as_by_date() {
        for (seconds, millis, rfc3339, common) in [
            (0, 0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_400, 7, "2000-02-29T00:00:00.007Z", "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_199, 999, "2024-02-29T23:59:59.999Z", "29/Feb/2024:23:59:59 +0000"),
            (1_735_689_599, 10, "2024-12-31T23:59:59.010Z", "31/Dec/2024:23:59:59 +0000"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z", "01/Mar/2100:00:00:00 +0000"),
            (LAST, 0, "9999-12-31T23:59:59.000Z", "31/Dec/9999:23:59:59 +0000"),
        ] {
            assert_eq!(spelled(seconds, millis), (rfc3339.to_owned(), common.to_owned()));
        }
    }

    #[test]
    fn clocks_out_of_range_are_clamped() {
        assert_eq!(spelled(1 << 40, 0).0, "9999-12-31T23:59:59.000Z");
        let mut stamp = Timestamp::new();
        stamp.update(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(stamp.rfc3339(), b"1970-01-01T00:00:00.000Z");
    }
}
