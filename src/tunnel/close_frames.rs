//! Close frames of the gateway with a fixed code and text (RFC 6455 §5.5.1). The tables of docs/reference/close-codes.md have
//! the same ones.
//!
//! A lost backend has one code, however TCP reports it. Clients of GraphQL retry after 1001 and 1012, and take 1011 as final.
//! 1014 is an error to many libraries.

/// A Close frame of the gateway.
#[derive(Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code.
    pub code: u16,
    /// The reason on the wire.
    pub text: &'static str,
}

macro_rules! close_frames {
    ($(#[$comment:meta])* $all:ident: $($(#[$about:meta])* $name:ident = $code:literal $text:literal;)+) => {
        $($(#[$about])* pub(super) static $name: CloseFrame = CloseFrame { code: $code, text: $text };)+

        $(#[$comment])*
        pub static $all: &[&CloseFrame] = &[$(&$name),+];
    };
}

close_frames! {
    /// The Close frames to clients.
    TO_CLIENTS:
    /// No data frame for `idle_timeout`.
    IDLE_TIMEOUT = 1001 "idle timeout";
    /// The backend is lost.
    BACKEND_GONE = 1001 "backend gone";
    /// The backend violated the protocol or a limit.
    BACKEND_FAILED = 1001 "backend failed";
    /// The endpoint leaves, or is lost while it does.
    BACKEND_DRAINING = 1012 "backend draining";
    /// The process ends.
    GATEWAY_RESTARTING = 1012 "gateway restarting";
    /// The route was removed or changed.
    ROUTE_CHANGED = 1012 "route changed";
    /// The listener was removed.
    LISTENER_REMOVED = 1012 "listener removed";
    /// The WebSocket may go on elsewhere.
    PLEASE_RECONNECT = 1012 "please reconnect";
    /// A failover found a message that cannot be sent again.
    MESSAGE_INCOMPLETE = 1012 "message incomplete";
    /// A failover found no other backend.
    NO_BACKEND_AVAILABLE = 1012 "no backend available";
    /// The client exceeded its rate.
    TOO_MANY_MESSAGES = 1008 "too many messages";
    /// A plugin failed.
    PLUGIN_FAILED = 1011 "plugin failed";
    /// A plugin wrote text that is none.
    PLUGIN_SENT_INVALID_UTF8 = 1007 "plugin sent invalid UTF-8";
}

close_frames! {
    /// The Close frames to backends, beside those that a plugin causes.
    TO_BACKENDS:
    /// The client is lost, or violated the protocol or a limit.
    CLIENT_GONE = 1001 "client gone";
}
