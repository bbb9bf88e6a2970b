//! Settings of a client's session in Pingora: its timeouts, and which responses the client understands.

use crate::snapshot::GlobalSettings;
use http::Version;
use pingora::protocols::http::ServerSession;

/// Sets the session's timeouts, and whether the client accepts interim responses.
pub(in crate::proxy) fn configure_session(session: &mut ServerSession, globals: &GlobalSettings) {
    // `Connection` decides whether a half-close is a disconnect (`on_client_close`).
    session.set_abort_on_close(false);
    session.set_read_timeout(Some(globals.body_timeout));
    session.set_write_timeout(Some(globals.send_timeout));
    // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
    if session.req_header().version == Version::HTTP_10 {
        session.set_ignore_info_resp(true);
    }
}
