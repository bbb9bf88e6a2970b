//! Types of TLS, HTTP versions and the PROXY protocol, for listeners and upstreams.

use moongate_config::{Place, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A protocol that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS, chosen by ALPN (RFC 9113 §3.2).
    H2,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates with their keys. A client gets the one whose names fit what it asks for (SNI), of several
    /// the one whose key it can verify, ECDSA before RSA; when none fits, `unknown_sni` decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Placed<Certificate>>,
    /// Certificates that the gateway gets by itself (ACME, RFC 8555).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Placed<Acme>>,
    /// What a client gets that asks for a name of no certificate, or for none.
    #[serde(default)]
    pub unknown_sni: UnknownSni,
    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Whether clients show certificates; absent: they are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<Placed<ClientAuth>>,
    /// Files of 48 or 80 random bytes (`openssl rand 80`) with which session tickets are encrypted, for several
    /// gateways behind one address: the first encrypts, all decrypt. Absent: a key of the process's own that
    /// is renewed every six hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticket_keys: Vec<Placed<String>>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, and behind it those that lead to its issuer's root.
    pub cert: Placed<String>,
    /// Its private key: PKCS #8, PKCS #1 or SEC1.
    pub key: Placed<String>,
    /// An OCSP response in DER, stapled to the handshake (RFC 6066 §8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<Placed<String>>,
}

/// What a client gets that asks for a name of no certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSni {
    /// The first certificate.
    #[default]
    Default,
    /// The alert `unrecognized_name` (RFC 6066 §3).
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
    /// The issuers that are trusted, as a PEM file.
    pub ca: Placed<String>,
    /// Whether a client must show one.
    #[serde(default)]
    pub mode: ClientAuthMode,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// Without a valid one the handshake fails.
    #[default]
    Require,
    /// It may come without one; one that it shows must be valid.
    Optional,
}

/// Certificates that the gateway gets by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The names; one certificate holds them all. A wildcard needs a proof in the DNS, which is not offered.
    pub domains: Placed<Vec<Placed<String>>>,
    /// The authority's directory, an `https:` URL; absent: that of Let's Encrypt.
    #[serde(default = "letsencrypt")]
    pub directory: Placed<String>,
    /// Whom the authority may write to, as `mailto:` URLs or bare addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Placed<String>>,
    /// How it is proven that the names are ours.
    #[serde(default)]
    pub challenge: Challenge,
    /// The folder that keeps the account, the keys and the certificates, relative to this file; absent: `acme`
    /// beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Placed<String>>,
    /// The issuers trusted for the directory's own certificate, as a PEM file; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_ca: Option<Placed<String>>,
    /// An account that was made elsewhere (external account binding, RFC 8555 §7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<Placed<ExternalAccount>>,
}

/// How it is proven that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Challenge {
    /// By a handshake on this listener (RFC 8737); it must be reached on port 443.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a request to any listener (RFC 8555 §8.3); a plain one must be reached on port 80.
    #[serde(rename = "http-01")]
    Http01,
}

/// An account that an authority's web site gave out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The key's identifier.
    pub id: Placed<String>,
    /// The key, in base64url.
    pub key: Placed<String>,
}

/// The PROXY protocol from a balancer in front of the gateway, versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The balancers, as addresses or CIDR blocks, or `unix` for whoever reaches a listener at `unix:/path`:
    /// their connections must begin with a header, and it is believed. Those of anybody else have none.
    pub from: Vec<Placed<String>>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// As text.
    V1,
    /// In binary.
    V2,
}

/// The protocol that a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS, where a backend chooses it in ALPN; HTTP/1.1 otherwise. Needs `tls`.
    H2,
    /// HTTP/2 without TLS.
    H2c,
}

/// TLS towards backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// The name that is asked for (SNI) and must stand in the certificate; absent: the endpoint's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Placed<String>>,
    /// The issuers that are trusted, as a PEM file; absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Placed<String>>,
    /// The certificate that is shown to the backend, as a PEM file; needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<Placed<String>>,
    /// Its private key, as a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Placed<String>>,
    /// Whether the backend's certificate is verified. `false` lets anybody in between read and change
    /// everything.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { sni: None, ca: None, cert: None, key: None, verify: true }
    }
}

fn letsencrypt() -> Placed<String> {
    Placed { value: "https://acme-v02.api.letsencrypt.org/directory".to_owned(), place: Place::nowhere() }
}
