//! What serves the connections of a worker, from their acceptance to their last request.

use crate::proxy::{Gateway, RequestLimits};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;

/// What serves the connections of a worker.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    /// The proxy.
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    /// Says when connections should end.
    pub(super) shutdown: ShutdownWatch,
    /// What a request may take.
    pub(super) limits: RequestLimits,
    /// What the worker's gateway says of its connections.
    pub(super) gateway: Arc<Gateway>,
}
