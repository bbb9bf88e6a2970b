//! Tests of delivery: bytes arrive complete and in order, and buffers stay bounded.

use super::*;

#[test]
fn an_idle_tunnel_is_small() {
    let size = size_of::<Relay>() + size_of::<tokio::time::Sleep>();
    assert!(size <= 1024, "{size}");
}

#[tokio::test]
async fn frames_pass_both_ways_untouched() {
    let (mut client, mut backend, relay) = sockets().await;
    client.write_all(&question(b"to the backend")).await.unwrap();
    assert_eq!(read(&mut backend, 20).await, question(b"to the backend"));
    backend.write_all(&answer(b"to the client")).await.unwrap();
    assert_eq!(read(&mut client, 15).await, answer(b"to the client"));
    client.write_all(&leave(1000)).await.unwrap();
    assert_eq!(read(&mut backend, 8).await, leave(1000));
    backend.write_all(&dismiss(1000)).await.unwrap();
    drop(backend);
    assert_eq!(read(&mut client, 4).await, dismiss(1000));
    let outcome = relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Client), Reason::Closed, 1000)
    );
    assert_eq!((outcome.messages, outcome.bytes), ([1, 1], [28, 19]));
}

#[tokio::test]
async fn early_bytes_of_both_sides_come_first() {
    let (mut client, near) = pair().await;
    let (far, mut backend) = pair().await;
    let mut tunnel = tunnel(near, far, policy(|_| {}));
    // The client's first frame is split at the end of the bytes read with its header.
    let sent = [question(b"early"), question(b"late")].concat();
    tunnel.client_early = Bytes::copy_from_slice(&sent[..7]);
    tunnel.backend_early = answer(b"greeting").into();
    client.write_all(&sent[7..]).await.unwrap();
    backend.write_all(&answer(b"news")).await.unwrap();
    tunnel.counters = super::counters("early");
    let _relay = tokio::spawn(run(tunnel));
    assert_eq!(read(&mut backend, sent.len()).await, sent);
    assert_eq!(read(&mut client, 16).await, [answer(b"greeting"), answer(b"news")].concat());
    let shown = crate::telemetry::metrics::render(crate::telemetry::metrics::TextFormat::Classic);
    let count = |series: &str| shown.lines().find_map(|line| line.strip_prefix(series)).map(str::trim);
    let messages =
        "moongate_websocket_messages_total{route=\"early\",direction=\"to_backend\",opcode=\"text\"}";
    let bytes = "moongate_websocket_bytes_total{route=\"early\",direction=\"to_client\"}";
    assert_eq!((count(messages), count(bytes)), (Some("2"), Some("16")));
}

#[tokio::test]
async fn frames_pass_however_they_are_split() {
    let sent = [
        question(b"a"),
        frame(0x01, &[b'b'; 200], Some(KEY)),
        frame(0x89, b"ping", Some(KEY)),
        frame(0x80, &[b'c'; 70_000], Some(KEY)),
    ]
    .concat();
    for size in [1, 2, 3, 5, 7, 131, 4_096] {
        let (mut client, mut backend, _relay) = pipes(|_| {});
        let sent = sent.clone();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            for piece in sent.chunks(size) {
                client.write_all(piece).await.unwrap();
                if size < 10 {
                    tokio::task::yield_now().await;
                }
            }
            client
        });
        assert!(read(&mut backend, expected.len()).await == expected, "{size}");
        drop(writer.await.unwrap());
    }
}

#[tokio::test]
async fn megabytes_pass_in_order() {
    let (mut client, mut backend, _relay) = sockets().await;
    let payload: Vec<u8> = (0..4 << 20).map(|at: u32| (at >> 8 ^ at) as u8).collect();
    let sent = frame(0x82, &payload, Some(KEY));
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
    });
    assert!(read(&mut backend, expected.len()).await == expected);
    drop(writer.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_writer() {
    let (mut client, mut backend, _relay) = pipes(|written| written.write_timeout.0 = Duration::ZERO);
    client.write_all(&frame(0x82, &[7; 1 << 20], Some([0; 4]))[..14]).await.unwrap();
    let chunk = [7; 1 << 10];
    let mut sent = 0;
    // The backend does not read: two pipes and the rest of one read fill up, then the writer waits.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), client.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent <= (2 << 16) + relay_io::SCRATCH, "the relay hoards");
    }
    read(&mut backend, 14).await;
    assert_eq!(read(&mut backend, sent).await, vec![7; sent]);
}
