//! One member of an upstream, as its source announces it: its list, a host name, or a kind of discovery.

use super::address::Address;
use serde::Serialize;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The precedence of an endpoint: one of a later tier is selected only while none of an earlier tier is available. Twice
/// its number, and one more while it leaves: an endpoint that leaves precedes those of the next number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(u8);

impl Tier {
    /// The tier of an entry without `backup`.
    pub const FIRST: Self = Self(0);
    /// The tier of an entry with `backup: true`.
    pub const BACKUP: Self = Self(2);
    /// The number of tiers; further ones are one.
    const MOST: usize = 100;

    /// The tier after `rank` others.
    pub(super) fn of_rank(rank: usize) -> Self {
        Self(u8::try_from(rank.min(Self::MOST - 1) * 2).unwrap_or(u8::MAX))
    }

    /// The tier of an endpoint of this tier that leaves.
    pub(super) fn leaving(self) -> Self {
        Self(self.0 | 1)
    }

    /// The tier as a number, from 0.
    pub const fn get(self) -> u8 {
        self.0 / 2
    }
}

/// The settings of an entry that apply to each of its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct MemberSettings {
    pub(super) weight: u16,
    /// Whether the entry has `drain: true`.
    pub(super) marked: bool,
    pub(super) tier: Tier,
    /// `max_connections`.
    pub(super) limit: Option<NonZeroU32>,
}

/// What identifies a member: another `uid` at the same address is another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) address: Address,
    /// The source's identifier, if it has one.
    pub(super) uid: Option<Arc<str>>,
}

impl Identity {
    /// The identity at an address whose source has no identifiers.
    #[cfg(test)]
    pub(super) fn at(address: Address) -> Self {
        Self { address, uid: None }
    }
}

/// Whether a member takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It serves.
    #[default]
    Ready,
    /// Its source announces that it leaves: it finishes what it has, and gets more only while no other member serves.
    Leaving,
    /// Its source does not announce it any more; it is kept for `hold`.
    Absent,
}

/// A member that leaves, in milliseconds of the upstream clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Departure {
    /// When its source announced it.
    pub(super) since: u64,
    /// When it ends, if its source says so.
    pub(super) deadline: Option<u64>,
}

/// What a source says of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Announced {
    pub(super) settings: MemberSettings,
    /// The host name that resolved to the member.
    pub(super) host: Option<Arc<str>>,
    /// The source's identifier, if it has one.
    pub(super) uid: Option<Arc<str>>,
    /// The zone, if the source has one.
    pub(super) zone: Option<Arc<str>>,
    /// Where the member comes from, as `list`, `dns chat.internal.` or `etcd /chat/a`.
    pub(super) origin: Arc<str>,
    /// Set while it leaves.
    pub(super) departure: Option<Departure>,
    /// Set by the table: the source does not announce it any more.
    pub(super) is_absent: bool,
}

impl Announced {
    /// A member that serves.
    pub(super) fn ready(settings: MemberSettings, origin: Arc<str>) -> Self {
        Self { settings, host: None, uid: None, zone: None, origin, departure: None, is_absent: false }
    }

    pub(super) fn state(&self) -> MemberState {
        match self {
            Self { departure: Some(_), .. } => MemberState::Leaving,
            Self { is_absent: true, .. } => MemberState::Absent,
            _ => MemberState::Ready,
        }
    }
}
