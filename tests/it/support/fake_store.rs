//! A server with Redis's protocol that follows a script: it gives or refuses every token, and records what it was sent.

use super::eventually;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// A running server; it ends with the process.
pub(crate) struct FakeStore {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    /// Whether it gives tokens and places.
    gives: Arc<AtomicBool>,
    /// The error that it responds with.
    error: Arc<Mutex<Option<String>>>,
}

/// What the connections of a server share.
#[derive(Clone)]
struct Script {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    gives: Arc<AtomicBool>,
    error: Arc<Mutex<Option<String>>>,
    delay: Duration,
}

impl FakeStore {
    /// One that gives everything.
    pub(crate) fn generous() -> Self {
        Self::start(true, Duration::ZERO)
    }

    /// One that refuses everything.
    pub(crate) fn strict() -> Self {
        Self::start(false, Duration::ZERO)
    }

    /// One that gives everything after this time.
    pub(crate) fn slow(delay: Duration) -> Self {
        Self::start(true, delay)
    }

    fn start(gives: bool, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script {
            address,
            seen: Arc::default(),
            gives: Arc::new(gives.into()),
            error: Arc::default(),
            delay,
        };
        let (seen, gives) = (Arc::clone(&script.seen), Arc::clone(&script.gives));
        let error = Arc::clone(&script.error);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = script.clone();
                spawn(move || script.serve(stream));
            }
        });
        Self { address, seen, gives, error }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it refuses everything.
    pub(crate) fn refuse(&self) {
        self.gives.store(false, SeqCst);
    }

    /// From now on it responds to every script with this error; with `None` as before.
    pub(crate) fn fail(&self, error: Option<&str>) {
        *self.error.lock().unwrap() = error.map(str::to_owned);
    }

    /// Waits for a command with these words among its own.
    pub(crate) fn await_words(&self, words: &[&str]) {
        eventually(&format!("a command with {words:?}"), || {
            let seen = self.seen.lock().unwrap();
            let has =
                |command: &Vec<String>| words.iter().all(|word| command.iter().any(|one| one.contains(word)));
            seen.iter().any(has).then_some(())
        });
    }

    /// The different words with this beginning.
    pub(crate) fn words_from(&self, beginning: &str) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().flatten().filter(|word| word.starts_with(beginning)).cloned().collect()
    }

    /// Whether it got a command with this word.
    pub(crate) fn has_seen(&self, word: &str) -> bool {
        self.seen.lock().unwrap().iter().flatten().any(|one| one.contains(word))
    }
}

impl Script {
    fn serve(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(command) = command(&mut reader) {
            let reply = self.reply(&command);
            self.seen.lock().unwrap().push(command);
            sleep(self.delay);
            if writer.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn reply(&self, command: &[String]) -> String {
        let gives = u8::from(self.gives.load(SeqCst));
        let port = self.address.port();
        let has = |word: &str| command.iter().any(|one| one.contains(word));
        let error = self.error.lock().unwrap().clone().filter(|_| command[0].eq_ignore_ascii_case("EVALSHA"));
        if let Some(error) = error {
            return format!("-{error}\r\n");
        }
        match command[0].to_ascii_uppercase().as_str() {
            "EVALSHA" if has("gateways") => "*1\r\n$1\r\na\r\n".to_owned(),
            "EVALSHA" if has(":secrets") => {
                let text = format!("7:0:{:064x}", 7);
                format!("*3\r\n${}\r\n{text}\r\n:1700000000000\r\n:0\r\n", text.len())
            }
            "EVALSHA" if has(":open:") || has("open:") => format!(":{gives}\r\n"),
            "EVALSHA" => {
                // It has tokens again, and is full, after 3 s.
                let wait = 3_000_000 * u32::from(1 - gives);
                format!("*3\r\n:{gives}\r\n:{wait}\r\n:{wait}\r\n")
            }
            "SENTINEL" => format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len()),
            "CLUSTER" => {
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$1\r\na\r\n")
            }
            "PING" => "+PONG\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        }
    }
}

/// The next command: an array of strings.
fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count = number(reader)?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; number(reader)?];
            reader.read_exact(&mut word).ok()?;
            reader.read_exact(&mut [0; 2]).ok()?;
            Some(String::from_utf8_lossy(&word).into_owned())
        })
        .collect()
}

/// The number in the next line, after its first byte.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}
