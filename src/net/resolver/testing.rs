//! A name server for tests, on loopback by UDP and TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// The response to a question.
#[derive(Clone)]
pub(super) enum Reply {
    /// IPv4 addresses with their TTL.
    Addresses(Vec<[u8; 4]>, u32),
    /// The same, after a delay.
    Late(Duration, Vec<[u8; 4]>, u32),
    /// No response.
    Silence,
    /// A code without records: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// That of a function; `None`: no response.
    Script(Arc<Script>),
}

/// A function that answers; `None`: no response.
pub(super) type Script = dyn Fn(&Question) -> Option<Message> + Send + Sync;

/// The types of records (RFC 1035 §3.2.2, RFC 3596, RFC 2782).
pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name in lower case with its final dot.
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) by_tcp: bool,
    /// The client's port.
    pub(super) port: u16,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) code: u8,
    pub(super) is_truncated: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    name: String,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
}

impl Record {
    pub(super) fn address(name: &str, ttl: u32, address: &str) -> Self {
        let (kind, data) = match address.parse().unwrap() {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        Self { name: name.to_owned(), kind, ttl, data }
    }

    pub(super) fn alias(name: &str, ttl: u32, target: &str) -> Self {
        Self { name: name.to_owned(), kind: CNAME, ttl, data: wire(target) }
    }

    pub(super) fn srv(name: &str, ttl: u32, [priority, weight, port]: [u16; 3], target: &str) -> Self {
        let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
        Self { name: name.to_owned(), kind: SRV, ttl, data: [numbers, wire(target)].concat() }
    }

    /// The record that has the lifetime of a negative answer.
    pub(super) fn authority(name: &str, ttl: u32) -> Self {
        let numbers = [1, 3600, 600, 86400, ttl].map(u32::to_be_bytes).concat();
        let data = [wire("ns.test."), wire("admin.test."), numbers].concat();
        Self { name: name.to_owned(), kind: SOA, ttl, data }
    }

    fn encode(&self, message: &mut Vec<u8>) {
        message.extend(wire(&self.name));
        message.extend(self.kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(self.ttl.to_be_bytes());
        message.extend(u16::try_from(self.data.len()).unwrap().to_be_bytes());
        message.extend(&self.data);
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// A script of records: each question gets those of its name and type, or an empty response.
pub(super) fn zone(records: Vec<Record>) -> Reply {
    Reply::Script(Arc::new(move |question| {
        let of = |record: &&Record| record.name == question.name && record.kind == question.kind;
        let answers = records.iter().filter(of).cloned().collect();
        Some(Message { answers, ..Message::default() })
    }))
}

/// The name server. To AAAA questions it responds without records, unless its reply is the same for every
/// question.
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    questions: Arc<AtomicUsize>,
}

impl NameServer {
    pub(super) async fn start(reply: Reply) -> Self {
        let (socket, listener) = bind().await;
        let address = socket.local_addr().unwrap();
        let (reply, questions) = (Arc::new(Mutex::new(reply)), Arc::<AtomicUsize>::default());
        let (says, asked) = (Arc::clone(&reply), Arc::clone(&questions));
        tokio::spawn(async move {
            let mut bytes = [0; 1500];
            loop {
                let (size, from) = socket.recv_from(&mut bytes).await.unwrap();
                let (message, socket) = (bytes[..size].to_vec(), Arc::clone(&socket));
                asked.fetch_add(usize::from(question(&message, from, false).kind == A), SeqCst);
                let says = says.lock().clone();
                tokio::spawn(async move {
                    if let Some(response) = respond(says, &message, from, false).await {
                        let _ = socket.send_to(&response, from).await;
                    }
                });
            }
        });
        let says = Arc::clone(&reply);
        tokio::spawn(async move {
            loop {
                let (mut stream, from) = listener.accept().await.unwrap();
                let says = says.lock().clone();
                tokio::spawn(async move {
                    while let Ok(size) = stream.read_u16().await {
                        let mut message = vec![0; size.into()];
                        stream.read_exact(&mut message).await.unwrap();
                        let Some(response) = respond(says.clone(), &message, from, true).await else {
                            return;
                        };
                        let size = u16::try_from(response.len()).unwrap().to_be_bytes();
                        let _ = stream.write_all(&[&size[..], &response].concat()).await;
                    }
                });
            }
        });
        Self { address, reply, questions }
    }

    pub(super) fn set_reply(&self, reply: Reply) {
        *self.reply.lock() = reply;
    }

    /// The number of questions for addresses.
    pub(super) fn questions(&self) -> usize {
        self.questions.load(SeqCst)
    }
}

/// Sockets for UDP and TCP on one port.
async fn bind() -> (Arc<UdpSocket>, TcpListener) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (Arc::new(socket), listener);
        }
    }
}

async fn respond(reply: Reply, message: &[u8], from: SocketAddr, by_tcp: bool) -> Option<Vec<u8>> {
    let asked = question(message, from, by_tcp);
    let addresses = |addresses: Vec<[u8; 4]>, ttl| {
        let addresses = addresses.into_iter().filter(|_| asked.kind == A);
        let record =
            |address: [u8; 4]| Record { name: asked.name.clone(), kind: A, ttl, data: address.to_vec() };
        Message { answers: addresses.map(record).collect(), ..Message::default() }
    };
    let response = match reply {
        Reply::Addresses(found, ttl) => addresses(found, ttl),
        Reply::Late(wait, found, ttl) => {
            tokio::time::sleep(wait).await;
            addresses(found, ttl)
        }
        Reply::Silence => return None,
        Reply::Code(code) => Message { code, ..Message::default() },
        Reply::Script(script) => script(&asked)?,
    };
    Some(encode(message, &response))
}

/// The end of the question (RFC 1035 §4.1.2).
fn end_of_question(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

fn question(message: &[u8], from: SocketAddr, by_tcp: bool) -> Question {
    let (mut name, mut at) = (String::new(), 12);
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        name.push_str(&String::from_utf8_lossy(&message[at + 1..end]).to_lowercase());
        name.push('.');
        at = end;
    }
    Question { name, kind: u16::from_be_bytes([message[at + 1], message[at + 2]]), by_tcp, port: from.port() }
}

fn encode(question: &[u8], response: &Message) -> Vec<u8> {
    let mut message = question[..end_of_question(question)].to_vec();
    // A response with recursion available, one question and the records.
    message[2] = 0x81 | if response.is_truncated { 2 } else { 0 };
    message[3] = 0x80 | response.code;
    let sections = [&response.answers, &response.authorities, &response.additionals];
    let counts = sections.map(|section| u16::try_from(section.len()).unwrap().to_be_bytes()).concat();
    message[4..12].copy_from_slice(&[&[0, 1], &*counts].concat());
    sections.into_iter().flatten().for_each(|record| record.encode(&mut message));
    message
}
