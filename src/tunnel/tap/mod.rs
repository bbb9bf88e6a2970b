//! Tap: a copy of the messages of selected tunnels for an operator, bounded in time, rate and size.
//!
//! A tunnel without a tap compares one number for it. A tapped one parses its bytes a second time, as they were
//! received from each side: before plugins, and without the gateway's own frames.

mod inflater;
mod message_reader;
#[cfg(any(test, fuzzing))]
pub mod reader_invariants;
mod tunnel_tap;

pub(super) use tunnel_tap::{TapStart, TunnelTap};

use super::{Initiator, Outcome, Side, TunnelOrigin, TunnelSnapshot};
use crate::websocket::frame::Opcode;
use moongate_sdk::{TokenBucket, TokenRate, nanoseconds};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that wait for a slow operator; further ones are dropped and counted.
const QUEUE: usize = 1024;

/// The most bytes of a message that any tap shows.
pub const LARGEST_EXCERPT: usize = 4096;

/// Selects the tunnels of a tap by their request: the route's name, and what was kept of the request.
pub type TapFilter = Box<dyn Fn(&str, &dyn TunnelOrigin) -> bool + Send + Sync>;

/// Which tunnels are tapped.
pub enum TapSelection {
    /// The tunnel with this ID.
    Tunnel(u64),
    /// Those of a route.
    Route(Box<str>),
    /// Those that the filter selects.
    Filter(TapFilter),
}

/// The limits of a tap.
#[derive(Clone, Copy, Debug)]
pub struct TapLimits {
    /// Events per second; more are dropped and counted.
    pub rate: u32,
    /// Bytes of each message, at most [`LARGEST_EXCERPT`].
    pub bytes: usize,
}

/// One operator's tap.
pub struct TapSession {
    selection: TapSelection,
    limits: TapLimits,
    events: Sender<TapEvent>,
    began: Instant,
    bucket: Mutex<TokenBucket>,
    dropped: AtomicU64,
    is_open: AtomicBool,
}

/// What a tap sees.
pub enum TapEvent {
    /// A tunnel was opened.
    Open(TunnelSnapshot),
    /// A message or a control frame.
    Message(TappedMessage),
    /// A tunnel ended.
    Close {
        /// The tunnel's ID.
        id: u64,
        /// The code of the Close frame, if there was one.
        code: Option<u16>,
        /// Who ended it.
        by: Initiator,
        /// Why, as in the access log.
        reason: &'static str,
    },
}

/// A message or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedMessage {
    /// The tunnel's ID.
    pub id: u64,
    /// Its sender.
    pub from: Side,
    /// Text, Binary, Close, Ping or Pong.
    pub opcode: Opcode,
    /// The payload's size in bytes: inflated, unless `is_compressed`.
    pub size: u64,
    /// The first bytes of the payload.
    pub excerpt: Vec<u8>,
    /// Whether the payload is compressed because the tap did not see its context begin.
    pub is_compressed: bool,
}

impl TapSession {
    /// A tap, and the receiver of its events.
    #[must_use]
    pub fn new(selection: TapSelection, limits: TapLimits) -> (Arc<Self>, Receiver<TapEvent>) {
        let (events, receiver) = channel(QUEUE);
        let limits = TapLimits { bytes: limits.bytes.min(LARGEST_EXCERPT), ..limits };
        let session = Self {
            selection,
            limits,
            events,
            began: Instant::now(),
            bucket: Mutex::default(),
            dropped: AtomicU64::new(0),
            is_open: AtomicBool::new(true),
        };
        (Arc::new(session), receiver)
    }

    /// The number of events that were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }

    /// Returns whether a tunnel is selected.
    pub(super) fn selects(&self, id: u64, route: &str, origin: Option<&dyn TunnelOrigin>) -> bool {
        match &self.selection {
            TapSelection::Tunnel(selected) => *selected == id,
            TapSelection::Route(selected) => **selected == *route,
            TapSelection::Filter(filter) => origin.is_some_and(|origin| filter(route, origin)),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    pub(super) fn end(&self) {
        self.is_open.store(false, Relaxed);
    }

    pub(super) fn message(&self, message: &TappedMessage) {
        if self.admit() {
            let excerpt = message.excerpt[..message.excerpt.len().min(self.limits.bytes)].to_vec();
            self.send(TapEvent::Message(TappedMessage { excerpt, ..message.clone() }));
        }
    }

    pub(super) fn opened(&self, seen: TunnelSnapshot) {
        if self.admit() {
            self.send(TapEvent::Open(seen));
        }
    }

    pub(super) fn closed(&self, id: u64, outcome: &Outcome) {
        if self.admit() {
            let (code, reason) = (outcome.close_code(), outcome.reason.token());
            self.send(TapEvent::Close { id, code, by: outcome.by, reason });
        }
    }

    /// Takes a token for one event, or counts it as dropped.
    fn admit(&self) -> bool {
        let rate = TokenRate::per_second(self.limits.rate.into());
        let now = nanoseconds(self.began.elapsed());
        let admitted = self.is_open() && self.bucket.lock().try_take(&rate, rate.cost(1), now).is_ok();
        if !admitted {
            self.dropped.fetch_add(1, Relaxed);
        }
        admitted
    }

    fn send(&self, event: TapEvent) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Debug for TapSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapSession").field("limits", &self.limits).finish_non_exhaustive()
    }
}
