//! Tests of inspected and rechecked tunnels.

use super::*;
use crate::config::OnEndpointLoss;
use crate::plugin::{ChainVerdict, RecheckVerdict};
use crate::tunnel::messages::RecheckFuture;
use crate::tunnel::redial::{Found, Loss, Search};
use http::StatusCode;
use moongate_config::Size;
use moongate_sdk::Message;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

type Look = fn(&mut Message) -> ChainVerdict;

/// Inspects the messages of these sides, and reports the outcome.
struct Reader {
    sides: &'static [Side],
    look: Look,
    ended: Option<mpsc::UnboundedSender<Outcome>>,
}

impl Inspector for Reader {
    fn inspects(&self, from: Side) -> bool {
        self.sides.contains(&from)
    }

    fn message(&mut self, message: &mut Message) -> ChainVerdict {
        (self.look)(message)
    }

    fn ended(&mut self, outcome: &Outcome) {
        if let Some(ended) = &self.ended {
            ended.send(outcome.clone()).unwrap();
        }
    }

    fn state(&mut self) -> Option<serde_json::Value> {
        None
    }
}

/// Converts to upper case; drops `mum`, closes at `bye`, fails at `oops`.
fn shout(message: &mut Message) -> ChainVerdict {
    match &message.payload[..] {
        b"mum" => return ChainVerdict::Drop,
        b"bye" => return ChainVerdict::Close { code: 4001, reason: "as you like".into() },
        b"oops" => return ChainVerdict::Failed,
        _ => message.payload.make_ascii_uppercase(),
    }
    ChainVerdict::Forward
}

pub(super) fn reader(sides: &'static [Side]) -> Option<Box<dyn Inspector>> {
    Some(Box::new(Reader { sides, look: shout, ended: None }))
}

fn inspected(
    sides: &'static [Side],
    change: impl FnOnce(&mut WebSocket),
) -> (DuplexStream, DuplexStream, JoinHandle<Outcome>) {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(change));
    tunnel.inspector = reader(sides);
    (client, backend, tokio::spawn(run(tunnel)))
}

#[tokio::test(start_paused = true)]
async fn fragments_become_one_message_and_control_frames_do_not_wait_for_it() {
    let (mut client, mut backend, _relay) = inspected(&Side::BOTH, |_| {});
    client.write_all(&[frame(0x01, b"he", Some(KEY)), frame(0x89, b"?", Some(KEY))].concat()).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x89, b"?".to_vec()));
    backend.write_all(&frame(0x8a, b"?", None)).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x8a, b"?".to_vec()));
    client.write_all(&frame(0x80, b"llo", Some(KEY))).await.unwrap();
    let head = read(&mut backend, 6).await;
    assert_eq!(head[..2], [0x81, 0x85]);
    assert_ne!(head[2..], KEY, "the key is the gateway's own");
    read(&mut backend, 5).await;
    backend.write_all(&frame(0x02, b"wo", None)).await.unwrap();
    backend.write_all(&frame(0x80, b"rld", None)).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x82, b"WORLD".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn an_uninspected_direction_is_relayed_unchanged() {
    let (mut client, mut backend, _relay) = inspected(&[Side::Client], |_| {});
    let half = frame(0x01, b"half", None);
    backend.write_all(&half).await.unwrap();
    assert_eq!(read(&mut client, half.len()).await, half);
    client.write_all(&question(b"hello")).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"HELLO".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_dropped_is_counted_and_goes_no_further() {
    let (mut client, mut backend, relay) = inspected(&[Side::Client], |_| {});
    client.write_all(&[question(b"mum"), question(b"dad")].concat()).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"DAD".to_vec()));
    client.write_all(&leave(1000)).await.unwrap();
    assert_eq!(read_close(&mut backend).await, 1000);
    backend.write_all(&dismiss(1000)).await.unwrap();
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.messages, outcome.bytes[0]), ([2, 0], 26));
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Client), Reason::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_plugins_close_goes_to_both_sides_and_waits_for_the_clients_close() {
    for (word, code, reason, text) in [
        (b"bye" as &[u8], 4001, Reason::Plugin, "as you like"),
        (b"oops", 1011, Reason::PluginFailed, "plugin failed"),
    ] {
        for from in Side::BOTH {
            let (mut client, mut backend, relay) = inspected(&Side::BOTH, |_| {});
            match from {
                Side::Client => {
                    client.write_all(&[question(word), question(b"late")].concat()).await.unwrap();
                }
                Side::Backend => {
                    backend.write_all(&[answer(word), answer(b"late")].concat()).await.unwrap();
                }
            }
            let expected = [&u16::to_be_bytes(code)[..], text.as_bytes()].concat();
            assert_eq!(read_frame(&mut client).await, (0x88, expected.clone()));
            assert_eq!(read_frame(&mut backend).await, (0x88, expected));
            let began = Instant::now();
            client.write_all(&[question(b"more"), leave(code)].concat()).await.unwrap();
            backend.write_all(&dismiss(code)).await.unwrap();
            read_end(&mut client).await;
            drop((client, backend));
            let outcome = relay.await.unwrap();
            assert_eq!((outcome.by, outcome.reason, outcome.code), (Initiator::Gateway, reason, code));
            assert_eq!(began.elapsed(), Duration::ZERO, "no wait for a silent side");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_does_not_pass_unseen() {
    let (mut client, _backend, relay) = inspected(&[Side::Client], |written| {
        written.invalid_frames = crate::config::InvalidFrames::Pass;
    });
    client.write_all(&frame(0xc1, b"compressed?", Some(KEY))).await.unwrap();
    assert_eq!(read_close(&mut client).await, 1002);
    drop(client);
    assert_eq!(relay.await.unwrap().reason.token(), "client_invalid_frame");
    let (mut client, _backend, _relay) = inspected(&[Side::Client], |_| {});
    client.write_all(&question(b"\xff")).await.unwrap();
    assert_eq!(read_close(&mut client).await, 1007);
    let (mut client, _backend, _relay) =
        inspected(&[Side::Client], |written| written.max_message = Some(Size(4)));
    client.write_all(&question(b"12345")).await.unwrap();
    assert_eq!(read_close(&mut client).await, 1009);
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_handshake_is_seen_too() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, mut backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(|_| {}));
    let sent = question(b"early");
    tunnel.client_early = Bytes::copy_from_slice(&sent[..3]);
    tunnel.backend_early = answer(b"hello").into();
    tunnel.inspector = reader(&Side::BOTH);
    let _relay = tokio::spawn(run(tunnel));
    client.write_all(&sent[3..]).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"EARLY".to_vec()));
    assert_eq!(read_frame(&mut client).await, (0x81, b"HELLO".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_writer_of_inspected_messages() {
    let (mut client, mut backend, _relay) =
        inspected(&[Side::Client], |written| written.write_timeout.0 = Duration::ZERO);
    let message = question(&[b'x'; 1000]);
    let mut sent = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), client.write_all(&message)).await {
        written.unwrap();
        sent += 1;
        assert!(sent * message.len() <= (3 << 16) + relay_io::SCRATCH, "the relay hoards");
    }
    for _ in 0..sent {
        assert_eq!(read_frame(&mut backend).await, (0x81, vec![b'X'; 1000]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_in_the_middle_of_its_message() {
    let (mut client, mut backend, _relay) = inspected(&[Side::Client], |_| {});
    client.write_all(&question(b"cut here")[..9]).await.unwrap();
    let (first, payload) = read_frame(&mut client).await;
    assert_eq!(first, 0x89);
    // No pong can be inserted within a frame: any byte is a sign of life, and so is the rest.
    client.write_all(&question(b"cut here")[9..]).await.unwrap();
    client.write_all(&frame(0x8a, &payload, Some(KEY))).await.unwrap();
    let mut heard = Vec::new();
    while heard.is_empty() {
        let (first, payload) = read_frame(&mut backend).await;
        if first == 0x81 {
            heard = payload;
        }
    }
    assert_eq!(heard, b"CUT HERE");
}

/// Returns backends that a test sends.
struct Spares(mpsc::UnboundedReceiver<TunnelIo>);

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

#[tokio::test(start_paused = true)]
async fn a_client_with_inspected_messages_survives_a_failover() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, mut backend) = tokio::io::duplex(1 << 16);
    let policy = policy(|written| written.on_endpoint_loss = OnEndpointLoss::Reconnect);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy);
    let (spares, waiting) = mpsc::unbounded_channel();
    tunnel.redial = Some(Box::new(Spares(waiting)));
    tunnel.inspector = reader(&Side::BOTH);
    let relay = tokio::spawn(run(tunnel));
    // The client has received nothing of the first backend's incomplete message.
    backend.write_all(&frame(0x01, b"half", None)).await.unwrap();
    client.write_all(&[question(b"one"), frame(0x01, b"tw", Some(KEY))].concat()).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"ONE".to_vec()));
    drop(backend);
    tokio::task::yield_now().await;
    client
        .write_all(&[frame(0x80, b"o", Some(KEY)), question(b"mum"), question(b"three")].concat())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (far, mut second) = tokio::io::duplex(1 << 16);
    spares.send(boxed(far)).unwrap();
    assert_eq!(read_frame(&mut second).await, (0x81, b"TWO".to_vec()));
    assert_eq!(read_frame(&mut second).await, (0x81, b"THREE".to_vec()));
    second.write_all(&answer(b"whole")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x81, b"WHOLE".to_vec()));
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_inspector_gets_the_outcome() {
    let (mut client, near) = tokio::io::duplex(1 << 16);
    let (far, mut backend) = tokio::io::duplex(1 << 16);
    let mut tunnel = tunnel(boxed(near), boxed(far), policy(|_| {}));
    let (ended, mut heard) = mpsc::unbounded_channel();
    tunnel.inspector = Some(Box::new(Reader { sides: &[], look: shout, ended: Some(ended) }));
    let relay = tokio::spawn(run(tunnel));
    client.write_all(&[question(b"as it is"), leave(1000)].concat()).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"as it is".to_vec()));
    backend.write_all(&dismiss(1000)).await.unwrap();
    drop(backend);
    assert_eq!(heard.recv().await, Some(relay.await.unwrap()));
}

/// Grants a number of times, then returns this verdict; each time it waits for a permit if there is a
/// semaphore.
struct Doubt {
    grants: AtomicUsize,
    then: RecheckVerdict,
    gate: Option<Arc<Notify>>,
    asked: mpsc::UnboundedSender<Instant>,
}

impl Recheck for Doubt {
    fn intervals(&self) -> Vec<Duration> {
        vec![Duration::from_secs(300)]
    }

    fn ask(self: Arc<Self>, _: usize) -> RecheckFuture {
        self.asked.send(Instant::now()).unwrap();
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            let left = self.grants.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if left.is_ok() { RecheckVerdict::Granted } else { self.then.clone() }
        })
    }

    fn state(&self) -> Option<serde_json::Value> {
        None
    }
}

struct Doubted {
    client: DuplexStream,
    backend: DuplexStream,
    relay: JoinHandle<Outcome>,
    asked: mpsc::UnboundedReceiver<Instant>,
    gate: Option<Arc<Notify>>,
}

fn doubted(grants: usize, then: RecheckVerdict, gated: bool) -> Doubted {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, backend) = tokio::io::duplex(1 << 16);
    let mut tunnel =
        tunnel(boxed(near), boxed(far), policy(|written| written.ping_interval.0 = Duration::ZERO));
    let (sender, asked) = mpsc::unbounded_channel();
    let gate = gated.then(Arc::<Notify>::default);
    let doubt = Doubt { grants: grants.into(), then, gate: gate.clone(), asked: sender };
    tunnel.recheck = Some(Arc::new(doubt));
    Doubted { client, backend, relay: tokio::spawn(run(tunnel)), asked, gate }
}

#[tokio::test(start_paused = true)]
async fn a_rejecting_recheck_closes_with_the_status() {
    for (then, code, text, reason) in [
        (RecheckVerdict::Refused(StatusCode::UNAUTHORIZED), 1008, "401", Reason::Refused),
        (RecheckVerdict::Failed, 1011, "plugin failed", Reason::PluginFailed),
    ] {
        let began = Instant::now();
        let Doubted { mut client, mut backend, relay, mut asked, .. } = doubted(2, then, false);
        let expected = (0x88, [&u16::to_be_bytes(code)[..], text.as_bytes()].concat());
        assert_eq!(read_frame(&mut client).await, expected);
        assert_eq!(read_frame(&mut backend).await, expected);
        let mut before = began;
        for _ in 0..3 {
            let moment = asked.recv().await.unwrap();
            let pause = (moment - before).as_secs();
            assert!((269..=300).contains(&pause), "{pause}");
            before = moment;
        }
        client.write_all(&leave(code)).await.unwrap();
        drop(backend);
        let outcome = relay.await.unwrap();
        assert_eq!((outcome.by, outcome.reason, outcome.code), (Initiator::Gateway, reason, code));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_pass_during_a_recheck_and_no_second_one_starts() {
    let Doubted { mut client, mut backend, relay, mut asked, gate } =
        doubted(9, RecheckVerdict::Granted, true);
    asked.recv().await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(100)).await;
        client.write_all(&question(b"meanwhile")).await.unwrap();
        assert_eq!(read_frame(&mut backend).await, (0x81, b"meanwhile".to_vec()));
    }
    assert!(asked.try_recv().is_err());
    let granted = Instant::now();
    gate.unwrap().notify_one();
    let pause = (asked.recv().await.unwrap() - granted).as_secs();
    assert!((269..=300).contains(&pause), "{pause}");
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_connected_together_asks_apart() {
    let began = Instant::now();
    let mut all: Vec<_> = (0..100).map(|_| doubted(9, RecheckVerdict::Granted, false)).collect();
    let mut moments = Vec::new();
    for each in &mut all {
        moments.push((each.asked.recv().await.unwrap() - began).as_millis());
    }
    moments.sort_unstable();
    // Spread over the last tenth of the interval.
    assert!(moments[0] < 275_000 && moments[99] > 295_000, "{moments:?}");
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] < 5_000), "{moments:?}");
}
