//! Tests of sizes, rates and invalid frames.

use super::*;
use crate::config::{Exceed, InvalidFrames, MessageRate};
use moongate_config::Size;

#[tokio::test(start_paused = true)]
async fn a_message_too_big_is_refused_with_1009() {
    let (mut client, mut backend, relay) = pipes(|written| written.max_message = Some(Size(10)));
    client.write_all(&[question(b"small"), question(b"much too big")].concat()).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x81, b"small".to_vec()));
    assert_eq!(read_close(&mut backend).await, 1001);
    assert_eq!(read_close(&mut client).await, 1009);
    // The client does not wait for the backend.
    read_end(&mut client).await;
    drop((client, backend));
    let outcome = relay.await.unwrap();
    assert_eq!(
        (outcome.by, outcome.reason.token(), outcome.code),
        (Initiator::Gateway, "client_too_big", 1009)
    );
}

#[tokio::test(start_paused = true)]
async fn fragments_add_up() {
    let (mut client, mut backend, _relay) = pipes(|written| written.max_message = Some(Size(10)));
    client.write_all(&frame(0x01, b"123456", Some(KEY))).await.unwrap();
    client.write_all(&frame(0x80, b"789012", Some(KEY))).await.unwrap();
    assert_eq!(read_frame(&mut backend).await, (0x01, b"123456".to_vec()));
    assert_eq!(read_close(&mut client).await, 1009);
}

#[tokio::test(start_paused = true)]
async fn a_breach_of_the_protocol_is_1002() {
    let (mut client, mut backend, relay) = pipes(|_| {});
    client.write_all(&answer(b"not masked")).await.unwrap();
    assert_eq!(read_close(&mut client).await, 1002);
    assert_eq!(read_close(&mut backend).await, 1001);
    drop((client, backend));
    assert_eq!(relay.await.unwrap().reason.token(), "client_invalid_frame");
}

/// As without the gateway: the backend reads the valid frames before the invalid one.
#[tokio::test(start_paused = true)]
async fn responses_to_valid_frames_come_before_the_1002() {
    let broken = frame(0xc1, b"reserved bit", Some(KEY));
    for cut in [0, 1, 6] {
        let (mut client, mut backend, relay) = pipes(|_| {});
        client.write_all(&[question(b"valid"), broken.clone(), question(b"late")].concat()).await.unwrap();
        assert_eq!(read_frame(&mut backend).await, (0x81, b"valid".to_vec()));
        assert_eq!(read_close(&mut backend).await, 1001);
        let output = [answer(b"echo"), answer(b"more"), frame(0x88, &[3, 0xe9], None)].concat();
        backend.write_all(&output[..cut]).await.unwrap();
        backend.write_all(&output[cut..]).await.unwrap();
        assert_eq!(read_frame(&mut client).await, (0x81, b"echo".to_vec()));
        assert_eq!(read_frame(&mut client).await, (0x81, b"more".to_vec()));
        assert_eq!(read_close(&mut client).await, 1002);
        read_end(&mut client).await;
        drop((client, backend));
        let outcome = relay.await.unwrap();
        assert_eq!((outcome.reason.token(), outcome.code), ("client_invalid_frame", 1002));
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_a_final_frame_delays_no_1002() {
    let broken = frame(0xc1, b"reserved bit", Some(KEY));
    // It ends without a Close frame, sends nothing, or stops within a frame.
    let (mut client, backend, _relay) = pipes(|_| {});
    client.write_all(&broken).await.unwrap();
    drop(backend);
    assert_eq!(read_close(&mut client).await, 1002);

    let began = tokio::time::Instant::now();
    let (mut client, mut backend, _relay) = pipes(|_| {});
    client.write_all(&broken).await.unwrap();
    backend.write_all(&answer(b"going on")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x81, b"going on".to_vec()));
    assert_eq!(read_close(&mut client).await, 1002);
    assert_eq!(began.elapsed().as_secs(), 5, "close_timeout");

    let (mut client, mut backend, relay) = pipes(|_| {});
    client.write_all(&broken).await.unwrap();
    let half = answer(b"half of it");
    backend.write_all(&half[..6]).await.unwrap();
    assert_eq!(read(&mut client, 6).await, half[..6]);
    drop(backend);
    read_end(&mut client).await;
    drop(client);
    assert_eq!(relay.await.unwrap().code, 1002);
}

#[tokio::test(start_paused = true)]
async fn a_breach_by_the_backend_is_1001_to_the_client() {
    let (mut client, mut backend, relay) = pipes(|_| {});
    backend.write_all(&question(b"masked")).await.unwrap();
    assert_eq!(read_close(&mut backend).await, 1002);
    assert_eq!(read_close(&mut client).await, 1001);
    drop((client, backend));
    assert_eq!(relay.await.unwrap().reason.token(), "backend_invalid_frame");
}

#[tokio::test(start_paused = true)]
async fn invalid_frames_pass_where_they_may() {
    let (mut client, mut backend, _relay) = pipes(|written| written.invalid_frames = InvalidFrames::Pass);
    let odd = frame(0xf3, b"reserved", Some(KEY));
    client.write_all(&odd).await.unwrap();
    assert_eq!(read(&mut backend, odd.len()).await, odd);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_none_ends_the_tunnel_where_it_passes() {
    let (mut client, mut backend, relay) = pipes(|written| written.invalid_frames = InvalidFrames::Pass);
    let began = tokio::time::Instant::now();
    let long = frame(0x88, &[7; 126], Some(KEY));
    client.write_all(&long).await.unwrap();
    assert_eq!(read(&mut backend, long.len()).await, long);
    backend.write_all(&frame(0x88, &[3, 0xea], None)).await.unwrap();
    drop(backend);
    assert_eq!(read_close(&mut client).await, 1002);
    read_end(&mut client).await;
    assert_eq!(began.elapsed().as_secs(), 0, "no wait for another Close");
    drop(client);
    assert_eq!(relay.await.unwrap().reason.token(), "close");
}

#[tokio::test(start_paused = true)]
async fn a_paused_client_sends_no_more_than_its_rate() {
    let (mut client, mut backend, relay) =
        pipes(|written| written.messages_per_second = Some(MessageRate::Local(10)));
    let began = Instant::now();
    let message = question(&[b'x'; 1_000]);
    let count = 100;
    let talk = async {
        for _ in 0..count {
            client.write_all(&message).await.unwrap();
        }
    };
    let listen = async {
        for _ in 0..count {
            read_frame(&mut backend).await;
        }
        began.elapsed()
    };
    let ((), took) = tokio::join!(talk, listen);
    // Ten at once, ninety at ten per second.
    assert!((8_500..=10_000).contains(&took.as_millis()), "{took:?}");
    assert!(!relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_above_its_rate_is_closed_if_configured() {
    let (mut client, _backend, relay) = pipes(|written| {
        written.messages_per_second = Some(MessageRate::Local(10));
        written.on_exceed = Exceed::Close;
    });
    client.write_all(&question(b"x").repeat(11)).await.unwrap();
    assert_eq!(read_close(&mut client).await, 1008);
    client.write_all(&leave(1008)).await.unwrap();
    assert_eq!(relay.await.unwrap().reason, Reason::Rate);
}

#[tokio::test(start_paused = true)]
async fn bytes_have_a_rate_too() {
    let (mut client, mut backend, _relay) = pipes(|written| written.bytes_per_second = Some(Size(10 << 10)));
    let began = Instant::now();
    let message = frame(0x82, &[0; 50 << 10], Some(KEY));
    let listen = async {
        read_frame(&mut backend).await;
        began.elapsed()
    };
    let (sent, took) = tokio::join!(client.write_all(&message), listen);
    sent.unwrap();
    assert!((3_500..=4_500).contains(&took.as_millis()), "{took:?}");
}
