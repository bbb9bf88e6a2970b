//! Demo backends, so that a new user can try a cluster without having one.
//!
//! `moongate demo` serves every loopback endpoint of a configuration: a page, a few plain responses and an echo on
//! any WebSocket. Tests and the documentation's examples run against the same backends. They share no code with the
//! gateway, so that a bug in shared code cannot hide. The command starts the gateway and prints.

mod connection;
mod request;
#[cfg(test)]
mod tests;
mod websocket;

use crate::config::{Config, EndpointEntry, UpstreamRef};
use log::warn;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The backends' names, in the order of their endpoints; the page uses them as colours.
const NAMES: [&str; 6] = ["blue", "green", "amber", "violet", "coral", "teal"];

const PAGE: &str = include_str!("page.html");
/// The place of the link to the live page in the page.
const ADMIN_LINK: &str = "<!-- admin -->";

/// The pause after a failed accept: without descriptors, an immediate retry would only use CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The reason why the backends could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process listens there, most likely a backend of the user.
    #[error(
        "{0} is in use: stop the process that listens on it, or use `moongate run` with it as the backend"
    )]
    Taken(SocketAddr),
    /// The configuration has no endpoint that the demo could serve.
    #[error("no upstream has a loopback endpoint (such as 127.0.0.1:8081) for the demo to serve")]
    NothingToPlay,
    /// The system refused the address for another reason.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// The name and the counters of a backend.
#[derive(Debug)]
struct Backend {
    name: String,
    /// The response to `GET /`.
    page: Arc<str>,
    /// Requests served, including the page and health checks.
    served: AtomicU64,
    /// WebSockets opened so far, without health checks.
    opened: AtomicU64,
    /// WebSockets open now, without health checks.
    open: AtomicU64,
}

/// Bound backends that are not serving yet.
#[derive(Debug)]
pub struct Backends {
    listeners: Vec<(String, TcpListener)>,
    page: Arc<str>,
}

impl Backends {
    /// Binds the addresses. Connections are queued, and served after [`Backends::serve`].
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first address that cannot be bound, or no address at all.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::NothingToPlay);
        }
        let mut listeners = Vec::with_capacity(addresses.len());
        for (index, &address) in addresses.iter().enumerate() {
            let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => Error::Taken(address),
                _ => Error::Listen(address, error),
            })?;
            listeners.push((name(index), listener));
        }
        Ok(Self { listeners, page: page(None) })
    }

    /// Adds a link to the gateway's live page to the page of every backend.
    #[must_use]
    pub fn with_admin(self, admin: Option<SocketAddr>) -> Self {
        Self { page: page(admin), ..self }
    }

    /// Each backend's name and actual address, in the requested order.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let real =
            |(name, listener): &(String, TcpListener)| Some((name.clone(), listener.local_addr().ok()?));
        self.listeners.iter().filter_map(real).collect()
    }

    /// Serves until dropped; the drop closes every listener and every connection.
    pub async fn serve(self) {
        let mut running = JoinSet::new();
        for (name, listener) in self.listeners {
            let page = Arc::clone(&self.page);
            running.spawn(async move { backend(listener, &name, page).await });
        }
        while running.join_next().await.is_some() {}
    }
}

/// One backend; serves until dropped, and then closes every connection.
///
/// - `GET /` is the page, `GET /whoami` a JSON object with the backend's name and the request as received,
///   `GET /health` is `ok`; anything else is 404.
/// - A WebSocket on any path gets the message `{"backend":NAME,"n":N,"path":PATH}` (`N` counts the backend's
///   WebSockets from 1) and then echoes. A WebSocket on `/health` is a health check and not counted.
/// - Every response has `X-Backend: NAME`.
async fn backend(listener: TcpListener, name: &str, page: Arc<str>) {
    let backend = Arc::new(Backend {
        name: name.to_owned(),
        page,
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
                    warn!(backend = backend.name.as_str(), error:%; "demo backend accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Finished tasks are removed, or a long demo would accumulate them.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The loopback endpoints of a configuration, each once, in their order: the addresses of the demo.
pub fn addresses(spec: &Config) -> Vec<SocketAddr> {
    let named = spec.upstreams.values().flat_map(|upstream| &upstream.endpoints.value);
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

/// The address at which a browser of this machine reaches the live page, from `admin.address`. `None` if that is
/// not an address, or has port 0 and is therefore not known before the start.
pub fn live_page(address: &str) -> Option<SocketAddr> {
    let mut address: SocketAddr = address.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    (address.port() != 0).then_some(address)
}

fn page(admin: Option<SocketAddr>) -> Arc<str> {
    // A new tab: the WebSockets of this page stay open.
    let link = admin.map(|admin| {
        format!(r#"<a href="http://{admin}/" target="_blank" rel="noopener">Live page of the gateway</a>"#)
    });
    PAGE.replace(ADMIN_LINK, &link.unwrap_or_default()).into()
}

/// Facts about the running demo, for the banner.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The gateway's address, as `127.0.0.1:8080`.
    pub gateway: &'a str,
    /// The address of the live page, from [`live_page`].
    pub admin: Option<SocketAddr>,
    /// The configuration file, in the operator's spelling.
    pub config: &'a str,
    /// The gateway's process id, for `kill -HUP`.
    pub pid: u32,
    /// From [`Backends::addresses`].
    pub backends: &'a [(String, SocketAddr)],
}

/// Commands to try, printed after the gateway has started to listen. Ends with a newline.
pub fn banner(facts: &Facts<'_>) -> String {
    let Facts { gateway, admin, config, pid, backends } = facts;
    let mut text = format!("\n  Moongate listens on http://{gateway}/\n");
    if let Some(admin) = admin {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  Its live page is    http://{admin}/");
    }
    text.push('\n');
    for (name, address) in *backends {
        let _ = writeln!(text, "  backend {name:<8} {address}");
    }
    let _ = write!(
        text,
        "
  Try, in another terminal:
    curl -i http://{gateway}/whoami        the backend that responds; a second request reaches the other one
    websocat ws://{gateway}/ws             echoes each line as a message
    moongate check -c {config} --explain GET http://{gateway}/ws

  Change the configuration while WebSockets are open:
    edit {config}, for instance remove a backend from its upstreams
    kill -HUP {pid}                          new requests use the new file; open WebSockets stay

  Ctrl-C ends everything.
"
    );
    text
}
