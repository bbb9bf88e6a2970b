//! Tests of silence, pings and age.

use super::*;

fn no_pings(written: &mut WebSocket) {
    written.ping_interval.0 = Duration::ZERO;
}

/// Responds to `count` pings of the gateway and returns their times.
async fn answer_pings(client: &mut DuplexStream, count: usize, masked: bool) -> Vec<u64> {
    let began = Instant::now();
    let mut moments = Vec::new();
    for _ in 0..count {
        let (first, payload) = read_frame(client).await;
        assert_eq!(first, 0x89);
        moments.push(began.elapsed().as_secs());
        let key = masked.then_some(KEY);
        client.write_all(&frame(0x8a, &payload, key)).await.unwrap();
    }
    moments
}

#[tokio::test(start_paused = true)]
async fn silence_of_an_hour_less_a_minute_does_not_cut() {
    let (mut client, mut backend, relay) = pipes(no_pings);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(59 * 60)).await;
        client.write_all(&question(b"x")).await.unwrap();
        read_frame(&mut backend).await;
    }
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn silence_beyond_the_limit_ends_the_tunnel_on_time() {
    let (mut client, mut backend, relay) = pipes(no_pings);
    tokio::time::sleep(Duration::from_secs(600)).await;
    client.write_all(&question(b"x")).await.unwrap();
    read_frame(&mut backend).await;
    assert_eq!(read_close(&mut client).await, 1001);
    client.write_all(&leave(1001)).await.unwrap();
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.reason, outcome.code), (Initiator::Gateway, Reason::Idle, 1001));
    assert_eq!(outcome.lifetime.as_secs(), 4200);
}

#[tokio::test(start_paused = true)]
async fn both_silent_sides_are_pinged_and_their_pongs_go_no_further() {
    let (mut client, mut backend, relay) = pipes(|_| {});
    let client_pings = async {
        let moments = answer_pings(&mut client, 3, true).await;
        client.write_all(&frame(0x8a, b"unasked", Some(KEY))).await.unwrap();
        moments
    };
    let backend_pings = async {
        let moments = answer_pings(&mut backend, 3, false).await;
        backend.write_all(&answer(b"done")).await.unwrap();
        moments
    };
    let (near, far) = tokio::join!(client_pings, backend_pings);
    assert_eq!((near, far), (vec![30, 60, 90], vec![30, 60, 90]));
    assert_eq!(read_frame(&mut client).await, (0x81, b"done".to_vec()));
    assert_eq!(read_frame(&mut backend).await, (0x8a, b"unasked".to_vec()));
    drop((client, backend));
    assert_eq!(relay.await.unwrap().ping_rtt, [Some(Duration::ZERO); 2]);
}

#[tokio::test(start_paused = true)]
async fn late_pongs_to_earlier_pings_go_no_further() {
    for side in Side::BOTH {
        let (mut client, mut backend, relay) = pipes(|_| {});
        let is_client = side == Side::Client;
        let key = is_client.then_some(KEY);
        let (near, far) = if is_client { (&mut client, &mut backend) } else { (&mut backend, &mut client) };
        let late = async {
            let mut pongs = Vec::new();
            for _ in 0..3 {
                let (first, payload) = read_frame(near).await;
                assert_eq!(first, 0x89);
                pongs.push(frame(0x8a, &payload, key));
                // A later sign of life without a pong: the next ping follows.
                tokio::time::sleep(Duration::from_secs(1)).await;
                near.write_all(&frame(0x81, b"x", key)).await.unwrap();
            }
            // One alone; the others in one piece, around a message and an unsolicited pong.
            near.write_all(&pongs[0]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let message = frame(0x81, b"between", key);
            let unsolicited = frame(0x8a, b"unasked!", key);
            let piece = [&pongs[0], &pongs[1], &message, &pongs[1], &unsolicited, &pongs[2], &pongs[2]];
            near.write_all(&piece.map(Vec::as_slice).concat()).await.unwrap();
        };
        let other = async {
            let mut received = Vec::new();
            while received.len() < 5 {
                let (first, payload) = read_frame(far).await;
                if first == 0x89 {
                    far.write_all(&frame(0x8a, &payload, (!is_client).then_some(KEY))).await.unwrap();
                } else {
                    received.push((first, payload));
                }
            }
            received
        };
        let ((), received) = tokio::join!(late, other);
        let messages = [&b"x"[..], b"x", b"x", b"between"].map(|payload| (0x81, payload.to_vec()));
        assert_eq!(received[..4], messages, "{side:?}");
        assert_eq!(received[4], (0x8a, b"unasked!".to_vec()), "{side:?}");
        drop((client, backend));
        // The one to the last ping is measured, and counted once.
        assert_eq!(relay.await.unwrap().ping_rtt[side as usize], Some(Duration::from_secs(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_silent_side_is_pinged() {
    let (mut client, mut backend, _relay) = pipes(|_| {});
    let talk = async {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            client.write_all(&question(b"x")).await.unwrap();
        }
    };
    let listen = async {
        let mut pings = 0;
        for _ in 0..7 {
            let (first, payload) = read_frame(&mut backend).await;
            if first == 0x89 {
                pings += 1;
                backend.write_all(&frame(0x8a, &payload, None)).await.unwrap();
            }
        }
        pings
    };
    let ((), pings) = tokio::join!(talk, listen);
    assert!(pings >= 1);
    let silence = tokio::time::timeout(Duration::from_secs(1), client.read(&mut [0])).await;
    assert!(silence.is_err(), "the client was sent something");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_responds_to_no_ping_is_dead() {
    let (_client, mut backend, relay) = pipes(|_| {});
    answer_pings(&mut backend, 1, false).await;
    assert_eq!(read_close(&mut backend).await, 1001);
    backend.write_all(&dismiss(1001)).await.unwrap();
    drop(backend);
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Client), Reason::PingTimeout));
    assert_eq!(outcome.lifetime.as_secs(), 40);
}

/// On a running clock: a paused one gives a ping and its delivery the same time.
#[tokio::test]
async fn an_accepted_ping_is_no_sign_of_life() {
    let (_client, _backend, relay) = pipes(|written| {
        written.ping_interval.0 = Duration::from_millis(20);
        written.ping_timeout.value.0 = Duration::from_millis(20);
        written.close_timeout.0 = Duration::from_millis(20);
    });
    let outcome = tokio::time::timeout(Duration::from_secs(10), relay).await.unwrap().unwrap();
    assert_eq!(outcome.reason, Reason::PingTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_responds_to_no_ping_is_dead_and_the_client_gets_a_close() {
    let (mut client, _backend, relay) = pipes(|_| {});
    answer_pings(&mut client, 1, true).await;
    assert_eq!(read_close(&mut client).await, 1001);
    client.write_all(&leave(1001)).await.unwrap();
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Backend), Reason::PingTimeout));
    read_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_waits_for_the_end_of_the_frame_under_way() {
    let (mut client, mut backend, _relay) = pipes(|_| {});
    let whole = answer(&[b'x'; 1_000]);
    backend.write_all(&whole[..500]).await.unwrap();
    assert_eq!(read(&mut client, 500).await, whole[..500]);
    // The backend, in the middle of its frame, cannot respond to its own ping.
    assert_eq!(read_frame(&mut backend).await.0, 0x89);
    tokio::time::sleep(Duration::from_secs(5)).await;
    backend.write_all(&[&whole[500..], &answer(b"next")].concat()).await.unwrap();
    assert_eq!(read(&mut client, whole.len() - 500).await, whole[500..]);
    let (first, payload) = read_frame(&mut client).await;
    assert_eq!((first, payload.len()), (0x89, 8));
    assert_eq!(read_frame(&mut client).await, (0x81, b"next".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_closed_with_1012() {
    let (mut client, _backend, relay) = pipes(|written| {
        no_pings(written);
        written.max_age = Some(moongate_config::Period(Duration::from_secs(600)));
    });
    assert_eq!(read_close(&mut client).await, 1012);
    drop(client);
    let outcome = relay.await.unwrap();
    assert_eq!(outcome.reason, Reason::MaxAge);
    assert!((540..=606).contains(&outcome.lifetime.as_secs()), "{:?}", outcome.lifetime);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut() {
    let (client, mut backend, relay) = pipes(|_| {});
    let flood = answer(&[0; 1 << 20]);
    let (_, outcome) = tokio::join!(backend.write_all(&flood), relay);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.by, outcome.reason), (Initiator::Side(Side::Client), Reason::WriteTimeout));
    drop(client);
}
