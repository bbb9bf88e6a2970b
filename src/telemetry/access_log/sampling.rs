//! Sampling of lines by route and status: which requests and WebSockets have lines.

use std::ops::RangeInclusive;

/// Rules in order; the first that matches a line decides. A line that no rule matches is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sampling(pub(crate) Vec<SamplingRule>);

/// A share of the lines of some routes and statuses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SamplingRule {
    /// Names of routes; empty for every route.
    pub(crate) routes: Vec<Box<str>>,
    /// Statuses; empty for every status of a request that did not fail.
    pub(crate) statuses: Vec<RangeInclusive<u16>>,
    /// The share.
    pub(crate) ratio: SampleRatio,
}

/// A share of all lines, as the numbers of 64 bits that select a line: those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SampleRatio(u64);

/// What rules know of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineFacts<'a> {
    pub(super) route: &'a str,
    pub(super) status: u16,
    /// The line has a reason of an error.
    pub(super) is_error: bool,
}

impl SampleRatio {
    /// The share `ratio`, clamped to 0 to 1.
    pub(crate) fn new(ratio: f64) -> Self {
        // `as` saturates: 1 becomes the largest number.
        Self((ratio * 2_f64.powi(64)) as u64)
    }

    /// Whether this number, of all numbers of 64 bits, selects a line.
    fn selects(self, number: u64) -> bool {
        number < self.0 || self.0 == u64::MAX
    }
}

impl Sampling {
    /// Decides whether a line is written.
    pub(super) fn keeps(&self, line: LineFacts<'_>) -> bool {
        self.rule(line).is_none_or(|rule| rule.ratio.selects(fastrand::u64(..)))
    }

    fn rule(&self, line: LineFacts<'_>) -> Option<&SamplingRule> {
        self.0.iter().find(|rule| rule.matches(line))
    }
}

impl SamplingRule {
    fn matches(&self, line: LineFacts<'_>) -> bool {
        let LineFacts { route, status, is_error } = line;
        let status_matches = if self.statuses.is_empty() {
            !is_error && (100..500).contains(&status)
        } else {
            // A response that was cut has the status of a success, and is none.
            !(is_error && status < 400) && self.statuses.iter().any(|range| range.contains(&status))
        };
        status_matches && (self.routes.is_empty() || self.routes.iter().any(|name| **name == *route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(routes: &[&str], statuses: &[RangeInclusive<u16>], ratio: f64) -> SamplingRule {
        let routes = routes.iter().map(|name| (*name).into()).collect();
        SamplingRule { routes, statuses: statuses.to_vec(), ratio: SampleRatio::new(ratio) }
    }

    fn line(route: &str, status: u16, is_error: bool) -> LineFacts<'_> {
        LineFacts { route, status, is_error }
    }

    #[test]
    fn the_first_matching_rule_decides_and_lines_without_a_rule_are_kept() {
        let sampling = Sampling(vec![
            rule(&["chat", "news"], &[200..=299], 0.0),
            rule(&["chat"], &[], 1.0),
            rule(&[], &[404..=404, 300..=399], 0.0),
        ]);
        for (line, kept) in [
            (line("chat", 204, false), false),
            (line("news", 200, false), false),
            (line("chat", 302, false), true),
            (line("news", 302, false), false),
            (line("", 404, true), false),
            (line("other", 200, false), true),
        ] {
            assert_eq!(sampling.keeps(line), kept, "{line:?}");
        }
    }

    #[test]
    fn a_failed_request_is_kept_unless_a_rule_names_its_status() {
        let any = Sampling(vec![rule(&[], &[], 0.0)]);
        let by_status = Sampling(vec![rule(&[], &[100..=599], 0.0)]);
        for (line, by_any, by_its_status) in [
            (line("r", 200, false), false, false),
            (line("r", 101, false), false, false),
            (line("r", 404, false), false, false),
            (line("r", 404, true), true, false),
            (line("r", 502, true), true, false),
            (line("r", 500, false), true, false),
            // Cut, and without a response.
            (line("r", 200, true), true, true),
            (line("r", 0, true), true, true),
        ] {
            assert_eq!((any.keeps(line), by_status.keeps(line)), (by_any, by_its_status), "{line:?}");
        }
    }

    #[test]
    fn a_ratio_selects_its_share_of_all_numbers() {
        for (ratio, selected) in [(0.0, 0), (0.25, 256), (0.5, 512), (1.0, 1024)] {
            let ratio = SampleRatio::new(ratio);
            let numbers = (0..1024_u64).map(|number| number << 54);
            assert_eq!(numbers.filter(|number| ratio.selects(*number)).count(), selected);
        }
        assert!(SampleRatio::new(1.0).selects(u64::MAX) && !SampleRatio::new(0.0).selects(0));
    }
}
