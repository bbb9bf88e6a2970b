//! The PROXY header at the start of a connection to a backend.

use super::dial::PlainStream;
use crate::config::ProxyVersion;
use crate::net::proxy_protocol;
use std::io;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

/// For whom a connection is made: the client's address and the one it connected to, or nobody but the
/// gateway itself.
pub type ProxyAddrs = Option<(SocketAddr, SocketAddr)>;

/// Says for whom the connection is (the PROXY protocol).
pub(super) async fn announce(
    plain: &mut PlainStream,
    version: ProxyVersion,
    ends: ProxyAddrs,
) -> io::Result<()> {
    let own = || match plain {
        // Version 1 has no word for it that every receiver takes.
        PlainStream::Tcp(stream) if version == ProxyVersion::V1 => {
            Some((stream.local_addr().ok()?, stream.peer_addr().ok()?))
        }
        _ => None,
    };
    let header = proxy_protocol::write(version, ends.or_else(own));
    plain.write_all(&header).await
}
