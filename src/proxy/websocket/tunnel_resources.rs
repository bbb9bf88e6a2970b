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
pub(in crate::proxy) struct TunnelGuards {
    pub(in crate::proxy) _lease: Lease,
    pub(in crate::proxy) client: Option<ClientResources>,
}

/// The client's part of the resources.
pub(in crate::proxy) struct ClientResources {
    pub(in crate::proxy) permits: TunnelPermits,
    /// Its trace, if it is sampled.
    pub(in crate::proxy) trace: Option<Arc<WebSocketTrace>>,
}

/// The client's part of the resources, for another process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::proxy) struct ClientResourcesState {
    /// The key of its permit, under a limit per client.
    pub(in crate::proxy) permit_key: Option<PermitKey>,
    pub(in crate::proxy) trace: Option<TraceState>,
}

impl ClientResourcesState {
    /// The client's resources again, in this process.
    pub(in crate::proxy) fn restore(self, permits: TunnelPermits, shared: &Arc<Shared>) -> ClientResources {
        let trace = self.trace.and_then(|trace| WebSocketTrace::restore(trace, shared));
        ClientResources { permits, trace }
    }
}

impl ClientResources {
    pub(in crate::proxy) fn state(&self) -> ClientResourcesState {
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
