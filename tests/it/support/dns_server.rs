//! A name server whose responses a test scripts by name and type of record, on loopback by UDP and TCP.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

/// The type of a record (RFC 1035 §3.2.2, RFC 3596, RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    A = 1,
    Cname = 5,
    Aaaa = 28,
    Srv = 33,
}

/// A response to questions for one name and type.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These records, by the names that have them, with their TTL in seconds.
    Records(u32, Vec<Record>),
    /// Each of these in turn.
    InTurn(u32, Vec<Vec<Record>>),
    /// By UDP a truncated response with the first of these records, by TCP all.
    Truncated(u32, Vec<Record>),
    /// A code without records: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// Nothing.
    Silence,
}

/// A record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// `None`: the name of the question.
    name: Option<String>,
    kind: Type,
    data: Vec<u8>,
}

impl Record {
    pub(crate) fn address(address: IpAddr) -> Self {
        let (kind, data) = match address {
            IpAddr::V4(address) => (Type::A, address.octets().to_vec()),
            IpAddr::V6(address) => (Type::Aaaa, address.octets().to_vec()),
        };
        Self { name: None, kind, data }
    }

    pub(crate) fn alias(target: &str) -> Self {
        Self { name: None, kind: Type::Cname, data: wire(target) }
    }

    pub(crate) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Self {
        let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
        Self { name: None, kind: Type::Srv, data: [numbers, wire(target)].concat() }
    }

    /// The record of another name than that of the question. Those of other types than that of the question are in the
    /// additional section, except aliases.
    pub(crate) fn of(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    fn encode(&self, question: &str, ttl: u32) -> Vec<u8> {
        let mut bytes = wire(self.name.as_deref().unwrap_or(question));
        bytes.extend((self.kind as u16).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(self.data.len()).unwrap().to_be_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// A name server. Names that the test has not set do not exist.
pub(crate) struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    says: Mutex<HashMap<(String, u16), Says>>,
    asked: Mutex<HashMap<(String, u16), usize>>,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let (socket, listener) = sockets();
        let address = socket.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        // The threads end with the test's process.
        let datagrams = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((size, from)) = socket.recv_from(&mut bytes) {
                if let Some(response) = datagrams.respond(&bytes[..size], false) {
                    let _ = socket.send_to(&response, from);
                }
            }
        });
        let streams = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&streams);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the response to questions for this name (in lower case, with its final dot) and type.
    pub(crate) fn says(&self, name: &str, kind: Type, says: Says) {
        self.shared.says.lock().unwrap().insert((name.to_owned(), kind as u16), says);
    }

    /// Sets the addresses of a name, with TTL 1.
    pub(crate) fn addresses(&self, name: &str, addresses: &[IpAddr]) {
        for kind in [Type::A, Type::Aaaa] {
            let records = addresses.iter().map(|address| Record::address(*address));
            let records = records.filter(|record| record.kind == kind).collect();
            self.says(name, kind, Says::Records(1, records));
        }
    }

    /// The name does not exist any more.
    pub(crate) fn forget(&self, name: &str) {
        self.shared.says.lock().unwrap().retain(|(known, _), _| known != name);
    }

    /// The questions for this name and type.
    pub(crate) fn asked(&self, name: &str, kind: Type) -> usize {
        *self.shared.asked.lock().unwrap().entry((name.to_owned(), kind as u16)).or_default()
    }
}

/// Sockets for UDP and TCP on one port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            return (socket, listener);
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut size = [0; 2];
            stream.read_exact(&mut size)?;
            let mut message = vec![0; u16::from_be_bytes(size).into()];
            stream.read_exact(&mut message)?;
            let Some(response) = self.respond(&message, true) else { return Ok(()) };
            let size = u16::try_from(response.len()).unwrap().to_be_bytes();
            stream.write_all(&[&size[..], &response].concat())?;
        }
    }

    fn respond(&self, message: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let (name, kind, end) = question(message)?;
        let key = (name.clone(), kind);
        let turn = {
            let mut asked = self.asked.lock().unwrap();
            let count = asked.entry(key.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let says = {
            let says = self.says.lock().unwrap();
            let is_known = says.keys().any(|(known, _)| *known == name);
            let unknown = if is_known { Says::Records(1, Vec::new()) } else { Says::Code(3) };
            says.get(&key).cloned().unwrap_or(unknown)
        };
        let (code, is_truncated, ttl, records) = match says {
            Says::Silence => return None,
            Says::Code(code) => (code, false, 0, Vec::new()),
            Says::Records(ttl, records) => (0, false, ttl, records),
            Says::InTurn(ttl, sets) => (0, false, ttl, sets[turn % sets.len()].clone()),
            Says::Truncated(ttl, records) if by_tcp => (0, false, ttl, records),
            Says::Truncated(ttl, records) => (0, true, ttl, records[..1].to_vec()),
        };
        let is_answer = |record: &Record| record.kind == Type::Cname || record.kind as u16 == kind;
        let (answers, additionals): (Vec<_>, Vec<_>) = records.into_iter().partition(is_answer);
        let mut response = message.get(..end)?.to_vec();
        (response[2], response[3]) = (0x81 | if is_truncated { 2 } else { 0 }, 0x80 | code);
        let counts = [1, answers.len(), 0, additionals.len()];
        let counts = counts.map(|count| u16::try_from(count).unwrap().to_be_bytes()).concat();
        response[4..12].copy_from_slice(&counts);
        response.extend(answers.iter().chain(&additionals).flat_map(|record| record.encode(&name, ttl)));
        Some(response)
    }
}

/// The name in lower case, the type, and the end of the question (RFC 1035 §4.1.2).
fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut name, mut at) = (String::new(), 12);
    while *message.get(at)? != 0 {
        let end = at + 1 + usize::from(message[at]);
        name.push_str(&String::from_utf8_lossy(message.get(at + 1..end)?).to_lowercase());
        name.push('.');
        at = end;
    }
    let kind = message.get(at + 1..at + 3)?;
    Some((name, u16::from_be_bytes([kind[0], kind[1]]), at + 5))
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    labels.flat_map(label).chain([0]).collect()
}
