//! Facts about the request of an open WebSocket, for another process that continues it. They are those of a valid
//! handshake over HTTP/1.1 without a body: other tunnels do not move.

use super::forwarded::Client;
use super::request_facts::Received;
use crate::websocket::handshake::Handshake;
use moongate_sdk::{ClientCertificate, ClientPrefix, Tls};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A client, by its address or by another identifier.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::proxy) struct ClientState {
    address: Option<IpAddr>,
    identifier: Option<String>,
}

impl ClientState {
    pub(in crate::proxy) fn of(client: &Client) -> Self {
        match client {
            Client::Ip(address) => Self { address: Some(*address), identifier: None },
            Client::Unreadable(text) => Self { address: None, identifier: Some(text.to_string()) },
        }
    }

    pub(in crate::proxy) fn restore(&self) -> Client {
        match (self.address, &self.identifier) {
            (None, Some(identifier)) => Client::Unreadable(identifier.as_str().into()),
            (address, _) => Client::Ip(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        }
    }
}

/// The facts about the client's TLS connection.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::proxy) struct TlsState {
    version: String,
    cipher: String,
    server_name: Option<String>,
    client: Option<CertificateState>,
}

/// A client's certificate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct CertificateState {
    subject: Box<str>,
    issuer: Box<str>,
    serial: Box<str>,
    fingerprint: Box<str>,
    names: Box<[Box<str>]>,
}

impl TlsState {
    /// The facts that log lines have.
    pub(in crate::proxy) fn of(tls: &Tls) -> Self {
        let server_name = tls.server_name.as_deref().map(str::to_owned);
        Self { version: tls.version.to_owned(), cipher: tls.cipher.to_owned(), server_name, client: None }
    }

    /// The facts that plugins see.
    fn whole(tls: &Tls) -> Self {
        let client = tls.client.clone().map(|certificate| {
            let ClientCertificate { subject, issuer, serial, fingerprint, names } = certificate;
            CertificateState { subject, issuer, serial, fingerprint, names }
        });
        Self { client, ..Self::of(tls) }
    }

    /// Only connections of TLS 1.3 move.
    pub(in crate::proxy) fn restore(self) -> Tls {
        const CIPHERS: [&str; 3] =
            ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
        let known = |names: &[&'static str], name: &str| {
            names.iter().find(|known| **known == name).copied().unwrap_or_default()
        };
        Tls {
            version: known(&["TLSv1.3"], &self.version),
            cipher: known(&CIPHERS, &self.cipher),
            server_name: self.server_name.map(Into::into),
            client: self.client.map(|certificate| {
                let CertificateState { subject, issuer, serial, fingerprint, names } = certificate;
                ClientCertificate { subject, issuer, serial, fingerprint, names }
            }),
        }
    }
}

/// The facts that plugins see.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::proxy) struct ReceivedState {
    peer: IpAddr,
    client: ClientState,
    #[serde(default)]
    is_trusted: bool,
    #[serde(default)]
    tls: Option<TlsState>,
    #[serde(default)]
    listener: Option<Arc<str>>,
    #[serde(default)]
    is_https: bool,
    #[serde(default)]
    scheme_is_certain: bool,
    #[serde(default)]
    paths: PathsState,
    #[serde(default)]
    authority: String,
    #[serde(default)]
    host_length: usize,
    #[serde(default)]
    forwarded_host: Option<Box<str>>,
}

/// The interpretations of the path, as in [`Received`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct PathsState {
    pub(super) target: Option<String>,
    pub(super) is_target_rewritten: bool,
    pub(super) raw: Option<String>,
    pub(super) read: Option<String>,
    pub(super) bare: Option<String>,
}

impl Received {
    /// The facts for another process.
    pub(in crate::proxy) fn state(&self) -> ReceivedState {
        ReceivedState {
            peer: self.peer,
            client: ClientState::of(&self.client),
            is_trusted: self.is_trusted,
            tls: self.tls.as_deref().map(TlsState::whole),
            listener: self.listener.clone(),
            is_https: self.scheme == "https",
            scheme_is_certain: self.scheme_is_certain,
            paths: PathsState {
                target: self.target.clone(),
                is_target_rewritten: self.is_target_rewritten,
                raw: self.raw_path.clone(),
                read: self.read_path.clone(),
                bare: self.bare_path.clone(),
            },
            authority: self.authority.clone(),
            host_length: self.host_length,
            forwarded_host: self.forwarded_host.clone(),
        }
    }

    /// The facts of another process; `None` if they are none of a request.
    pub(in crate::proxy) fn restore(state: ReceivedState, client_prefix: ClientPrefix) -> Option<Self> {
        state.authority.get(..state.host_length)?;
        let PathsState { target, is_target_rewritten, raw, read, bare } = state.paths;
        Some(Self {
            peer: state.peer,
            client: state.client.restore(),
            client_prefix,
            is_trusted: state.is_trusted,
            tls: state.tls.map(|tls| Arc::new(tls.restore())),
            listener: state.listener,
            scheme: if state.is_https { "https" } else { "http" },
            scheme_is_certain: state.scheme_is_certain,
            // The key was answered long ago.
            handshake: Ok(Handshake::with_own_key()),
            target,
            is_target_rewritten,
            raw_path: raw,
            read_path: read,
            bare_path: bare,
            authority: state.authority,
            host_length: state.host_length,
            forwarded_host: state.forwarded_host,
            ..Self::default()
        })
    }
}
