//! What the programs of Rust's libraries share: test data, TLS, the cases of HTTP, and the form of results.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::env;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub type Failure = Box<dyn std::error::Error>;
pub type Outcome = Result<(), Failure>;

pub const MIB: usize = 1 << 20;

/// Bytes whose order is not that of a counter.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((i * 31 + (i >> 8)) & 255) as u8).collect()
}

pub fn text() -> String {
    "0123456789abcdef".repeat(MIB / 16)
}

pub fn digest(data: &[u8]) -> String {
    format!("{} bytes {:08x}", data.len(), crc32fast::hash(data))
}

/// A short body as text, a long one as a digest.
pub fn content(body: &[u8]) -> String {
    if body.len() < 100 { String::from_utf8_lossy(body).trim_end().to_owned() } else { digest(body) }
}

pub fn same(sent: &[u8], received: &[u8]) -> &'static str {
    if sent == received { "same" } else { "different" }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

pub fn ca_pem() -> Vec<u8> {
    std::fs::read(variable("CA")).unwrap()
}

pub fn client_tls(protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca_pem()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub fn server_tls() -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(variable("CERT")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(variable("KEY")).unwrap();
    ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap()
}

/// A connection with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the host and port of a URL.
pub async fn connect(url: &str) -> Result<Box<dyn Stream>, Failure> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    if !["https", "wss"].contains(&scheme) {
        return Ok(Box::new(stream));
    }
    let name = authority.split(':').next().unwrap_or_default().to_owned();
    let connector = TlsConnector::from(Arc::new(client_tls(&[])));
    Ok(Box::new(connector.connect(name.try_into()?, stream).await?))
}

/// Runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case.
/// `call` returns false for a case that the library cannot run.
pub async fn run<F>(mut call: impl FnMut(String, String, String) -> F)
where
    F: Future<Output = Result<bool, Failure>>,
{
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let mut arguments = env::args().skip(1);
    let kind = arguments.next().unwrap();
    let url = arguments.next().unwrap();
    for case in arguments {
        println!("== {case}");
        match call(kind.clone(), case.clone(), url.replace("{}", &case)).await {
            Ok(true) => {}
            Ok(false) => println!("unsupported"),
            Err(error) => println!("error {}", chain(&*error)),
        }
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

pub struct Request {
    pub method: &'static str,
    pub path: &'static str,
    pub body: Option<Vec<u8>>,
    pub chunked: bool,
    pub expect: bool,
}

pub struct Response {
    pub status: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new<'a>(
        status: impl Display,
        fields: impl Iterator<Item = (impl Display, &'a [u8])>,
        body: Vec<u8>,
    ) -> Self {
        let fields = fields
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        Self { status: status.to_string(), fields, body }
    }

    fn show(mut self) {
        println!("{}", self.status);
        self.fields.sort();
        for (name, value) in &self.fields {
            if !["date", "connection", "keep-alive"].contains(&&*name.to_lowercase()) {
                println!("{name}: {value}");
            }
        }
        println!("body {}", content(&self.body));
    }
}

fn get(method: &'static str, path: &'static str) -> Request {
    Request { method, path, body: None, chunked: false, expect: false }
}

fn post(path: &'static str, body: Vec<u8>) -> Request {
    Request { method: "POST", path, body: Some(body), chunked: false, expect: false }
}

/// The requests of a case; none for a case that is unknown here.
fn requests(case: &str) -> Vec<Request> {
    let small = b"a small body".to_vec();
    match case {
        "get" => vec![get("GET", "/get")],
        "head" => vec![get("HEAD", "/get")],
        "post_length" => vec![post("/echo", small)],
        "post_chunked" => vec![Request { chunked: true, ..post("/echo", small) }],
        "keep_alive" => {
            vec![get("GET", "/get"), post("/echo", small), get("HEAD", "/get"), get("GET", "/chunked")]
        }
        "expect" => vec![Request { expect: true, ..post("/echo", pattern(65536)) }],
        "upload" => vec![post("/echo", pattern(MIB))],
        "upload_chunked" => vec![Request { chunked: true, ..post("/echo", pattern(MIB)) }],
        "download" => vec![get("GET", "/big"), get("GET", "/chunked")],
        "early_small" => vec![post("/early", pattern(65536))],
        "early_large" => vec![post("/early", pattern(8 * MIB))],
        "limited_small" => vec![post("/limited", pattern(65536))],
        "limited_large" => vec![post("/limited", pattern(8 * MIB))],
        _ => Vec::new(),
    }
}

pub type Call<'a> = Pin<Box<dyn Future<Output = Result<Response, Failure>> + 'a>>;

/// Runs a case over a client, whose `call` sends one request.
pub async fn http_case<'a>(case: &str, mut call: impl FnMut(Request) -> Call<'a>) -> Result<bool, Failure> {
    let requests = requests(case);
    if requests.is_empty() {
        return Ok(false);
    }
    for request in requests {
        call(request).await?.show();
    }
    Ok(true)
}
