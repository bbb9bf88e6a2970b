//! Types of TLS, HTTP versions and the PROXY protocol, for listeners and upstreams.

use moongate_config::{Place, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A protocol that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS, selected by ALPN (RFC 9113 §3.2).
    H2,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Serves these certificates. SNI selects one by its names. ECDSA is preferred to RSA if the client can
    /// verify both. Default none; then `acme` is required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Placed<Certificate>>,
    /// Obtains and renews a certificate automatically. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Placed<Acme>>,
    /// Serves the first certificate (`default`) or sends the alert `unrecognized_name` (`reject`) for a name without
    /// a certificate. A handshake without SNI, or with one that is no DNS name, counts as one. Default default.
    #[serde(default)]
    pub unknown_sni: UnknownSni,
    /// Sets the lowest TLS version: `"1.2"` or `"1.3"`. Default "1.2".
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Requests certificates of clients. Default off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<Placed<ClientAuth>>,
    /// Encrypts session tickets with keys from these files of 48 or 80 random bytes, for gateways that share an
    /// address. The first file encrypts, all decrypt. A mapping uses keys of a store, which a command rotates. Default a
    /// key of the process, renewed every 6 h.
    #[serde(default, skip_serializing_if = "TicketKeys::is_own")]
    pub ticket_keys: TicketKeys,
}

/// The keys of session tickets.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename = "$shape a list of files, or a mapping with `store`")]
#[schemars(untagged, rename = "TicketKeys")]
pub enum TicketKeys {
    /// Files; without any, keys of the process.
    #[serde(rename = "list")]
    Files(Vec<Placed<String>>),
    /// Keys that a fleet shares.
    #[serde(rename = "map")]
    Store(TicketStore),
}

/// Keys of session tickets that a fleet shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketStore {
    /// Uses the secrets of this store, by its name in `stores`. Required.
    pub store: Placed<String>,
}

impl Default for TicketKeys {
    fn default() -> Self {
        Self::Files(Vec::new())
    }
}

impl TicketKeys {
    /// The files.
    pub fn files(&self) -> &[Placed<String>] {
        match self {
            Self::Files(files) => files,
            Self::Store(_) => &[],
        }
    }

    /// The name of the store.
    pub fn store(&self) -> Option<&Placed<String>> {
        match self {
            Self::Files(_) => None,
            Self::Store(written) => Some(&written.store),
        }
    }

    fn is_own(&self) -> bool {
        matches!(self, Self::Files(files) if files.is_empty())
    }
}

impl Serialize for TicketKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Files(files) => files.serialize(serializer),
            Self::Store(written) => written.serialize(serializer),
        }
    }
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Serves the certificate chain in this file: the leaf first, then the intermediates. Required.
    pub cert: Placed<String>,
    /// Reads the private key from this file: PKCS #8, PKCS #1 or SEC1. Required.
    pub key: Placed<String>,
    /// Staples the OCSP response (DER) in this file to the handshake (RFC 6066 §8). Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<Placed<String>>,
}

/// The treatment of a server name (SNI) without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSni {
    /// Serves the first certificate.
    #[default]
    Default,
    /// Sends the alert `unrecognized_name` (RFC 6066 §3).
    Reject,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Trusts the issuers in this PEM file for certificates of clients. Required.
    pub ca: Placed<String>,
    /// Rejects clients without a valid certificate (`require`), or accepts clients without any certificate
    /// (`optional`). An invalid certificate fails the handshake in both modes. Default require.
    #[serde(default)]
    pub mode: ClientAuthMode,
}

/// Whether a client certificate is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// Rejects clients without a valid certificate.
    #[default]
    Require,
    /// Accepts clients without a certificate; an invalid one fails the handshake.
    Optional,
}

/// Automatic certificates (ACME, RFC 8555).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// Requests one certificate for all these names. Wildcards are not supported. Required.
    pub domains: Placed<Vec<Placed<String>>>,
    /// Uses the CA with this directory, an `https:` URL (`http:` for loopback only). Default Let's Encrypt.
    #[serde(default = "letsencrypt")]
    pub directory: Placed<String>,
    /// Gives the CA these contact addresses, with or without `mailto:`. A list. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Placed<String>>,
    /// Proves control of the names by `tls-alpn-01` (a handshake on port 443) or `http-01` (a request on port 80).
    /// Default tls-alpn-01.
    #[serde(default)]
    pub challenge: Challenge,
    /// Stores the account, keys and certificates in this folder. The gateway must be able to write to it. Default
    /// `acme`, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Placed<String>>,
    /// Trusts the issuers in this PEM file for the TLS connection to the directory. Default the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_ca: Option<Placed<String>>,
    /// Binds an existing account of the CA (RFC 8555 §7.3.4). Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<Placed<ExternalAccount>>,
}

/// The ACME challenge that proves control of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Challenge {
    /// A TLS handshake on this listener (RFC 8737), reachable on port 443.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A request to a plain listener (RFC 8555 §8.3), reachable on port 80.
    #[serde(rename = "http-01")]
    Http01,
}

/// An account that the web site of a CA gave out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// Identifies the account's key, as the CA shows it. Required.
    pub id: Placed<String>,
    /// Authenticates the account: the MAC key in base64url. Required.
    pub key: Placed<String>,
}

/// The PROXY protocol from a balancer in front of the gateway, versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Requires a PROXY header (version 1 or 2) on connections from these addresses or CIDR blocks, and trusts it.
    /// `unix` stands for every peer of a listener at `unix:/path`. Connections from other addresses carry no header.
    /// Required.
    pub from: Placed<Vec<Placed<String>>>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// The text header.
    V1,
    /// The binary header.
    V2,
}

/// The protocol that a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS if the backend selects it in ALPN, otherwise HTTP/1.1. Needs `tls`.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// TLS towards backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// Sends this name (SNI) and requires it in the backend's certificate. Default the endpoint's host, or its
    /// address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Placed<String>>,
    /// Trusts the issuers in this PEM file, in place of the system's. Default the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Placed<String>>,
    /// Presents the certificate in this PEM file to the backend. Needs `key`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<Placed<String>>,
    /// Reads the private key of `cert` from this PEM file. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Placed<String>>,
    /// Verifies the backend's certificate. `false` lets anyone on the path read and change the traffic. Default true.
    pub verify: Placed<bool>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            sni: None,
            ca: None,
            cert: None,
            key: None,
            verify: Placed { value: true, place: Place::nowhere() },
        }
    }
}

fn letsencrypt() -> Placed<String> {
    Placed { value: "https://acme-v02.api.letsencrypt.org/directory".to_owned(), place: Place::nowhere() }
}
