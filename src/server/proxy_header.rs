//! The PROXY header of a connection: read before anything else, without reading beyond it.

use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::net::proxy_protocol::{HeaderError, HeaderLength, LONGEST, ProxyHeader, extent, parse};
use crate::snapshot::ProxyProtocolSources;
use crate::telemetry::metrics::Preamble;
use log::debug;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Longer than any header without uncommon TLVs, so that the first peek shows it whole.
const FIRST_LOOK: usize = 256;

/// Why there is no header.
enum ReadError {
    /// The connection ended before its first byte, as in a TCP health check.
    Nothing,
    /// The header is rejected.
    Refused(Preamble),
}

/// Reads the PROXY header if the peer is a configured source, and replaces the client address in `conn_info`.
/// Other connections are unchanged. Returns whether the connection may continue.
pub(super) async fn read_header(
    balancers: &ProxyProtocolSources,
    socket: &mut Socket,
    conn_info: &mut ConnInfo,
    limit: Duration,
) -> bool {
    let peer = (!matches!(socket, Socket::Unix(_))).then(|| conn_info.peer.ip());
    if !balancers.include(peer) {
        return true;
    }
    // Boxed: its state would otherwise be part of every connection's task to the end.
    let why = match Box::pin(timeout(limit, read(socket))).await {
        Ok(Ok(preamble)) => {
            if let Some((source, _)) = preamble.ends {
                conn_info.peer = source;
            }
            conn_info.tls = preamble.tls.map(Into::into);
            return true;
        }
        Ok(Err(ReadError::Nothing)) => return false,
        Ok(Err(ReadError::Refused(why))) => why,
        Err(_) => Preamble::Timeout,
    };
    let metrics = &balancers.metrics;
    metrics.refused(why);
    debug!(listener = metrics.listener(), peer:% = conn_info.peer, reason = why.label(); "PROXY header rejected");
    false
}

/// Peeks to find the header's end, then reads that much. Peeked bytes that belong to the header are read too,
/// so that the next peek waits for new ones.
async fn read(socket: &mut Socket) -> Result<ProxyHeader, ReadError> {
    let mut header = Vec::new();
    loop {
        let have = header.len();
        header.resize(if have == 0 { FIRST_LOOK } else { LONGEST }, 0);
        let seen = have + socket.peek(&mut header[have..]).await?;
        if seen == have {
            return Err(if have == 0 { ReadError::Nothing } else { ReadError::Refused(Preamble::Closed) });
        }
        let end = extent(&header[..seen])?;
        let own = if let HeaderLength::At(end) = end { end.min(seen) } else { seen };
        socket.read_exact(&mut header[have..own]).await?;
        if end == HeaderLength::At(own) {
            return Ok(parse(&header[..own])?);
        }
        header.truncate(own);
    }
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::Refused(match error {
            HeaderError::Missing => Preamble::Missing,
            HeaderError::Malformed => Preamble::Malformed,
            HeaderError::TooLong => Preamble::TooLong,
            HeaderError::Checksum => Preamble::Checksum,
        })
    }
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Refused(Preamble::Closed)
    }
}
