//! State of a request's body on its way through the plugins, and what of it is kept for another attempt.

use bytes::Bytes;
use pingora_proxy::Session;

/// Of what passed plugins so much is kept for another attempt; Pingora keeps as much of what came.
const KEPT: usize = 64 << 10;

/// A request's body, where plugins see it.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// All of it as it goes to the backend, when a plugin wanted to see all of it.
    pub(super) whole: Option<Bytes>,
    /// Bytes of it that were read by then.
    pub(super) read: usize,
    /// The plugins before this position have seen all of it.
    pub(super) seen: usize,
    /// Its pieces pass plugins.
    pub(super) shown: bool,
    /// What came out of the plugins so far.
    pub(super) passed: BodyProgress,
    /// The next piece is all that came before this attempt: the plugins have seen it.
    pub(super) again: bool,
    /// All of it is on its way to the backend of this attempt.
    pub(super) is_sent: bool,
    /// The backend's final response came before all of it was sent.
    pub(super) is_cut_off: bool,
    /// That response is over, and the upload with it.
    pub(super) is_over: bool,
    /// The client, which waited for that, was told to send it (RFC 9110 §10.1.1).
    pub(super) is_asked_for: bool,
}

/// What came out of the plugins, for another attempt.
#[derive(Debug, Default)]
pub(super) enum BodyProgress {
    /// Nothing was shown to them yet.
    #[default]
    Nothing,
    /// All of it.
    Kept(Vec<Bytes>),
    /// More than is kept, or a piece was under way when the attempt ended: no other one can be made.
    Lost,
}

impl Upload {
    /// Whether no plugin has to do with the body.
    pub(super) fn is_plain(&self) -> bool {
        self.whole.is_none() && !self.shown
    }

    /// Whether another attempt would send the same.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.passed, BodyProgress::Lost)
    }

    /// Bytes that came from the client. A session behind one that was read whole has read a byte that never came.
    pub(super) fn received(&self, session: &Session) -> usize {
        self.read + if self.whole.is_some() { 0 } else { session.body_bytes_read() }
    }
}

impl BodyProgress {
    /// With one more piece.
    pub(super) fn and(self, piece: &Bytes) -> Self {
        let mut pieces = match self {
            Self::Nothing => Vec::new(),
            Self::Kept(pieces) => pieces,
            Self::Lost => return Self::Lost,
        };
        let size: usize = pieces.iter().map(Bytes::len).sum();
        if size + piece.len() > KEPT || pieces.len() == usize::from(u8::MAX) {
            return Self::Lost;
        }
        pieces.push(piece.clone());
        Self::Kept(pieces)
    }

    pub(super) fn all(&self) -> Bytes {
        match self {
            Self::Kept(pieces) => pieces.concat().into(),
            Self::Nothing | Self::Lost => Bytes::new(),
        }
    }
}
