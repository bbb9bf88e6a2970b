//! Scripted admin address for tests, on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::AdminClient;
use super::arguments::authorization;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server that responds to each request by a script and then closes the connection.
pub(in crate::cli) struct FakeGateway {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeGateway {
    /// The script gets the request line and returns the whole response. After an empty response the connection
    /// stays open.
    pub(in crate::cli) fn start(script: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = read_head(&mut stream);
                let response = script(head.lines().next().unwrap_or_default());
                received.lock().unwrap().push(head);
                // The client may have closed the connection.
                let _ = stream.write_all(response.as_bytes());
                if response.is_empty() {
                    silent.push(stream);
                }
            }
        });
        Self { address, requests }
    }

    /// Its address.
    pub(in crate::cli) fn address(&self) -> String {
        self.address.to_string()
    }

    /// A client for it.
    pub(in crate::cli) fn client(&self, token: Option<&str>) -> AdminClient {
        AdminClient::new(self.address().parse().unwrap(), token.map(|token| authorization(token).unwrap()))
    }

    /// The headers of the requests so far.
    pub(in crate::cli) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The request lines so far, without the version.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let requests = self.requests();
        requests.iter().map(|head| head.split(" HTTP/").next().unwrap_or_default().to_owned()).collect()
    }
}

/// A response with a status and a JSON body.
pub(in crate::cli) fn json(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A response that is a stream of events until the connection is closed.
pub(in crate::cli) fn events(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{events}")
}

/// Runs a future to its end.
pub(in crate::cli) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
