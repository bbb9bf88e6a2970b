//! Power of two choices: the better of two random endpoints, by peak latency and active requests.
//!
//! Comparing two is nearly as good as comparing all. Gateways that see the same fastest backend do not all
//! send to it.

use super::{Balance, Candidates, Group, Member, NoSettings};
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
        let candidates = &candidates.among(competitors.as_ref());
        let count = candidates.len();
        if count < 2 {
            return candidates.nth(0).map(|(index, _)| index);
        }
        let one = fastrand::usize(..count);
        let other = fastrand::usize(..count - 1);
        let other = if other >= one { other + 1 } else { other };
        let (one, first) = candidates.nth(one)?;
        let (other, second) = candidates.nth(other)?;
        Some(if cost(candidates, second) < cost(candidates, first) { other } else { one })
    }
}

fn cost(candidates: &Candidates<'_>, member: &Member) -> f32 {
    let active = member.active();
    let latency = match member.latency() {
        unknown if unknown <= 0.0 && active > 0 => UNMEASURED,
        known => known.max(1.0),
    };
    latency * (active as f32 + 1.0) / (candidates.share(member) as f32).max(1.0)
}
