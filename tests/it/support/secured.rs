//! Backends for `upstreams.NAME.tls`, `protocol` and `proxy_protocol`: TLS and the PROXY protocol in front of
//! an [`Origin`](super::Origin), and HTTP/2 servers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An issuer and its directory.
pub(crate) struct Issuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A property of a certificate.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Life {
    Now,
    Over,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("issuer {}", NUMBER.fetch_add(1, SeqCst)));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// A file in its directory; `ca.pem` is its certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues `NAME.pem` and `NAME.key`.
    pub(crate) fn issue(&self, name: &str, names: &[&str], life: Life) {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        if life == Life::Over {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A server with a certificate for these names; with `asks`, clients must have one of ours.
    pub(crate) fn server(&self, names: &[&str], life: Life, asks: bool) -> ServerConfig {
        self.issue("server", names, life);
        let chain = CertificateDer::pem_file_iter(self.file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file("server.key")).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap()
    }
}

/// Runs a server on a thread of its own until the test ends.
fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream));
            }
        });
    });
    address
}

/// The front of a backend.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<FrontSeen>,
}

#[derive(Default)]
pub(crate) struct FrontSeen {
    /// Completed handshakes, and how many of them resumed a session.
    pub(crate) handshakes: AtomicUsize,
    pub(crate) resumed: AtomicUsize,
    /// The received server names, and the PROXY headers.
    pub(crate) names: Mutex<Vec<Option<String>>>,
    pub(crate) headers: Mutex<Vec<Vec<u8>>>,
    /// Ended connections with TLS, and those of them without the closing alert.
    pub(crate) ended: AtomicUsize,
    pub(crate) ragged: AtomicUsize,
}

impl Front {
    /// TLS, preceded by a PROXY header if `proxy` is set, then the backend.
    pub(crate) fn start(tls: Option<ServerConfig>, proxy: bool, behind: SocketAddr) -> Self {
        let seen = Arc::new(FrontSeen::default());
        let (noted, tls) = (Arc::clone(&seen), tls.map(Arc::new));
        let address = serve(move |mut stream| {
            let (seen, tls) = (Arc::clone(&noted), tls.clone());
            async move {
                if proxy {
                    let header = proxy_header(&mut stream).await;
                    seen.headers.lock().unwrap().push(header);
                }
                let Ok(mut back) = TcpStream::connect(behind).await else { return };
                let Some(tls) = tls else {
                    let _ = copy_bidirectional(&mut stream, &mut back).await;
                    return;
                };
                let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                let session = stream.get_ref().1;
                seen.handshakes.fetch_add(1, SeqCst);
                let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                seen.resumed.fetch_add(usize::from(resumed), SeqCst);
                seen.names.lock().unwrap().push(session.server_name().map(str::to_owned));
                let end = copy_bidirectional(&mut stream, &mut back).await;
                let is_ragged = end.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof);
                seen.ragged.fetch_add(usize::from(is_ragged), SeqCst);
                seen.ended.fetch_add(1, SeqCst);
            }
        });
        Self { address, seen }
    }

    pub(crate) fn headers(&self) -> Vec<Vec<u8>> {
        self.seen.headers.lock().unwrap().clone()
    }
}

async fn proxy_header(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = vec![stream.read_u8().await.unwrap_or_default()];
    if header[0] == b'P' {
        while !header.ends_with(b"\r\n") {
            header.push(stream.read_u8().await.unwrap());
        }
        return header;
    }
    header.resize(16, 0);
    stream.read_exact(&mut header[1..]).await.unwrap();
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    header.resize(16 + length, 0);
    stream.read_exact(&mut header[16..]).await.unwrap();
    header
}

/// A TLS backend that selects the HTTP version of each connection: HTTP/2, or HTTP/1.1 by an origin.
pub(crate) struct Selecting {
    pub(crate) address: SocketAddr,
    /// What is seen of HTTP/2.
    pub(crate) seen: Arc<Http2Seen>,
    /// Whether the next connection uses HTTP/2.
    pub(crate) selects_h2: Arc<AtomicBool>,
    /// The number of completed handshakes.
    pub(crate) handshakes: Arc<AtomicUsize>,
    /// The ended connections, and those of them without the closing alert.
    pub(crate) ended: Arc<[AtomicUsize; 2]>,
}

impl Selecting {
    pub(crate) fn start(mut tls: ServerConfig, behind: SocketAddr) -> Self {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(tls.clone());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let h2 = Arc::new(tls);
        let (seen, selects_h2, handshakes) = <(Arc<Http2Seen>, Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let ended = Arc::<[AtomicUsize; 2]>::default();
        let own = (Arc::clone(&seen), Arc::clone(&selects_h2), Arc::clone(&handshakes), Arc::clone(&ended));
        let address = serve(move |stream| {
            let (seen, selects_h2, handshakes, ended) = own.clone();
            let tls = Arc::clone(if selects_h2.load(SeqCst) { &h2 } else { &http1 });
            async move {
                let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                handshakes.fetch_add(1, SeqCst);
                let end = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    connection(&mut stream, seen).await;
                    stream.read_to_end(&mut Vec::new()).await.map(drop)
                } else {
                    let Ok(mut back) = TcpStream::connect(behind).await else { return };
                    copy_bidirectional(&mut stream, &mut back).await.map(drop)
                };
                let is_ragged = end.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof);
                ended[1].fetch_add(usize::from(is_ragged), SeqCst);
                ended[0].fetch_add(1, SeqCst);
            }
        });
        Self { address, seen, selects_h2, handshakes, ended }
    }
}

/// An HTTP/2 backend, with gRPC on certain paths.
pub(crate) struct Http2 {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Http2Seen>,
}

#[derive(Default)]
pub(crate) struct Http2Seen {
    pub(crate) connections: AtomicUsize,
    /// The headers of requests.
    pub(crate) heads: Mutex<Vec<(String, HeaderMap)>>,
    pub(crate) bodies: Mutex<Vec<Vec<u8>>>,
    resets: Mutex<HashMap<String, usize>>,
}

impl Http2 {
    pub(crate) fn start(tls: Option<ServerConfig>) -> Self {
        let seen = Arc::new(Http2Seen::default());
        let tls = tls.map(|mut tls| {
            tls.alpn_protocols = vec![b"h2".to_vec()];
            TlsAcceptor::from(Arc::new(tls))
        });
        let noted = Arc::clone(&seen);
        let address = serve(move |stream| {
            let (seen, tls) = (Arc::clone(&noted), tls.clone());
            async move {
                match tls {
                    None => connection(stream, seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            connection(stream, seen).await;
                        }
                    }
                }
            }
        });
        Self { address, seen }
    }

    /// The URI and the fields of the last request.
    pub(crate) fn last(&self) -> (String, HeaderMap) {
        self.seen.heads.lock().unwrap().last().unwrap().clone()
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Http2Seen>) {
    seen.connections.fetch_add(1, SeqCst);
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        seen.heads.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        let before = {
            let mut resets = seen.resets.lock().unwrap();
            let count = resets.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        if path == "/goodbye" && before == 1 {
            // Dropped unprocessed: the request is for the next connection.
            drop((request, respond));
            connection.abrupt_shutdown(h2::Reason::NO_ERROR);
            continue;
        }
        tokio::spawn(answer(path, before, request, respond, Arc::clone(&seen)));
    }
}

async fn answer(
    path: String,
    time: usize,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Arc<Http2Seen>,
) {
    let mut body = request.into_body();
    let head = |media: &str| Response::builder().status(200).header("content-type", media).body(()).unwrap();
    match path.as_str() {
        "/refused" if time == 1 => return respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/reset" => return respond.send_reset(h2::Reason::INTERNAL_ERROR),
        "/old" | "/grpc/old" => return respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED),
        path if path == "/silent" || path.starts_with("/limited/") => std::future::pending().await,
        "/grpc/none" => {
            let mut head = head("application/grpc");
            head.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            let _ = respond.send_response(head, true);
            return;
        }
        _ => {}
    }
    let grpc = path.starts_with("/grpc");
    let health = path == "/grpc.health.v1.Health/Check";
    let mut head = head(if grpc { "application/grpc" } else { "text/plain" });
    if path == "/grpc/announced" {
        head.headers_mut().insert("trailer", HeaderValue::from_static("x-last"));
    }
    if path == "/grpc/counted" {
        head.headers_mut().insert("trailer", HeaderValue::from_static("x-last"));
        head.headers_mut().insert("content-length", HeaderValue::from_static("2"));
    }
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let mut whole = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        whole.extend_from_slice(&piece);
        if grpc && !health {
            let _ = stream.send_data(piece, false);
        }
    }
    seen.bodies.lock().unwrap().push(whole);
    if !grpc {
        let _ = stream.send_data(Bytes::from_static(b"two"), true);
        return;
    }
    if health {
        let _ = stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-last", HeaderValue::from_static("word"));
    let _ = stream.send_trailers(trailers);
}

/// `PATH` for YAML.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
