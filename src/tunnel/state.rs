//! State of a tunnel that another process continues: everything but its sockets, its request and its route.
//!
//! Times are relative, because clocks of processes differ. A missing member has its default.

use super::TunnelIo;
use crate::net::tunnel_io::{RecordState, RecordStream};
use crate::runtime::base64_bytes;
use crate::websocket::frame::{FrameParser, ParserState, Sender};
use crate::websocket::{ContextReset, Extensions};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The state of a tunnel.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct TunnelState {
    /// By source side, the client first.
    pub(super) directions: [DirectionState; 2],
    pub(super) clocks: ClocksState,
    pub(super) extensions: ExtensionsState,
    /// By source side.
    pub(super) messages: [u64; 2],
    pub(super) bytes: [u64; 2],
    /// The last ping round trips.
    pub(super) round_trips: [Option<Duration>; 2],
    pub(super) drain_part: Option<u32>,
    /// The debts of the client's rates in nanoseconds: messages and bytes.
    pub(super) rate_debts: [u64; 2],
    /// The key of the client in limits that a fleet shares, as the two halves of its 128 bits.
    pub(super) client_key: Option<[u64; 2]>,
    /// The records of sides with TLS, the client's first.
    pub(super) records: [Option<RecordState>; 2],
    /// The times until the rechecks.
    pub(super) recheck_waits: Vec<Duration>,
}

/// The state of a direction.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct DirectionState {
    pub(super) parser: ParserState,
    /// Bytes that the sink has not accepted yet.
    #[serde(with = "base64_bytes")]
    pub(super) backlog: Vec<u8>,
    /// A ping for the sink that waits for a frame boundary, and the latest one that was sent to the source.
    pub(super) ping: Option<u64>,
    pub(super) awaited: Option<u64>,
    /// What of the backlog was written, under failover.
    pub(super) replay: Option<ReplayState>,
    /// The message that is put together for an inspector.
    pub(super) inspected: Option<ReassemblerState>,
}

/// The part of a backlog that may be sent again to another backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct ReplayState {
    /// How many bytes of the backlog were written.
    pub(super) written: usize,
    /// Message boundaries in it.
    pub(super) places: Vec<usize>,
    /// The gateway's own frames in it.
    pub(super) own: Vec<(usize, usize)>,
    /// Whether the last bytes are within a message.
    pub(super) open: bool,
    /// Whether the start of the message was discarded.
    pub(super) lost: bool,
}

/// A direction that an inspector looks at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct ReassemblerState {
    /// The parser of what the source sends.
    pub(super) parser: ParserState,
    /// Whether the message is text.
    pub(super) is_text: bool,
    /// Its payload so far, unmasked.
    #[serde(with = "base64_bytes")]
    pub(super) payload: Vec<u8>,
    /// The masking key of the current frame, rotated to its next byte.
    pub(super) key: Option<[u8; 4]>,
}

/// The clocks, as times before now.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct ClocksState {
    pub(super) age: Duration,
    pub(super) data: Duration,
    /// The time until `max_age`.
    pub(super) expires_in: Option<Duration>,
    pub(super) sides: [SideClockState; 2],
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct SideClockState {
    pub(super) heard: Duration,
    pub(super) pinged: Option<Duration>,
    pub(super) asked: bool,
    pub(super) stuck: Option<Duration>,
}

/// The negotiated extensions.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExtensionsState {
    #[default]
    None,
    Deflate {
        client_resets: bool,
        server_resets: bool,
    },
    Unknown,
}

impl From<Extensions> for ExtensionsState {
    fn from(extensions: Extensions) -> Self {
        match extensions {
            Extensions::None => Self::None,
            Extensions::Deflate(ContextReset { client, server }) => {
                Self::Deflate { client_resets: client, server_resets: server }
            }
            Extensions::Unknown => Self::Unknown,
        }
    }
}

impl From<ExtensionsState> for Extensions {
    fn from(state: ExtensionsState) -> Self {
        match state {
            ExtensionsState::None => Self::None,
            ExtensionsState::Deflate { client_resets, server_resets } => {
                Self::Deflate(ContextReset { client: client_resets, server: server_resets })
            }
            ExtensionsState::Unknown => Self::Unknown,
        }
    }
}

impl DirectionState {
    fn is_valid(&self, sender: Sender) -> bool {
        FrameParser::continue_from(sender, &self.parser).is_some()
            && self.replay.as_ref().is_none_or(|replay| replay.is_valid(self.backlog.len()))
            && self.inspected.as_ref().is_none_or(|inspected| inspected.is_valid(sender))
    }
}

impl ReplayState {
    /// Returns whether a backlog of this length can have the state.
    fn is_valid(&self, length: usize) -> bool {
        let Self { written, places, own, .. } = self;
        let ends = || own.iter().flat_map(|(start, end)| [*start, *end]);
        let is_within = |place: Option<usize>| place.is_none_or(|place| place <= length);
        *written <= length
            && places.is_sorted()
            && is_within(places.last().copied())
            && ends().is_sorted()
            && is_within(ends().last())
    }
}

impl ReassemblerState {
    fn is_valid(&self, sender: Sender) -> bool {
        let Some(parser) = FrameParser::continue_from(sender, &self.parser) else { return false };
        // Its text is checked as it arrives.
        let is_text = !self.is_text || valid_start(&self.payload).is_some();
        is_text && (parser.in_message() || self.payload.is_empty())
    }
}

/// The length of the valid start of text that continues; `None` if the text is invalid.
pub(super) fn valid_start(text: &[u8]) -> Option<usize> {
    match std::str::from_utf8(text) {
        Ok(text) => Some(text.len()),
        Err(error) if error.error_len().is_none() => Some(error.valid_up_to()),
        Err(_) => None,
    }
}

impl TunnelState {
    /// Returns whether a tunnel can be in this state.
    pub fn is_valid(&self) -> bool {
        let senders = [Sender::Client, Sender::Server].into_iter();
        senders.zip(&self.directions).all(|(sender, direction)| direction.is_valid(sender))
    }

    /// Which directions an inspector looks at, by source side.
    pub fn inspected(&self) -> [bool; 2] {
        [0, 1].map(|side: usize| self.directions[side].inspected.is_some())
    }

    /// The sides of the tunnel on these plain sockets, with their records if they have TLS; `None` if those are invalid.
    /// Until the tunnel continues here their end sends nothing: the other process may continue with the same keys.
    pub fn connect(&mut self, sockets: [TunnelIo; 2]) -> Option<[TunnelIo; 2]> {
        connect(std::mem::take(&mut self.records), sockets)
    }

    /// When its session leaves in a drain.
    pub fn drain_part(&self) -> Option<u32> {
        self.drain_part
    }
}

/// Sides on these plain sockets, with their records if they have TLS; `None` if those are invalid. Their end sends nothing
/// until they are no longer lent.
pub(super) fn connect(
    [client, backend]: [Option<RecordState>; 2],
    sockets: [TunnelIo; 2],
) -> Option<[TunnelIo; 2]> {
    let side = |socket, records| match records {
        None => Some(socket),
        Some(records) => RecordStream::new(socket, records).map(|stream| {
            let mut side = TunnelIo::Records(Box::new(stream));
            side.set_lent(true);
            side
        }),
    };
    let [client_socket, backend_socket] = sockets;
    Some([side(client_socket, client)?, side(backend_socket, backend)?])
}

/// The records of a side with TLS. `None` if it cannot move.
pub(super) fn records(side: &TunnelIo) -> Option<Option<RecordState>> {
    match side {
        TunnelIo::Tcp(_) | TunnelIo::Unix(_) => Some(None),
        TunnelIo::Records(stream) => stream.state().map(Some),
        TunnelIo::Boxed(_) | TunnelIo::Gone => None,
    }
}

/// Another descriptor of the socket of a side; `None` if it cannot move.
pub(super) fn duplicate(side: &TunnelIo) -> Option<OwnedFd> {
    match side {
        TunnelIo::Records(stream) => duplicate(stream.socket()),
        TunnelIo::Tcp(stream) => stream.as_fd().try_clone_to_owned().ok(),
        TunnelIo::Unix(stream) => stream.as_fd().try_clone_to_owned().ok(),
        TunnelIo::Boxed(_) | TunnelIo::Gone => None,
    }
}
