//! Tests of failover.

use super::*;
use crate::config::OnEndpointLoss;
use crate::tunnel::redial::{Found, Loss, Redial, Search};
use crate::tunnel::{ABNORMAL, Registry};
use moongate_config::Size;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::mpsc;

/// Returns backends that a test sends.
pub(super) struct Spares(pub(super) mpsc::UnboundedReceiver<TunnelIo>);

impl Redial for Spares {
    fn redial(mut self: Box<Self>, loss: Loss) -> Search {
        Box::pin(async move {
            let backend = tokio::time::timeout(loss.limit, self.0.recv()).await.ok().flatten();
            let found = backend.map(|backend| Found {
                backend,
                early: Bytes::new(),
                endpoint: 2,
                counters: counters("test"),
                guard: Box::new(()),
            });
            (self as Box<dyn Redial>, found)
        })
    }

    fn state(&self) -> Option<serde_json::Value> {
        None
    }
}

/// A client with failover, and its backends.
struct Setting {
    client: DuplexStream,
    backend: DuplexStream,
    spares: mpsc::UnboundedSender<TunnelIo>,
    relay: JoinHandle<Outcome>,
}

impl Setting {
    /// With pipes of `size` bytes.
    fn with(size: usize, change: impl FnOnce(&mut WebSocket)) -> Self {
        let (client, near) = tokio::io::duplex(size);
        let (far, backend) = tokio::io::duplex(size);
        let (spares, waiting) = mpsc::unbounded_channel();
        let policy = policy(|written| {
            written.on_endpoint_loss = OnEndpointLoss::Reconnect;
            change(written);
        });
        let mut tunnel = tunnel(boxed(near), boxed(far), policy);
        tunnel.redial = Some(Box::new(Spares(waiting)));
        Self { client, backend, spares, relay: tokio::spawn(run(tunnel)) }
    }

    fn new() -> Self {
        Self::with(1 << 16, |_| {})
    }

    /// Disconnects the backend and waits until the relay has noticed.
    async fn lose(&mut self) {
        self.backend = tokio::io::duplex(1).0;
        tokio::task::yield_now().await;
    }

    /// Supplies the next backend.
    fn spare(&self) -> DuplexStream {
        let (far, backend) = tokio::io::duplex(1 << 16);
        self.spares.send(boxed(far)).unwrap();
        backend
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_vanishes_between_messages_is_replaced() {
    let Setting { mut client, backend, spares, relay } = Setting::new();
    drop(backend);
    tokio::task::yield_now().await;
    client.write_all(&[question(b"one"), question(b"two")].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (far, mut second) = tokio::io::duplex(1 << 16);
    spares.send(boxed(far)).unwrap();
    assert_eq!(read_frame(&mut second).await, (0x81, b"one".to_vec()));
    assert_eq!(read_frame(&mut second).await, (0x81, b"two".to_vec()));
    second.write_all(&answer(b"three")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x81, b"three".to_vec()));
    client.write_all(&leave(1000)).await.unwrap();
    assert_eq!(read_close(&mut second).await, 1000);
    second.write_all(&dismiss(1000)).await.unwrap();
    drop(second);
    assert_eq!(read_close(&mut client).await, 1000);
    let outcome = relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Client), Reason::Closed, 1000)
    );
    assert_eq!(outcome.messages, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_leaving_backend_is_answered_and_not_forwarded() {
    for code in [1001, 1012] {
        let mut setting = Setting::new();
        setting.backend.write_all(&[answer(b"last words"), dismiss(code)].concat()).await.unwrap();
        assert_eq!(read_frame(&mut setting.client).await, (0x81, b"last words".to_vec()));
        assert_eq!(read_close(&mut setting.backend).await, code);
        read_end(&mut setting.backend).await;
        let mut second = setting.spare();
        setting.client.write_all(&question(b"still here")).await.unwrap();
        assert_eq!(read_frame(&mut second).await, (0x81, b"still here".to_vec()));
        assert!(!setting.relay.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_close_reaches_the_client() {
    for code in [1000, 1003, 1008, 1011, 4000] {
        let mut setting = Setting::new();
        setting.backend.write_all(&dismiss(code)).await.unwrap();
        assert_eq!(read_close(&mut setting.client).await, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_echoes_the_clients_own_1001_is_not_replaced() {
    let mut setting = Setting::new();
    setting.client.write_all(&leave(1001)).await.unwrap();
    assert_eq!(read_close(&mut setting.backend).await, 1001);
    setting.backend.write_all(&dismiss(1001)).await.unwrap();
    assert_eq!(read_close(&mut setting.client).await, 1001);
    drop(setting.backend);
    assert_eq!(setting.relay.await.unwrap().reason, Reason::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_message_is_replayed_from_its_first_frame() {
    let mut setting = Setting::new();
    let parts = [
        question(b"whole"),
        frame(0x01, b"be", Some(KEY)),
        frame(0x89, b"?", Some(KEY)),
        frame(0x00, b"gi", Some(KEY)),
    ];
    let end = frame(0x80, b"nning", Some(KEY));
    setting.client.write_all(&parts.concat()).await.unwrap();
    setting.client.write_all(&end[..7]).await.unwrap();
    read(&mut setting.backend, parts.concat().len() + 7).await;
    drop(setting.backend);
    let (far, mut second) = tokio::io::duplex(1 << 16);
    setting.spares.send(boxed(far)).unwrap();
    setting.client.write_all(&end[7..]).await.unwrap();
    let again = [parts[1..].concat(), end].concat();
    assert_eq!(read(&mut second, again.len()).await, again);
}

#[tokio::test(start_paused = true)]
async fn half_a_message_of_the_backend_costs_the_client() {
    let whole = answer(&[b'x'; 1_000]);
    // No Close frame can be inserted within a frame.
    let mut setting = Setting::new();
    setting.backend.write_all(&whole[..500]).await.unwrap();
    read(&mut setting.client, 500).await;
    drop(setting.backend);
    read_end(&mut setting.client).await;
    drop(setting.client);
    assert_eq!(setting.relay.await.unwrap().by, Initiator::Side(Side::Backend));
    // Between two frames of a message it can.
    let mut setting = Setting::new();
    setting.backend.write_all(&frame(0x01, b"half", None)).await.unwrap();
    read_frame(&mut setting.client).await;
    drop(setting.backend);
    assert_eq!(read_close(&mut setting.client).await, 1001);
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_head_that_never_reached_the_client_is_forgotten() {
    let mut setting = Setting::new();
    setting
        .backend
        .write_all(&[answer(b"all"), answer(&[b'x'; 1_000])[..3].to_vec()].concat())
        .await
        .unwrap();
    assert_eq!(read_frame(&mut setting.client).await, (0x81, b"all".to_vec()));
    let mut second = setting.spare();
    drop(setting.backend);
    second.write_all(&answer(b"new")).await.unwrap();
    assert_eq!(read_frame(&mut setting.client).await, (0x81, b"new".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_read_up_to_the_bound() {
    let mut setting = Setting::with(1 << 10, |written| {
        written.reconnect_buffer = Size(4 << 10);
        written.reconnect_timeout.0 = Duration::from_secs(60);
    });
    drop(setting.backend);
    let message = question(&[b'x'; 94]);
    let mut sent = 0;
    let wait = Duration::from_secs(1);
    while tokio::time::timeout(wait, setting.client.write_all(&message)).await.is_ok() {
        sent += message.len();
        assert!(sent <= (4 << 10) + (1 << 10), "the relay hoards");
    }
    assert!(sent >= 4 << 10, "{sent}");
    // Its silence meanwhile is caused by the gateway, beyond the ping timeout too.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let (far, mut second) = tokio::io::duplex(1 << 16);
    setting.spares.send(boxed(far)).unwrap();
    for _ in 0..sent / message.len() {
        assert_eq!(read_frame(&mut second).await, (0x81, vec![b'x'; 94]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_message_above_the_bound_closes_the_client() {
    let mut setting = Setting::with(1 << 10, |written| written.reconnect_buffer = Size(2 << 10));
    let long = frame(0x82, &[7; 10_000], Some(KEY));
    let begin = setting.client.write_all(&long[..5_000]);
    let (begun, _) = tokio::join!(begin, read(&mut setting.backend, 5_000));
    begun.unwrap();
    drop(setting.backend);
    assert_eq!(read_close(&mut setting.client).await, 1012);
    drop(setting.client);
    let outcome = setting.relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Backend), Reason::Eof, ABNORMAL)
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_was_written_whole_costs_nothing() {
    let mut setting = Setting::with(1 << 10, |written| written.reconnect_buffer = Size(2 << 10));
    let long = frame(0x82, &[7; 10_000], Some(KEY));
    let send = setting.client.write_all(&long);
    let (sent, received) = tokio::join!(send, read(&mut setting.backend, long.len()));
    sent.unwrap();
    assert!(received == long);
    let mut second = setting.spare();
    drop(setting.backend);
    setting.client.write_all(&question(b"next")).await.unwrap();
    assert_eq!(read_frame(&mut second).await, (0x81, b"next".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_another_backend_is_closed_with_1012() {
    let mut setting = Setting::new();
    let began = Instant::now();
    setting.backend.write_all(&dismiss(1012)).await.unwrap();
    assert_eq!(read_close(&mut setting.client).await, 1012);
    assert_eq!(began.elapsed().as_secs(), 10);
    setting.client.write_all(&leave(1012)).await.unwrap();
    read_end(&mut setting.client).await;
    let outcome = setting.relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason, outcome.code),
        (Initiator::Side(Side::Backend), Reason::Closed, 1012)
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_a_failover_gets_a_close() {
    let mut setting = Setting::new();
    setting.lose().await;
    setting.client.write_all(&[question(b"save this"), leave(1000)].concat()).await.unwrap();
    let mut second = setting.spare();
    assert_eq!(read_frame(&mut second).await, (0x81, b"save this".to_vec()));
    assert_eq!(read_close(&mut second).await, 1000);
    second.write_all(&dismiss(1000)).await.unwrap();
    assert_eq!(read_close(&mut setting.client).await, 1000);
    drop(second);
    setting.relay.await.unwrap();

    let mut alone = Setting::new();
    drop((alone.backend, alone.spares));
    tokio::task::yield_now().await;
    alone.client.write_all(&leave(1000)).await.unwrap();
    let code = read_close(&mut alone.client).await;
    assert!(matches!(code, 1000 | 1012), "{code}");
    alone.relay.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_responds_to_no_ping_is_replaced_and_pings_continue() {
    let mut setting = Setting::new();
    let mut second = setting.spare();
    for _ in 0..2 {
        let (first, payload) = read_frame(&mut setting.client).await;
        assert_eq!(first, 0x89);
        setting.client.write_all(&frame(0x8a, &payload, Some(KEY))).await.unwrap();
    }
    // The first was pinged after 30 s and lost after 40 s; the second is pinged 30 s later.
    let (first, payload) = read_frame(&mut second).await;
    assert_eq!((first, payload.len()), (0x89, 8));
    second.write_all(&[frame(0x8a, &payload, None), answer(b"alive")].concat()).await.unwrap();
    assert_eq!(read_frame(&mut setting.client).await, (0x81, b"alive".to_vec()));
    assert!(!setting.relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_registry_knows_where_the_tunnel_is() {
    let registry = Arc::new(Registry::default());
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    let (spares, waiting) = mpsc::unbounded_channel();
    let mut tunnel = tunnel(
        boxed(near),
        boxed(far),
        policy(|written| written.on_endpoint_loss = OnEndpointLoss::Reconnect),
    );
    tunnel.redial = Some(Box::new(Spares(waiting)));
    tunnel.member = registry.join(tunnel_key(1));
    let _relay = tokio::spawn(run(tunnel));
    let (far, mut second) = tokio::io::duplex(1 << 16);
    spares.send(boxed(far)).unwrap();
    drop(backend);
    client.write_all(&question(b"hello")).await.unwrap();
    read_frame(&mut second).await;
    let at = |endpoint| {
        registry.drain(
            crate::tunnel::Filter::Endpoint(endpoint),
            Duration::ZERO,
            crate::tunnel::Cause::Endpoint,
            None,
        )
    };
    assert_eq!((at(1).await, at(2).await), (0, 1));
    assert_eq!(read_close(&mut client).await, 1012);
}

#[tokio::test]
async fn a_reset_over_real_sockets_is_outlived() {
    let (mut client, near) = pair().await;
    let (far, mut backend) = pair().await;
    let (spares, waiting) = mpsc::unbounded_channel();
    let mut tunnel =
        tunnel(near, far, policy(|written| written.on_endpoint_loss = OnEndpointLoss::Reconnect));
    tunnel.redial = Some(Box::new(Spares(waiting)));
    let relay = tokio::spawn(run(tunnel));
    client.write_all(&question(b"one")).await.unwrap();
    read_frame(&mut backend).await;
    backend.write_all(&answer(b"last words")).await.unwrap();
    socket2::SockRef::from(&backend).set_linger(Some(Duration::ZERO)).unwrap();
    drop(backend);
    assert_eq!(read_frame(&mut client).await, (0x81, b"last words".to_vec()));
    let (far, mut second) = pair().await;
    spares.send(far.into()).unwrap();
    second.write_all(&answer(b"welcome")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x81, b"welcome".to_vec()));
    client.write_all(&question(b"two")).await.unwrap();
    assert_eq!(read_frame(&mut second).await, (0x81, b"two".to_vec()));
    assert!(!relay.is_finished());
}

/// A backend that reads nothing and sends bytes.
struct Deaf(DuplexStream);

impl crate::tunnel::Io for Deaf {
    fn into_records(self: Box<Self>) -> TunnelIo {
        TunnelIo::Boxed(self)
    }
}

impl tokio::io::AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }
}

/// A client behind a small pipe, and a backend that sends this and reads nothing.
async fn deaf(
    output: &[u8],
) -> (DuplexStream, mpsc::UnboundedSender<TunnelIo>, JoinHandle<Outcome>, DuplexStream) {
    let (client, near) = tokio::io::duplex(64);
    let (far, mut backend) = tokio::io::duplex(1 << 16);
    let (spares, waiting) = mpsc::unbounded_channel();
    let reconnects = |written: &mut WebSocket| written.on_endpoint_loss = OnEndpointLoss::Reconnect;
    let mut tunnel = tunnel(boxed(near), TunnelIo::Boxed(Box::new(Deaf(far))), policy(reconnects));
    tunnel.redial = Some(Box::new(Spares(waiting)));
    backend.write_all(output).await.unwrap();
    (client, spares, tokio::spawn(run(tunnel)), backend)
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_stopped_reading_is_read_to_its_end() {
    let words = answer(&[b'x'; 1_000]);
    let (mut client, spares, relay, _backend) = deaf(&words).await;
    client.write_all(&question(b"anybody?")).await.unwrap();
    // The client is slow: the backend's bytes wait for it, and so does the failover.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read(&mut client, words.len()).await, words);
    let (far, mut second) = tokio::io::duplex(1 << 16);
    spares.send(boxed(far)).unwrap();
    assert_eq!(read_frame(&mut second).await, (0x81, b"anybody?".to_vec()));
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_takes_nothing_more_and_is_in_the_middle_of_a_message_costs_the_client() {
    let (mut client, _spares, relay, _backend) = deaf(&frame(0x01, b"half", None)).await;
    client.write_all(&question(b"anybody?")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x01, b"half".to_vec()));
    assert_eq!(read_close(&mut client).await, 1001);
    client.write_all(&leave(1001)).await.unwrap();
    assert_eq!(relay.await.unwrap().reason, Reason::Reset);
}

/// The complete messages at the start of a backend's input; a message is its frames' payloads.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut whole, mut open) = (Vec::new(), Vec::new());
    while bytes.len() >= 6 {
        let short = usize::from(bytes[1] & 0x7f);
        let (head, length) = match short {
            126 if bytes.len() >= 8 => (8, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            126 => break,
            short => (6, short),
        };
        let Some(payload) = bytes.get(head..head + length) else { break };
        let key = &bytes[head - 4..head];
        if bytes[0] & 0x08 == 0 {
            open.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            if bytes[0] & 0x80 != 0 {
                whole.push(std::mem::take(&mut open));
            }
        }
        bytes = &bytes[head + length..];
    }
    whole
}

/// A message of `size` bytes in `frames` frames, identified by its number, with pings between them.
fn message(number: usize, size: usize, frames: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(8 + size, b'.');
    let parts: Vec<_> = payload.chunks(payload.len().div_ceil(frames)).collect();
    let last = parts.len() - 1;
    let mut bytes = Vec::new();
    for (at, part) in parts.into_iter().enumerate() {
        let first = if at == 0 { 1 } else { 0 } | if at == last { 0x80 } else { 0 };
        bytes.extend(frame(first, part, Some(KEY)));
        if at < last {
            bytes.extend(frame(0x89, b"between", Some(KEY)));
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_cut_where_messages_arrive_whole_in_order_and_once(
        sizes in vec((0usize..600, 1usize..4), 1..30),
        cuts in vec(0usize..2_000, 0..6),
        pipe in 1usize..300,
        split in 1usize..700,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let sent: Vec<_> = sizes.iter().enumerate().map(|(n, (size, frames))| message(n, *size, *frames)).collect();
        let heard = runtime.block_on(async {
            let mut setting = Setting::with(pipe, |_| {});
            let bytes = sent.concat();
            let talk = tokio::spawn(async move {
                for chunk in bytes.chunks(split) {
                    setting.client.write_all(chunk).await.unwrap();
                }
                setting.client
            });
            let mut heard = Vec::new();
            let mut backend = setting.backend;
            for cut in cuts {
                let mut got = vec![0; cut];
                let mut at = 0;
                // A backend reads up to the cut and disconnects, or has read everything.
                while at < cut
                    && let Ok(Ok(more)) =
                        tokio::time::timeout(Duration::from_secs(1), backend.read(&mut got[at..])).await
                {
                    at += more;
                }
                got.truncate(at);
                let (far, next) = tokio::io::duplex(pipe);
                setting.spares.send(boxed(far)).unwrap();
                let mut dying = std::mem::replace(&mut backend, next);
                // It may have read what was written before its end; here it has.
                let mut rest = vec![0; pipe];
                let left = tokio::time::timeout(Duration::ZERO, dying.read(&mut rest)).await;
                rest.truncate(left.map_or(0, Result::unwrap));
                drop(dying);
                got.extend(rest);
                heard.push(got);
            }
            let mut last = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(Ok(more @ 1..)) =
                tokio::time::timeout(Duration::from_secs(1), backend.read(&mut buffer)).await
            {
                last.extend_from_slice(&buffer[..more]);
            }
            heard.push(last);
            drop(talk.await.unwrap());
            heard
        });
        let whole: Vec<_> = heard.iter().flat_map(|bytes| messages(bytes)).collect();
        let expected: Vec<_> = sent.iter().flat_map(|bytes| messages(bytes)).collect();
        prop_assert_eq!(whole.len(), expected.len());
        prop_assert!(whole == expected);
    }
}
