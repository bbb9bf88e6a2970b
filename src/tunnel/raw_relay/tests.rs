//! Tests of the raw relay: on pipes and real sockets, with a paused clock where time matters.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::MessageRate;
use crate::plugin::RecheckVerdict;
use crate::telemetry::metrics::{EndpointMetrics, RouteMetrics, UpgradeMetrics};
use crate::tunnel::messages::RecheckFuture;
use crate::tunnel::{Cause, DepartureState, Filter, OperatorClose, Registry, TunnelKey};
use http::StatusCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PIPE: usize = 64 << 10;

/// A relay with its registry, the client's and the backend's end, and its outcome.
struct Running<S> {
    registry: Arc<Registry>,
    client: S,
    backend: S,
    outcome: JoinHandle<Outcome>,
}

fn tunnel(registry: &Arc<Registry>, client: impl Into<TunnelIo>, backend: impl Into<TunnelIo>) -> RawTunnel {
    let (route, endpoint) = (RouteMetrics::of("raw"), EndpointMetrics::of("raw", "raw"));
    let metrics = UpgradeMetrics::open(&route, &endpoint, &"tcp".into());
    let key = TunnelKey {
        endpoint: 1,
        route: "raw".into(),
        route_version: 1,
        generation: 1,
        listener: "".into(),
        protocol: Some("tcp".into()),
        origin: None,
        drain_part: None,
        connection: None,
    };
    RawTunnel {
        client: client.into(),
        backend: backend.into(),
        preface: Bytes::new(),
        client_early: Bytes::new(),
        backend_early: Bytes::new(),
        limits: RawLimits { close_timeout: Duration::from_secs(5), ..RawLimits::default() },
        counters: RawCounters::new(metrics),
        member: registry.join(key),
        guard: Box::new(()),
        recheck: None,
    }
}

/// A relay over pipes.
fn pipes(change: impl FnOnce(&mut RawTunnel)) -> Running<DuplexStream> {
    let (client, near) = tokio::io::duplex(PIPE);
    let (far, backend) = tokio::io::duplex(PIPE);
    let registry = Arc::<Registry>::default();
    let boxed = |pipe: DuplexStream| TunnelIo::Boxed(Box::new(pipe));
    let mut tunnel = tunnel(&registry, boxed(near), boxed(far));
    change(&mut tunnel);
    Running { registry, client, backend, outcome: tokio::spawn(run(tunnel)) }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (a, b) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (a.unwrap(), b.unwrap().0)
}

/// A relay over real sockets.
async fn sockets(change: impl FnOnce(&mut RawTunnel)) -> Running<TcpStream> {
    let ((client, near), (far, backend)) = (pair().await, pair().await);
    let registry = Arc::<Registry>::default();
    let mut tunnel = tunnel(&registry, near, far);
    change(&mut tunnel);
    Running { registry, client, backend, outcome: tokio::spawn(run(tunnel)) }
}

async fn read(from: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.unwrap();
    rest
}

fn verdict(outcome: &Outcome) -> (Initiator, Reason) {
    (outcome.by, outcome.reason)
}

#[tokio::test]
async fn bytes_pass_in_both_directions_after_the_preface_and_the_early_ones() {
    let Running { mut client, mut backend, outcome, .. } = sockets(|tunnel| {
        tunnel.preface = Bytes::from_static(b"101");
        tunnel.client_early = Bytes::from_static(b"in");
        tunnel.backend_early = Bytes::from_static(b"out");
    })
    .await;
    client.write_all(&[0, 255, b'\n']).await.unwrap();
    backend.write_all(b"put").await.unwrap();
    assert_eq!(read(&mut backend, 5).await, [b'i', b'n', 0, 255, b'\n']);
    assert_eq!(read(&mut client, 9).await, b"101output");
    drop(client);
    assert_eq!(rest(&mut backend).await, b"");
    drop(backend);
    let outcome = outcome.await.unwrap();
    assert_eq!(verdict(&outcome), (Initiator::Side(Side::Client), Reason::Eof));
    assert_eq!((outcome.bytes, outcome.messages, outcome.close_code()), ([5, 6], [0, 0], None));
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    for first in Side::BOTH {
        let Running { client, backend, outcome, .. } = sockets(|_| {}).await;
        let (mut one, mut other) = if first == Side::Client { (client, backend) } else { (backend, client) };
        one.write_all(b"question").await.unwrap();
        one.shutdown().await.unwrap();
        assert_eq!(rest(&mut other).await, b"question");
        for _ in 0..3 {
            other.write_all(b"more").await.unwrap();
            assert_eq!(read(&mut one, 4).await, b"more");
        }
        assert!(!outcome.is_finished());
        other.shutdown().await.unwrap();
        assert_eq!(rest(&mut one).await, b"");
        assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Side(first), Reason::Eof));
    }
}

#[tokio::test]
async fn a_reset_ends_the_relay_after_what_was_read() {
    let Running { client, mut backend, outcome, .. } = sockets(|_| {}).await;
    let mut client = client;
    client.write_all(b"last words").await.unwrap();
    assert_eq!(read(&mut backend, 10).await, b"last words");
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(rest(&mut backend).await, b"");
    drop(backend);
    assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Side(Side::Client), Reason::Reset));
}

#[tokio::test]
async fn what_a_vanished_backend_sent_reaches_a_client_that_still_writes() {
    let Running { mut client, mut backend, outcome, .. } = sockets(|_| {}).await;
    // Unread bytes make the close a reset.
    client.write_all(&[7; 1000]).await.unwrap();
    backend.readable().await.unwrap();
    backend.write_all(b"error: no such container").await.unwrap();
    assert_eq!(read(&mut client, 5).await, b"error");
    drop(backend);
    assert_eq!(rest(&mut client).await, b": no such container");
    drop(client);
    assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Side(Side::Backend), Reason::Reset));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_the_other_side() {
    let Running { mut client, mut backend, .. } = pipes(|_| {});
    let mut sent = 0;
    let flood = async {
        loop {
            sent += backend.write(&[1; 4096]).await.unwrap();
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), flood).await;
    assert!(sent <= 2 * PIPE + relay_io::SCRATCH, "{sent} bytes were taken");
    assert_eq!(read(&mut client, sent).await, vec![1; sent]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_ends_and_bytes_of_either_side_keep_it() {
    for busy in Side::BOTH {
        let began = Instant::now();
        let Running { mut client, mut backend, outcome, .. } =
            pipes(|tunnel| tunnel.limits.idle_timeout = Some(Duration::from_secs(60)));
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            let (from, to) =
                if busy == Side::Client { (&mut client, &mut backend) } else { (&mut backend, &mut client) };
            from.write_all(b"x").await.unwrap();
            assert_eq!(read(to, 1).await, b"x");
        }
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(rest(&mut backend).await, b"");
        assert_eq!(began.elapsed().as_secs(), 310);
        drop((client, backend));
        assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Gateway, Reason::Idle));
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_at_its_age_and_waits_for_the_ends_of_both_sides() {
    let began = Instant::now();
    let Running { mut client, mut backend, outcome, .. } = pipes(|tunnel| {
        tunnel.limits.max_age = Some(Duration::from_secs(100));
        tunnel.limits.jitter = Duration::from_secs(10);
    });
    assert_eq!(rest(&mut client).await, b"");
    assert!((89..=100).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(rest(&mut backend).await, b"");
    // What a side still sends is read, so that its connection is not reset, and discarded.
    client.write_all(&[1; PIPE]).await.unwrap();
    client.write_all(&[1; PIPE]).await.unwrap();
    assert!(!outcome.is_finished());
    let ended = Instant::now();
    let outcome = outcome.await.unwrap();
    assert_eq!((verdict(&outcome), outcome.bytes), ((Initiator::Gateway, Reason::MaxAge), [0, 0]));
    assert_eq!(ended.elapsed().as_secs(), 5, "`close_timeout`");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_takes_nothing_is_given_up() {
    let Running { client, mut backend, outcome, .. } = pipes(|tunnel| {
        tunnel.limits.write_timeout = Some(Duration::from_secs(30));
        tunnel.limits.idle_timeout = Some(Duration::from_secs(3600));
    });
    backend.write_all(&[1; PIPE + 1]).await.unwrap();
    assert_eq!(rest(&mut backend).await, b"");
    drop(backend);
    assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Side(Side::Client), Reason::WriteTimeout));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_drain_and_an_operator_end_both_sides() {
    for by_drain in [true, false] {
        let Running { registry, mut client, mut backend, outcome } = pipes(|_| {});
        client.write_all(b"before").await.unwrap();
        assert_eq!(read(&mut backend, 6).await, b"before");
        assert_eq!((registry.websockets(), registry.raw_relays()), (0, 1));
        let reason = if by_drain {
            assert_eq!(registry.drain(Filter::All, Duration::from_secs(9), Cause::Route, None).await, 1);
            Reason::Drain(Cause::Route)
        } else {
            let id = registry.unasked()[0];
            registry.close(id, OperatorClose { code: 1012, reason: "bye".into() }).unwrap();
            Reason::Operator
        };
        assert_eq!((rest(&mut client).await, rest(&mut backend).await), (Vec::new(), Vec::new()));
        drop((client, backend));
        assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Gateway, reason));
        assert_eq!(registry.raw_relays(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_above_its_rate_is_paused_or_ends() {
    let rate = |on_exceed| {
        let written = crate::config::WebSocket {
            bytes_per_second: Some(moongate_config::Size(1000)),
            messages_per_second: Some(MessageRate::Local(1)),
            on_exceed,
            ..Default::default()
        };
        crate::tunnel::Policy::new(&written, None).unwrap().raw_limits().rate
    };
    let Running { mut client, mut backend, .. } = pipes(|tunnel| tunnel.limits.rate = rate(Exceed::Pause));
    let began = Instant::now();
    client.write_all(&[1; 6000]).await.unwrap();
    assert_eq!(read(&mut backend, 6000).await, vec![1; 6000]);
    assert!((3..=6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    let Running { mut client, mut backend, outcome, .. } =
        pipes(|tunnel| tunnel.limits.rate = rate(Exceed::Close));
    client.write_all(&[1; 1001]).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut backend).await, vec![1; 1001], "what was read is delivered");
    drop((client, backend));
    assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Gateway, Reason::Rate));
}

/// Refuses at the second time.
#[derive(Debug, Default)]
struct Expiry(std::sync::atomic::AtomicU32);

impl Recheck for Expiry {
    fn intervals(&self) -> Vec<Duration> {
        vec![Duration::from_secs(10)]
    }

    fn ask(self: Arc<Self>, _question: usize) -> RecheckFuture {
        Box::pin(async move {
            match self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => RecheckVerdict::Granted,
                _ => RecheckVerdict::Refused(StatusCode::UNAUTHORIZED),
            }
        })
    }

    fn state(&self) -> Option<serde_json::Value> {
        Some(serde_json::Value::Null)
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_recheck_ends_the_relay() {
    let began = Instant::now();
    let Running { mut client, backend, outcome, .. } =
        pipes(|tunnel| tunnel.recheck = Some(Arc::new(Expiry::default())));
    assert_eq!(rest(&mut client).await, b"");
    assert!((18..=20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    drop((client, backend));
    assert_eq!(verdict(&outcome.await.unwrap()), (Initiator::Gateway, Reason::Refused));
}

/// The state of a relay that departs, after the other process has it.
async fn depart(registry: &Registry) -> (DepartureState, [TcpStream; 2]) {
    let (order, departures) = std::sync::mpsc::channel();
    registry.depart(&registry.unasked(), &order);
    drop(order);
    let departure = tokio::task::spawn_blocking(move || departures.recv().unwrap()).await.unwrap();
    assert_eq!(departure.protocol.as_deref(), Some("tcp"));
    let sockets = departure.sockets.map(|socket| {
        let socket = std::net::TcpStream::from(socket);
        socket.set_nonblocking(true).unwrap();
        TcpStream::from_std(socket).unwrap()
    });
    departure.confirm.send(true).unwrap();
    (departure.state, sockets)
}

#[tokio::test]
async fn a_relay_continues_in_another_process_with_its_counts_and_half_closed() {
    for is_half_closed in [false, true] {
        let Running { registry, mut client, mut backend, outcome } = sockets(|_| {}).await;
        client.write_all(b"before").await.unwrap();
        assert_eq!(read(&mut backend, 6).await, b"before");
        if is_half_closed {
            client.shutdown().await.unwrap();
            assert_eq!(rest(&mut backend).await, b"");
        }
        let (state, [near, far]) = depart(&registry).await;
        assert_eq!(outcome.await.unwrap().reason, Reason::Moved);
        let DepartureState::Raw(state) = state else { panic!("it is a raw relay") };
        let state: crate::tunnel::RawState =
            serde_json::from_value(serde_json::to_value(state).unwrap()).unwrap();
        let registry = Arc::<Registry>::default();
        let outcome = tokio::spawn(resume(tunnel(&registry, near, far), state));
        backend.write_all(b"after").await.unwrap();
        assert_eq!(read(&mut client, 5).await, b"after");
        if !is_half_closed {
            client.write_all(b"!").await.unwrap();
            assert_eq!(read(&mut backend, 1).await, b"!");
        }
        drop(client);
        assert_eq!(rest(&mut backend).await, b"");
        drop(backend);
        let outcome = outcome.await.unwrap();
        assert_eq!(verdict(&outcome), (Initiator::Side(Side::Client), Reason::Eof));
        assert_eq!(outcome.bytes, [if is_half_closed { 6 } else { 7 }, 5]);
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_side_moves_too() {
    let Running { registry, mut client, mut backend, .. } = sockets(|_| {}).await;
    let all: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let sending = {
        let all = all.clone();
        tokio::spawn(async move {
            backend.write_all(&all).await.unwrap();
            backend
        })
    };
    let begin = read(&mut client, 1000).await;
    let (state, [near, far]) = depart(&registry).await;
    let DepartureState::Raw(state) = state else { panic!("it is a raw relay") };
    let registry = Arc::<Registry>::default();
    tokio::spawn(resume(tunnel(&registry, near, far), *state));
    let more = read(&mut client, all.len() - begin.len()).await;
    assert!([begin, more].concat() == all, "bytes are lost or changed");
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_relay_that_cannot_move_continues() {
    let Running { registry, mut client, mut backend, .. } = pipes(|_| {});
    let (order, departures) = std::sync::mpsc::channel();
    registry.depart(&registry.unasked(), &order);
    drop(order);
    let refused = tokio::task::spawn_blocking(move || departures.recv().is_err()).await.unwrap();
    assert!(refused, "a pipe has no descriptor");
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut backend, 10).await, b"still here");
    let drain = registry.drain(Filter::All, Duration::ZERO, Cause::Shutdown, None);
    assert_eq!(drain.await, 1);
    assert_eq!(rest(&mut client).await, b"");
}
