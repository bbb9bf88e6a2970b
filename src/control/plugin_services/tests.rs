//! Tests of a plugin's own requests: a real configuration, real sockets, and scripted backends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use crate::control::{Live, ReloadCause};
use crate::diagnostics::Color;
use crate::snapshot::Kinds;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use moongate_sdk::{Call, CallError, CallResponse, CallTarget};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const LIMIT: Duration = Duration::from_secs(10);

/// A gateway without listeners.
struct ServicesHarness {
    live: Arc<Live>,
    folder: TempDir,
}

impl ServicesHarness {
    fn new(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("moongate.yaml");
        std::fs::write(&file, yaml).unwrap();
        let live = Live::start(&file, Kinds { plugins: &[] }, Color::Never).expect("the file is right");
        Self { live: Arc::new(live), folder }
    }

    async fn reload(&self, yaml: &str) {
        std::fs::write(self.folder.path().join("moongate.yaml"), yaml).unwrap();
        self.live.reload(ReloadCause::Api).await.expect("the file is right");
    }

    async fn call(&self, call: Call) -> Result<CallResponse, CallError> {
        self.live.services().call(call).await
    }
}

fn upstream(name: &str, endpoints: &[String]) -> String {
    let list = endpoints.join(", ");
    format!(
        "upstreams: {{ {name}: {{ endpoints: [{list}], passive_health: {{ failures: 1, eject_for: 1h }} }} }}\nroutes: [{{ upstream: {name} }}]\n"
    )
}

fn get(to: CallTarget) -> Call {
    Call {
        to,
        method: Method::GET,
        target: "/a?b=c".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: LIMIT,
        limit: 100,
    }
}

fn named(name: &str) -> CallTarget {
    CallTarget::Upstream(name.to_owned())
}

/// Responds to each request on each connection with the next of `answers`; one that ends with `!` is the last
/// of its connection. The channel returns the requests with the connection's number.
async fn origin(answers: &'static [&'static str]) -> (SocketAddr, UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, asked) = unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.iter();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Some(request) = request(&mut stream).await {
                seen.send((number, request)).unwrap();
                let Some(answer) = answers.next() else { break };
                stream.write_all(answer.trim_end_matches('!').as_bytes()).await.unwrap();
                if answer.ends_with('!') {
                    break;
                }
            }
        }
    });
    (address, asked)
}

/// Reads a header and, with a Content-Length, a body.
async fn request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: one\r\n\r\nhi";

#[tokio::test]
async fn an_upstream_is_called_on_a_pooled_connection() {
    let (address, mut asked) = origin(&[OK, OK]).await;
    let world = ServicesHarness::new(&upstream("auth", &[address.to_string()]));
    let mut call = get(named("auth"));
    call.headers.insert("connection", "x-a".parse().unwrap());
    call.headers.insert("x-a", "1".parse().unwrap());
    let called = world.call(call.clone()).await.unwrap();
    assert_eq!((called.status, &called.body[..]), (StatusCode::OK, &b"hi"[..]));
    assert_eq!(called.headers["x-a"], "one");
    let (first, head) = asked.recv().await.unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    let low = head.to_lowercase();
    assert!(low.contains(&format!("host: {address}\r\n")) && low.contains("x-a: 1\r\n"), "{head}");
    assert!(!low.contains("connection"), "a field of the client's connection: {head}");
    call.method = Method::POST;
    call.body = Bytes::from_static(b"body");
    world.call(call).await.unwrap();
    let (second, whole) = asked.recv().await.unwrap();
    assert_eq!((first, second), (0, 0), "one connection for both");
    assert!(
        whole.to_lowercase().contains("content-length: 4\r\n") && whole.ends_with("\r\n\r\nbody"),
        "{whole}"
    );
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    let (address, mut asked) = origin(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n!", OK]).await;
    let world = ServicesHarness::new(&upstream("auth", &[address.to_string()]));
    world.call(get(named("auth"))).await.unwrap();
    world.call(get(named("auth"))).await.unwrap();
    assert_eq!((asked.recv().await.unwrap().0, asked.recv().await.unwrap().0), (0, 1));
    let cluster = Arc::clone(world.live.look().cluster("auth").unwrap());
    assert!(!cluster.endpoints().iter().any(|endpoint| endpoint.is_ejected()));
}

#[tokio::test]
async fn an_idempotent_call_without_a_response_is_sent_to_another_endpoint() {
    let (silent, _asked) = origin(&["!", "!", "!"]).await;
    let (address, _asked) = origin(&[OK, OK, OK, OK]).await;
    let world = ServicesHarness::new(&upstream("auth", &[silent.to_string(), address.to_string()]));
    for _ in 0..4 {
        assert_eq!(world.call(get(named("auth"))).await.unwrap().status, 200);
    }
    let cluster = Arc::clone(world.live.look().cluster("auth").unwrap());
    let out: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.is_ejected()).collect();
    assert_eq!(out.iter().filter(|out| **out).count(), 1, "the silent one");
}

#[tokio::test]
async fn a_call_that_is_not_idempotent_is_not_sent_again_without_a_response() {
    let (silent, mut asked) = origin(&["!"]).await;
    let (other, mut asked_too) = origin(&["!"]).await;
    let world = ServicesHarness::new(&upstream("auth", &[silent.to_string(), other.to_string()]));
    let post = Call { method: Method::POST, ..get(named("auth")) };
    assert_eq!(world.call(post).await.unwrap_err(), CallError::Closed);
    let requests = [asked.try_recv().is_ok(), asked_too.try_recv().is_ok()];
    assert_eq!(requests.iter().filter(|came| **came).count(), 1, "one endpoint got it");
}

#[tokio::test]
async fn a_connection_with_unread_bytes_serves_no_other_call() {
    let (address, mut asked) = origin(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        OK,
    ])
    .await;
    let world = ServicesHarness::new("routes: []\n");
    for _ in 0..2 {
        let called = world.call(get(CallTarget::Url(format!("http://{address}/")))).await.unwrap();
        assert_eq!((called.status.as_u16(), &called.body[..]), (200, &b"hi"[..]));
    }
    assert_eq!((asked.recv().await.unwrap().0, asked.recv().await.unwrap().0), (0, 1));
}

#[tokio::test]
async fn a_response_before_the_end_of_the_call_is_returned_and_its_connection_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 64];
            stream.read_exact(&mut head).await.unwrap();
            let rejection = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(rejection).await.unwrap();
            // Its end, or a reset.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    let world = ServicesHarness::new("routes: []\n");
    for _ in 0..2 {
        let body = Bytes::from(vec![b'x'; 16 << 20]);
        let call = Call { method: Method::PUT, body, ..get(CallTarget::Url(url.clone())) };
        assert_eq!(world.call(call).await.unwrap().status, 413);
    }
    server.await.unwrap();
}

#[tokio::test]
async fn chunks_and_interim_responses_are_read_and_a_long_body_is_rejected() {
    let (address, _asked) = origin(&[
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n!",
        "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n..........\
         ...........................................................................................!",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n!",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi!",
        "nonsense\r\n\r\n!",
    ])
    .await;
    let world = ServicesHarness::new("routes: []\n");
    let url = || get(CallTarget::Url(format!("http://{address}/x")));
    let called = world.call(url()).await.unwrap();
    assert_eq!((called.status.as_u16(), &called.body[..]), (404, &b"abcde"[..]));
    let cut = CallError::Cut(StatusCode::OK);
    for (why, error) in [
        ("too long", cut),
        ("switched protocols", CallError::Bad),
        ("cut short", cut),
        ("not HTTP", CallError::Bad),
    ] {
        assert_eq!(world.call(url()).await.unwrap_err(), error, "{why}");
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_for_the_next_and_counted() {
    let (address, _asked) = origin(&[OK, OK, OK, OK]).await;
    let world = ServicesHarness::new(&upstream("auth", &["127.0.0.1:1".to_owned(), address.to_string()]));
    for _ in 0..4 {
        assert_eq!(world.call(get(named("auth"))).await.unwrap().status, 200);
    }
    let cluster = Arc::clone(world.live.look().cluster("auth").unwrap());
    let out: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.is_ejected()).collect();
    assert_eq!(out, [true, false]);
    assert!(cluster.endpoints().iter().all(|endpoint| endpoint.active() == 0), "every lease was given back");
}

#[tokio::test]
async fn a_call_ends_in_time_with_the_cause() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let world = ServicesHarness::new(&upstream("auth", &[address.to_string()]));
    let mut call = get(named("auth"));
    call.timeout = Duration::from_millis(50);
    assert_eq!(world.call(call).await.unwrap_err(), CallError::TimedOut);
    for url in ["ftp://127.0.0.1/", "http://user@127.0.0.1/", "/path", "http://", "http://[::1", ""] {
        assert_eq!(
            world.call(get(CallTarget::Url(url.to_owned()))).await.unwrap_err(),
            CallError::Unknown,
            "{url}"
        );
    }
    assert_eq!(world.call(get(named("nobody"))).await.unwrap_err(), CallError::Unknown);
    let gone = get(CallTarget::Url("http://127.0.0.1:1/".to_owned()));
    assert_eq!(world.call(gone).await.unwrap_err(), CallError::Unreachable);
    let mut split = get(named("auth"));
    split.target = "/a HTTP/1.1\r\nX: y".to_owned();
    assert_eq!(world.call(split).await.unwrap_err(), CallError::Unknown);
}

#[tokio::test]
async fn a_unix_socket_is_probed_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
    });
    let world = ServicesHarness::new(&upstream("auth", &[format!("unix:{}", path.display())]));
    assert_eq!(&world.call(get(named("auth"))).await.unwrap().body[..], b"hi");
}

#[tokio::test]
async fn calls_follow_the_configuration() {
    let (address, _asked) = origin(&[OK]).await;
    let world = ServicesHarness::new("routes: []\n");
    let services = Arc::clone(world.live.services());
    assert!(!services.has_upstream("auth"));
    world.reload(&upstream("auth", &[address.to_string()])).await;
    assert!(services.has_upstream("auth"));
    assert_eq!(services.call(get(named("auth"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn spawned_work_survives_its_caller_and_its_panic_is_contained() {
    let world = ServicesHarness::new("routes: []\n");
    let (done, ended) = tokio::sync::oneshot::channel();
    world.live.services().spawn(Box::pin(async { panic!("as the test wants") }));
    world.live.services().spawn(Box::pin(async { done.send(()).unwrap() }));
    ended.await.unwrap();
}
