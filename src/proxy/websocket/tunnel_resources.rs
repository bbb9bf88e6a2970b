//! Resources of an open WebSocket: the lease of its endpoint, and the client's permits and trace.

use super::tunnel_permits::TunnelPermits;
use crate::proxy::Shared;
use crate::proxy::tracing::moved_span::TraceState;
use crate::proxy::tracing::websocket_span::WebSocketTrace;
use crate::tunnel::{PermitKey, TunnelGuard};
use crate::upstream::Lease;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Resources of an open tunnel, released however it ends. With failover the redialer holds the client's
/// permits and trace, since they outlive the lease.
pub(super) struct TunnelGuards {
    pub(super) _lease: Lease,
    pub(super) client: Option<ClientResources>,
}

/// The client's part of the resources.
pub(super) struct ClientResources {
    pub(super) permits: TunnelPermits,
    /// Its trace, if it is sampled.
    pub(super) trace: Option<Arc<WebSocketTrace>>,
}

/// The client's part of the resources, for another process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct ClientResourcesState {
    /// The key of its permit, under a limit per client.
    pub(super) permit_key: Option<PermitKey>,
    pub(super) trace: Option<TraceState>,
}

impl ClientResourcesState {
    /// The client's resources again, in this process.
    pub(super) fn restore(self, permits: TunnelPermits, shared: &Arc<Shared>) -> ClientResources {
        let trace = self.trace.and_then(|trace| WebSocketTrace::restore(trace, shared));
        ClientResources { permits, trace }
    }
}

impl ClientResources {
    pub(super) fn state(&self) -> ClientResourcesState {
        ClientResourcesState {
            permit_key: self.permits.permit.key(),
            trace: self.trace.as_ref().map(|trace| trace.state()),
        }
    }
}

impl TunnelGuard for TunnelGuards {
    fn state(&self) -> serde_json::Value {
        let state = self.client.as_ref().map(ClientResources::state);
        // Numbers and text are always JSON.
        serde_json::to_value(state).unwrap_or_default()
    }
}
