//! What serves the connections of a worker, from their acceptance to their last request.

use crate::proxy::RequestService;
use crate::snapshot::RequestLimits;
use std::sync::Arc;

/// What serves the connections of a worker.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    /// What serves the requests.
    pub(super) service: Arc<RequestService>,
    /// The limits of a request.
    pub(super) limits: Arc<RequestLimits>,
}
