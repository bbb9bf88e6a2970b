//! An HTTP/2 connection: accepts its streams, each of which is a request. `metered_io` enforces limits that
//! h2 lacks.

mod bucket;
mod field_sections;
mod flood_limit;
mod frame_scan;
mod hpack_scan;
mod huffman;
mod metered_io;
mod rejected_by_h2;

use super::connection_context::ConnectionContext;
use super::lingering_close;
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::proxy::{Failure, GoingAway, ReceivedStream, StreamLimits};
use crate::telemetry::metrics::{self, StreamEnd};
use bucket::Bucket;
use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use log::debug;
use metered_io::{FrameTimeouts, Meter, WakeHandle};
use rejected_by_h2::Heads;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// The receive window of a stream in bytes: 256 KiB is enough for an upload of 40 Mbit/s at 50 ms. The
/// protocol's default of 64 KiB, which nginx uses, is slow over distance.
const STREAM_WINDOW: u32 = 256 << 10;
/// The maximum number of concurrent streams.
const STREAMS: u32 = 100;
/// The receive window of a connection: the sum of its streams' windows. A stream with a stuck backend keeps
/// its part of it. With less, a few of them would block all others, WebSockets for their whole life. It
/// bounds the memory for bodies when every backend is stuck.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// The maximum bytes of a response that wait for the socket, per stream.
const SEND_BUFFER: usize = 128 << 10;
/// The limit of missing bytes in DATA frames below 256 bytes. The messages that fit in a stream's window stay
/// below it, so that a WebSocket with a stuck backend does not close the connection.
const SMALL_FRAMES: usize = CONNECTION_WINDOW as usize / 2;
/// Malformed requests that a connection may send at once, regardless of its other requests (CVE-2026-105297).
const MALFORMED: u32 = 32;
/// The time after which one more is allowed: 30 per minute. Clients may share a connection through a load
/// balancer, and an occasional malformed request of one must not close it for all.
const MALFORMED_EACH: Duration = Duration::from_secs(2);
/// The limit of requests that h2 rejects. Streams above the 100 concurrent ones are among them, which a
/// client may open before it has received that limit.
const REFUSED: usize = 200;
/// How long a client may take to react to GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection until its client leaves, or must leave. `early` was read from the socket before.
pub(super) async fn serve(socket: Socket, early: BytesMut, conn_info: ConnInfo, context: ConnectionContext) {
    let conn_info = Arc::new(conn_info);
    let limits = context.service.gateway.streams();
    let timeouts = FrameTimeouts { head: context.limits.time, send: limits.send };
    let (gateway, arrived) = (Arc::clone(&context.service.gateway), Arc::clone(&conn_info));
    let heads = Arc::new(Heads::new(move |failure| gateway.refused_stream(&arrived, failure)));
    let (meter, alarm) = Meter::new(socket, early, timeouts, Arc::clone(&heads));
    let counted = metrics::global().http2().opened();
    let began = timeout(context.limits.time, options(&limits).handshake(meter)).await;
    let ended = match began {
        Ok(Ok(connection)) => {
            let context = Arc::new(context);
            let active = Arc::default();
            let malformed = Bucket::full(MALFORMED, MALFORMED_EACH);
            let heads = Arc::clone(&heads);
            let served = ServedConnection {
                connection,
                conn_info,
                context,
                limits,
                alarm,
                heads,
                active,
                malformed,
                leaving: None,
                waits_for_websockets: false,
            };
            Box::pin(served.run()).await
        }
        Ok(Err(_)) => StreamEnd::Error,
        Err(_) => StreamEnd::Slow,
    };
    heads.end(match ended {
        StreamEnd::Flood | StreamEnd::Malformed => Failure::MALFORMED,
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
    conn_info: ConnInfo,
    context: ConnectionContext,
    is_slow: bool,
) {
    let counted = metrics::global().http2().opened();
    if is_slow {
        return counted.ended(StreamEnd::Slow);
    }
    context.service.gateway.refused_stream(&conn_info, Failure::NOT_HTTP2);
    lingering_close::close(socket, &INVALID_PREFACE).await;
    counted.ended(StreamEnd::Malformed);
}

fn options(limits: &StreamLimits) -> Builder {
    let mut options = Builder::new();
    // A header that is too large gets the gateway's own response, as in HTTP/1; h2's limit rejects one twice
    // as large.
    options.max_header_list_size(u32::try_from(limits.head.saturating_mul(2)).unwrap_or(u32::MAX));
    options.max_concurrent_streams(STREAMS);
    // RFC 8441 §3. Every route serves WebSockets over HTTP/2 and HTTP/1.1 alike: both are converted to one
    // handshake, and errors get the same response.
    options.enable_connect_protocol();
    options.initial_window_size(STREAM_WINDOW);
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options.max_send_buffer_size(SEND_BUFFER);
    options.data_frame_budget(SMALL_FRAMES);
    options.max_local_error_reset_streams(Some(REFUSED));
    options
}

/// An open connection.
struct ServedConnection {
    connection: Connection<Meter, Bytes>,
    conn_info: Arc<ConnInfo>,
    context: Arc<ConnectionContext>,
    limits: StreamLimits,
    alarm: Arc<WakeHandle>,
    heads: Arc<Heads>,
    active: Arc<OpenStreams>,
    /// The remaining allowance of malformed requests.
    malformed: Bucket,
    /// Set once GOAWAY was sent, or is due; the shutdown waits for the connection.
    leaving: Option<GoingAway>,
    /// The process shuts down, or the worker was removed, and GOAWAY follows the end of the last WebSocket.
    waits_for_websockets: bool,
}

/// A request parsed by h2; `None` at the end of the connection.
type AcceptedStream = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// An event of a connection.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack; a box would be one a request")]
enum Event {
    /// The process shuts down.
    Shutdown,
    /// The client floods the connection.
    Flood,
    /// The client violated the protocol in a way that no stream error can report.
    Malformed,
    /// No WebSocket is open any more.
    NoWebSocket,
    /// No stream was open for the keep-alive timeout.
    Idle,
    /// A request, or the end.
    Accepted(AcceptedStream),
}

impl ServedConnection {
    async fn run(mut self) -> StreamEnd {
        let mut shutdown = self.context.service.shutdown.clone();
        if *shutdown.borrow() {
            self.shut_down();
        }
        let mut has_requests = false;
        loop {
            let asked = self.leaving.is_some();
            let timeout = match asked {
                true => GOAWAY_TIMEOUT,
                // Without keep-alive too, the client needs time for its first request.
                false if self.limits.idle.is_zero() && !has_requests => self.limits.first,
                false => self.limits.idle,
            };
            let event = tokio::select! {
                biased;
                _ = shutdown.changed(), if !asked => Event::Shutdown,
                malformed = self.alarm.raised() => if malformed { Event::Malformed } else { Event::Flood },
                () = self.active.without_websockets(), if self.waits_for_websockets => Event::NoWebSocket,
                () = self.active.idle(timeout), if !self.waits_for_websockets => Event::Idle,
                accepted = accept(&mut self.connection, &self.heads) => Event::Accepted(accepted),
            };
            match event {
                Event::Shutdown => self.shut_down(),
                Event::NoWebSocket => self.ask_to_leave(),
                Event::Flood => return self.end(Reason::ENHANCE_YOUR_CALM, StreamEnd::Flood).await,
                Event::Malformed => return self.end(Reason::PROTOCOL_ERROR, StreamEnd::Malformed).await,
                Event::Idle if asked => return self.end(Reason::NO_ERROR, StreamEnd::Idle).await,
                Event::Idle => self.ask_to_leave(),
                Event::Accepted(Some(Ok((request, respond)))) => {
                    has_requests = true;
                    let stream = u32::from(respond.stream_id());
                    let request = ReceivedStream::new(request, respond);
                    // A connection of a removed worker has no other one to go to: its WebSockets live on.
                    let refuses = self.waits_for_websockets && self.context.service.gateway.is_draining();
                    if refuses && request.is_extended_connect() {
                        // Its client may open it on another connection (RFC 9113 §8.7).
                        self.heads.serve(stream);
                        request.refuse();
                        continue;
                    }
                    if request.is_malformed() && self.malformed.take(1).is_err() {
                        return self.end(Reason::ENHANCE_YOUR_CALM, StreamEnd::Malformed).await;
                    }
                    self.heads.serve(stream);
                    self.begin(request);
                }
                Event::Accepted(None) if asked => return StreamEnd::Idle,
                Event::Accepted(None) => return StreamEnd::Client,
                Event::Accepted(Some(Err(error))) => {
                    debug!(error:%; "HTTP/2 connection closed");
                    if error.is_go_away() && error.is_library() {
                        self.heads.end(Failure::MALFORMED);
                    }
                    return StreamEnd::Error;
                }
            }
        }
    }

    /// Starts a task for a request.
    fn begin(&self, request: ReceivedStream) {
        let service = Arc::clone(&self.context.service);
        // A WebSocket outlives the task.
        let open = Arc::new(self.active.begin(request.is_extended_connect()));
        let session =
            request.into_session(Arc::clone(&self.conn_info), self.limits.rates, Arc::clone(&open) as _);
        tokio::spawn(async move {
            service.serve_stream(session).await;
            drop(open);
        });
    }

    /// The process shuts down, or the worker was removed. Firefox ends the WebSockets of a connection at its GOAWAY, without their Close frames: each
    /// gets its own first, at its moment in the drain of a shutdown.
    fn shut_down(&mut self) {
        if self.active.has_websockets() {
            self.leaving = Some(self.context.service.gateway.leaving());
            self.waits_for_websockets = true;
        } else {
            self.ask_to_leave();
        }
    }

    /// Sends GOAWAY (RFC 9113 §6.8): active streams continue, and new ones are not expected.
    fn ask_to_leave(&mut self) {
        self.connection.graceful_shutdown();
        self.waits_for_websockets = false;
        self.leaving = Some(self.context.service.gateway.leaving());
    }

    /// Ends the connection with GOAWAY.
    async fn end(mut self, reason: Reason, ended: StreamEnd) -> StreamEnd {
        self.connection.abrupt_shutdown(reason);
        // A client that has disconnected, or does not read, gets no GOAWAY.
        let _ = timeout(GOAWAY_TIMEOUT, poll_fn(|cx| self.connection.poll_closed(cx))).await;
        ended
    }
}

/// The next request. It drives all streams of the connection, and is cancel-safe.
async fn accept(connection: &mut Connection<Meter, Bytes>, heads: &Heads) -> AcceptedStream {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        if accepted.is_pending() {
            heads.report();
        }
        accepted
    })
    .await
}

/// The number of open streams of a connection.
#[derive(Debug, Default)]
struct OpenStreams {
    count: AtomicUsize,
    none: Notify,
    websockets: AtomicUsize,
    no_websocket: Notify,
}

/// An open stream, counted until dropped.
struct Open {
    streams: Arc<OpenStreams>,
    is_websocket: bool,
}

impl OpenStreams {
    fn begin(self: &Arc<Self>, is_websocket: bool) -> Open {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.websockets.fetch_add(usize::from(is_websocket), Ordering::Relaxed);
        Open { streams: Arc::clone(self), is_websocket }
    }

    fn has_websockets(&self) -> bool {
        self.websockets.load(Ordering::Relaxed) > 0
    }

    /// Waits until no WebSocket is open.
    async fn without_websockets(&self) {
        while self.has_websockets() {
            self.no_websocket.notified().await;
        }
    }

    /// Waits until no stream has been open for that long.
    async fn idle(&self, time: Duration) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.none.notified().await;
        }
        sleep(time).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.is_websocket && self.streams.websockets.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.streams.no_websocket.notify_one();
        }
        if self.streams.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.streams.none.notify_one();
        }
    }
}
