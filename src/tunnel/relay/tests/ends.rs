//! Tests of every end of a tunnel.

use super::*;
use crate::tunnel::{ABNORMAL, Cause, Filter, OperatorClose, Registry};

#[tokio::test]
async fn a_half_close_still_gets_its_response() {
    let (mut client, mut backend, relay) = sockets().await;
    client.write_all(&question(b"question")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"question".to_vec()));
    assert_eq!(read_close(&mut backend).await, 1001);
    backend.write_all(&answer(b"answer")).await.unwrap();
    backend.write_all(&dismiss(1001)).await.unwrap();
    drop(backend);
    assert_eq!(read_frame(&mut client).await, (0x81, b"answer".to_vec()));
    assert_eq!(read_close(&mut client).await, 1001);
    read_end(&mut client).await;
    let outcome = relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Client), Reason::Eof, ABNORMAL)
    );
}

#[tokio::test]
async fn a_backend_that_vanishes_becomes_a_close() {
    let (mut client, mut backend, relay) = sockets().await;
    backend.write_all(&answer(b"last words")).await.unwrap();
    drop(backend);
    assert_eq!(read_frame(&mut client).await, (0x81, b"last words".to_vec()));
    assert_eq!(read_close(&mut client).await, 1001);
    client.write_all(&leave(1001)).await.unwrap();
    read_end(&mut client).await;
    assert_eq!(relay.await.unwrap().by, Initiator::Side(Side::Backend));
}

#[tokio::test]
async fn a_reset_becomes_a_close_behind_what_was_sent() {
    let (mut client, mut backend, relay) = sockets().await;
    backend.write_all(&answer(b"last words")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x81, b"last words".to_vec()));
    backend.set_zero_linger().unwrap();
    drop(backend);
    assert_eq!(read_close(&mut client).await, 1001);
    client.write_all(&leave(1001)).await.unwrap();
    read_end(&mut client).await;
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Backend), Reason::Reset));
}

#[tokio::test]
async fn a_backend_that_vanishes_inside_a_frame_ends_bare() {
    let (mut client, mut backend, relay) = sockets().await;
    let whole = answer(b"never finished");
    backend.write_all(&whole[..9]).await.unwrap();
    drop(backend);
    assert_eq!(read(&mut client, 9).await, whole[..9]);
    read_end(&mut client).await;
    drop(client);
    assert_eq!(relay.await.unwrap().code, ABNORMAL);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_responds_to_a_close_is_disconnected() {
    let (mut client, backend, relay) = pipes(|_| {});
    drop(backend);
    assert_eq!(read_close(&mut client).await, 1001);
    assert_eq!(relay.await.unwrap().lifetime.as_secs(), 5);
    read_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_its_end_while_the_backend_lingers() {
    let (mut client, mut backend, relay) = pipes(|_| {});
    backend.write_all(&dismiss(4000)).await.unwrap();
    assert_eq!(read_close(&mut client).await, 4000);
    client.write_all(&leave(4000)).await.unwrap();
    assert_eq!(read_close(&mut backend).await, 4000);
    let began = Instant::now();
    read_end(&mut client).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(!relay.is_finished());
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.code), (Initiator::Side(Side::Backend), 4000));
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_behind_a_close() {
    let (mut client, mut backend, _relay) = pipes(|_| {});
    let sent = [leave(1000), question(b"too late")].concat();
    client.write_all(&sent).await.unwrap();
    drop(client);
    assert_eq!(read_close(&mut backend).await, 1000);
    backend.write_all(&dismiss(1000)).await.unwrap();
    read_end(&mut backend).await;
}

/// A tunnel in a registry, over pipes.
fn member(registry: &Arc<Registry>) -> (DuplexStream, DuplexStream, JoinHandle<Outcome>) {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(|_| {}));
    tunnel.member = registry.join(tunnel_key(1));
    (client, backend, tokio::spawn(run(tunnel)))
}

#[tokio::test(start_paused = true)]
async fn an_operator_closes_one_tunnel_with_code_and_reason() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, relay) = member(&registry);
    let (_other_client, _other_backend, other) = member(&registry);
    let id = registry.find(0).unwrap().id;
    let close = OperatorClose { code: 4001, reason: "bye".into() };
    assert_eq!(registry.close(id, close.clone()), Some(()));
    assert_eq!(registry.close(7, close), None, "there is none with this ID");
    assert_eq!(read_close(&mut client).await, 4001);
    client.write_all(&leave(4001)).await.unwrap();
    assert_eq!(read_close(&mut backend).await, 4001);
    backend.write_all(&dismiss(4001)).await.unwrap();
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.reason, outcome.code), (Initiator::Gateway, Reason::Operator, 4001));
    assert!(!other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_registry_shows_what_a_tunnel_does() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, _relay) = member(&registry);
    client.write_all(&question(b"hello")).await.unwrap();
    read_frame(&mut backend).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = registry.find(0).unwrap();
    assert_eq!((seen.messages, seen.bytes, &*seen.route), ([1, 0], [11, 0], "chat"));
    assert_eq!((seen.age.as_secs(), seen.idle.as_secs(), seen.generation), (5, 5, 1));
    let mut all = Vec::new();
    registry.each(|seen| all.push(seen.id));
    assert_eq!((all, registry.generations()), (vec![0], [(1, 1)].into()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_sends_1012_and_waits_for_the_close() {
    let registry = Arc::<Registry>::default();
    let (mut client, mut backend, relay) = member(&registry);
    let drain = registry.drain(Filter::All, Duration::from_secs(1), Cause::Endpoint, None);
    tokio::spawn(drain);
    assert_eq!(read_close(&mut client).await, 1012);
    // Bytes that the client sent earlier still arrive, and so does its Close frame.
    client.write_all(&question(b"in flight")).await.unwrap();
    client.write_all(&leave(1012)).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"in flight".to_vec()));
    assert_eq!(read_close(&mut backend).await, 1012);
    backend.write_all(&dismiss(1012)).await.unwrap();
    drop(backend);
    read_end(&mut client).await;
    let outcome = relay.await.unwrap();
    assert_eq!(outcome.by, Initiator::Gateway);
    assert_eq!((outcome.reason.token(), outcome.code), ("drain_endpoint", 1012));
    registry.wait_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_end_of_the_frame_under_way() {
    let registry = Arc::<Registry>::default();
    let (mut client, mut backend, _relay) = member(&registry);
    let whole = answer(&[b'x'; 1_000]);
    backend.write_all(&whole[..500]).await.unwrap();
    assert_eq!(read(&mut client, 500).await, whole[..500]);
    assert_eq!(registry.drain(Filter::All, Duration::ZERO, Cause::Shutdown, None).await, 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    backend.write_all(&[&whole[500..], &answer(b"no more")].concat()).await.unwrap();
    assert_eq!(read(&mut client, whole.len() - 500).await, whole[500..]);
    assert_eq!(read_close(&mut client).await, 1012);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_a_drain_is_disconnected_and_the_backend_gets_a_close() {
    let registry = Arc::<Registry>::default();
    let (mut client, mut backend, relay) = member(&registry);
    assert_eq!(registry.drain(Filter::All, Duration::ZERO, Cause::Shutdown, None).await, 1);
    assert_eq!(read_close(&mut backend).await, 1001);
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.lifetime.as_secs(), outcome.code), (5, 1012));
    assert_eq!(read_close(&mut client).await, 1012);
    read_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_at_any_byte_cuts_no_frame() {
    let frames = [frame(0x01, &[b'a'; 130], None), frame(0x89, b"ping", None), frame(0x80, b"end", None)];
    let stream = frames.concat();
    let boundaries: Vec<_> =
        frames.iter().scan(0, |at, frame| Some(std::mem::replace(at, *at + frame.len()))).collect();
    for cut in 0..=stream.len() {
        let registry = Arc::<Registry>::default();
        let (mut client, mut backend, _relay) = member(&registry);
        backend.write_all(&stream[..cut]).await.unwrap();
        // The relay is idle again, with all bytes relayed, before the drain begins.
        tokio::time::sleep(Duration::from_millis(1)).await;
        registry.drain(Filter::All, Duration::ZERO, Cause::Route, None).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        backend.write_all(&stream[cut..]).await.unwrap();
        // Complete frames up to the cut and the frame at it; an incomplete header or control frame is not
        // relayed.
        let mut passed = Vec::new();
        let code = loop {
            match read_frame(&mut client).await {
                (0x88, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                (first, payload) => passed.push(frame(first, &payload, None)),
            }
        };
        assert_eq!(code, 1012, "{cut}");
        let most = boundaries.iter().filter(|boundary| **boundary < cut).count();
        let passed = passed.concat();
        assert!(stream.starts_with(&passed), "{cut}");
        assert!(passed.len() <= frames[..most].concat().len(), "{cut}");
        assert!(cut == 0 || passed.len() + 131 >= cut, "{cut}");
    }
}

/// An inspector that panics.
struct Panics;

impl Inspector for Panics {
    fn inspects(&self, _from: Side) -> bool {
        true
    }

    fn message(&mut self, _message: &mut moongate_sdk::Message) -> crate::plugin::ChainVerdict {
        panic!("the message is too much");
    }

    fn ended(&mut self, _outcome: &Outcome) {}

    fn state(&mut self) -> Option<serde_json::Value> {
        None
    }
}

type Ends = tokio::sync::mpsc::UnboundedReceiver<Outcome>;

fn launched(tunnel: Tunnel, switching: &[u8]) -> Ends {
    let (outcomes, ends) = tokio::sync::mpsc::unbounded_channel();
    crate::tunnel::launch(tunnel, switching.to_vec(), move |outcome| outcomes.send(outcome.clone()).unwrap());
    ends
}

#[tokio::test]
async fn a_relay_that_panics_is_reported() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, _backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(|_| {}));
    tunnel.inspector = Some(Box::new(Panics));
    let mut ends = launched(tunnel, b"");
    client.write_all(&question(b"hello")).await.unwrap();
    let outcome = ends.recv().await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.close_code()),
        (Initiator::Gateway, Reason::Panicked, None)
    );
}

#[test]
fn a_relay_whose_runtime_ends_is_reported() {
    for switching in [&b""[..], b"HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut ends, kept) = runtime.block_on(async {
            // A pipe with a capacity of one byte: a client that is not writable.
            let (client, near) = tokio::io::duplex(1);
            let (far, backend) = tokio::io::duplex(1 << 16);
            let ends = launched(tunnel(boxed(near), boxed(far), policy(|_| {})), switching);
            tokio::task::yield_now().await;
            (ends, (client, backend))
        });
        assert!(ends.try_recv().is_err(), "it lives");
        runtime.shutdown_background();
        let outcome = ends.try_recv().unwrap();
        assert_eq!((outcome.by, outcome.reason), (Initiator::Gateway, Reason::Aborted));
        drop(kept);
    }
}

#[tokio::test]
async fn a_client_that_left_before_its_101_is_reported() {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, _backend) = tokio::io::duplex(1 << 16);
    drop(client);
    let mut ends = launched(
        tunnel(boxed(near), boxed(far), policy(|_| {})),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    );
    let outcome = ends.recv().await.unwrap();
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Client), Reason::Reset));
}
