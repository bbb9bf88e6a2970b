//! A name server on a loopback UDP socket, whose responses a test controls.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Its response to a query for addresses.
#[derive(Clone)]
pub(crate) enum Says {
    /// This address, with a TTL in seconds.
    Address(Ipv4Addr, u32),
    /// SERVFAIL.
    ServFail,
    /// Nothing.
    Nothing,
}

/// A name server with one response to every query, except for names that contain `silent`, which get none.
pub(crate) struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    questions: Arc<AtomicUsize>,
}

impl NameServer {
    pub(crate) fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (says, questions) = (Arc::new(Mutex::new(says)), Arc::<AtomicUsize>::default());
        let (now, count) = (Arc::clone(&says), Arc::clone(&questions));
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((size, from)) = socket.recv_from(&mut bytes) {
                let Some((question, is_a)) = question(&bytes[..size]) else { continue };
                if question.windows(6).any(|part| part == b"silent") {
                    continue;
                }
                count.fetch_add(usize::from(is_a), SeqCst);
                let says = now.lock().unwrap().clone();
                if let Some(answer) = answer(question, is_a, &says) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, says, questions }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// The number of queries for IPv4 addresses.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(SeqCst)
    }
}

/// The header with the question, and whether it is for IPv4 (RFC 1035 §4.1).
fn question(message: &[u8]) -> Option<(&[u8], bool)> {
    let mut at = 12;
    while *message.get(at)? != 0 {
        at += 1 + usize::from(message[at]);
    }
    let whole = message.get(..at + 5)?;
    Some((whole, message.get(at + 1..at + 3)? == [0, 1]))
}

fn answer(question: &[u8], is_a: bool, says: &Says) -> Option<Vec<u8>> {
    let (code, address) = match says {
        Says::Nothing => return None,
        Says::ServFail => (2, None),
        Says::Address(address, ttl) => (0, is_a.then_some((address, ttl))),
    };
    let mut message = question.to_vec();
    (message[2], message[3]) = (0x81, 0x80 | code);
    message[4..12].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some((address, ttl)) = address {
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}
