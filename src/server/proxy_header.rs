//! The PROXY header of a balancer's connection: read before anything else, and not a byte further.

use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::net::proxy_protocol::{HeaderError, HeaderLength, LONGEST, ProxyHeader, extent, parse};
use crate::snapshot::Balancers;
use crate::telemetry::metrics::Preamble;
use log::debug;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Longer than every header without uncommon elements: such a one is seen whole at the first look.
const FIRST_LOOK: usize = 256;

/// Why there is no header.
enum Lack {
    /// The connection ended before its first byte, as a look at whether the port is open does.
    Nothing,
    /// It is refused.
    Refused(Preamble),
}

/// Reads the header of a balancer's connection and takes its word: the peer of `arrival` is the client from
/// then on. Anybody else's connection begins at once. Returns whether the connection may go on.
pub(super) async fn hear(
    balancers: &Balancers,
    socket: &mut Socket,
    arrival: &mut ConnInfo,
    limit: Duration,
) -> bool {
    let peer = (!matches!(socket, Socket::Unix(_))).then(|| arrival.peer.ip());
    if !balancers.include(peer) {
        return true;
    }
    // Boxed: its state would be part of every connection's to the end.
    let why = match Box::pin(timeout(limit, read(socket))).await {
        Ok(Ok(told)) => {
            if let Some((source, _)) = told.ends {
                arrival.peer = source;
            }
            arrival.tls = told.tls.map(Into::into);
            return true;
        }
        Ok(Err(Lack::Nothing)) => return false,
        Ok(Err(Lack::Refused(why))) => why,
        Err(_) => Preamble::Timeout,
    };
    let metrics = &balancers.metrics;
    metrics.refused(why);
    debug!(listener = metrics.listener(), peer:% = arrival.peer, reason = why.label(); "PROXY header refused");
    false
}

/// A look at what waits tells where the header ends; that much is taken. Bytes that were looked at and
/// are all the header's are taken too, so the next look waits for new ones.
async fn read(socket: &mut Socket) -> Result<ProxyHeader, Lack> {
    let mut header = Vec::new();
    loop {
        let have = header.len();
        header.resize(if have == 0 { FIRST_LOOK } else { LONGEST }, 0);
        let seen = have + socket.peek(&mut header[have..]).await?;
        if seen == have {
            return Err(if have == 0 { Lack::Nothing } else { Lack::Refused(Preamble::Closed) });
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

impl From<HeaderError> for Lack {
    fn from(wrong: HeaderError) -> Self {
        Self::Refused(match wrong {
            HeaderError::Missing => Preamble::Missing,
            HeaderError::Malformed => Preamble::Malformed,
            HeaderError::TooLong => Preamble::TooLong,
            HeaderError::Checksum => Preamble::Checksum,
        })
    }
}

impl From<io::Error> for Lack {
    fn from(_: io::Error) -> Self {
        Self::Refused(Preamble::Closed)
    }
}
