//! Reasons of failed TLS handshakes, for metrics and logs.

use rustls::{CertificateError, Error, PeerIncompatible, PeerMisbehaved};
use std::io;

/// The reason of a failed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeFailure(pub &'static str);

impl HandshakeFailure {
    /// The handshake took too long.
    pub const SLOW: Self = Self("timeout");
    /// The client closed the connection.
    pub const CLOSED: Self = Self("closed");
    /// The client sent plain HTTP.
    pub const PLAIN: Self = Self("plain_http");
    /// The client supports TLS 1.1 at most.
    pub const OLD: Self = Self("version");
    /// There is no certificate for the requested name, and such names are refused.
    pub const UNKNOWN_NAME: Self = Self("unknown_name");
    /// The client and the listener have no common protocol (RFC 7301).
    pub const NO_PROTOCOL: Self = Self("no_protocol");
    /// The client certificate was accepted and cannot be parsed.
    pub const CLIENT_CERTIFICATE: Self = Self("client_certificate");

    /// The client certificate has expired since the start of the resumed session.
    pub const CLIENT_EXPIRED: Self = Self("client_certificate_expired");

    /// The reason for an error of rustls.
    pub fn of(error: &Error) -> Self {
        Self(match error {
            Error::NoCertificatesPresented => "no_client_certificate",
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => {
                return Self::CLIENT_EXPIRED;
            }
            Error::InvalidCertificate(_) => return Self::CLIENT_CERTIFICATE,
            Error::NoApplicationProtocol => return Self::NO_PROTOCOL,
            Error::PeerIncompatible(why) => incompatible(why),
            // The resolver has no certificate: the ACME certificate is not issued yet.
            Error::General(_) => "no_certificate",
            Error::AlertReceived(_) => "refused_by_client",
            // A name that is no DNS name, and that cannot be ignored.
            Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => "invalid_name",
            _ => "malformed",
        })
    }

    /// The reason for an I/O error, which may contain an error of rustls.
    pub fn of_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of(error),
            None => Self::CLOSED,
        }
    }
}

fn incompatible(why: &PeerIncompatible) -> &'static str {
    match why {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::ServerDoesNotSupportTls12Or13 => "version",
        _ => "cipher",
    }
}
