//! The PROXY header at the start of a connection to a backend.

use super::dial::PlainStream;
use crate::config::ProxyVersion;
use crate::net::proxy_protocol;
use std::io;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

/// The addresses in a PROXY header: the client's and the destination; `None` for a probe or a plugin's call.
pub type ProxyAddrs = Option<(SocketAddr, SocketAddr)>;

/// Sends the PROXY header of a connection.
pub(super) async fn send_proxy_header(
    plain: &mut PlainStream,
    version: ProxyVersion,
    ends: ProxyAddrs,
) -> io::Result<()> {
    let own = || match plain {
        // Some receivers reject `UNKNOWN`, version 1's form of a connection without a client.
        PlainStream::Tcp(stream) if version == ProxyVersion::V1 => {
            Some((stream.local_addr().ok()?, stream.peer_addr().ok()?))
        }
        _ => None,
    };
    let header = proxy_protocol::write(version, ends.or_else(own));
    plain.write_all(&header).await
}
