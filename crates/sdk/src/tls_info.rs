//! Facts about the TLS connection of a request, for plugins.

/// A client's TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name, as in `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The requested server name (SNI, RFC 6066 §3), in lower case, if it is a DNS name.
    pub server_name: Option<Box<str>>,
    /// The client's certificate, verified against the listener's `client_auth`.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject as RFC 4514 writes it, as in `CN=alice,O=Example`.
    pub subject: Box<str>,
    /// Its issuer, in the same form.
    pub issuer: Box<str>,
    /// Its serial number in hexadecimal digits, upper case.
    pub serial: Box<str>,
    /// The SHA-256 of its DER, in hexadecimal digits, lower case.
    pub fingerprint: Box<str>,
    /// Its alternative names: DNS names, URIs, mail addresses and IP addresses.
    pub names: Box<[Box<str>]>,
}
