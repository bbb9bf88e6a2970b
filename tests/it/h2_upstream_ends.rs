//! Ends of streams and connections by HTTP/2 backends: a response that is complete stays so, and a gRPC call that is
//! cancelled at its deadline has exceeded it.

use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, frame, section,
};
use crate::support::{Gateway, Wire, h2};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

const CANCEL: u32 = 8;
const NO_ERROR: u32 = 0;
const STREAM_CLOSED: u32 = 5;

/// A backend that does this with each connection, from the header of its first request on.
fn backend(act: impl Fn(&mut Frames, u32) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A health check or the end of the gateway may leave a connection without a request.
            let Ok(mut frames) = Frames::accept(stream.unwrap()) else { continue };
            while let Ok(received) = frames.next() {
                if received.kind == HEADERS {
                    act(&mut frames, received.stream);
                    break;
                }
            }
        }
    });
    address
}

fn gateway(backend: SocketAddr) -> Gateway {
    Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]
upstreams: {{ all: {{ endpoints: ['{backend}'], protocol: h2c }} }}
routes: [{{ upstream: all }}]"
    ))
}

/// How a stream ends after a response: its name, the frames, and the flags of the last DATA.
type End = (&'static str, fn(u32) -> Vec<u8>, u8);

/// A response with this length and body, and the flags of its last frame.
fn response(stream: u32, length: &str, body: &[u8], flags: u8) -> Vec<u8> {
    let fields = [(":status", "413"), ("content-type", "text/plain"), ("content-length", length)];
    [frame(HEADERS, END_HEADERS, stream, &section(&fields)), frame(DATA, flags, stream, body)].concat()
}

/// The end of the connection.
fn goaway(stream: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[stream.to_be_bytes(), reason.to_be_bytes()].concat())
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

#[test]
fn a_complete_response_arrives_whole_however_its_stream_ends() {
    let body = b"too large\n";
    let whole = move |stream, flags| response(stream, "10", body, flags);
    let ends: [End; 6] = [
        ("GOAWAY with an error", |stream| goaway(stream, STREAM_CLOSED), END_STREAM),
        ("an end without GOAWAY", |_| Vec::new(), END_STREAM),
        ("a reset", |stream| reset(stream, CANCEL), END_STREAM),
        ("a reset without error", |stream| reset(stream, NO_ERROR), END_STREAM),
        ("GOAWAY before the end of the stream", |stream| goaway(stream, STREAM_CLOSED), 0),
        ("a reset before the end of the stream", |stream| reset(stream, CANCEL), 0),
    ];
    for (name, end, flags) in ends {
        let address = backend(move |frames, stream| {
            frames.send([whole(stream, flags), end(stream)].concat());
            if !matches!(name, "a reset" | "a reset without error" | "a reset before the end of the stream") {
                frames.end();
            }
        });
        let gateway = gateway(address);
        for round in 0..10 {
            let client = h2::Client::connect(gateway.web());
            let (answer, mut upload) = client.begin(h2::request("POST", "/upload").body(()).unwrap(), false);
            // The upload goes on beside the response, and after it.
            client.write(&mut upload, &[b'x'; 1000], false).unwrap();
            let received = client.receive(answer);
            assert!(received.error.is_none(), "{name}, {round}: {:?}", received.error);
            assert_eq!(
                (received.status.unwrap().as_u16(), &received.body[..]),
                (413, &body[..]),
                "{name}, {round}"
            );
            let _ = client.write(&mut upload, &[b'x'; 1000], true);
            let mut wire = Wire::connect(gateway.web());
            wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
            let _ = wire.try_send([b'x'; 1000]);
            let response = wire.response();
            assert_eq!((response.status, response.text().as_bytes()), (413, &body[..]), "{name}, {round}");
        }
    }
}

#[test]
fn an_incomplete_response_is_not_completed() {
    let address = backend(|frames, stream| {
        frames.send([response(stream, "10", b"too", 0), goaway(stream, STREAM_CLOSED)].concat());
        frames.end();
    });
    let gateway = gateway(address);
    let client = h2::Client::connect(gateway.web());
    let (answer, _upload) = client.begin(h2::request("POST", "/upload").body(()).unwrap(), false);
    let received = client.receive(answer);
    assert!(received.error.is_some(), "{received:?}");
}

#[test]
fn a_call_that_is_cancelled_at_its_deadline_has_exceeded_it() {
    // A server's timer: it began when the call arrived.
    let timer = Duration::from_millis(100);
    for (timeout, reason, status) in [
        ("100m", CANCEL, "4"),
        ("99000u", CANCEL, "4"),
        ("100m", 2, "14"),
        ("5S", CANCEL, "14"),
        ("0x", CANCEL, "14"),
        ("", CANCEL, "14"),
    ] {
        let address = backend(move |frames, stream| {
            thread::sleep(timer);
            frames.send(reset(stream, reason));
        });
        let gateway = gateway(address);
        let is_late = status == "4";
        // More failures than passive health tolerates.
        for _ in 0..if is_late { 6 } else { 1 } {
            let client = h2::Client::connect(gateway.web());
            let mut head = h2::request("POST", "/call")
                .header("te", "trailers")
                .header("content-type", "application/grpc");
            if !timeout.is_empty() {
                head = head.header("grpc-timeout", timeout);
            }
            let (answer, _upload) = client.begin(head.body(()).unwrap(), false);
            let answer = client.read(answer).unwrap();
            assert_eq!(answer.field("grpc-status"), Some(status), "{timeout} {reason}");
            let reason = if is_late { "deadline_exceeded" } else { "upstream_closed" };
            assert_eq!(answer.field("grpc-message"), Some(reason), "{timeout}");
        }
        if is_late {
            assert_eq!(
                gateway.metrics().sum("moongate_upstream_healthy", &[]),
                1.0,
                "the endpoint is not at fault"
            );
        }
    }
}
