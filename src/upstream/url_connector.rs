//! Connections to servers of URLs, without the settings of an upstream.

use super::address::Address;
use super::connection_pool::{self, IdleLimits, Server};
use super::connector::{self, Reuse};
use super::dial::{self, DialError};
use super::http1_connection::Http1Connection;
use super::upstream_stream::UpstreamStream;
use super::url_server::UrlServer;
use crate::runtime::worker_timer;
use crate::tls;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long an idle connection is kept.
const KEEP: Duration = Duration::from_secs(60);
/// The idle connections that each worker keeps, to all servers together.
const MAX_IDLE: usize = 64;

impl UrlServer {
    /// A connection: a pooled one if `reuse` allows it, otherwise a new one within `limit`.
    ///
    /// # Errors
    /// [`DialError`], within `limit` in every case.
    pub async fn connection(
        self: &Arc<Self>,
        reuse: Reuse,
        limit: Duration,
    ) -> Result<Box<Http1Connection>, DialError> {
        if reuse == Reuse::Allowed
            && let Some(pooled) = connection_pool::take(Server::Url(self), None)
        {
            return Ok(pooled);
        }
        let opened = worker_timer::timeout(limit, self.open()).await.unwrap_or(Err(DialError::TimedOut));
        Ok(Box::new(Http1Connection::new(opened?, None)))
    }

    async fn open(&self) -> Result<UpstreamStream, DialError> {
        let address = Address::Tcp(self.address);
        if !self.has_tls {
            return dial::connect(&address).await.map(UpstreamStream::Plain);
        }
        let config = tls::public_client_config().await;
        let config = config.map_err(|error| DialError::Handshake(io::Error::other(error)))?;
        connector::start_tls(config, self.host.to_string(), dial::connect(&address).await?).await
    }

    /// Gives back a connection whose exchange is complete.
    pub fn give_back(self: &Arc<Self>, connection: Box<Http1Connection>) {
        let limits = IdleLimits { of_server: MAX_IDLE, of_group: MAX_IDLE };
        connection_pool::give_back(Server::Url(self), connection, KEEP, limits);
    }
}
