//! Power of two choices: the better of two random endpoints, by peak latency and active requests.
//!
//! Comparing two is nearly as good as comparing all. Gateways that see the same fastest backend do not all
//! send to it.

use super::candidates::{Candidate, DRAWS};
use super::{Balance, Candidates, Group, NoSettings};
use moongate_config::Kind;

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "p2c",
    about: "The better of two random endpoints, by response time and load",
    schema: |generator| generator.subschema_for::<NoSettings>(),
    build: |settings| {
        settings.read::<NoSettings>()?;
        Ok(Box::new(P2c))
    },
};

/// The latency in microseconds assumed for an endpoint without responses and with pending requests: it
/// receives one request, and the next ones depend on its latency.
const UNMEASURED: f32 = 1e6;

struct P2c;

impl Balance for P2c {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(Self)
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let competitors = candidates.competitors();
        let count = competitors.len();
        if count < 2 {
            return competitors.nth(0).map(|candidate| candidate.index);
        }
        // All pairs are equally likely. If the request excludes nearly all, the one that was found is chosen alone.
        let mut found = None;
        for _ in 0..DRAWS {
            let drawn = fastrand::usize(..count);
            let Some(candidate) = competitors.nth(drawn) else { continue };
            match found {
                None => found = Some((drawn, candidate)),
                Some((first, _)) if first == drawn => {}
                Some((_, first)) => {
                    let better = if cost(candidate) < cost(first) { candidate } else { first };
                    return Some(better.index);
                }
            }
        }
        found.map(|(_, candidate)| candidate.index)
    }
}

fn cost(Candidate { member, share, .. }: Candidate<'_>) -> f32 {
    let active = member.active();
    let latency = match member.latency() {
        unknown if unknown <= 0.0 && active > 0 => UNMEASURED,
        known => known.max(1.0),
    };
    latency * (active as f32 + 1.0) / (share as f32).max(1.0)
}
