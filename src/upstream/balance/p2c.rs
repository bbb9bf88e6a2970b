//! Power of two choices: the better of two random endpoints, by peak latency and active requests.
//!
//! Comparing two is nearly as good as comparing all. Gateways that see the same fastest backend do not all
//! send to it.

use super::{AllMembers, Balance, Candidates, Group, Member, NoSettings};
use crate::upstream::slow_start::WHOLE;
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

/// The most random draws for one choice. Two usable members are found nearly always if half of all are usable;
/// otherwise the candidates are listed.
const DRAWS: usize = 16;

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
        let cost = |member| cost(member, candidates.share(member));
        Some(if cost(second) < cost(first) { other } else { one })
    }

    /// Draws indices until two usable members are found. All pairs of usable members are equally likely, as in
    /// [`Balance::choose`].
    fn choose_directly(&self, members: &AllMembers<'_>, _: &[u8]) -> Option<usize> {
        // A pair needs two; one member is listed at once.
        if members.len() < 2 {
            return None;
        }
        let mut first: Option<(usize, &Member)> = None;
        for _ in 0..DRAWS {
            let other = fastrand::usize(..members.len());
            if first.is_some_and(|(one, _)| one == other) {
                continue;
            }
            let Some(second) = members.usable(other) else { continue };
            let Some((one, first)) = first.replace((other, second)) else { continue };
            let cost = |member: &Member| cost(member, u32::from(member.weight()) * WHOLE);
            return Some(if cost(second) < cost(first) { other } else { one });
        }
        None
    }
}

fn cost(member: &Member, share: u32) -> f32 {
    let active = member.active();
    let latency = match member.latency() {
        unknown if unknown <= 0.0 && active > 0 => UNMEASURED,
        known => known.max(1.0),
    };
    latency * (active as f32 + 1.0) / (share as f32).max(1.0)
}
