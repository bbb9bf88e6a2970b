//! Ends of WebSockets as their clients see them: orderly ones without a reset, and those without a Close frame.

use crate::support::access_log::AccessLog;
use crate::support::ws::{accepted, frame, masked, open_raw, read_frame};
use crate::support::{Gateway, Next, Origin, Wire, eventually};
use std::io;
use std::time::{Duration, Instant};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A Close frame's payload.
fn close(code: u16) -> Vec<u8> {
    code.to_be_bytes().to_vec()
}

/// A backend that does this after its 101.
fn backend(act: impl Fn(&mut Wire) + Send + Sync + 'static) -> Origin {
    Origin::scripted("a", move |seen, wire| {
        wire.try_send(accepted(seen, "")).unwrap();
        act(wire);
        Next::Close
    })
}

/// A backend that responds to a Close frame, and closes at once.
fn polite() -> Origin {
    backend(|wire| {
        let (first, payload) = read_frame(wire).unwrap();
        assert_eq!(first, 0x80 | CLOSE);
        let _ = wire.try_send(frame(CLOSE, &payload));
    })
}

/// Closes by both Close frames, and reads to the end of the gateway's stream.
fn closed(gateway: &Gateway) -> Wire {
    let mut wire = open_raw(gateway.web(), "/ws");
    wire.send(masked(CLOSE, &close(1000)));
    assert_eq!(read_frame(&mut wire).unwrap(), (0x80 | CLOSE, close(1000)));
    assert_eq!(wire.fill().unwrap(), 0);
    wire
}

#[test]
fn a_client_that_sends_after_both_close_frames_is_not_reset() {
    let origin = polite();
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    for _ in 0..20 {
        let mut wire = closed(&gateway);
        // A second Close frame, as some libraries send, and another one in response to nothing.
        for _ in 0..2 {
            wire.send(masked(CLOSE, &close(1000)));
            wire.await_delivered();
        }
        assert_eq!(wire.fill().unwrap(), 0, "an end, and no reset");
        wire.half_close();
        assert!(wire.another().take_error().unwrap().is_none());
    }
}

#[test]
fn a_client_that_does_not_end_its_stream_is_not_awaited_for_long() {
    let origin = polite();
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    // One that sends on without an end, by bytes; and one that is silent, by time.
    let mut endless = closed(&gateway);
    let mut silent = closed(&gateway);
    let refused = |wire: &mut Wire, bytes: &[u8]| wire.try_send(bytes).is_err();
    eventually("the endless one is reset", || refused(&mut endless, &[0; 8192]).then_some(()));
    let began = Instant::now();
    eventually("the silent one is reset", || {
        let is_over = began.elapsed() > Duration::from_secs(2);
        (is_over && refused(&mut silent, &[0])).then_some(())
    });
    // Neither counts as open meanwhile.
    assert_eq!(gateway.metrics().sum("moongate_websocket_connections_active", &[]), 0.0);
}

#[test]
fn a_close_code_of_a_peer_is_forwarded_whatever_it_is() {
    let origin = backend(|wire| {
        wire.try_send(frame(CLOSE, &close(1014))).unwrap();
        assert_eq!(read_frame(wire).unwrap(), (0x80 | CLOSE, close(1014)));
    });
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = open_raw(gateway.web(), "/ws");
    assert_eq!(read_frame(&mut wire).unwrap(), (0x80 | CLOSE, close(1014)));
    wire.send(masked(CLOSE, &close(1014)));
    assert_eq!(wire.fill().unwrap(), 0);
}

/// Reads to the end, in which no Close frame may be: what a client reports as 1006.
fn ends_without_close(wire: &mut Wire) {
    loop {
        match read_frame(wire) {
            Ok((first, payload)) => assert_ne!(first & 0x0f, CLOSE, "{payload:?}"),
            Err(error) => {
                let is_end = matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                );
                assert!(is_end, "{error}");
                return;
            }
        }
    }
}

/// The fields of the line `close`.
fn logged(log: &AccessLog) -> (serde_json::Value, serde_json::Value, serde_json::Value) {
    let line =
        eventually("the end is logged", || log.lines().into_iter().find(|line| line["event"] == "close"));
    (line["by"].clone(), line["reason"].clone(), line["code"].clone())
}

#[test]
fn an_end_within_a_frame_has_no_close_frame() {
    // A frame of 100 bytes, of which five arrive.
    let cut = [&frame(TEXT, &[b'x'; 100])[..2], b"xxxxx"].concat();
    for (reason, is_killed) in [("eof", false), ("reset", true)] {
        let log = AccessLog::new();
        let bytes = cut.clone();
        let origin = backend(move |wire| {
            wire.try_send(&bytes).unwrap();
            wire.await_delivered();
            // The client has it: its end may now be a reset.
            assert_eq!(read_frame(wire).unwrap().1, b"got it");
            if is_killed {
                wire.reset_on_drop();
            }
        });
        let gateway = Gateway::start(&format!("{}routes: [{{ upstream: ['{origin}'] }}]\n", log.yaml()));
        let mut wire = open_raw(gateway.web(), "/ws");
        assert_eq!(wire.exactly(cut.len()).unwrap(), cut);
        wire.send(masked(TEXT, b"got it"));
        ends_without_close(&mut wire);
        let (by, logged_reason, code) = logged(&log);
        assert_eq!(by, "backend");
        assert!(code.is_null(), "{code}");
        if !is_killed {
            assert_eq!(logged_reason, reason);
        }
    }
}

#[test]
fn a_process_that_ends_first_sends_no_close_frame() {
    let log = AccessLog::new();
    // The backend never completes its frame, and never closes.
    let origin = backend(|wire| {
        wire.try_send(&frame(TEXT, &[b'x'; 100])[..10]).unwrap();
        let _ = wire.try_rest();
    });
    let gateway = Gateway::start(&format!(
        "server: {{ grace_period: 1s }}\n{}routes: [{{ upstream: ['{origin}'] }}]\n",
        log.yaml()
    ));
    let mut wire = open_raw(gateway.web(), "/ws");
    assert_eq!(wire.exactly(10).unwrap().len(), 10);
    gateway.signal("INT");
    ends_without_close(&mut wire);
    let (by, reason, code) = logged(&log);
    assert_eq!((by, reason), ("gateway".into(), "aborted".into()));
    assert!(code.is_null(), "{code}");
}
