//! Timestamps of a line in both formats, in UTC. The date is computed once per second.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const DAY: u64 = 86_400;

/// The last second of 9999: later years have five digits, which no format here allows.
const LAST: u64 = 253_402_300_799;

/// A formatted moment, kept by a thread from line to line.
#[derive(Debug)]
pub(super) struct Stamp {
    second: u64,
    /// `2026-10-18T09:00:00.000Z`
    rfc3339: [u8; 24],
    /// `18/Oct/2026:09:00:00 +0000`
    common: [u8; 26],
}

impl Stamp {
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
        let (year, month, day) = civil(self.second / DAY);
        let time = self.second % DAY;
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
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

/// The date of a day since 1970. The year starts in March here, so that the leap day is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; 146,097 make 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30 and 31 days in turn: 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spelled(seconds: u64, millis: u64) -> (String, String) {
        let mut stamp = Stamp::new();
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
        let mut stamp = Stamp::new();
        stamp.update(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(stamp.rfc3339(), b"1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_previous_one() {
        let mut last = civil(0);
        for day in 1..146_097 {
            let (y, m, d) = civil(day);
            let follows = (y, m, d) == (last.0, last.1, last.2 + 1)
                || (d == 1 && (y, m) == (last.0, last.1 + 1) && last.2 >= 28)
                || ((m, d) == (1, 1) && y == last.0 + 1 && last.2 == 31);
            assert!(follows, "{last:?} {y}-{m}-{d}");
            last = (y, m, d);
        }
        assert_eq!(last, (2369, 12, 31));
    }
}
