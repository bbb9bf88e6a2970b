//! Property tests: for any input of both sides the relay neither panics nor hangs, and sends no other bytes.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// A piece of input: a valid frame, an invalid one, or noise.
fn piece(mask: Option<[u8; 4]>) -> impl Strategy<Value = Vec<u8>> {
    let payload = || vec(any::<u8>(), 0..300);
    let opcode = prop::sample::select(vec![0x81, 0x82, 0x01, 0x80, 0x00, 0x89, 0x8a, 0x88, 0xc1]);
    prop_oneof![
        8 => (opcode, payload()).prop_map(move |(first, payload)| frame(first, &payload, mask)),
        1 => (any::<u8>(), payload()).prop_map(|(first, payload)| frame(first, &payload, Some(KEY))),
        1 => payload(),
    ]
}

async fn talk(mut side: DuplexStream, pieces: Vec<Vec<u8>>, split: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    for chunk in pieces.concat().chunks(split) {
        // A relay that has ended reads nothing more.
        if side.write_all(chunk).await.is_err() {
            break;
        }
    }
    let _ = side.shutdown().await;
    let _ = side.read_to_end(&mut heard).await;
    heard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn anything_may_come_from_both_sides(
        client in vec(piece(Some(KEY)), 0..12),
        backend in vec(piece(None), 0..12),
        splits in (1usize..400, 1usize..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (limit, outcome, heard) = runtime.block_on(async {
            let (near, ours) = tokio::io::duplex(512);
            let (theirs, far) = tokio::io::duplex(512);
            let policy = policy(|_| {});
            let limit = policy.close_timeout * 2;
            let relay = tokio::spawn(run(tunnel(boxed(ours), boxed(theirs), policy)));
            let talks = tokio::join!(talk(near, client.clone(), splits.0), talk(far, backend.clone(), splits.1));
            (limit, relay.await.unwrap(), talks)
        });
        prop_assert!(outcome.lifetime <= limit + Duration::from_secs(1), "{outcome:?}");
        // The output is a prefix of the input, followed by at most one Close frame of the gateway.
        for (sent, heard) in [(client.concat(), heard.1), (backend.concat(), heard.0)] {
            let same = sent.iter().zip(&heard).take_while(|(a, b)| a == b).count();
            prop_assert!(heard.len() - same <= 131, "{} {}", heard.len(), same);
        }
    }
}
