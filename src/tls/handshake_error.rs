//! Why a handshake came to nothing, in the words of metrics and logs.

use rustls::{CertificateError, Error, PeerIncompatible};
use std::io;

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeFailure(pub &'static str);

impl HandshakeFailure {
    /// It took too long.
    pub const SLOW: Self = Self("timeout");
    /// The client left.
    pub const LEFT: Self = Self("closed");
    /// It spoke plain HTTP.
    pub const PLAIN: Self = Self("plain_http");
    /// It speaks nothing above TLS 1.1.
    pub const OLD: Self = Self("version");
    /// It asked for a name of no certificate, where that is refused.
    pub const UNKNOWN_NAME: Self = Self("unknown_name");
    /// It speaks no protocol that the listener does (RFC 7301).
    pub const NO_PROTOCOL: Self = Self("no_protocol");
    /// Its certificate was good, and cannot be read by us.
    pub const CLIENT_CERTIFICATE: Self = Self("client_certificate");

    /// Its certificate has expired since the session began that it resumes.
    pub const CLIENT_EXPIRED: Self = Self("client_certificate_expired");

    /// What rustls says.
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
            // The resolver had nothing to show: the certificate that is to come has not come yet.
            Error::General(_) => "no_certificate",
            Error::AlertReceived(_) => "refused_by_client",
            _ => "malformed",
        })
    }

    /// What the connection says, which has rustls' error inside when it is one.
    pub fn of_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of(error),
            None => Self::LEFT,
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
