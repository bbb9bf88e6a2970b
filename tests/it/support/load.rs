//! A stream of requests beside a test: clients that send without pause, and record every failure.

use super::raw::Wire;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

/// Running clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts clients that request `path` repeatedly, each on a connection that it keeps.
    pub(crate) fn start(gateway: SocketAddr, path: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let clients = (0..clients)
            .map(|_| {
                let (stop, answered, request) = (Arc::clone(&stop), Arc::clone(&answered), request.clone());
                std::thread::spawn(move || client(gateway, &request, &stop, &answered))
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Requests with a 200 so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(SeqCst)
    }

    /// Waits for that many more.
    pub(crate) fn await_more(&self, more: usize) {
        let goal = self.answered() + more;
        super::eventually("more requests are answered", || (self.answered() >= goal).then_some(()));
    }

    /// Stops them and returns the failures.
    pub(crate) fn stop(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn client(gateway: SocketAddr, request: &str, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut wire = Wire::connect(gateway);
    // The first few failures suffice.
    while !stop.load(SeqCst) && failures.len() < 10 {
        match wire.try_send(request).and_then(|()| wire.try_response("GET")) {
            Ok(response) if response.status == 200 => {
                answered.fetch_add(1, SeqCst);
                if response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    wire = Wire::connect(gateway);
                }
            }
            Ok(response) => failures.push(format!("{}{}", response.head, response.text())),
            Err(e) => {
                failures.push(e.to_string());
                wire = Wire::connect(gateway);
            }
        }
    }
    failures
}
