//! A connection that speaks HTTP/2: its streams are taken in one by one, and each is a request. What h2 has no
//! bound for is in `meter`.

mod bucket;
mod field_sections;
mod flood_limit;
mod frame_scan;
mod hpack_scan;
mod huffman;
mod metered_io;
mod refused_heads;

use super::connection_context::ConnectionContext;
use super::lingering_close;
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::{self, Failure, Leaving, ReceivedStream, StreamLimits};
use crate::telemetry::metrics::{self, Ended};
use bucket::Bucket;
use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use log::debug;
use metered_io::{Alarm, FrameTimeouts, Meter};
use pingora::apps::HttpServerApp;
use pingora::protocols::Digest;
use refused_heads::Heads;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// What a client may send on one stream before we have taken it: at 256 KiB an upload fills a line of 40
/// Mbit/s at 50 ms. nginx gives 64 KiB, the protocol's default, which is slow over distance.
const STREAM_WINDOW: u32 = 256 << 10;
/// Streams of a connection at a time.
const STREAMS: u32 = 100;
/// What a client may send on a connection: as much as on all its streams. A stream whose backend reads nothing
/// keeps its part of it, so with less a few such would hold up all others, WebSockets for as long as they
/// live. It is the most that a client can make us hold of its bodies, when every backend is stuck.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What of an answer waits on a stream for the socket to take it.
const SEND_BUFFER: usize = 128 << 10;
/// DATA frames below 256 bytes may wait until they together lack so many bytes of that: the small messages that
/// a stream's window holds are fewer, so a WebSocket whose backend reads nothing ends no connection.
const SMALL_FRAMES: usize = CONNECTION_WINDOW as usize / 2;
/// Requests of a connection that may be malformed at once, whatever else it sends (CVE-2026-105297).
const MALFORMED: u32 = 32;
/// In which time there may be one more: 30 a minute. Many clients may share a connection through a balancer, and
/// one of them that now and then sends what is none must not end it for all.
const MALFORMED_EACH: Duration = Duration::from_secs(2);
/// The same for those that h2 refuses; streams beyond the 100 at a time are among them, which a client that has not
/// heard of that bound yet makes in good faith.
const REFUSED: usize = 200;
/// How long a client may take to notice that it should leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a connection until its client leaves, or has to. `early` was read from the socket before.
pub(super) async fn serve(socket: Socket, early: BytesMut, arrival: ConnInfo, house: ConnectionContext) {
    let Ok(digest) = proxy::digest(arrival) else { return };
    let limits = house.gateway.streams();
    let patience = FrameTimeouts { head: house.limits.time, send: limits.send };
    let (gateway, arrived) = (house.gateway.clone(), Arc::clone(&digest));
    let heads = Arc::new(Heads::new(move |failure| gateway.refused_stream(&arrived, failure)));
    let (meter, alarm) = Meter::new(socket, early, patience, Arc::clone(&heads));
    let counted = metrics::global().http2().opened();
    let began = timeout(house.limits.time, options(&limits).handshake(meter)).await;
    let ended = match began {
        Ok(Ok(connection)) => {
            let house = Arc::new(house);
            let active = Arc::default();
            let malformed = Bucket::full(MALFORMED, MALFORMED_EACH);
            let heads = Arc::clone(&heads);
            let served =
                Served { connection, digest, house, limits, alarm, heads, active, malformed, leaving: None };
            Box::pin(served.run()).await
        }
        Ok(Err(_)) => Ended::Error,
        Err(_) => Ended::Slow,
    };
    heads.end(match ended {
        Ended::Flood | Ended::Malformed => Failure::MALFORMED,
        _ => Failure::ClientGone,
    });
    counted.ended(ended);
}

/// SETTINGS without any, and GOAWAY with PROTOCOL_ERROR (RFC 9113 §6.5, §6.8).
const INVALID_PREFACE: [u8; 26] =
    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Ends a connection that does not begin with the preface of HTTP/2 (RFC 9113 §3.4).
pub(super) async fn refuse_preface(
    socket: Socket,
    arrival: ConnInfo,
    house: ConnectionContext,
    is_slow: bool,
) {
    let counted = metrics::global().http2().opened();
    if is_slow {
        return counted.ended(Ended::Slow);
    }
    if let Ok(digest) = proxy::digest(arrival) {
        house.gateway.refused_stream(&digest, Failure::NOT_HTTP2);
    }
    lingering_close::close(socket, &INVALID_PREFACE).await;
    counted.ended(Ended::Malformed);
}

fn options(limits: &StreamLimits) -> Builder {
    let mut options = Builder::new();
    // A head that is too large gets our own answer, like one of HTTP/1; h2's ends what is twice as large.
    options.max_header_list_size(u32::try_from(limits.head.saturating_mul(2)).unwrap_or(u32::MAX));
    options.max_concurrent_streams(STREAMS);
    // RFC 8441 §3. Every route serves a WebSocket over HTTP/2 wherever it serves one over HTTP/1.1: both are
    // one handshake behind this, and what cannot open one by either gets the same answer.
    options.enable_connect_protocol();
    options.initial_window_size(STREAM_WINDOW);
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options.max_send_buffer_size(SEND_BUFFER);
    options.data_frame_budget(SMALL_FRAMES);
    options.max_local_error_reset_streams(Some(REFUSED));
    options
}

/// A connection under way.
struct Served {
    connection: Connection<Meter, Bytes>,
    digest: Arc<Digest>,
    house: Arc<ConnectionContext>,
    limits: StreamLimits,
    alarm: Arc<Alarm>,
    heads: Arc<Heads>,
    active: Arc<Active>,
    /// What is left for requests that are none.
    malformed: Bucket,
    /// The client was asked to leave; the process waits for it.
    leaving: Option<Leaving>,
}

/// A request that h2 has read; none when the connection has ended.
type Accepted = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// What happens to a connection.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack; a box would be one a request")]
enum Event {
    /// The process ends.
    Shutdown,
    /// The client floods it.
    Flood,
    /// The client sent what no stream's error can refuse any more.
    Malformed,
    /// No stream has been open for a while.
    Idle,
    /// A request, or the end.
    Accepted(Accepted),
}

impl Served {
    async fn run(mut self) -> Ended {
        let mut shutdown = self.house.shutdown.clone();
        if *shutdown.borrow() {
            self.ask_to_leave();
        }
        loop {
            let asked = self.leaving.is_some();
            let patience = if asked { FAREWELL } else { self.limits.idle };
            let event = tokio::select! {
                biased;
                _ = shutdown.changed(), if !asked => Event::Shutdown,
                malformed = self.alarm.raised() => if malformed { Event::Malformed } else { Event::Flood },
                () = self.active.idle(patience) => Event::Idle,
                accepted = accept(&mut self.connection, &self.heads) => Event::Accepted(accepted),
            };
            match event {
                Event::Shutdown => self.ask_to_leave(),
                Event::Flood => return self.end(Reason::ENHANCE_YOUR_CALM, Ended::Flood).await,
                Event::Malformed => return self.end(Reason::PROTOCOL_ERROR, Ended::Malformed).await,
                Event::Idle if asked => return self.end(Reason::NO_ERROR, Ended::Idle).await,
                Event::Idle => self.ask_to_leave(),
                Event::Accepted(Some(Ok((request, respond)))) => {
                    let stream = u32::from(respond.stream_id());
                    let request = ReceivedStream::new(request, respond);
                    if request.is_malformed() && self.malformed.take(1).is_err() {
                        return self.end(Reason::ENHANCE_YOUR_CALM, Ended::Malformed).await;
                    }
                    self.heads.serve(stream);
                    self.begin(request);
                }
                Event::Accepted(None) if asked => return Ended::Idle,
                Event::Accepted(None) => return Ended::Client,
                Event::Accepted(Some(Err(error))) => {
                    debug!(error:%; "an HTTP/2 connection ended");
                    if error.is_go_away() && error.is_library() {
                        self.heads.end(Failure::MALFORMED);
                    }
                    return Ended::Error;
                }
            }
        }
    }

    /// A request, in a task of its own.
    fn begin(&self, request: ReceivedStream) {
        let house = Arc::clone(&self.house);
        // A WebSocket outlives the task.
        let open = Arc::new(self.active.begin());
        let session =
            request.into_session(Arc::clone(&self.digest), self.limits.rates, Arc::clone(&open) as _);
        tokio::spawn(async move {
            house.proxy.process_new_http(session, &house.shutdown).await;
            drop(open);
        });
    }

    /// RFC 9113 §6.8: what is under way goes on, and nothing new should come.
    fn ask_to_leave(&mut self) {
        self.connection.graceful_shutdown();
        self.leaving = Some(self.house.gateway.leaving());
    }

    /// Ends the connection, with a last word for a client that reads.
    async fn end(mut self, reason: Reason, ended: Ended) -> Ended {
        self.connection.abrupt_shutdown(reason);
        // Who is gone, or does not read, hears nothing.
        let _ = timeout(FAREWELL, poll_fn(|cx| self.connection.poll_closed(cx))).await;
        ended
    }
}

/// The next request. It drives all streams of the connection, and may be dropped and asked again.
async fn accept(connection: &mut Connection<Meter, Bytes>, heads: &Heads) -> Accepted {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        if accepted.is_pending() {
            heads.report();
        }
        accepted
    })
    .await
}

/// How many streams of a connection are open.
#[derive(Debug, Default)]
struct Active {
    count: AtomicUsize,
    none: Notify,
}

/// One of them, until it is dropped.
struct Open(Arc<Active>);

impl Active {
    fn begin(self: &Arc<Self>) -> Open {
        self.count.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// Waits until none has been open for that long.
    async fn idle(&self, time: Duration) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.none.notified().await;
        }
        sleep(time).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}
