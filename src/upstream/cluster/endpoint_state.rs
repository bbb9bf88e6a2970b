//! What the gateway has learned of endpoints, for the process that takes over in an upgrade: the addresses of host names,
//! results of its own traffic, and when drains began.

use super::Cluster;
use crate::upstream::balance::Member;
use crate::upstream::discovery::{Feed, FeedState, NameState};
use crate::upstream::monotonic_millis;
use crate::upstream::passive_health::PassiveState;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// An endpoint. Times are in milliseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct EndpointState {
    address: String,
    /// The source's identifier, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    passive: PassiveState,
    /// The time since it joined; `None` if it was present at the start, or is not healthy yet.
    joined_ago: Option<u64>,
    /// The time since an operator drained it.
    drained_ago: Option<u64>,
    /// The time since its `drain: true` took effect.
    marked_ago: Option<u64>,
}

impl EndpointState {
    fn of(member: &Member, now: u64) -> Self {
        let endpoint = member.endpoint();
        let ago = |since: Option<u64>| since.map(|since| now.saturating_sub(since));
        Self {
            address: endpoint.name().to_owned(),
            uid: endpoint.uid().map(str::to_owned),
            passive: endpoint.passive().state(now),
            joined_ago: endpoint.join_time().age(now),
            drained_ago: ago(endpoint.drained_since()),
            marked_ago: ago(member.marked_since()),
        }
    }

    fn is_plain(&self) -> bool {
        *self == Self { address: self.address.clone(), uid: self.uid.clone(), ..Self::default() }
    }
}

impl Cluster {
    /// The endpoints of which something is known.
    pub fn endpoint_states(&self) -> Vec<EndpointState> {
        let now = monotonic_millis::now();
        let members = self.endpoint_set.current();
        let states = members.as_slice().iter().map(|member| EndpointState::of(member, now));
        states.filter(|state| !state.is_plain()).collect()
    }

    /// Continues with what another process knew. An endpoint that this one lacks is skipped.
    pub fn restore_endpoints(&self, states: &[EndpointState]) {
        let now = monotonic_millis::now();
        // Never 0, which means that there is no such moment: no process is that old.
        let moment = |ago: u64| now.saturating_sub(ago).max(1);
        let mut marks = HashMap::new();
        for member in self.endpoint_set.current().as_slice() {
            let endpoint = member.endpoint();
            // Another one at the address is a newcomer.
            let is_it = |state: &&EndpointState| {
                state.address == endpoint.name() && state.uid.as_deref() == endpoint.uid()
            };
            let Some(state) = states.iter().find(is_it) else { continue };
            endpoint.restore(&state.passive, state.joined_ago.map(moment), now);
            if let Some(ago) = state.drained_ago {
                endpoint.drain_since(moment(ago));
            }
            if let Some(ago) = state.marked_ago.filter(|_| member.marked_since().is_some()) {
                marks.insert(endpoint.token(), moment(ago));
            }
        }
        if !marks.is_empty() {
            self.endpoint_set.restore_marks(&marks);
        }
    }

    /// The addresses of the host names.
    pub fn name_states(&self) -> Vec<NameState> {
        self.source.name_states()
    }

    /// The members of its discovery; `None` for a list.
    pub fn feed_state(&self) -> Option<FeedState> {
        self.source.feed().map(Feed::state)
    }

    /// Starts with the members that another process had discovered, until the first answer. Call it before [`Cluster::run`].
    pub fn restore_feed(&self, state: FeedState) {
        if self.source.feed().is_some_and(|feed| feed.restore(state)) {
            self.take_known_members();
        }
    }

    /// Starts with addresses that another process knew, until the names are resolved. Call it before [`Cluster::run`].
    pub fn restore_names(&self, names: &[NameState]) {
        let mut is_new = false;
        for NameState { host, port, addresses } in names {
            is_new |= self.source.learn(host, *port, addresses);
        }
        if is_new {
            self.take_known_members();
        }
    }
}
