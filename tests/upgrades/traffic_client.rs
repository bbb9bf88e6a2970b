//! Clients of WebSockets in traffic. Every byte of a message follows from its socket and its number, so that a byte that
//! is lost, doubled or out of order is seen.

use crate::frame_stream::{BINARY, CLOSE, COMPRESSED, FINAL, Frame, FrameReader, PING, PONG, TEXT};
use crate::support::certs::Client;
use crate::support::ws::handshake;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// The end of a message that permessage-deflate leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The length from which the key is 0: masking takes most of the time of a test without optimization.
const UNMASKED: usize = 8 << 10;

const LONG: usize = 1 << 20;

/// The time limit for the echo of a turn, far above the usual one.
const LONGEST_TURN: Duration = Duration::from_secs(60);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What the clients share.
pub(crate) struct Traffic {
    ends: AtomicBool,
    /// Turns that may be in progress.
    turns: Semaphore,
    finished: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self {
            ends: AtomicBool::default(),
            turns: Semaphore::new(turns),
            finished: AtomicU64::default(),
        })
    }

    /// The turns of all clients that are over.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(SeqCst)
    }

    /// Each client ends after its turn.
    pub(crate) fn end(&self) {
        self.ends.store(true, SeqCst);
    }
}

/// Messages that were sent and came back, by opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) text: u64,
    pub(crate) binary: u64,
}

/// How a client reaches the gateway.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) tls: Option<Client>,
    /// The size of the client's receive buffer, if it is not the system's.
    pub(crate) receive_buffer: Option<u32>,
}

/// A client.
pub(crate) struct TrafficClient {
    number: usize,
    pub(crate) frames: FrameReader<ReadHalf<Box<dyn Stream>>>,
    pub(crate) sink: WriteHalf<Box<dyn Stream>>,
    sequence: u32,
    contexts: Option<(Compress, Decompress)>,
    pub(crate) counts: Counts,
}

/// A message as it is sent.
struct Sent {
    frames: Vec<Frame>,
    /// The payload before its compression.
    plain: Vec<u8>,
}

impl TrafficClient {
    /// Opens a WebSocket. Every third one negotiates permessage-deflate.
    pub(crate) async fn open(number: usize, target: &Target) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = target.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let stream = socket.connect(target.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(stream),
            Some(client) => {
                let connector = TlsConnector::from(Arc::new(client.config.clone()));
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(connector.connect(name, stream).await?)
            }
        };
        let (source, mut sink) = tokio::io::split(stream);
        let mut frames = FrameReader::new(source);
        let offers_deflate = number.is_multiple_of(3);
        let offer = if offers_deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        sink.write_all(handshake(&target.path, offer).as_bytes()).await?;
        sink.flush().await?;
        let head = frames.head().await?;
        let has_deflate = head.to_ascii_lowercase().contains("permessage-deflate");
        if !head.starts_with("HTTP/1.1 101") || has_deflate != offers_deflate {
            return Err(io::Error::other(head));
        }
        let contexts =
            has_deflate.then(|| (Compress::new(Compression::fast(), false), Decompress::new(false)));
        Ok(Self { number, frames, sink, sequence: 0, contexts, counts: Counts::default() })
    }

    /// Sends messages in turns, and checks that they come back, until the traffic ends.
    pub(crate) async fn run(mut self, traffic: Arc<Traffic>) -> Result<Self, String> {
        while !traffic.ends.load(SeqCst) {
            let turn = traffic.turns.acquire();
            tokio::pin!(turn);
            let turn = loop {
                tokio::select! {
                    turn = &mut turn => break turn.unwrap(),
                    frame = self.frames.next() => {
                        let frame = frame.map_err(|error| self.failed("waits", &error))?;
                        self.respond(&frame).await.map_err(|error| self.failed("waits", &error))?;
                    }
                }
            };
            let done = tokio::time::timeout(LONGEST_TURN, self.take_turn()).await;
            done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|error| self.failed("takes a turn", &error))?;
            drop(turn);
            traffic.finished.fetch_add(1, SeqCst);
        }
        Ok(self)
    }

    /// Closes the WebSocket, and waits for the Close frame of the backend.
    pub(crate) async fn close(mut self) -> Result<Counts, String> {
        self.try_close().await.map_err(|error| self.failed("closes", &error))?;
        Ok(self.counts)
    }

    async fn try_close(&mut self) -> io::Result<()> {
        self.send(&Frame::new(FINAL | CLOSE, 1000_u16.to_be_bytes())).await?;
        loop {
            match self.frames.next().await? {
                frame if frame.opcode() == PING => {}
                frame if frame == Frame::new(FINAL | CLOSE, 1000_u16.to_be_bytes()) => return Ok(()),
                frame => return Err(unexpected(&frame)),
            }
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> String {
        format!("client {} {what} after message {}: {error}", self.number, self.sequence)
    }

    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.write(Some(KEY), &mut bytes);
        self.sink.write_all(&bytes).await?;
        self.sink.flush().await
    }

    async fn respond(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.opcode() {
            PING => self.send(&Frame::new(FINAL | PONG, frame.payload.clone())).await,
            _ => Err(unexpected(frame)),
        }
    }

    /// Sends one to three messages, and reads their echoes at the same time.
    async fn take_turn(&mut self) -> io::Result<()> {
        let messages: Vec<_> = (0..=self.number % 3).map(|_| self.message()).collect();
        let mut bytes = Vec::new();
        for frame in messages.iter().flat_map(|message| &message.frames) {
            let key = if frame.payload.len() < UNMASKED { KEY } else { [0; 4] };
            frame.write(Some(key), &mut bytes);
        }
        let (frames, sink) = (&mut self.frames, &mut self.sink);
        let write = async {
            sink.write_all(&bytes).await?;
            sink.flush().await
        };
        let read = async {
            let mut pings = Vec::new();
            for expected in messages.iter().flat_map(|message| &message.frames) {
                let frame = loop {
                    let frame = frames.next().await?;
                    if frame.opcode() != PING {
                        break frame;
                    }
                    pings.push(frame);
                };
                if frame != *expected {
                    return Err(unexpected(&frame));
                }
            }
            Ok(pings)
        };
        let ((), pings) = tokio::try_join!(write, read)?;
        for ping in pings {
            self.respond(&ping).await?;
        }
        messages.iter().try_for_each(|message| self.check_inflated(message))
    }

    fn message(&mut self) -> Sent {
        let (number, sequence) = (self.number, self.sequence);
        self.sequence += 1;
        let length = match number % 100 {
            7 | 58 => LONG,
            _ => [5, 125, 126, 900, 4000, 300, 20_000, 66_000][(number * 7 + sequence as usize * 3) % 8],
        };
        let plain = payload(number, sequence, length);
        let is_text = (number + sequence as usize).is_multiple_of(2);
        let count = if is_text { &mut self.counts.text } else { &mut self.counts.binary };
        *count += 1;
        let mut first = if is_text { TEXT } else { BINARY };
        let mut sent = plain.clone();
        if let Some((compress, _)) = self.contexts.as_mut().filter(|_| length < LONG && sequence % 4 != 3) {
            sent = deflate(compress, &plain);
            first |= COMPRESSED;
        }
        let frames = match (number + sequence as usize) % 3 {
            0 => {
                let (head, rest) = sent.split_at(sent.len() / 3);
                let (middle, last) = rest.split_at(rest.len() / 2);
                vec![Frame::new(first, head), Frame::new(0, middle), Frame::new(FINAL, last)]
            }
            _ => vec![Frame::new(FINAL | first, sent)],
        };
        Sent { frames, plain }
    }

    /// Inflates an echo: the contexts of both sides still fit.
    fn check_inflated(&mut self, message: &Sent) -> io::Result<()> {
        let Some((_, decompress)) =
            self.contexts.as_mut().filter(|_| message.frames[0].first & COMPRESSED != 0)
        else {
            return Ok(());
        };
        let mut deflated: Vec<u8> = message.frames.iter().flat_map(|frame| frame.payload.clone()).collect();
        deflated.extend(TAIL);
        let mut inflated = Vec::with_capacity(message.plain.len() + 64);
        decompress.decompress_vec(&deflated, &mut inflated, FlushDecompress::Sync)?;
        match inflated == message.plain {
            true => Ok(()),
            false => Err(io::Error::other("a compressed message differs")),
        }
    }
}

fn unexpected(frame: &Frame) -> io::Error {
    let shown = String::from_utf8_lossy(&frame.payload[..frame.payload.len().min(40)]).into_owned();
    io::Error::other(format!("unexpected frame {:#x}, {} bytes: {shown:?}", frame.first, frame.payload.len()))
}

/// The payload of a message: each of its blocks begins with its place.
pub(crate) fn payload(number: usize, sequence: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![b'a' + (sequence % 26) as u8; length];
    for (index, block) in payload.chunks_mut(512).enumerate() {
        let head = format!("{sequence:05}.{number:04}.{index:04} ");
        let length = head.len().min(block.len());
        block[..length].copy_from_slice(&head.as_bytes()[..length]);
    }
    payload
}

fn deflate(compress: &mut Compress, plain: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(plain.len() + 256);
    compress.compress_vec(plain, &mut deflated, FlushCompress::Sync).unwrap();
    assert!(deflated.ends_with(&TAIL));
    deflated.truncate(deflated.len() - TAIL.len());
    deflated
}
