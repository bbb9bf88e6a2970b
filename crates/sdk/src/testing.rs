//! A test harness for plugins without a gateway: one plugin, one request. Also for plugins of other crates.

use crate::{
    BodyLength, ClientField, ClientPrefix, Exchange, Flow, Headers, Message, MessageVerdict, NoServices,
    Phases, Piece, Plugin, ReadOnlyHeaders, Reply, Request, RequestState, Response, Services, Verdict,
    is_same_spelling,
};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use moongate_config::{Key, Place, Quotes, Settings, Value, ValueKind};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Settings as an operator would write them; `json` is an object.
pub fn settings(json: serde_json::Value) -> Settings {
    Settings::new(value(json))
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => ValueKind::Null,
        Json::Bool(truth) => ValueKind::Scalar { text: truth.to_string(), quotes: Quotes::Absent },
        Json::Number(number) => ValueKind::Scalar { text: number.to_string(), quotes: Quotes::Absent },
        Json::String(text) => ValueKind::Scalar { text, quotes: Quotes::Absent },
        Json::Array(items) => ValueKind::List(items.into_iter().map(value).collect()),
        Json::Object(pairs) => {
            let pair = |(text, item)| (Key { place: Place::nowhere(), text }, value(item));
            ValueKind::Map(pairs.into_iter().map(pair).collect())
        }
    };
    Value { place: Place::nowhere(), kind }
}

/// A request, the gateway's state of it, and its response.
pub struct TestExchange {
    /// The method.
    pub method: Method,
    /// The host.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// The client, and the peer of its connection.
    pub client: IpAddr,
    /// The prefix length that identifies a client.
    pub client_prefix: ClientPrefix,
    /// Whether it is a WebSocket handshake.
    pub is_websocket: bool,
    /// The request's fields.
    pub request: HeaderMap,
    /// The response's status.
    pub status: StatusCode,
    /// The response's fields.
    pub response: HeaderMap,
    /// The endpoint that sent the response, if any.
    pub endpoint: Option<String>,
    /// The gateway's state.
    pub running: RequestState,
    /// The gateway's services.
    pub services: Arc<dyn Services>,
}

impl TestExchange {
    /// A `GET` of this path and query from 127.0.0.1, to the host example.com on the route `web`.
    pub fn new(target: &str) -> Self {
        Self {
            method: Method::GET,
            host: "example.com".to_owned(),
            target: target.to_owned(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client_prefix: ClientPrefix::default(),
            is_websocket: false,
            request: HeaderMap::new(),
            status: StatusCode::OK,
            response: HeaderMap::new(),
            endpoint: None,
            running: RequestState::default(),
            services: Arc::new(NoServices),
        }
    }

    /// Adds a field.
    ///
    /// # Panics
    /// The name or the value is invalid.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test that writes a broken field should fail")]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a field's name");
        self.request.append(name, HeaderValue::from_str(value).expect("a field's value"));
        self
    }

    /// Passes the request to `look` as a plugin sees it; its fields can be changed.
    pub fn with_exchange<T>(&mut self, look: impl FnOnce(&mut Exchange<'_>) -> T) -> T {
        let Self {
            method,
            host,
            target,
            client,
            client_prefix,
            is_websocket,
            request,
            running,
            services,
            ..
        } = self;
        let forwarded_host = forwarded_host(request, host);
        let head = RequestHead {
            method,
            host,
            forwarded_host: &forwarded_host,
            target,
            client: *client,
            client_prefix: *client_prefix,
            is_websocket: *is_websocket,
        };
        look(&mut exchange(head, request, running, services))
    }

    /// Runs the phase `request_headers` to its end; without effect if the plugin does not use it. The client's
    /// values of fields that the plugin owns are withdrawn first, as the gateway does.
    pub fn request_headers(&mut self, plugin: &dyn Plugin) -> Verdict {
        let owned = plugin.owned_headers();
        let is_owned =
            |name: &HeaderName| owned.iter().any(|owned| is_same_spelling(owned.as_str(), name.as_str()));
        let sent = self.request.iter().filter(|(name, _)| is_owned(name));
        let sent: Vec<_> = sent
            .map(|(name, value)| ClientField { name: name.clone(), value: value.clone(), is_withdrawn: true })
            .collect();
        for field in &sent {
            self.request.remove(&field.name);
        }
        self.running.set_client_fields(sent);
        if !plugin.phases().request_headers {
            return Verdict::Continue;
        }
        self.with_exchange(|exchange| resolve_flow(plugin.request_headers(exchange)))
    }

    /// Runs the phase `request_headers`, which must respond.
    ///
    /// # Panics
    /// The plugin does not respond.
    #[allow(clippy::panic, reason = "a test that expects a response should fail without one")]
    pub fn expect_reply(&mut self, plugin: &dyn Plugin) -> Reply {
        match self.request_headers(plugin) {
            Verdict::Respond(reply) => *reply,
            other => panic!("a response was expected, not {other:?}"),
        }
    }

    /// Runs the phase `request_body` with one piece.
    pub fn request_body(&mut self, plugin: &dyn Plugin, piece: &mut Piece) -> Verdict {
        self.with_exchange(|exchange| resolve_flow(plugin.request_body(exchange, piece)))
    }

    /// Runs the phase `response_headers` to its end; without effect if the plugin does not use it.
    pub fn response_headers(&mut self, plugin: &dyn Plugin) -> Verdict {
        let Phases { response_headers: true, .. } = plugin.phases() else { return Verdict::Continue };
        let Self {
            method,
            host,
            target,
            client,
            client_prefix,
            is_websocket,
            request,
            running,
            services,
            status,
            response,
            endpoint,
        } = self;
        let forwarded_host = forwarded_host(request, host);
        let mut seen = ReadOnlyHeaders(request);
        let head = RequestHead {
            method,
            host,
            forwarded_host: &forwarded_host,
            target,
            client: *client,
            client_prefix: *client_prefix,
            is_websocket: *is_websocket,
        };
        let mut exchange = exchange(head, &mut seen, running, services);
        let endpoint = endpoint.as_deref();
        let mut response_head = Response { status: *status, headers: Headers::response(response), endpoint };
        let verdict = resolve_flow(plugin.response_headers(&mut exchange, &mut response_head));
        *status = response_head.status;
        verdict
    }

    /// Runs the phase `message`.
    pub fn message(&mut self, plugin: &dyn Plugin, message: &mut Message) -> MessageVerdict {
        self.with_exchange(|exchange| plugin.message(exchange, message))
    }
}

#[derive(Clone, Copy)]
struct RequestHead<'a> {
    method: &'a Method,
    host: &'a str,
    forwarded_host: &'a str,
    target: &'a str,
    client: IpAddr,
    client_prefix: ClientPrefix,
    is_websocket: bool,
}

/// The host in the client's spelling.
fn forwarded_host(request: &HeaderMap, host: &str) -> String {
    request.get(HOST).and_then(|written| written.to_str().ok()).unwrap_or(host).to_owned()
}

fn exchange<'a>(
    head: RequestHead<'a>,
    fields: &'a mut dyn crate::Fields,
    running: &'a mut RequestState,
    services: &'a Arc<dyn Services>,
) -> Exchange<'a> {
    Exchange {
        request: Request {
            host: head.host,
            forwarded_host: head.forwarded_host,
            client_network: head.client_prefix.network(head.client).into(),
            is_websocket: head.is_websocket,
            body: BodyLength::of_http1(fields.map()),
            listener: "listener",
            route: "web",
            ..Request::internal(head.method, head.target, head.client)
        },
        headers: Headers::request(fields),
        running,
        services,
    }
}

/// Awaits a decision on this thread.
pub fn resolve_flow(flow: Flow<'_>) -> Verdict {
    match flow {
        Flow::Continue => Verdict::Continue,
        Flow::Respond(reply) => Verdict::Respond(reply),
        Flow::Body(limit) => Verdict::Body(limit),
        Flow::Failed(fault) => Verdict::Failed(fault),
        Flow::Wait(future) => wait(future),
    }
}

/// Awaits a future on this thread, which parks meanwhile.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct ThreadWaker(Thread);
    impl Wake for ThreadWaker {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
