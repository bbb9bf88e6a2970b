//! State of a request body on its way through the plugins, and the copy that is kept for a retry.

use super::downstream::session::Session;
use bytes::Bytes;

/// The maximum bytes of plugins' output kept for a retry, as many as of the received bytes.
const KEPT: usize = 64 << 10;

/// A request's body, where plugins see it.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The whole body for the backend, if a plugin buffered it.
    pub(super) whole: Option<Bytes>,
    /// Bytes received from the client while the body was buffered.
    pub(super) read: usize,
    /// The plugins before this position have processed the whole body.
    pub(super) seen: usize,
    /// Plugins process the body chunk by chunk.
    pub(super) shown: bool,
    /// The plugins' output so far.
    pub(super) passed: BodyProgress,
    /// The next chunk is the output kept from the previous attempt; plugins have processed it.
    pub(super) again: bool,
    /// The whole body was passed to the backend of this attempt.
    pub(super) is_sent: bool,
    /// The backend's final response ended the upload before the whole body was sent.
    pub(super) is_cut_off: bool,
    /// That response is complete, so the upload has ended.
    pub(super) is_over: bool,
    /// 100 (Continue) was sent to a client that waited for it (RFC 9110 §10.1.1).
    pub(super) is_asked_for: bool,
}

/// The plugins' output, kept for a retry.
#[derive(Debug, Default)]
pub(super) enum BodyProgress {
    /// Plugins have processed nothing yet.
    #[default]
    Nothing,
    /// The whole output.
    Kept(Vec<Bytes>),
    /// The output is too large, or the attempt ended within a chunk: a retry is impossible.
    Lost,
}

impl Upload {
    /// Whether no plugin processes the body.
    pub(super) fn is_plain(&self) -> bool {
        self.whole.is_none() && !self.shown
    }

    /// Whether a retry can send the same body.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.passed, BodyProgress::Lost)
    }

    /// Bytes received from the client.
    pub(super) fn received(&self, session: &Session) -> usize {
        self.read + session.body_bytes_read()
    }
}

impl BodyProgress {
    /// Adds one chunk.
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
