//! WebSockets from the handshake to the tunnel.

pub(super) mod handshake_attempt;
pub(super) mod handshake_rate_wait;
pub(super) mod redial;
pub(super) mod tunnel_admission;
pub(super) mod tunnel_log;
pub(super) mod tunnel_permits;
pub(super) mod tunnel_resources;
pub(super) mod tunnel_task;
pub(super) mod upgrade;
pub(super) mod websocket_plugins;
