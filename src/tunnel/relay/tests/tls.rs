//! Tests of clients over TLS: read record by record, idle while silent.

use super::*;
use crate::net::tunnel_io::{Carrier, RecordFollower, TlsConnection};
use crate::tunnel::state::{duplicate, records};
use crate::tunnel::{Io, TunnelState};
use proptest::prelude::*;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{Read, Write};
use std::sync::LazyLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Both sides' settings, with a certificate for these tests.
static SETTINGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let mut server = server.unwrap();
    server.enable_secret_extraction = true;
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
});

/// A client that controls which TLS bytes are sent together.
struct Client {
    socket: TcpStream,
    session: ClientConnection,
}

impl Client {
    /// The client, and the stream for the relay.
    async fn connect() -> (Self, TlsConnection<TlsStream<Carrier<TcpStream>>>) {
        let (socket, near) = pair().await;
        let session =
            ClientConnection::new(Arc::clone(&SETTINGS.1), ServerName::try_from("localhost").unwrap());
        let mut session = session.unwrap();
        // Records of one byte are many times as long as their content.
        session.set_buffer_limit(None);
        let mut client = Self { socket, session };
        let carrier = Carrier::new(near, RecordFollower::default());
        let accept = TlsAcceptor::from(Arc::clone(&SETTINGS.0)).accept(carrier);
        let (stream, ()) = tokio::join!(accept, async {
            while client.session.is_handshaking() {
                client.flush().await;
                if client.session.is_handshaking() {
                    client.receive().await;
                }
            }
            client.flush().await;
        });
        (client, TlsConnection::new(stream.unwrap()))
    }

    /// The TLS bytes of `plain`, one record per piece.
    fn sealed(&mut self, plain: &[u8], piece: usize) -> Vec<u8> {
        for piece in plain.chunks(piece) {
            self.session.writer().write_all(piece).unwrap();
        }
        self.pending()
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    async fn flush(&mut self) {
        let bytes = self.pending();
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn say(&mut self, plain: &[u8]) {
        let bytes = self.sealed(plain, 1 << 14);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Reads from the socket once; returns whether it is still open.
    async fn receive(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let Ok(count @ 1..) = self.socket.read(&mut bytes).await else { return false };
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            self.session.read_tls(&mut rest).unwrap();
            self.session.process_new_packets().unwrap();
        }
        true
    }

    /// The next `count` bytes of the tunnel, or the bytes before its end.
    async fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut heard = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.session.reader().read(&mut heard[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(_) if self.receive().await => {}
                Err(_) => break,
            }
        }
        heard.truncate(filled);
        heard
    }
}

/// A client over TLS, a backend, and a relay between them.
async fn over_tls() -> (Client, TcpStream, JoinHandle<Outcome>) {
    over(false).await
}

/// The same with the records alone, as after a move.
async fn over(is_moved: bool) -> (Client, TcpStream, JoinHandle<Outcome>) {
    let (client, near) = Client::connect().await;
    let (far, backend) = pair().await;
    let mut near = TunnelIo::Boxed(Box::new(near));
    if is_moved {
        near = moved(near);
    }
    (client, backend, tokio::spawn(run(tunnel(near, far, policy(|_| {})))))
}

/// The same side in another process.
fn moved(mut side: TunnelIo) -> TunnelIo {
    assert!(side.make_movable());
    let mut state = TunnelState { records: [records(&side).unwrap(), None], ..TunnelState::default() };
    // As it is sent.
    state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let socket = std::net::TcpStream::from(duplicate(&side).unwrap());
    // The connection goes on elsewhere.
    side.set_lent(true);
    drop(side);
    let [side, _] = state.connect([TcpStream::from_std(socket).unwrap().into(), TunnelIo::Gone]).unwrap();
    side
}

/// Polls once with a no-op waker.
fn poll_once(tunnel_io: &mut impl Io, into: &mut [u8]) -> Poll<std::io::Result<usize>> {
    tunnel_io.poll_receive(&mut Context::from_waker(Waker::noop()), into)
}

#[tokio::test]
async fn messages_pass_both_ways_from_silence() {
    for is_moved in [false, true] {
        pass_both_ways(is_moved).await;
    }
}

async fn pass_both_ways(is_moved: bool) {
    let (mut client, mut backend, relay) = over(is_moved).await;
    for round in 0..50 {
        // Every order of wake-ups, with the other side idle.
        for ours in [round % 2 == 0, round % 3 == 0] {
            if ours {
                client.say(&question(b"over")).await;
                assert_eq!(read(&mut backend, 10).await, question(b"over"));
            } else {
                backend.write_all(&answer(b"back")).await.unwrap();
                assert_eq!(client.hear(6).await, answer(b"back"));
            }
        }
    }
    client.say(&leave(1000)).await;
    assert_eq!(read(&mut backend, 8).await, leave(1000));
    backend.write_all(&dismiss(1000)).await.unwrap();
    assert_eq!(client.hear(4).await, dismiss(1000));
    drop((client, backend));
    assert_eq!(relay.await.unwrap().reason, Reason::Closed);
}

#[tokio::test]
async fn a_leg_is_silent_only_when_it_has_nothing_to_give() {
    let (mut client, mut near) = Client::connect().await;
    let mut into = [0; 100];
    assert!(poll_once(&mut near, &mut into).is_pending());
    assert!(near.is_silent());
    // Of two records received together, the second waits inside the session.
    let bytes = client.sealed(&[1; 100], 50);
    client.socket.write_all(&bytes).await.unwrap();
    near.get_ref().0.socket().readable().await.unwrap();
    assert!(!near.is_silent());
    assert!(matches!(poll_once(&mut near, &mut into[..50]), Poll::Ready(Ok(50))));
    assert!(!near.is_silent());
    assert!(matches!(poll_once(&mut near, &mut into), Poll::Ready(Ok(50))));
    assert!(poll_once(&mut near, &mut into).is_pending());
    assert!(near.is_silent());
    // A close_notify was received: the side is not silent.
    client.session.send_close_notify();
    client.flush().await;
    near.get_ref().0.socket().readable().await.unwrap();
    assert!(matches!(poll_once(&mut near, &mut into), Poll::Ready(Ok(0))));
    assert!(!near.is_silent());
}

#[tokio::test]
async fn what_is_no_record_ends_the_tunnel_behind_what_came_before() {
    let (mut client, mut backend, relay) = over_tls().await;
    let sent = question(&[7; 20_000]);
    let bytes = [client.sealed(&sent, 1000), vec![0; 100]].concat();
    client.socket.write_all(&bytes).await.unwrap();
    let mut heard = Vec::new();
    // The relay ends in every case.
    let heard = async {
        let mut byte = [0; 4096];
        while let Ok(count @ 1..) = backend.read(&mut byte).await {
            heard.extend_from_slice(&byte[..count]);
        }
        heard
    };
    let (heard, outcome) = tokio::join!(heard, relay);
    assert!(sent.starts_with(&heard[..heard.len().min(10_000)]));
    assert_eq!(outcome.unwrap().by, Initiator::Side(Side::Client));
}

#[tokio::test]
async fn a_record_that_is_forged_behind_a_message_is_found_without_more_bytes() {
    let (mut client, mut near) = Client::connect().await;
    // The first read of 4,096 bytes ends after the message, and the next one has the forged record alone.
    let first = client.sealed(&[1; 4096 - 22], 1 << 14);
    assert_eq!(first.len(), 4096);
    client.socket.write_all(&[first, vec![0xff; 50]].concat()).await.unwrap();
    near.get_ref().0.socket().readable().await.unwrap();
    let mut into = [0; 1 << 14];
    let mut got = Vec::new();
    let error = loop {
        match poll_once(&mut near, &mut into) {
            Poll::Ready(Ok(count)) => got.push(count),
            Poll::Ready(Err(error)) => break error,
            Poll::Pending => panic!("the error is lost"),
        }
    };
    assert_eq!((got, error.kind()), (vec![4096 - 22], std::io::ErrorKind::InvalidData));
}

#[tokio::test]
async fn a_side_moves_between_two_records_and_loses_no_byte() {
    let (mut client, mut near) = Client::connect().await;
    let mut into = [0; 1 << 14];
    // Two records, and a part of the third.
    let bytes = client.sealed(&(0..90).collect::<Vec<u8>>(), 30);
    let (begin, end) = bytes.split_at(bytes.len() - 5);
    client.socket.write_all(begin).await.unwrap();
    near.get_ref().0.socket().readable().await.unwrap();
    assert!(matches!(poll_once(&mut near, &mut into[..10]), Poll::Ready(Ok(10))));
    let mut side = TunnelIo::Boxed(Box::new(near));
    assert!(!side.make_movable(), "the third record has not arrived");
    client.socket.write_all(end).await.unwrap();
    // Bytes for the client that are not flushed.
    let mut answers = answer(b"unread");
    side.write_all(&answers).await.unwrap();
    let is_movable = async {
        while !side.make_movable() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_movable).await.unwrap();
    // Moved twice, with bytes that were decrypted and not read.
    let mut side = moved(moved(side));
    let mut heard = vec![0; 80];
    side.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, (10..90).collect::<Vec<u8>>());
    side.flush().await.unwrap();
    answers.extend(answer(&[7; 20_000]));
    side.write_all(&answer(&[7; 20_000])).await.unwrap();
    let (flushed, heard) = tokio::join!(side.flush(), client.hear(answers.len()));
    flushed.unwrap();
    assert!(heard == answers);
    side.shutdown().await.unwrap();
    assert_eq!(client.hear(1).await, b"");
    assert!(client.session.process_new_packets().unwrap().peer_has_closed(), "by its alert");
}

#[tokio::test]
async fn a_side_moves_although_nothing_reads_what_was_decrypted() {
    let (mut client, mut near) = Client::connect().await;
    // A session reads no record while more than 16 KiB wait: the first record, and small ones after it.
    let plain: Vec<u8> = (0..17_000_u32).map(|number| number as u8).collect();
    let mut bytes = client.sealed(&plain[..1 << 14], 1 << 14);
    bytes.extend(client.sealed(&plain[1 << 14..], 100));
    let (begin, end) = bytes.split_at(bytes.len() - 5);
    client.socket.write_all(begin).await.unwrap();
    let mut heard = vec![0; 10];
    let first = std::future::poll_fn(|cx| near.poll_receive(cx, &mut heard));
    assert_eq!(first.await.unwrap(), 10);
    let mut side = TunnelIo::Boxed(Box::new(near));
    assert!(!side.make_movable(), "the last record has not arrived");
    let mut more = [0; 10];
    assert!(!side.is_silent());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(side.poll_receive(&mut cx, &mut more), Poll::Ready(Ok(10))));
    heard.extend(more);
    client.socket.write_all(end).await.unwrap();
    let is_movable = async {
        while !side.make_movable() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_movable).await.unwrap();
    let mut side = moved(side);
    let mut rest = vec![0; plain.len() - heard.len()];
    side.read_exact(&mut rest).await.unwrap();
    heard.extend(rest);
    assert!(heard == plain);
}

#[tokio::test]
async fn a_change_of_keys_is_followed_before_a_move_and_ends_a_moved_side() {
    let (mut client, near) = Client::connect().await;
    client.session.refresh_traffic_keys().unwrap();
    client.say(b"new keys").await;
    let mut near = TunnelIo::Boxed(Box::new(near));
    let mut heard = [0; 8];
    near.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"new keys");
    // The peer asks for the gateway's new keys too; the reply waits for a write.
    let mut side = moved(near);
    side.write_all(b"reply").await.unwrap();
    side.flush().await.unwrap();
    assert_eq!(client.hear(5).await, b"reply");
    client.say(b"same ones").await;
    let mut heard = [0; 9];
    side.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"same ones");
    client.session.refresh_traffic_keys().unwrap();
    client.say(b"others").await;
    let error = side.read_exact(&mut heard).await.unwrap_err();
    assert!(crate::net::tunnel_io::is_end_of_keys(&error), "{error}");
}

#[tokio::test]
async fn a_client_that_changes_its_keys_after_a_move_is_asked_to_reconnect() {
    let (mut client, near) = Client::connect().await;
    let (far, mut backend) = pair().await;
    let side = moved(TunnelIo::Boxed(Box::new(near)));
    let relay = tokio::spawn(run(tunnel(side, far, policy(|_| {}))));
    client.say(&frame(0x81, b"before", Some([0; 4]))).await;
    let mut heard = [0; 12];
    backend.read_exact(&mut heard).await.unwrap();
    client.session.refresh_traffic_keys().unwrap();
    client.say(&frame(0x81, b"after", Some([0; 4]))).await;
    let close = client.hear(4).await;
    assert_eq!((close[0], &close[2..4]), (0x88, &1012_u16.to_be_bytes()[..]));
    let outcome = relay.await.unwrap();
    assert_eq!((outcome.code, outcome.reason.token()), (1012, "drain_keys"));
}

#[tokio::test]
async fn a_forged_record_ends_a_moved_side() {
    let (mut client, near) = Client::connect().await;
    let mut side = moved(TunnelIo::Boxed(Box::new(near)));
    let mut bytes = client.sealed(b"abc", 3);
    *bytes.last_mut().unwrap() ^= 1;
    client.socket.write_all(&bytes).await.unwrap();
    let mut into = [0; 3];
    assert_eq!(side.read_exact(&mut into).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    // The peer gets its alert.
    let mut bytes = [0; 4096];
    let error = loop {
        // Session tickets come first.
        let count = client.socket.read(&mut bytes).await.unwrap();
        client.session.read_tls(&mut &bytes[..count]).unwrap();
        if let Err(error) = client.session.process_new_packets() {
            break error;
        }
    };
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    // It stays ended.
    client.socket.write_all(b"more").await.unwrap();
    assert_eq!(side.read_exact(&mut into).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_cut_where_arrives(
        sizes in prop::collection::vec(0usize..9_000, 1..6),
        (record, split) in (1usize..5_000, 1usize..5_000),
        back in any::<bool>(),
        is_moved in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut backend, relay) = over(is_moved).await;
            let sent: Vec<u8> = sizes.iter().flat_map(|size| question(&vec![9; *size])).collect();
            let output: Vec<u8> = sizes.iter().flat_map(|size| answer(&vec![8; *size])).collect();
            let bytes = client.sealed(&sent, record);
            let Client { socket, session } = client;
            let (reader, mut writer) = socket.into_split();
            let say = async {
                for piece in bytes.chunks(split) {
                    writer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let others = async {
                if back {
                    backend.write_all(&output).await.unwrap();
                }
                read(&mut backend, sent.len()).await
            };
            let (_, heard) = tokio::join!(say, others);
            assert!(heard == sent);
            let mut client = Client { socket: reader.reunite(writer).unwrap(), session };
            if !back {
                backend.write_all(&output).await.unwrap();
            }
            assert!(client.hear(output.len()).await == output);
            relay.abort();
        });
    }
}
