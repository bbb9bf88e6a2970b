//! The servers of an etcd cluster, of which any one suffices, and the token that they accept.

use super::connection::{ResponseBody, Server};
use super::error::{ErrorKind, EtcdError};
use super::messages::{self, TokenResponse};
use crate::tls;
use moongate_config::{Credentials, Files};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The servers of an etcd cluster.
pub struct EtcdServers {
    pub(super) all: Vec<Server>,
    pub(super) credentials: Credentials,
    /// The files of the settings, other than those of `tls`.
    pub(super) files: Files,
    pub(super) tls: Option<Arc<tls::Client>>,
    /// The server to ask first: the one that responded last.
    pub(super) first: AtomicUsize,
    pub(super) token: Mutex<Token>,
}

/// What is known of the authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Token {
    /// There is no token yet, or it has expired.
    #[default]
    Missing,
    /// The cluster has no authentication.
    NotNeeded,
    /// The cluster gave this one.
    Known(Arc<str>),
}

impl fmt::Debug for EtcdServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdServers").field("all", &self.all).finish_non_exhaustive()
    }
}

impl EtcdServers {
    /// Whether the files of the settings are unchanged since they were read.
    pub fn is_current(&self) -> bool {
        self.files.unchanged() && self.tls.as_ref().is_none_or(|tls| tls.is_current())
    }

    /// The servers, beginning with the one to ask first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.first.load(Relaxed), self.all.len());
        (first..first + count).map(move |index| index % count)
    }

    /// Asks this server first from now on.
    pub(super) fn prefer(&self, server: usize) {
        self.first.store(server % self.all.len(), Relaxed);
    }

    /// Sends a request to one server and reads its response.
    pub(super) async fn post<R: DeserializeOwned>(
        &self,
        server: usize,
        path: &'static str,
        body: &str,
    ) -> Result<R, EtcdError> {
        let send = async |token: Option<Arc<str>>| {
            self.all[server].post(path, body.to_owned(), token.as_deref()).await
        };
        let response = match send(self.token(server).await?).await {
            Err(error) if self.may_renew(&error) => send(self.token(server).await?).await,
            response => response,
        };
        let response = response?;
        serde_json::from_slice(&response).map_err(|error| {
            let url = &self.all[server].url;
            EtcdError::new("invalid", format!("{url}: the response cannot be read: {error}"))
        })
    }

    /// Begins a stream at one server.
    pub(super) async fn stream(
        &self,
        server: usize,
        path: &'static str,
        body: &str,
    ) -> Result<ResponseBody, EtcdError> {
        let send = async |token: Option<Arc<str>>| {
            self.all[server].stream(path, body.to_owned(), token.as_deref()).await
        };
        match send(self.token(server).await?).await {
            Err(error) if self.may_renew(&error) => send(self.token(server).await?).await,
            response => response,
        }
    }

    /// Whether a new token may help after this error; the current one is dropped then.
    pub(super) fn may_renew(&self, error: &EtcdError) -> bool {
        let may = error.kind() == ErrorKind::Token && self.credentials.user.is_some();
        if may {
            *self.token.lock() = Token::Missing;
        }
        may
    }

    async fn token(&self, server: usize) -> Result<Option<Arc<str>>, EtcdError> {
        let Credentials { user: Some(user), password } = &self.credentials else { return Ok(None) };
        match self.token.lock().clone() {
            Token::Known(token) => return Ok(Some(token)),
            Token::NotNeeded => return Ok(None),
            Token::Missing => {}
        }
        let request = messages::authenticate(user, password.as_deref().unwrap_or_default());
        let response = self.all[server].post("/v3/auth/authenticate", request, None).await;
        let token = match response {
            Err(error) if error.detail.contains("authentication is not enabled") => Token::NotNeeded,
            response => {
                let read = serde_json::from_slice::<TokenResponse>(&response?);
                let token = read.map(|response| response.token).unwrap_or_default();
                if token.is_empty() {
                    let url = &self.all[server].url;
                    return Err(EtcdError::new("invalid", format!("{url}: the response has no token")));
                }
                Token::Known(token.into())
            }
        };
        *self.token.lock() = token.clone();
        Ok(match token {
            Token::Known(token) => Some(token),
            Token::NotNeeded | Token::Missing => None,
        })
    }
}
