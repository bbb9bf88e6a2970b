//! Tests of responses over real sockets, through Pingora's HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Gateway {
    draining: AtomicBool,
    broken: AtomicBool,
    generation: AtomicU64,
    /// If set, reloads wait for a permit.
    blocked: Option<tokio::sync::Semaphore>,
    orders: std::sync::Mutex<Vec<Order>>,
    tunnels: Arc<Registry>,
    reloads: ReloadHistory,
}

#[async_trait]
impl AdminState for Gateway {
    fn ready(&self) -> bool {
        !self.draining.load(SeqCst)
    }

    fn status(&self) -> Value {
        json!({ "version": "1.2.3", "generation": self.generation.load(SeqCst) })
    }

    async fn reload(&self) -> ReloadOutcome {
        if let Some(blocked) = &self.blocked {
            blocked.acquire().await.unwrap().forget();
        }
        if self.broken.load(SeqCst) {
            return ReloadOutcome::Refused { report: "error: unknown upstream `x`".to_owned() };
        }
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        ReloadOutcome::Taken {
            generation,
            file: "/a.yaml".to_owned(),
            report: (generation == 2).then(|| "warning: doubtful".to_owned()),
        }
    }

    fn order(&self, upstream: &str, endpoint: &str, order: Order) -> Option<()> {
        let known = upstream == "chat" && endpoint == "127.0.0.1:8081";
        known.then(|| self.orders.lock().unwrap().push(order))
    }

    async fn rotate_secrets(&self, _: Option<&str>) -> Vec<StoreRotation> {
        Vec::new()
    }

    fn allows_taps(&self) -> bool {
        true
    }

    fn tunnels(&self) -> &Arc<Registry> {
        &self.tunnels
    }

    fn endpoints(&self) -> Vec<EndpointFacts> {
        Vec::new()
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            uptime: Duration::from_secs(5),
            generation: self.generation.load(SeqCst),
            draining: false,
            requests: 0,
        }
    }

    fn reloads(&self) -> &ReloadHistory {
        &self.reloads
    }

    fn configuration(&self) -> String {
        "routes: []\n".to_owned()
    }

    fn explain(&self, request: &ExplainRequest<'_>) -> Result<Value, String> {
        if request.method == "GET" { Ok(json!({ "route": request.url })) } else { Err("odd".to_owned()) }
    }

    fn has_route(&self, _: &str) -> bool {
        true
    }

    async fn upgrade(&self, _: Succession) -> Result<UpgradedProcess, String> {
        Err("not here".to_owned())
    }

    fn limits(&self) -> ClientLimits {
        ClientLimits {
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            client_prefix: ClientPrefix::default(),
        }
    }
}

/// An admin address; it serves until the test's runtime ends.
async fn serve(state: &Arc<Gateway>, token: Option<&str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Arc::new(Admin::new(Arc::clone(state) as _, token, address.port(), Arc::default()));
    tokio::spawn(listener::accept(Arc::new(listener), admin, Arc::default()));
    address
}

/// Sends a request with `Connection: close` and reads to the end: status, header, body.
async fn ask(address: SocketAddr, line: &str, fields: &str) -> (u16, String, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n");
    raw(address, &request).await
}

async fn raw(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn every_page_responds() {
    let state = Arc::new(Gateway::default());
    let address = serve(&state, None).await;
    for (path, media, part) in [
        ("/healthz", "text/plain; charset=utf-8", "ok"),
        ("/readyz", "text/plain; charset=utf-8", "ready"),
        ("/metrics", "text/plain; version=0.0.4", "moongate_build_info{version="),
        ("/metrics?x=1", "text/plain; version=0.0.4", "moongate_config_generation"),
        ("/api/v1/status", "application/json", "\"version\":\"1.2.3\""),
        ("/", "text/html", "<!doctype html>"),
        ("/api/v1/session", "application/json", "{\"required\":false,\"signed_in\":true}"),
        ("/api/v1/overview", "application/json", "\"history\":{"),
        ("/api/v1/upstreams", "application/json", "\"flows\":["),
        ("/api/v1/sockets", "application/json", "\"total\":0"),
        ("/api/v1/reloads", "application/json", "\"generations\":{}"),
        ("/api/v1/config", "text/yaml", "routes: []"),
        ("/api/v1/explain?url=http://a/b", "application/json", "http://a/b"),
        ("/api/v1/log?log=process", "application/json", "\"source\":\"process\""),
    ] {
        let (status, head, body) = ask(address, &format!("GET {path}"), "").await;
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(media) && body.contains(part), "{path}: {head} {body}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_accepts() {
    let address = serve(&Arc::default(), None).await;
    let open = "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text; version=1.0.0\r\n";
    let (status, head, body) = ask(address, "GET /metrics", open).await;
    assert!(status == 200 && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains("vary: accept") && body.ends_with("\n# EOF\n"), "{head}");
    let (_, head, body) = ask(address, "GET /metrics", "Accept: */*\r\n").await;
    assert!(head.contains("text/plain; version=0.0.4") && !body.contains("# EOF"), "{head}");
}

#[tokio::test]
async fn readiness_fails_while_draining_and_health_does_not() {
    let state = Arc::new(Gateway::default());
    let address = serve(&state, None).await;
    state.draining.store(true, SeqCst);
    assert_eq!(ask(address, "GET /readyz", "").await.0, 503);
    assert_eq!(ask(address, "GET /healthz", "").await.0, 200);
}

#[tokio::test]
async fn a_reload_returns_its_outcome() {
    let state = Arc::new(Gateway::default());
    let address = serve(&state, None).await;
    let (status, _, body) = ask(address, "POST /api/v1/reload", "").await;
    assert_eq!((status, body.trim()), (200, r#"{"file":"/a.yaml","generation":1,"ok":true}"#));
    let (status, _, body) = ask(address, "POST /api/v1/reload", "").await;
    assert_eq!(
        (status, body.trim()),
        (200, r#"{"file":"/a.yaml","generation":2,"ok":true,"report":"warning: doubtful"}"#)
    );
    state.broken.store(true, SeqCst);
    let (status, _, body) = ask(address, "POST /api/v1/reload", "Content-Length: 2\r\n\r\n{}").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["ok"], &body["report"]),
        (422, &json!(false), &json!("error: unknown upstream `x`"))
    );
}

#[tokio::test]
async fn another_site_cannot_reload_and_a_rebound_name_sees_nothing() {
    let state = Arc::new(Gateway::default());
    let address = serve(&state, None).await;
    for field in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for line in ["POST /api/v1/reload", "POST /api/v1/sockets/1/close", "DELETE /api/v1/session"] {
            assert_eq!(ask(address, line, field).await.0, 403, "{line}");
        }
    }
    for path in ["/", "/api/v1/status", "/api/v1/live", "/api/v1/session"] {
        let rebound = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        assert_eq!(raw(address, &rebound).await.0, 403, "{path}");
    }
    let probe = "GET /healthz HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(address, probe).await.0, 200);
    assert_eq!(state.generation.load(SeqCst), 0);
}

#[tokio::test]
async fn a_token_is_wanted_for_all_but_the_probes() {
    let address = serve(&Arc::default(), Some("secret")).await;
    for path in
        ["GET /api/v1/sockets", "GET /metrics", "GET /api/v1/status", "POST /api/v1/reload", "GET /nothing"]
    {
        let (status, head, _) = ask(address, path, "").await;
        assert!(status == 401 && head.contains("www-authenticate: bearer"), "{path}");
        assert_eq!(ask(address, path, "Authorization: Bearer wrong\r\n").await.0, 401, "{path}");
        assert_ne!(ask(address, path, "Authorization: Bearer secret\r\n").await.0, 401, "{path}");
    }
    for path in ["GET /api/v1/live", "GET /api/v1/tap?route=chat"] {
        assert_eq!(ask(address, path, "").await.0, 401, "{path}");
    }
    for path in ["GET /healthz", "GET /readyz"] {
        assert_eq!(ask(address, path, "").await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_explained() {
    let address = serve(&Arc::default(), None).await;
    for path in [
        "GET /api/v1/sockets?sort=colour",
        "GET /api/v1/sockets?filter=age%3Esoon",
        "GET /api/v1/sockets?per_page=0",
        "GET /api/v1/live?sections=all",
        "GET /api/v1/explain",
        "GET /api/v1/explain?method=PUT&url=/",
        "GET /api/v1/explain?url=/&client=x",
        "GET /api/v1/log?log=none",
        "POST /api/v1/upgrade?for=ever",
    ] {
        let (status, _, body) = ask(address, path, "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]), (422, &json!("bad_parameter")), "{path}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path}: {body}");
    }
    for path in ["/api/v1/sockets/1", "/api/v1/sockets/1/open"] {
        assert_eq!(ask(address, &format!("GET {path}"), "").await.0, 404, "{path}");
    }
    for code in ["1005", "1006", "1015", "999", "5000", "x"] {
        let line = format!("POST /api/v1/sockets/1/close?code={code}");
        assert_eq!(ask(address, &line, "").await.0, 422, "{code}");
    }
    assert_eq!(ask(address, "POST /api/v1/sockets/1/close?code=4000", "").await.0, 404);
}

/// Reads events of a stream until `part` was received.
async fn read_until(socket: &mut TcpStream, text: &mut String, part: &str) {
    let mut piece = [0; 4096];
    while !text.contains(part) {
        let count = socket.read(&mut piece).await.unwrap();
        assert!(count > 0, "ended before {part}: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

#[tokio::test]
async fn the_live_stream_begins_with_everything() {
    let address = serve(&Arc::default(), None).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/live?sections=overview,upstreams,sockets,reloads,log HTTP/1.1\r\nHost: {address}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    for part in [
        "content-type: text/event-stream",
        "event: hello\ndata: {",
        "event: history\n",
        "event: generations\n",
        "event: log\n",
        "event: sockets\ndata: {\"total\":0",
        "event: overview\n",
        "event: upstreams\ndata: {\"reset\":true",
        "event: flows\ndata: {\"reset\":true",
    ] {
        let lower = |text: &str| text.replace("Content-Type", "content-type");
        while !lower(&text).contains(part) {
            let more = text.len();
            read_until(&mut socket, &mut text, if more == 0 { "\r\n\r\n" } else { part }).await;
        }
    }
}

#[tokio::test]
async fn a_browser_signs_in_with_the_token_and_out() {
    let address = serve(&Arc::default(), Some("secret")).await;
    assert_eq!(ask(address, "GET /", "").await.0, 200, "the page shows nothing of the gateway");
    let post = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let (status, head, _) = raw(
        address,
        &format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}",
            post("{\"token\":\"wrong\"}")
        ),
    )
    .await;
    assert!(status == 401 && !head.contains("set-cookie"), "{head}");
    let (status, head, body) = raw(
        address,
        &format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}",
            post("{\"token\":\"secret\"}")
        ),
    )
    .await;
    assert_eq!(status, 200);
    let cookie = head.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    assert!(head.contains("; httponly; samesite=strict; path=/;"), "{head}");
    let key: Value = serde_json::from_str(&body).unwrap();
    // The header was folded to lower case for this test, so the cookie's value is read again as it was sent.
    assert!(key["key"].as_str().is_some() && cookie.starts_with("moongate_session_"));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_distinguished() {
    let address = serve(&Arc::default(), None).await;
    let (status, _, body) = ask(address, "GET /nothing", "").await;
    assert_eq!((status, body.trim()), (404, r#"{"error":"not_found","status":404}"#));
    let (status, head, _) = ask(address, "GET /api/v1/reload", "").await;
    assert!(status == 405 && head.contains("allow: post"), "{head}");
    let (status, head, _) = ask(address, "DELETE /metrics", "").await;
    assert!(status == 405 && head.contains("allow: get, head"), "{head}");
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let address = serve(&Arc::default(), None).await;
    let (status, head, body) = ask(address, "HEAD /healthz", "").await;
    assert!(status == 200 && head.contains("content-length: 3") && body.is_empty(), "{head} {body}");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let address = serve(&Arc::default(), None).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    for (line, body) in [
        ("GET /healthz", "ok\n"),
        ("HEAD /healthz", ""),
        ("POST /api/v1/reload", "{\"file\":\"/a.yaml\",\"generation\":1,\"ok\":true}\n"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 4\r\n\r\nbody");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            text.push(socket.read_u8().await.unwrap());
        }
        let mut rest = vec![0; body.len()];
        socket.read_exact(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), body, "{line}");
    }
}

#[tokio::test]
async fn a_body_without_end_ends_the_connection_after_the_response() {
    let address = serve(&Arc::default(), None).await;
    let fields = format!("Content-Length: 1000000\r\n\r\n{}", "x".repeat(200_000));
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\n{fields}");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    // An orderly end or a reset: only the end matters.
    let _ = socket.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_endpoint_is_drained_and_undrained() {
    let state = Arc::new(Gateway::default());
    let address = serve(&state, None).await;
    let path = "/api/v1/upstreams/chat/endpoints/127.0.0.1%3A8081";
    for line in [format!("POST {path}/drain"), format!("DELETE {path}/drain"), format!("POST {path}/undrain")]
    {
        let (status, _, body) = ask(address, &line, "").await;
        assert_eq!((status, body.as_str()), (200, "{\"ok\":true}\n"), "{line}");
    }
    assert_eq!(*state.orders.lock().unwrap(), [Order::Drain, Order::Undrain, Order::Undrain]);
    for (line, expected, allow) in [
        (format!("GET {path}/drain"), 405, "allow: post, delete"),
        (format!("DELETE {path}/undrain"), 405, "allow: post"),
        ("POST /api/v1/upstreams/chat/endpoints/127.0.0.1:8082/drain".to_owned(), 404, ""),
        ("POST /api/v1/upstreams/other/endpoints/127.0.0.1:8081/drain".to_owned(), 404, ""),
        (format!("POST {path}/stop"), 404, ""),
    ] {
        let (status, head, _) = ask(address, &line, "").await;
        assert!(status == expected && head.contains(allow), "{line}: {head}");
    }
    assert_eq!(state.orders.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_endpoint_is_drained_only_with_the_token() {
    let state = Arc::new(Gateway::default());
    let line = "POST /api/v1/upstreams/chat/endpoints/127.0.0.1:8081/drain";
    let address = serve(&state, None).await;
    assert_eq!(ask(address, line, "Origin: https://evil.example\r\n").await.0, 403);
    let address = serve(&state, Some("secret")).await;
    assert_eq!(ask(address, line, "").await.0, 401);
    assert!(state.orders.lock().unwrap().is_empty());
    assert_eq!(ask(address, line, "Authorization: Bearer secret\r\n").await.0, 200);
}

#[tokio::test]
async fn probes_are_served_at_the_connection_limit() {
    let state = Gateway { blocked: Some(tokio::sync::Semaphore::new(0)), ..Gateway::default() };
    let state = Arc::new(state);
    let address = serve(&state, Some("secret")).await;
    let reload =
        format!("POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer secret\r\n\r\n");
    let mut reloads = Vec::new();
    for _ in 0..connection_limit::CONNECTIONS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(reload.as_bytes()).await.unwrap();
        reloads.push(socket);
    }
    // Slow clients that hold the probe connections.
    let mut slow = Vec::new();
    for _ in 0..2 * connection_limit::PROBE_CONNECTIONS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
        slow.push(socket);
    }
    for path in ["/healthz", "/readyz"] {
        let (status, head, _) = ask(address, &format!("GET {path}"), "").await;
        assert!(status == 200 && head.contains("connection: close"), "{path}: {head}");
    }
    let (status, head, body) = ask(address, "GET /metrics", "Authorization: Bearer secret\r\n").await;
    assert!(status == 503 && head.contains("retry-after: 1"), "{head}");
    assert_eq!(body.trim(), r#"{"error":"too_many_connections","status":503}"#);
    state.blocked.as_ref().unwrap().add_permits(reloads.len());
    for mut socket in reloads {
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    assert_eq!(ask(address, "GET /metrics", "Authorization: Bearer secret\r\n").await.0, 200);
}
