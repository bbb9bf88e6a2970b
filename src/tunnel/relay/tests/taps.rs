//! Tests of tapped tunnels.

use super::*;
use crate::config::OnEndpointLoss;
use crate::tunnel::OpenTap;
use crate::tunnel::tap::{TapEvent, TapLimits, TapSelection, TapSession, TappedMessage};
use crate::websocket::frame::Opcode;
use crate::websocket::handshake::ContextReset;
use flate2::{Compress, Compression, FlushCompress};
use tokio::sync::mpsc::Receiver;

const LIMITS: TapLimits = TapLimits { rate: 1000, bytes: 16 };

/// A registry, and tunnels in it.
fn tunnel_in(
    registry: &Arc<Registry>,
    change: impl FnOnce(&mut Tunnel),
) -> (DuplexStream, DuplexStream, JoinHandle<Outcome>) {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(|_| {}));
    tunnel.member = registry.join(tunnel_key(1));
    change(&mut tunnel);
    (client, backend, tokio::spawn(run(tunnel)))
}

fn tap(registry: &Arc<Registry>, selection: TapSelection) -> (OpenTap, Arc<TapSession>, Receiver<TapEvent>) {
    let (session, events) = TapSession::new(selection, LIMITS);
    (registry.tap(&session), session, events)
}

async fn message(events: &mut Receiver<TapEvent>) -> TappedMessage {
    loop {
        match events.recv().await.expect("the tap goes on") {
            TapEvent::Message(message) => return message,
            TapEvent::Open(_) => {}
            TapEvent::Close { reason, .. } => panic!("closed: {reason}"),
        }
    }
}

fn chat() -> TapSelection {
    TapSelection::Route("chat".into())
}

#[tokio::test(start_paused = true)]
async fn a_tap_sees_both_directions_of_open_and_of_new_tunnels() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, _relay) = tunnel_in(&registry, |_| {});
    client.write_all(&question(b"before")).await.unwrap();
    read_frame(&mut backend).await;
    let (open, _session, mut events) = tap(&registry, chat());
    assert_eq!(open.tunnels, 1);
    client.write_all(&question(b"hello, this is longer than 16 bytes")).await.unwrap();
    let seen = message(&mut events).await;
    assert_eq!((seen.id, seen.from, seen.opcode, seen.size), (0, Side::Client, Opcode::Text, 35));
    assert_eq!((&*seen.excerpt, seen.is_compressed), (&b"hello, this is l"[..], false));
    backend
        .write_all(&[frame(0x02, b"ab", None), frame(0x8a, b"p", None), frame(0x80, b"c", None)].concat())
        .await
        .unwrap();
    let [pong, binary] = [message(&mut events).await, message(&mut events).await];
    assert_eq!((pong.opcode, pong.from, &*pong.excerpt), (Opcode::Pong, Side::Backend, &b"p"[..]));
    assert_eq!((binary.opcode, &*binary.excerpt), (Opcode::Binary, &b"abc"[..]));
    let (mut client, mut backend, relay) = tunnel_in(&registry, |_| {});
    assert!(matches!(events.recv().await, Some(TapEvent::Open(opened)) if opened.id == 1));
    client.write_all(&leave(4000)).await.unwrap();
    let close = message(&mut events).await;
    assert_eq!(
        (close.id, close.opcode, &close.excerpt[..2]),
        (1, Opcode::Close, &4000_u16.to_be_bytes()[..])
    );
    assert_eq!(read_close(&mut backend).await, 4000);
    backend.write_all(&dismiss(4000)).await.unwrap();
    message(&mut events).await;
    drop(backend);
    relay.await.unwrap();
    let ended = events.recv().await;
    assert!(matches!(ended, Some(TapEvent::Close { id: 1, code: Some(4000), reason: "close", .. })));
}

#[tokio::test(start_paused = true)]
async fn messages_are_read_however_the_bytes_are_split_and_from_any_state() {
    let sent = [
        question(b"first"),
        frame(0x01, &[b'x'; 300], Some(KEY)),
        frame(0x80, b"end", Some(KEY)),
        question(b"last"),
    ]
    .concat();
    for joined_after in 0..sent.len() {
        let registry = Arc::new(Registry::default());
        let (mut client, mut backend, _relay) = tunnel_in(&registry, |_| {});
        client.write_all(&sent[..joined_after]).await.unwrap();
        // Everything that can be relayed has been read when a ping of the backend arrives.
        backend.write_all(&frame(0x89, b"", None)).await.unwrap();
        read_frame(&mut client).await;
        let (_open, _session, mut events) = tap(&registry, TapSelection::Tunnel(0));
        for byte in &sent[joined_after..] {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(&question(b"done")).await.unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last: &TappedMessage| last.excerpt != b"done") {
            seen.push(message(&mut events).await);
        }
        let sizes: Vec<_> = seen.iter().map(|message| message.size).collect();
        // The end of each message's first header, and the size. A message whose header was incomplete is seen.
        let messages = [(6, 5), (11 + 8, 303), (11 + 308 + 9 + 6, 4)];
        let expected = messages.iter().filter(|(header, _)| joined_after < *header).map(|(_, size)| *size);
        assert_eq!(sizes, expected.chain([4]).collect::<Vec<_>>(), "{joined_after}");
    }
}

/// Compressed frames of one context.
fn compressed(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut context = Compress::new(Compression::fast(), false);
    let compress = |text: &&[u8]| {
        let mut out = Vec::with_capacity(4096);
        context.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        frame(0xc1, &out, Some(KEY))
    };
    texts.iter().map(compress).collect()
}

#[tokio::test(start_paused = true)]
async fn compression_is_inflated_where_its_context_was_seen() {
    let text: &[u8] = b"again and again and again";
    let takes_over = Extensions::Deflate(ContextReset::default());
    let registry = Arc::new(Registry::default());
    let (_first, _session, mut events) = tap(&registry, chat());
    let (mut client, _backend, _relay) = tunnel_in(&registry, |tunnel| tunnel.extensions = takes_over);
    let frames = compressed(&[text, text, text]);
    client.write_all(&frames[0]).await.unwrap();
    let seen = message(&mut events).await;
    assert_eq!((seen.size, &*seen.excerpt, seen.is_compressed), (25, &text[..16], false));
    let (_later, _other, mut later) = tap(&registry, chat());
    client.write_all(&frames[1]).await.unwrap();
    assert!(!message(&mut events).await.is_compressed);
    assert!(!message(&mut later).await.is_compressed, "the tunnel's first tap has the context");

    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, _relay) = tunnel_in(&registry, |tunnel| tunnel.extensions = takes_over);
    client.write_all(&frames[0]).await.unwrap();
    read_frame(&mut backend).await;
    let (_open, _session, mut events) = tap(&registry, chat());
    client.write_all(&frames[1]).await.unwrap();
    let seen = message(&mut events).await;
    assert!(seen.is_compressed && seen.size == frames[1].len() as u64 - 6, "{seen:?}");

    let resets = Extensions::Deflate(ContextReset { client: true, server: false });
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, _relay) = tunnel_in(&registry, |tunnel| tunnel.extensions = resets);
    client.write_all(&compressed(&[text])[0]).await.unwrap();
    read_frame(&mut backend).await;
    let (_open, _session, mut events) = tap(&registry, chat());
    for _ in 0..2 {
        client.write_all(&compressed(&[text])[0]).await.unwrap();
        assert!(!message(&mut events).await.is_compressed, "every message begins a context");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_tap_leaves_the_tunnel_as_it_was() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, relay) = tunnel_in(&registry, |_| {});
    let (open, session, mut events) = tap(&registry, chat());
    client.write_all(&question(b"seen")).await.unwrap();
    assert_eq!(message(&mut events).await.excerpt, b"seen");
    drop((open, session));
    client.write_all(&question(b"unseen")).await.unwrap();
    read_frame(&mut backend).await;
    read_frame(&mut backend).await;
    assert!(events.recv().await.is_none(), "nobody holds the tap any more");
    let (other, ..) = tap(&registry, TapSelection::Route("other".into()));
    assert_eq!(other.tunnels, 0);
    drop(registry);
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn events_beyond_the_rate_are_dropped_and_counted() {
    let registry = Arc::new(Registry::default());
    let (mut client, mut backend, _relay) = tunnel_in(&registry, |_| {});
    let (session, mut events) = TapSession::new(chat(), TapLimits { rate: 5, bytes: 16 });
    let _open = registry.tap(&session);
    for _ in 0..50 {
        client.write_all(&question(b"flood")).await.unwrap();
        read_frame(&mut backend).await;
    }
    let mut received = 0;
    while events.try_recv().is_ok() {
        received += 1;
    }
    let dropped = session.take_dropped();
    assert!((5..20).contains(&received) && received + dropped == 50, "{received} {dropped}");
}

#[tokio::test(start_paused = true)]
async fn an_inspected_tunnel_is_tapped_before_its_plugins() {
    let registry = Arc::new(Registry::default());
    let (_open, _session, mut events) = tap(&registry, chat());
    let (mut client, mut backend, _relay) =
        tunnel_in(&registry, |tunnel| tunnel.inspector = super::messages::reader(&Side::BOTH));
    client.write_all(&question(b"quiet")).await.unwrap();
    assert_eq!(read_frame(&mut backend).await.1, b"QUIET");
    assert_eq!(message(&mut events).await.excerpt, b"quiet");
}

#[tokio::test(start_paused = true)]
async fn a_tap_goes_on_with_another_backend() {
    let registry = Arc::new(Registry::default());
    let (_open, _session, mut events) = tap(&registry, chat());
    let (spares, waiting) = tokio::sync::mpsc::unbounded_channel();
    let (_client, backend, _relay) = tunnel_in(&registry, |tunnel| {
        tunnel.policy = policy(|written| written.on_endpoint_loss = OnEndpointLoss::Reconnect);
        tunnel.redial = Some(Box::new(super::failover::Spares(waiting)));
    });
    let (far, mut second) = tokio::io::duplex(1 << 16);
    spares.send(boxed(far)).unwrap();
    drop(backend);
    second.write_all(&answer(b"from the second")).await.unwrap();
    assert_eq!(message(&mut events).await.excerpt, b"from the second");
}
