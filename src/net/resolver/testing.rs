//! A name server for tests, on a loopback UDP socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::UdpSocket;

/// The response to a question.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// IPv4 addresses with their TTL.
    Addresses(Vec<[u8; 4]>, u32),
    /// The same, after a delay.
    Late(Duration, Vec<[u8; 4]>, u32),
    /// No response.
    Silence,
    /// A code without records: 2 is SERVFAIL, 3 NXDOMAIN.
    Code(u8),
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
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let (reply, questions) = (Arc::new(Mutex::new(reply)), Arc::<AtomicUsize>::default());
        let (says, asked) = (Arc::clone(&reply), Arc::clone(&questions));
        tokio::spawn(async move {
            let mut bytes = [0; 1500];
            loop {
                let (size, from) = socket.recv_from(&mut bytes).await.unwrap();
                let is_a = kind(&bytes[..size]) == 1;
                asked.fetch_add(usize::from(is_a), SeqCst);
                let says = says.lock().clone();
                let (question, socket) = (bytes[..size].to_vec(), Arc::clone(&socket));
                let wait = if let Reply::Late(wait, ..) = says { wait } else { Duration::ZERO };
                let reply_message = match says {
                    Reply::Addresses(addresses, ttl) | Reply::Late(_, addresses, ttl) => {
                        let addresses = if is_a { addresses } else { Vec::new() };
                        response(&question, 0, &addresses, ttl)
                    }
                    Reply::Silence => continue,
                    Reply::Code(code) => response(&question, code, &[], 0),
                };
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let _ = socket.send_to(&reply_message, from).await;
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

/// The end of the question (RFC 1035 §4.1.2).
fn end_of_question(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

fn kind(message: &[u8]) -> u16 {
    let end = end_of_question(message);
    u16::from_be_bytes([message[end - 4], message[end - 3]])
}

fn response(question: &[u8], code: u8, addresses: &[[u8; 4]], ttl: u32) -> Vec<u8> {
    let mut message = question[..end_of_question(question)].to_vec();
    // A response with recursion available, one question and the answers.
    message[2] = 0x81;
    message[3] = 0x80 | code;
    message[4..12].copy_from_slice(&[0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    for address in addresses {
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address);
    }
    message
}
