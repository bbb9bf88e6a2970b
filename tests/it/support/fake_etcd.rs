//! A server with etcd's JSON gateway that follows the test: its keys, whom it authenticates, and what is wrong with it.

use super::raw::Wire;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::spawn;
use std::time::Duration;

/// The token that it gives.
const TOKEN: &str = "fake.token";

/// A running server; it ends with the process.
pub(crate) struct FakeEtcd {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    revision: i64,
    keys: BTreeMap<String, String>,
    /// Every change: revision, key, value.
    log: Vec<(i64, String, Option<String>)>,
    credentials: Option<(String, String)>,
    /// The requests: path and body.
    seen: Vec<(String, Value)>,
    fault: Option<Fault>,
}

/// What is wrong with its responses.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This body in place of every response, with status 200.
    Body(Vec<u8>),
    /// No keys in the next list, which a watch asks for; then nothing.
    EmptyOnce,
    /// This error, with its gRPC code.
    Status(u16, &'static str),
}

fn decode(value: &Value) -> String {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()).unwrap_or_default()
}

fn pair(key: &str, value: Option<&str>, revision: i64) -> Value {
    json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value.unwrap_or_default()), "mod_revision": revision.to_string() })
}

impl FakeEtcd {
    /// One without keys.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        shared.state.lock().unwrap().revision = 1;
        let of_all = Arc::clone(&shared);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_all);
                spawn(move || {
                    let mut wire = Wire::of(stream);
                    wire.patience(Duration::from_secs(30));
                    // The gateway may go at any time.
                    let _ = shared.serve(&mut wire);
                });
            }
        });
        Self { address, shared }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_all();
        changed
    }

    /// Sets a key.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.change(|state| {
            state.revision += 1;
            state.keys.insert(key.to_owned(), value.to_owned());
            state.log.push((state.revision, key.to_owned(), Some(value.to_owned())));
        });
    }

    /// Accepts this user alone.
    pub(crate) fn require(&self, user: &str, password: &str) {
        self.change(|state| state.credentials = Some((user.to_owned(), password.to_owned())));
    }

    /// From now on something is wrong with it, or nothing is. Open watches end.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.change(|state| state.fault = fault);
    }

    /// The lists that it was asked for.
    pub(crate) fn lists(&self) -> usize {
        let state = self.shared.state.lock().unwrap();
        state
            .seen
            .iter()
            .filter(|(path, body)| path == "/v3/kv/range" && body["range_end"].is_string())
            .count()
    }
}

impl Shared {
    fn serve(&self, wire: &mut Wire) -> io::Result<()> {
        let Some(head) = wire.head()? else { return Ok(()) };
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| super::raw::fields(&head, name).next().map(str::to_owned);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = wire.exactly(length)?;
        let request: Value = serde_json::Deserializer::from_slice(&body).into_iter().next().unwrap().unwrap();
        let (fault, credentials) = {
            let mut state = self.state.lock().unwrap();
            state.seen.push((path.clone(), request.clone()));
            (state.fault.clone(), state.credentials.clone())
        };
        match fault {
            Some(Fault::Body(body)) => return respond(wire, "200 OK", &body),
            Some(Fault::Status(code, message)) => return refuse(wire, code, message),
            Some(Fault::EmptyOnce) | None => {}
        }
        if path == "/v3/auth/authenticate" {
            let given = (
                request["name"].as_str().unwrap().to_owned(),
                request["password"].as_str().unwrap().to_owned(),
            );
            return match credentials {
                None => refuse(wire, 9, "etcdserver: authentication is not enabled"),
                Some(known) if known == given => {
                    respond(wire, "200 OK", json!({ "token": TOKEN }).to_string().as_bytes())
                }
                Some(_) => refuse(wire, 3, "etcdserver: authentication failed, invalid user ID or password"),
            };
        }
        if credentials.is_some() && field("authorization").as_deref() != Some(TOKEN) {
            return refuse(wire, 16, "etcdserver: invalid auth token");
        }
        match &*path {
            "/v3/kv/range" => {
                let response = self.range(&request);
                respond(wire, "200 OK", response.to_string().as_bytes())
            }
            "/v3/watch" => self.watch(wire, &request["create_request"]),
            _ => respond(wire, "404 Not Found", b"404 page not found"),
        }
    }

    fn range(&self, request: &Value) -> Value {
        let mut state = self.state.lock().unwrap();
        let is_list = request["range_end"].is_string();
        let is_empty = is_list && matches!(state.fault, Some(Fault::EmptyOnce));
        if is_empty {
            state.fault = None;
        }
        let (first, end) = (decode(&request["key"]), decode(&request["range_end"]));
        let keys = state.keys.iter().filter(|(key, _)| !is_empty && **key >= first && **key < end);
        let kvs: Vec<_> = keys.map(|(key, value)| pair(key, Some(value), state.revision)).collect();
        json!({ "header": header(state.revision), "kvs": kvs })
    }

    fn watch(&self, wire: &mut Wire, request: &Value) -> io::Result<()> {
        let (first, end) = (decode(&request["key"]), decode(&request["range_end"]));
        let mut from: i64 = request["start_revision"].as_str().unwrap().parse().unwrap();
        wire.try_send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        let mut state = self.state.lock().unwrap();
        chunk(wire, &json!({ "result": { "header": header(state.revision), "created": true } }))?;
        loop {
            match state.fault {
                None => {}
                Some(Fault::EmptyOnce) => {
                    let canceled = json!({ "header": header(0), "canceled": true, "compact_revision": "1" });
                    return chunk(wire, &json!({ "result": canceled }));
                }
                Some(_) => return Ok(()),
            }
            let is_new = |(revision, key, _): &&(i64, String, Option<String>)| {
                *revision >= from && *key >= first && *key < end
            };
            let events: Vec<_> = state
                .log
                .iter()
                .filter(is_new)
                .map(|(revision, key, value)| match value {
                    Some(value) => json!({ "kv": pair(key, Some(value), *revision) }),
                    None => json!({ "type": "DELETE", "kv": pair(key, None, *revision) }),
                })
                .collect();
            from = state.revision + 1;
            if !events.is_empty() {
                chunk(wire, &json!({ "result": { "header": header(state.revision), "events": events } }))?;
            }
            state = self.changed.wait_timeout(state, Duration::from_secs(30)).unwrap().0;
        }
    }
}

fn header(revision: i64) -> Value {
    json!({ "cluster_id": "7", "member_id": "8", "revision": revision.to_string(), "raft_term": "2" })
}

fn chunk(wire: &mut Wire, message: &Value) -> io::Result<()> {
    let text = format!("{message}\n");
    wire.try_send(format!("{:x}\r\n{text}\r\n", text.len()))
}

fn respond(wire: &mut Wire, status: &str, body: &[u8]) -> io::Result<()> {
    let mut response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    wire.try_send(response)
}

fn refuse(wire: &mut Wire, code: u16, message: &str) -> io::Result<()> {
    let body = json!({ "error": message, "message": message, "code": code }).to_string();
    respond(wire, "400 Bad Request", body.as_bytes())
}
