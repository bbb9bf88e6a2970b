//! Collector of traces: a backend that keeps every export, and a decoder of protobuf's wire format with the field
//! numbers of `opentelemetry/proto/trace/v1/trace.proto`. It shares no code with the gateway's encoder.

use super::origin::answer;
use super::{Gate, LIMIT, Next, Origin, Seen, eventually};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

/// What the collector does with an export.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A response with this status, these header lines and this body.
    Status(u16, &'static str, Vec<u8>),
    /// No response.
    Silence,
}

/// A running collector.
pub(crate) struct Collector {
    origin: Origin,
    reply: Arc<Mutex<Reply>>,
}

/// A received span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) flags: u64,
    pub(crate) name: String,
    /// 1 internal, 2 server, 3 client.
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) events: Vec<(String, Map<String, Value>)>,
    /// Trace and span IDs.
    pub(crate) links: Vec<(String, String)>,
    /// 2 for an error.
    pub(crate) status: u64,
    /// The attributes of the resource.
    pub(crate) resource: Map<String, Value>,
}

pub(crate) const INTERNAL: u64 = 1;
pub(crate) const SERVER: u64 = 2;
pub(crate) const CLIENT: u64 = 3;

impl Collector {
    /// One that accepts everything.
    pub(crate) fn new() -> Self {
        Self::replying(Reply::Status(200, "", Vec::new()))
    }

    /// One that replies like this at first.
    pub(crate) fn replying(reply: Reply) -> Self {
        let reply = Arc::new(Mutex::new(reply));
        let current = Arc::clone(&reply);
        let origin = Origin::scripted("collector", move |_, wire| {
            let reply = current.lock().unwrap().clone();
            match reply {
                Reply::Status(status, fields, body) => {
                    wire.try_send(answer(status, fields, &body)).map_or(Next::Close, |()| Next::Keep)
                }
                Reply::Silence => {
                    Gate::default().pass_within(LIMIT);
                    Next::Close
                }
            }
        });
        Self { origin, reply }
    }

    /// Replies like this from now on.
    pub(crate) fn reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// Its backend.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The setting `tracing`, with more keys.
    pub(crate) fn yaml(&self, more: &str) -> String {
        format!("tracing: {{ otlp: 'http://{}'{more} }}\n", self.origin)
    }

    /// The exports so far.
    pub(crate) fn exports(&self) -> Vec<Seen> {
        self.origin.seen()
    }

    /// All spans so far; a repeated export repeats its spans.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports().iter().flat_map(|export| spans(&export.body)).collect()
    }

    /// Waits until some spans fulfil this, and returns them.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(Vec<Span>) -> Option<T>) -> T {
        eventually(what, || find(self.spans()))
    }

    /// Waits for the SERVER span of this path, and returns it with the spans of its attempts in their order.
    pub(crate) fn request(&self, path: &str) -> (Span, Vec<Span>) {
        self.wait(path, |spans| {
            let server =
                spans.iter().find(|span| span.kind == SERVER && span.attributes["url.path"] == path)?;
            let mut clients: Vec<_> = spans.iter().filter(|span| span.parent == server.id).cloned().collect();
            clients.sort_by_key(|span| span.start);
            Some((server.clone(), clients))
        })
    }
}

impl Span {
    /// An attribute; null without it.
    pub(crate) fn get(&self, key: &str) -> &Value {
        self.attributes.get(key).unwrap_or(&Value::Null)
    }

    /// `traceparent` with this span.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => panic!("bytes in place of a number"),
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(number) => panic!("{number} in place of bytes"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn hex(&self) -> String {
        self.bytes().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }
}

/// The fields of a message with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(take(&mut message, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into()),
            wire => panic!("wire type {wire}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(message, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at(length);
    *message = rest;
    taken
}

/// The spans of an ExportTraceServiceRequest.
fn spans(body: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for (_, resource_spans) in fields(body).into_iter().filter(|(number, _)| *number == 1) {
        let parts = fields(resource_spans.bytes());
        let mut resource = Map::new();
        for (_, described) in parts.iter().filter(|(number, _)| *number == 1) {
            let of_resource = fields(described.bytes());
            resource
                .extend(of_resource.iter().filter(|(number, _)| *number == 1).map(|(_, one)| attribute(one)));
        }
        for (_, scope_spans) in parts.iter().filter(|(number, _)| *number == 2) {
            let spans = fields(scope_spans.bytes()).into_iter().filter(|(number, _)| *number == 2);
            found.extend(spans.map(|(_, message)| span(message.bytes(), &resource)));
        }
    }
    found
}

fn span(message: &[u8], resource: &Map<String, Value>) -> Span {
    let mut span = Span {
        trace: String::new(),
        id: String::new(),
        parent: String::new(),
        state: String::new(),
        flags: 0,
        name: String::new(),
        kind: 0,
        start: 0,
        end: 0,
        attributes: Map::new(),
        events: Vec::new(),
        links: Vec::new(),
        status: 0,
        resource: resource.clone(),
    };
    for (number, field) in fields(message) {
        match number {
            1 => span.trace = field.hex(),
            2 => span.id = field.hex(),
            3 => span.state = field.text(),
            4 => span.parent = field.hex(),
            5 => span.name = field.text(),
            6 => span.kind = field.number(),
            7 => span.start = field.number(),
            8 => span.end = field.number(),
            9 => span.attributes.extend([attribute(&field)]),
            11 => span.events.push(event(field.bytes())),
            13 => span.links.push(link(field.bytes())),
            15 => {
                let code = fields(field.bytes()).into_iter().find(|(number, _)| *number == 3);
                span.status = code.map_or(0, |(_, code)| code.number());
            }
            16 => span.flags = field.number(),
            _ => {}
        }
    }
    assert_eq!((span.trace.len(), span.id.len()), (32, 16), "{span:?}");
    assert!(span.end >= span.start && span.start > 0, "{span:?}");
    span
}

fn event(message: &[u8]) -> (String, Map<String, Value>) {
    let (mut name, mut attributes) = (String::new(), Map::new());
    for (number, field) in fields(message) {
        match number {
            2 => name = field.text(),
            3 => attributes.extend([attribute(&field)]),
            _ => {}
        }
    }
    (name, attributes)
}

fn link(message: &[u8]) -> (String, String) {
    let parts = fields(message);
    let part = |wanted: u64| parts.iter().find(|(number, _)| *number == wanted).map(|(_, id)| id.hex());
    (part(1).unwrap(), part(2).unwrap())
}

fn attribute(field: &Field<'_>) -> (String, Value) {
    let (mut key, mut value) = (String::new(), Value::Null);
    for (number, field) in fields(field.bytes()) {
        match number {
            1 => key = field.text(),
            2 => value = any(field.bytes()),
            _ => {}
        }
    }
    (key, value)
}

fn any(message: &[u8]) -> Value {
    let Some((number, field)) = fields(message).into_iter().next() else { return Value::Null };
    match number {
        1 => json!(field.text()),
        2 => json!(field.number() != 0),
        3 => json!(field.number() as i64),
        4 => json!(f64::from_bits(field.number())),
        5 => fields(field.bytes()).into_iter().map(|(_, item)| any(item.bytes())).collect(),
        other => panic!("a value of kind {other}"),
    }
}
