//! Alerts of a peer that arrive after the gateway has finished its handshake.

use std::io;

/// The TLS alert of a peer. With TLS 1.3 a backend rejects a client certificate only after the client has
/// finished its handshake and reads the first response.
pub(crate) fn alert(error: &io::Error) -> Option<&rustls::Error> {
    let alert = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(alert, rustls::Error::AlertReceived(_)).then_some(alert)
}
