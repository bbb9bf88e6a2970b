//! Consistent hashing (ketama): when an endpoint leaves, only its keys move.

use super::ring::{self, Ring, RingBuilder};
use super::{Balance, Candidates, Group};
use crate::upstream::hash_key::KeySource;
use crate::upstream::session_drain::DrainMoment;
use moongate_config::{Kind, Placed, Problems, Settings};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "consistent_hash",
    about: "Consistent hashing (ketama) of a key of the request",
    schema: |generator| generator.subschema_for::<HashSettings>(),
    build,
};

/// The settings of `consistent_hash`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HashSettings {
    /// Hashes `client_ip`, `path`, `header:NAME`, `cookie:NAME`, `query:NAME` or `cel:EXPRESSION`. A request
    /// without the value is hashed by client IP. Default client_ip.
    #[serde(default)]
    key: Option<Placed<String>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Balance>, Problems> {
    let read: HashSettings = settings.read()?;
    let key = match &read.key {
        Some(text) => KeySource::read_from(text)?,
        None => KeySource::ClientIp,
    };
    Ok(Box::new(ConsistentHash { key, builder: Arc::default(), ring: None }))
}

struct ConsistentHash {
    key: KeySource,
    /// The points of the members, over changes of the membership.
    builder: Arc<Mutex<RingBuilder>>,
    /// `None` until the balancer is arranged for a group.
    ring: Option<Ring>,
}

impl Balance for ConsistentHash {
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance> {
        let members = group.members.iter().map(|member| (member.endpoint().address(), member.weight()));
        let ring = self.builder.lock().update(members);
        Box::new(Self { key: self.key.clone(), builder: Arc::clone(&self.builder), ring: Some(ring) })
    }

    fn choose(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        let (ring, position) = (self.ring.as_ref()?, ring::position(key));
        let accepts = |index| candidates.contains(index);
        if let Ok(found) = ring.find_near(position, accepts) {
            return found;
        }
        // Few members are available.
        let set = candidates.set();
        match set.points(|| ring.points_of(|index| set.contains(index))) {
            Some(points) => ring::find_among(points, position, accepts),
            None => ring.find(position, accepts),
        }
    }

    fn owner_of(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        self.choose(candidates, key)
    }

    fn drain_moment(&self, key: &[u8]) -> Option<DrainMoment> {
        Some(DrainMoment::of(key))
    }

    fn key(&self) -> KeySource {
        self.key.clone()
    }
}
