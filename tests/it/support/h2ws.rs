//! Client of WebSockets over HTTP/2 (RFC 8441): many on one connection, each with a window that opens only as
//! far as the test reads.

use super::ws::masked;
use super::{LIMIT, eventually};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The window of each stream. That of the connection is larger, so that one stream cannot use all of it.
pub(crate) const WINDOW: u32 = 64 << 10;

/// Without a window for this long, the other side is not reading.
const STUCK: Duration = Duration::from_millis(300);

/// A connection.
pub(crate) struct Client {
    runtime: Arc<Runtime>,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    /// The values of `:authority` and `:scheme`.
    origin: String,
}

/// A self-signed certificate for localhost and its key, in PEM.
pub(crate) fn certificate() -> (String, String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem(), made.cert.der().clone())
}

impl Client {
    /// With prior knowledge.
    pub(crate) fn plain(gateway: SocketAddr) -> Self {
        let runtime = runtime();
        let socket = runtime.block_on(connect(gateway));
        Self::over(runtime, socket, format!("http://{gateway}"))
    }

    /// Over TLS, which must negotiate `h2`.
    pub(crate) fn secure(gateway: SocketAddr, trusted: &CertificateDer<'static>) -> Self {
        let runtime = runtime();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = runtime.block_on(async {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let socket = connect(gateway).await;
            timeout(LIMIT, connector.connect("localhost".try_into().unwrap(), socket)).await.unwrap().unwrap()
        });
        assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(runtime, socket, format!("https://localhost:{}", gateway.port()))
    }

    fn over(
        runtime: Arc<Runtime>,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        origin: String,
    ) -> Self {
        let (requests, connection) = runtime.block_on(async {
            let mut builder = Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(64 * WINDOW);
            let (requests, connection) =
                timeout(LIMIT, builder.handshake::<_, Bytes>(socket)).await.unwrap().unwrap();
            (requests, tokio::spawn(connection))
        });
        let client = Self { runtime, requests, connection, origin };
        eventually("extended CONNECT is offered", || {
            client.requests.is_extended_connect_protocol_enabled().then_some(())
        });
        client
    }

    /// Opens a WebSocket; panics if it is rejected.
    pub(crate) fn open(&self, path: &str) -> Stream {
        self.open_with(path, &[]).unwrap_or_else(|refused| panic!("refused with {}", refused.status()))
    }

    /// Opens one with more request fields, or returns the other response.
    pub(crate) fn open_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Stream, Box<Response<RecvStream>>> {
        let fields = [&[("sec-websocket-version", "13")][..], fields].concat();
        let (response, to_gateway) = self.connect("websocket", path, &fields);
        if response.status() != StatusCode::OK {
            return Err(Box::new(response));
        }
        let (head, from_gateway) = response.into_parts();
        let runtime = Arc::clone(&self.runtime);
        Ok(Stream {
            runtime,
            fields: head.headers,
            to_gateway,
            from_gateway,
            ahead: Vec::new(),
            unsaid: Bytes::new(),
        })
    }

    /// Requests a WebSocket without waiting; dropping it cancels the request.
    pub(crate) fn begin_connect(&self, path: &str) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder().method(Method::CONNECT).uri(format!("{}{path}", self.origin));
        let request = request.header("sec-websocket-version", "13");
        let request = request.extension(Protocol::from_static("websocket")).body(()).unwrap();
        let requests = self.requests.clone();
        self.wait(async { requests.ready().await.unwrap().send_request(request, false).unwrap() })
    }

    /// An extended CONNECT for that protocol, with exactly these fields.
    pub(crate) fn connect(
        &self,
        protocol: &'static str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Response<RecvStream>, SendStream<Bytes>) {
        let mut request = Request::builder().method(Method::CONNECT).uri(format!("{}{path}", self.origin));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.extension(Protocol::from_static(protocol)).body(()).unwrap();
        self.send(request, false)
    }

    /// A GET: its status and its body.
    pub(crate) fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::get(format!("{}{path}", self.origin)).body(()).unwrap();
        let (response, _) = self.send(request, true);
        let status = response.status();
        (status, self.body(response))
    }

    /// The rest of a response.
    pub(crate) fn body(&self, mut response: Response<RecvStream>) -> Vec<u8> {
        let body = response.body_mut();
        self.wait(async {
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                all.extend_from_slice(&data);
            }
            all
        })
    }

    fn send(&self, request: Request<()>, end: bool) -> (Response<RecvStream>, SendStream<Bytes>) {
        let requests = self.requests.clone();
        self.wait(async {
            let (response, stream) = requests.ready().await.unwrap().send_request(request, end).unwrap();
            (response.await.unwrap(), stream)
        })
    }

    /// Waits for the connection's end; an error if it was not orderly.
    pub(crate) fn ended(self) -> Result<(), h2::Error> {
        let Self { runtime, requests, connection, .. } = self;
        drop(requests);
        runtime.block_on(async { timeout(LIMIT, connection).await.unwrap().unwrap() })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(LIMIT, work).await.expect("no answer in time") })
    }
}

/// One thread drives the connection, while the test's own thread may block.
fn runtime() -> Arc<Runtime> {
    Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

async fn connect(gateway: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(gateway).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// An open WebSocket.
pub(crate) struct Stream {
    runtime: Arc<Runtime>,
    /// The fields of the response that opened it.
    pub(crate) fields: HeaderMap,
    to_gateway: SendStream<Bytes>,
    from_gateway: RecvStream,
    /// Bytes read that are no complete frame.
    ahead: Vec<u8>,
    /// Bytes not sent yet.
    unsaid: Bytes,
}

impl Stream {
    /// Sends a message of one frame.
    pub(crate) fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.send(masked(opcode, payload));
    }

    /// Sends a text and expects its echo.
    pub(crate) fn echo(&mut self, text: &str) {
        self.say(1, text.as_bytes());
        assert_eq!(self.hear(), (0x81, text.as_bytes().to_vec()));
    }

    /// As [`Stream::say`]. Returns whether all of it was sent; the rest is kept for
    /// [`Stream::finish_saying`].
    pub(crate) fn try_say(&mut self, opcode: u8, payload: &[u8]) -> bool {
        self.unsaid = masked(opcode, payload).into();
        self.push(STUCK)
    }

    /// Sends the rest of a message.
    pub(crate) fn finish_saying(&mut self) {
        assert!(self.push(LIMIT), "no window in time");
    }

    /// Sends these bytes as the window allows.
    pub(crate) fn send(&mut self, bytes: Vec<u8>) {
        self.unsaid = bytes.into();
        self.finish_saying();
    }

    fn push(&mut self, patience: Duration) -> bool {
        while !self.unsaid.is_empty() {
            let Some(room) = self.room(self.unsaid.len(), patience) else { return false };
            self.to_gateway.send_data(self.unsaid.split_to(room), false).unwrap();
        }
        true
    }

    /// How many of `wanted` bytes may be sent; waits until some may.
    fn room(&mut self, wanted: usize, patience: Duration) -> Option<usize> {
        let stream = &mut self.to_gateway;
        stream.reserve_capacity(wanted);
        let room = async {
            while stream.capacity() == 0 {
                poll_fn(|cx| stream.poll_capacity(cx)).await.expect("the stream is there").unwrap();
            }
            stream.capacity()
        };
        let room = self.runtime.block_on(async { timeout(patience, room).await.ok() })?;
        Some(room.min(wanted))
    }

    /// The next frame: its first byte and its payload.
    pub(crate) fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((frame, length)) = split(&self.ahead) {
                self.ahead.drain(..length);
                return frame;
            }
            let more = self.read().expect("the stream goes on").expect("no end of the stream");
            self.ahead.extend_from_slice(&more);
        }
    }

    /// Reads on, and opens the window again: `None` is END_STREAM.
    ///
    /// # Errors
    /// The reason of the reset.
    pub(crate) fn read(&mut self) -> Result<Option<Bytes>, Reason> {
        let stream = &mut self.from_gateway;
        let read = async {
            loop {
                let data = stream.data().await.transpose()?;
                let Some(data) = data else { return Ok(None) };
                stream.flow_control().release_capacity(data.len())?;
                if !data.is_empty() {
                    return Ok(Some(data));
                }
            }
        };
        let read = self.runtime.block_on(async { timeout(LIMIT, read).await.expect("nothing came in time") });
        read.map_err(|error: h2::Error| error.reason().expect("a reset of the stream"))
    }

    /// Reads for that long and expects nothing.
    pub(crate) fn stay_silent(&mut self, time: Duration) {
        let heard = self.runtime.block_on(async { timeout(time, self.from_gateway.data()).await });
        assert!(heard.is_err(), "not silent: {heard:?}");
    }

    /// Reads to the end: the code of the Close frame.
    pub(crate) fn end(&mut self) -> Option<u16> {
        loop {
            let (first, payload) = self.hear();
            if first == 0x88 {
                return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
    }

    /// Ends the client's direction.
    pub(crate) fn finish(&mut self) {
        self.to_gateway.send_data(Bytes::new(), true).unwrap();
    }

    /// RST_STREAM.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.to_gateway.send_reset(reason);
    }
}

/// The first frame of `bytes`, and its length.
fn split(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let (head, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(head..head + length)?;
    Some(((bytes[0], payload.to_vec()), head + length))
}
