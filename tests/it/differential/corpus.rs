//! The cases: scripts of a client and of a backend, in tables.

mod connections;
mod requests;
mod responses;

/// The number of the case in texts, which the corpus fills in.
const NUMBER: &[u8] = b"NNNN";

/// One case.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) route: &'static str,
    pub(super) client: Client,
    /// The script for each request that arrives; the last one is repeated.
    pub(super) backend: Vec<Vec<BackendStep>>,
    /// What the backend sends when the first connection is opened.
    pub(super) greeting: Vec<u8>,
    /// The requests that are counted and logged.
    pub(super) requests: usize,
}

/// The client's version and script.
pub(super) enum Client {
    Http1(Vec<ClientStep>),
    Http2 { method: &'static str, fields: &'static [(&'static str, &'static str)], steps: Vec<ClientStep> },
}

/// A step of a client.
#[derive(Clone)]
pub(super) enum ClientStep {
    /// Bytes, over HTTP/2 a piece of the body.
    Send(Vec<u8>),
    /// Bytes in two reads of the gateway.
    Split(Vec<u8>, usize),
    /// Each byte in a read of its own.
    Bytewise(Vec<u8>),
    /// The end of an HTTP/2 body.
    End,
    /// Reads a response to this method, interim ones included.
    Response(&'static str),
    /// Waits for the header of a response, and the first byte of its body.
    HeadOf(&'static str),
    /// Waits for a mark of the backend.
    AwaitBackend,
    /// Lets the backend go on.
    Permit,
    HalfClose,
    Close,
    Reset,
    /// Reads to the end of the connection.
    ToEnd,
}

/// A step of the backend after a request's header.
#[derive(Clone)]
pub(super) enum BackendStep {
    /// Reads the body to its end.
    Body,
    /// Reads at least this many bytes of the body.
    BodyBytes(usize),
    Send(Vec<u8>),
    /// Sends bytes in two reads of the gateway.
    Split(Vec<u8>, usize),
    /// Sends each byte in a read of its own.
    Bytewise(Vec<u8>),
    /// Lets the client go on.
    Mark,
    /// Waits for the client's permit.
    AwaitClient,
    /// Reads to the end of the connection.
    ToEnd,
    Close,
    /// Closes the connection, and lets the client go on.
    CloseThenMark,
    Reset,
}

/// The cases in the order in which they were added.
#[derive(Default)]
pub(super) struct Corpus(Vec<Case>);

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let mut corpus = Corpus::default();
    requests::add_splits(&mut corpus);
    responses::add_splits(&mut corpus);
    requests::add(&mut corpus);
    responses::add(&mut corpus);
    connections::add(&mut corpus);
    corpus.0
}

impl Corpus {
    /// Adds a case with one request over HTTP/1.
    fn http1(
        &mut self,
        route: &'static str,
        name: impl Into<String>,
        steps: impl Into<Vec<ClientStep>>,
        backend: impl Into<Vec<Vec<BackendStep>>>,
    ) -> &mut Case {
        self.add(route, &name.into(), Client::Http1(steps.into()), backend.into())
    }

    /// Adds a case with one request over HTTP/2.
    fn http2(
        &mut self,
        route: &'static str,
        name: impl Into<String>,
        (method, fields): (&'static str, &'static [(&'static str, &'static str)]),
        steps: impl Into<Vec<ClientStep>>,
        backend: impl Into<Vec<Vec<BackendStep>>>,
    ) -> &mut Case {
        let client = Client::Http2 { method, fields, steps: steps.into() };
        self.add(route, &name.into(), client, backend.into())
    }

    fn add(
        &mut self,
        route: &'static str,
        name: &str,
        mut client: Client,
        backend: Vec<Vec<BackendStep>>,
    ) -> &mut Case {
        let number = self.0.len();
        let (Client::Http1(steps) | Client::Http2 { steps, .. }) = &mut client;
        for step in steps {
            if let ClientStep::Send(bytes) | ClientStep::Split(bytes, _) | ClientStep::Bytewise(bytes) = step
            {
                fill_in(bytes, route, number);
            }
        }
        let version = if matches!(client, Client::Http1(_)) { "HTTP/1" } else { "HTTP/2" };
        let name = format!("{name}, {route}, {version}");
        self.0.push(Case { name, number, route, client, backend, greeting: Vec::new(), requests: 1 });
        self.0.last_mut().expect("it was added")
    }
}

/// Replaces `/NNNN` by the path of a case, of the same length for every case of a route.
fn fill_in(bytes: &mut Vec<u8>, route: &str, number: usize) {
    let path = format!("/{route}/{number:04}");
    let placeholder = [b"/", NUMBER].concat();
    let Some(at) = bytes.windows(placeholder.len()).position(|window| window == placeholder) else { return };
    bytes.splice(at..at + placeholder.len(), path.into_bytes());
    fill_in(bytes, route, number);
}

/// A request with a Host field; `fields` each with their CRLF.
fn request(method: &str, fields: &str, body: &str) -> String {
    format!("{method} /NNNN HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}")
}

/// A body with its length field.
fn with_length(method: &str, body: &str) -> String {
    request(method, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// Chunks after their field.
fn chunked(method: &str, chunks: &str) -> String {
    request(method, "Transfer-Encoding: chunked\r\n", chunks)
}

fn send(text: impl Into<Vec<u8>>) -> ClientStep {
    ClientStep::Send(text.into())
}

fn reply(text: impl Into<Vec<u8>>) -> BackendStep {
    BackendStep::Send(text.into())
}

/// The script of a backend that reads the request and sends this.
fn after_body(text: impl Into<Vec<u8>>) -> Vec<BackendStep> {
    vec![BackendStep::Body, reply(text)]
}

/// The script of a client that sends this and reads the response.
fn ask(method: &'static str, text: impl Into<Vec<u8>>) -> [ClientStep; 2] {
    [send(text), ClientStep::Response(method)]
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\na quiet answer";
