//! Stand-in backends, so that a newcomer sees a cluster work before owning one.
//!
//! `moongate demo` plays every loopback endpoint of a configuration: a page, a few plain answers and an
//! echo on any WebSocket. Tests and the documentation's examples run against the same backends. They
//! share no code with the gateway, so that one mistake cannot hide behind its mirror image. The gateway
//! itself is started by the command, and printing is the command's work too.

mod connection;
mod request;
#[cfg(test)]
mod tests;
mod websocket;

use crate::config::{Config, EndpointEntry, UpstreamRef};
use log::warn;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the backends are called, in the order of their endpoints; the page knows these as colours.
const NAMES: [&str; 6] = ["blue", "green", "amber", "violet", "coral", "teal"];

/// The pause after a failed accept: out of descriptors, trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the backends could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there, most likely a backend of the reader's own.
    #[error("{0} is taken: stop what listens there, or use `moongate run` to have it as the backend")]
    Taken(SocketAddr),
    /// The configuration names no endpoint that could be played.
    #[error("no upstream has a loopback endpoint (such as 127.0.0.1:8081) to play the part of")]
    NothingToPlay,
    /// The system refused the address for another reason.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// One backend's name and numbers.
#[derive(Debug)]
struct Backend {
    name: String,
    /// Requests answered, the page and probes included.
    served: AtomicU64,
    /// WebSockets ever opened, probes left out.
    opened: AtomicU64,
    /// WebSockets open now, probes left out.
    open: AtomicU64,
}

/// Backends that hold their ports and wait to be served.
#[derive(Debug)]
pub struct Backends(Vec<(String, TcpListener)>);

impl Backends {
    /// Takes the ports. Nothing is answered before [`Backends::serve`], but connects already queue.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first address that is taken or refused, or no address at all.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::NothingToPlay);
        }
        let mut backends = Vec::with_capacity(addresses.len());
        for (index, &address) in addresses.iter().enumerate() {
            let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => Error::Taken(address),
                _ => Error::Listen(address, error),
            })?;
            backends.push((name(index), listener));
        }
        Ok(Self(backends))
    }

    /// Each backend's name and the address it really has, in the order asked for.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let real =
            |(name, listener): &(String, TcpListener)| Some((name.clone(), listener.local_addr().ok()?));
        self.0.iter().filter_map(real).collect()
    }

    /// Serves until dropped; that closes every listener and every connection.
    pub async fn serve(self) {
        let mut running = JoinSet::new();
        for (name, listener) in self.0 {
            running.spawn(async move { backend(listener, &name).await });
        }
        while running.join_next().await.is_some() {}
    }
}

/// One backend on a listener of the caller's; serves until dropped, and then closes every connection.
///
/// - `GET /` is the page, `GET /whoami` a JSON object that says who answered and what arrived,
///   `GET /health` is `ok`; anything else is 404.
/// - A WebSocket on any path is greeted with `{"backend":NAME,"n":N,"path":PATH}` (`N` counts the
///   backend's WebSockets from 1) and then echoed. One on `/health` is a probe and not counted.
/// - Every answer carries `X-Backend: NAME`.
pub async fn backend(listener: TcpListener, name: &str) {
    let backend = Arc::new(Backend {
        name: name.to_owned(),
        served: AtomicU64::new(0),
        opened: AtomicU64::new(0),
        open: AtomicU64::new(0),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(stream, Arc::clone(&backend)));
                }
                Err(error) => {
                    warn!(backend = backend.name.as_str(), error:%; "demo backend cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Reaped as they end, or a long demo would keep every connection it ever had.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The loopback endpoints of a configuration, each once, in the order written: what the demo plays.
pub fn addresses(spec: &Config) -> Vec<SocketAddr> {
    let named = spec.upstreams.values().flat_map(|upstream| &upstream.endpoints);
    let inline = spec.routes.iter().flat_map(|route| match route.upstream.as_deref() {
        Some(UpstreamRef::Inline(endpoints)) => endpoints.as_slice(),
        Some(UpstreamRef::Name(_) | UpstreamRef::Weighted(_)) | None => &[],
    });
    loopback(named.chain(inline).map(|entry| match &entry.value {
        EndpointEntry::Address(address) => address.as_str(),
        EndpointEntry::Full(endpoint) => endpoint.address.as_str(),
    }))
}

fn loopback<'a>(endpoints: impl Iterator<Item = &'a str>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in endpoints.filter_map(|text| text.parse::<SocketAddr>().ok()) {
        if address.ip().is_loopback() && address.port() != 0 && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn name(index: usize) -> String {
    NAMES.get(index).map_or_else(|| format!("backend-{}", index + 1), |&name| name.to_owned())
}

/// What the banner needs to know of the running demo.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the gateway listens, as `127.0.0.1:8080`.
    pub gateway: &'a str,
    /// The administrator's address, if there is one.
    pub admin: Option<&'a str>,
    /// The configuration file, as the operator named it.
    pub config: &'a str,
    /// The gateway's process id, for `kill -HUP`.
    pub pid: u32,
    /// From [`Backends::addresses`].
    pub backends: &'a [(String, SocketAddr)],
}

/// What to try, for the command to print once the gateway listens. Ends with a newline.
pub fn banner(facts: &Facts<'_>) -> String {
    let Facts { gateway, admin, config, pid, backends } = facts;
    let mut text = format!("\n  Moongate is open: http://{gateway}/\n\n");
    for (name, address) in *backends {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  backend {name:<8} {address}");
    }
    if let Some(admin) = admin {
        let _ = writeln!(text, "  admin            http://{admin}/");
    }
    let _ = write!(
        text,
        "
  Try, in another terminal:
    curl -i http://{gateway}/whoami        which backend answers; again, and the other one does
    websocat ws://{gateway}/ws             type: it comes back
    moongate check -c {config} --explain GET http://{gateway}/ws

  Change the routes while sockets are open:
    edit {config}, for instance remove a backend from its upstreams
    kill -HUP {pid}                          new requests follow the edit; open WebSockets stay

  Ctrl-C ends everything.
"
    );
    text
}
