//! The taps of one tunnel.

use super::message_reader::{CompressionContext, MessageReader};
use super::{TapSession, TappedMessage};
use crate::tunnel::{Outcome, Side};
use crate::websocket::frame::FrameParser;
use crate::websocket::handshake::{ContextReset, Extensions};
use std::sync::Arc;

/// The taps of a tunnel, and the messages that they read from both sides.
#[derive(Debug)]
pub(in crate::tunnel) struct TunnelTap {
    id: u64,
    sessions: Vec<Arc<TapSession>>,
    readers: [MessageReader; 2],
}

/// When a tap of a tunnel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) enum TapStart {
    /// Before the first byte of both sides.
    WithTunnel,
    /// Later.
    Within,
}

impl TunnelTap {
    /// Begins at the state of the relay's parsers, by [`Side`].
    pub(in crate::tunnel) fn new(
        id: u64,
        sessions: Vec<Arc<TapSession>>,
        parsers: [&FrameParser; 2],
        extensions: Extensions,
        start: TapStart,
    ) -> Box<Self> {
        let reader = |side: Side| {
            MessageReader::new(id, side, parsers[side as usize], context(side, extensions, start))
        };
        Box::new(Self { id, sessions, readers: Side::BOTH.map(reader) })
    }

    /// Other operators tap the tunnel from now on.
    pub(in crate::tunnel) fn replace_sessions(&mut self, sessions: Vec<Arc<TapSession>>) {
        self.sessions = sessions;
    }

    /// Reads bytes that `side` sent.
    pub(in crate::tunnel) fn read(&mut self, side: Side, bytes: &[u8]) {
        let Self { sessions, readers, .. } = self;
        let mut report =
            |message: &TappedMessage| sessions.iter().for_each(|session| session.message(message));
        readers[side as usize].read(bytes, &mut report);
    }

    /// Another backend serves the tunnel.
    pub(in crate::tunnel) fn replace_backend(&mut self, extensions: Extensions) {
        let context = context(Side::Backend, extensions, TapStart::WithTunnel);
        self.readers[Side::Backend as usize].restart(context);
    }

    pub(in crate::tunnel) fn ended(&self, outcome: &Outcome) {
        self.sessions.iter().for_each(|session| session.closed(self.id, outcome));
    }
}

fn context(side: Side, extensions: Extensions, start: TapStart) -> CompressionContext {
    let Extensions::Deflate(ContextReset { client, server }) = extensions else {
        return CompressionContext::None;
    };
    let resets = match side {
        Side::Client => client,
        Side::Backend => server,
    };
    match start {
        TapStart::Within if !resets => CompressionContext::Missed,
        TapStart::Within | TapStart::WithTunnel => CompressionContext::Seen { resets },
    }
}
