//! The host's state of one request or WebSocket across phases.

use crate::instance::Instance;
use crate::request_scope::RequestScope;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use moongate_sdk::Exchange;
use std::sync::Arc;

/// A stream: empty, or its context in an instance.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) run: Option<Run>,
    /// Pieces of a body that the filter holds back.
    pub(crate) held: BytesMut,
    /// The filter gets the request's body in one piece, before the head is forwarded.
    pub(crate) whole: bool,
    /// The response head, for later phases.
    pub(crate) response: Option<Box<(StatusCode, HeaderMap)>>,
}

/// A context in an instance. It ends with this value, on every path.
pub(crate) struct Run {
    pub(crate) instance: Arc<Instance>,
    pub(crate) id: u32,
    over: bool,
}

impl Run {
    pub(crate) fn new(instance: Arc<Instance>, id: u32) -> Self {
        Self { instance, id, over: false }
    }

    /// Ends it, with the request visible.
    pub(crate) fn end(mut self, scope: &mut dyn RequestScope) {
        self.over = true;
        self.instance.finish(self.id, Some(scope));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.over {
            self.instance.finish(self.id, None);
        }
    }
}

impl Stream {
    /// Takes the stream out of the exchange, so that both can be borrowed.
    pub(crate) fn take(exchange: &mut Exchange<'_>) -> Self {
        std::mem::take(exchange.state::<Self>())
    }

    /// Puts it back.
    pub(crate) fn put(self, exchange: &mut Exchange<'_>) {
        *exchange.state::<Self>() = self;
    }
}
