//! Pebble, a CA for tests (Debian: `pebble`), with the DNS that it queries. Each test has loopback addresses
//! of its own, so that ports are known before anything listens.

use super::eventually::within;
use super::raw::Wire;
use super::{Gateway, LIMIT, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// The port of http-01 validations.
const HTTP: u16 = 5002;
const TLS: u16 = 5001;

/// The addresses of one test, and the issuer of the CA's own certificate.
pub(crate) struct Place {
    net: [u8; 2],
    folder: TempDir,
}

/// A running CA.
pub(crate) struct Pebble {
    // Ended on drop.
    _children: [Ended; 2],
    place: Arc<Place>,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Differences from a cooperative CA.
#[derive(Default)]
pub(crate) struct Manners {
    /// The validity of its certificates in seconds.
    pub(crate) validity: Option<u32>,
    /// The percentage of valid nonces that it rejects.
    pub(crate) bad_nonces: u8,
    /// The only accepted external account: its key identifier, and its key in base64url.
    pub(crate) external: Option<(&'static str, &'static str)>,
}

impl Place {
    /// One for a test; `None`, with a message, without Pebble.
    pub(crate) fn find(test: &str) -> Option<Arc<Self>> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let there = |name: &str| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        };
        if !there("pebble") || !there("pebble-challtestsrv") {
            #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
            {
                eprintln!("{test} is not run: pebble is missing; `.ci/tools pebble` installs it");
            }
            return None;
        }
        let process = std::process::id().to_le_bytes()[0] / 2 + 64;
        let net = [process, NEXT.fetch_add(1, Ordering::Relaxed)];
        let place = Self { net, folder: tempfile::tempdir().unwrap() };
        place.make_certificates();
        Some(Arc::new(place))
    }

    fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The gateway's address, without and with TLS.
    pub(crate) fn http(&self) -> SocketAddr {
        (self.ip(2), HTTP).into()
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        (self.ip(2), TLS).into()
    }

    fn directory(&self) -> SocketAddr {
        (self.ip(1), 14000).into()
    }

    fn management(&self) -> SocketAddr {
        (self.ip(1), 15000).into()
    }

    /// The directory for certificates.
    pub(crate) fn storage(&self) -> PathBuf {
        self.path("storage")
    }

    /// The file with the issuer of the CA's own certificate.
    pub(crate) fn issuer(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// The settings of a listener's `acme`, followed by more settings.
    pub(crate) fn acme(&self, domains: &str, more: &str) -> String {
        format!(
            "{{ directory: \"https://{}/dir\", directory_ca: {}, storage: {}, domains: [{domains}]{more} }}",
            self.directory(),
            self.issuer(),
            self.storage().display(),
        )
    }

    /// A configuration with a listener `web` without TLS and one with TLS and an automatic certificate.
    pub(crate) fn gateway(&self, domains: &str, more: &str) -> String {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}\n\
             listeners:\n\
             - {{ name: web, address: \"{}\" }}\n\
             - {{ name: secure, address: \"{}\", tls: {{ acme: {} }} }}\n\
             routes: [{{ upstream: [\"127.0.0.1:1\"] }}]\n",
            self.http(),
            self.tls(),
            self.acme(domains, more),
        )
    }

    fn make_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new([self.ip(1).to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(self.path("ca.pem"), issuer.pem()).unwrap();
        fs::write(self.path("cert.pem"), own.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    /// Starts the CA and waits until it responds.
    pub(crate) fn start(self: &Arc<Self>, manners: &Manners) -> Pebble {
        let mut settings = serde_json::json!({
            "listenAddress": self.directory().to_string(),
            "managementListenAddress": self.management().to_string(),
            "certificate": self.path("cert.pem"),
            "privateKey": self.path("key.pem"),
            "httpPort": HTTP,
            "tlsPort": TLS,
            "externalAccountBindingRequired": manners.external.is_some(),
        });
        if let Some(seconds) = manners.validity {
            settings["certificateValidityPeriod"] = seconds.into();
        }
        if let Some((id, key)) = manners.external {
            settings["externalAccountMACKeys"] = serde_json::json!({ id: key });
        }
        let config = self.path("pebble.json");
        fs::write(&config, serde_json::json!({ "pebble": settings }).to_string()).unwrap();
        let names = SocketAddr::from((self.ip(1), 8053)).to_string();
        let mut pebble = Command::new("pebble");
        pebble
            .args(["-config", config.to_str().unwrap(), "-dnsserver", &names])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", manners.bad_nonces.to_string());
        let orders = SocketAddr::from((self.ip(1), 8055)).to_string();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-dns01", &names, "-management", &orders, "-defaultIPv4", &self.ip(2).to_string()]).args([
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        let children = [dns, pebble].map(|mut command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Ended(command.spawn().unwrap())
        });
        let running = Pebble { _children: children, place: Arc::clone(self) };
        for address in [self.directory(), self.management(), orders.parse().unwrap()] {
            within(LIMIT, "the authority listens", || TcpStream::connect(address).ok());
        }
        running
    }
}

impl Pebble {
    /// The issuer of the certificates that it issues.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        let own = CertificateDer::from_pem_slice(&fs::read(self.place.path("ca.pem")).unwrap()).unwrap();
        let address = self.place.management();
        let mut secure = Secure::connect(address, &address.ip().to_string(), Some(own), &[]).unwrap();
        CertificateDer::from_pem_slice(&secure.get("/roots/0").body).unwrap()
    }

    /// From now on every name resolves to an address without a listener.
    pub(crate) fn mislead(&self) {
        let body = format!("{{\"ip\":\"{}\"}}", self.place.ip(3));
        let mut wire = Wire::connect((self.place.ip(1), 8055).into());
        let length = body.len();
        wire.send(format!(
            "POST /set-default-ipv4 HTTP/1.1\r\nHost: dns\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(wire.response().status, 200);
    }
}

/// A client's TLS connection.
pub(crate) struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Secure {
    /// Connects as a client that trusts this issuer, or every issuer.
    pub(crate) fn connect(
        address: SocketAddr,
        name: &str,
        issuer: Option<CertificateDer<'static>>,
        alpn: &[&str],
    ) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = match issuer {
            Some(issuer) => {
                let mut roots = RootCertStore::empty();
                roots.add(issuer).unwrap();
                config.with_root_certificates(roots).with_no_client_auth()
            }
            None => {
                let anybody = Arc::new(Anybody(provider));
                config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self { stream: StreamOwned::new(connection, socket) })
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone()
    }

    /// Everything to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A missing close_notify is not an error here.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// A GET, the last request of the connection.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        write!(self.stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let text = self.rest();
        let end = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&text[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head, body: text[end..].to_vec() }
    }
}

/// Trusts every certificate: for the time before a trusted one exists.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The files below a directory.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The first certificate in a gateway's status, once it matches.
pub(crate) fn await_status(
    gateway: &Gateway,
    what: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    within(LIMIT * 2, what, || Some(gateway.status()["acme"][0].clone()).filter(|status| wanted(status)))
}
