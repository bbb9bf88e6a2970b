//! Transfer of one attempt: the request to the backend and its response to the client, both at once.
//!
//! A response may begin before the request is complete. After an error the rest of the request is not sent: the backend
//! may have stopped reading, and would parse the rest as a request (RFC 9112 §9.3). After a success both go on, as
//! through a service that converts what it reads, until the response is complete. While the backend is awaited, the client's session is polled: it detects the client's disconnect and the backend's time limits
//! (see `session_control`).

use super::request_head::{self, ClientBody};
use super::switched_connection::SwitchedConnection;
use crate::net::http1::body_decoder::BodyDecoder;
use crate::net::http1::body_encoder::{BodyEncoder, LengthMismatch};
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::MAX_INTERIM;
use crate::proxy::attempt;
use crate::proxy::body::request_body::{self, OutgoingBody};
use crate::proxy::body::response_body;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Session;
use crate::proxy::failure::OURS;
use crate::proxy::forwarded_trailers;
use crate::proxy::response::upstream_response;
use crate::proxy::upload::BodyProgress;
use crate::upstream::{BodyPart, Broken, Http1Connection, Progress, keeps_alive};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use moongate_sdk::BodyLength;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::io;
use std::sync::Arc;

/// The maximum size of a response body that is read and dropped, so that its connection can be reused.
const MAX_DROPPED: usize = 256 << 10;

/// One attempt with an open connection.
pub(super) struct Transfer {
    connection: Box<Http1Connection>,
    /// Bytes to write, and a large piece of the body to write after them.
    out: BytesMut,
    data: Bytes,
    encoder: BodyEncoder,
    /// The whole request was given to `out`, or its rest is not sent.
    upload_is_over: bool,
    /// The request was not sent completely.
    is_cut_off: bool,
    /// The end of the client's body was read.
    body_has_ended: bool,
    /// Bytes of a response were received beside the upload, whose turn it is.
    is_clients_turn: bool,
    /// The header of the final response, until it is sent.
    head: Option<(ResponseHeader, FieldNames)>,
    /// The body of the final response, once its header was received.
    body: Option<BodyDecoder>,
    /// The 101 of a backend that switches to another protocol.
    switched: Option<Box<SwitchedHead>>,
    /// Whether the backend keeps the connection after the response.
    keeps_alive: bool,
    interim: u32,
    /// The bytes of a replaced response that were dropped.
    dropped: usize,
    /// Why the request could not be written.
    write_error: Option<io::Error>,
}

/// A 101 and the protocol that it names.
struct SwitchedHead {
    head: ResponseHeader,
    names: FieldNames,
    protocol: Arc<str>,
    chosen: Vec<HeaderValue>,
}

/// What ended a wait.
enum Event {
    Upstream(std::result::Result<Progress, Broken>),
    Client(Result<Option<Bytes>>),
}

impl Transfer {
    pub(super) fn new(connection: Box<Http1Connection>) -> Self {
        Self {
            connection,
            out: BytesMut::new(),
            data: Bytes::new(),
            encoder: BodyEncoder::default(),
            upload_is_over: false,
            is_cut_off: false,
            body_has_ended: false,
            is_clients_turn: false,
            head: None,
            body: None,
            switched: None,
            keeps_alive: false,
            interim: 0,
            dropped: 0,
            write_error: None,
        }
    }

    /// Moves both messages to their ends.
    ///
    /// # Errors
    /// The error of the side that failed, as Pingora's type.
    pub(super) async fn run(&mut self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        self.begin(session, ctx).await?;
        self.move_both(session, ctx).await
    }

    /// Moves the response to a request that was sent before and had no body.
    ///
    /// # Errors
    /// As [`Transfer::run`].
    pub(super) async fn run_response(&mut self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        (self.upload_is_over, ctx.upload.is_sent) = (true, true);
        attempt::begin_waiting(session, ctx).await?;
        self.move_both(session, ctx).await
    }

    async fn move_both(&mut self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        loop {
            match self.step(session, ctx).await {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                // The client has a whole response already, which replaced the backend's.
                Err(error) if ctx.response.is_replaced && *error.esource() == ErrorSource::Upstream => {
                    self.keeps_alive = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes on what was received, then waits for more. Returns whether the response is complete.
    async fn step(&mut self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if self.forward_received(session, ctx).await? {
            return Ok(true);
        }
        match self.wait(session).await {
            Event::Upstream(Ok(Progress::Written)) => {
                session.control().hear();
                self.encoder.complete_chunk(&mut self.out);
                if self.upload_is_over && self.out.is_empty() {
                    // A stream that waits for events holds no buffer.
                    self.out = BytesMut::new();
                } else {
                    // The backend may have responded meanwhile, and then gets no more of the body.
                    tokio::task::yield_now().await;
                }
            }
            Event::Upstream(Ok(Progress::Received)) => {
                self.hear(session);
                self.is_clients_turn = !self.upload_is_over;
            }
            Event::Upstream(Ok(Progress::Closed)) => return self.close(session, ctx).await,
            Event::Upstream(Err(Broken::Write(error))) if self.switched.is_some() => {
                return Err(Error::because(ErrorType::WriteError, "", error).into_up());
            }
            Event::Upstream(Err(Broken::Write(error))) => {
                if self.body.is_some() {
                    attempt::end_upload(session, ctx);
                }
                self.stop_upload(Some(error));
            }
            Event::Upstream(Err(Broken::Read(error))) => return Err(self.read_error(error)),
            Event::Client(Err(error)) => return Err(error.into_down()),
            Event::Client(Ok(piece)) => self.upload(session, ctx, piece).await?,
        }
        Ok(false)
    }

    /// Prepares the request, and the part of its body that is known: all of it, or what an earlier attempt
    /// read.
    async fn begin(&mut self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        session.keep_for_retry();
        let mut body = request_body::outgoing_body(&session.request().headers, ctx);
        // Some servers take a body in chunks for an empty one: what has arrived gets a length.
        let is_changed = body == OutgoingBody::UnknownLength;
        if is_changed || session.lacks_length() {
            session.read_arrived().await.map_err(Error::into_down)?;
        }
        let is_done = session.is_body_done();
        let kept = session.kept_for_retry();
        let has_trailers = is_done && forwarded_trailers::of_request(session, ctx).is_some();
        // Only a body in chunks has trailers.
        let is_whole = is_done && !session.is_retry_truncated() && !has_trailers;
        let mut passed = None;
        if is_changed && is_whole {
            // Its length is known once the plugins have seen all of it.
            let mut piece = kept.clone();
            request_body::filter(session, &mut piece, true, ctx).await?;
            let piece = piece.unwrap_or_default();
            body = OutgoingBody::Length(piece.len());
            passed = Some(piece);
        }
        let client_body = match (session.is_body_empty() && !has_trailers, &kept) {
            (true, _) if ctx.received.body == BodyLength::Empty => ClientBody::Absent,
            (true, _) => ClientBody::Length(0),
            (false, Some(kept)) if is_whole && session.is_http2() => ClientBody::Length(kept.len() as u64),
            (false, _) => ClientBody::Unfinished,
        };
        let (request, names) = (session.request(), session.field_names());
        (self.out, self.encoder) = request_head::write(request, names, ctx, body, client_body)?;
        attempt::begin_waiting(session, ctx).await?;
        match passed {
            Some(piece) => self.add(session, ctx, Some(piece), true),
            None if kept.is_some() || session.is_body_empty() => self.push(session, ctx, kept, is_done).await,
            None => Ok(()),
        }
    }

    /// Waits for the next event. While something is left to write, no more of an upload is read.
    async fn wait(&mut self, session: &mut Session) -> Event {
        let writes = !self.out.is_empty() || !self.data.is_empty();
        // The client is then only watched: it may leave a backend that reads nothing.
        let reads_nothing = writes && !self.upload_is_over;
        let ends_with_body = self.upload_is_over && (!self.is_cut_off || self.body_has_ended);
        let (out, data) = (&mut self.out, &mut self.data);
        // After a 101 the backend's bytes are of another protocol.
        let progress = self.connection.progress(out, data, self.switched.is_none());
        let piece = session.read_body_or_idle(ends_with_body || reads_nothing);
        if std::mem::take(&mut self.is_clients_turn) {
            // A backend that always has bytes ready must not hold up the upload.
            tokio::select! {
                biased;
                piece = piece => Event::Client(piece),
                progress = progress => Event::Upstream(progress),
            }
        } else {
            tokio::select! {
                biased;
                progress = progress => Event::Upstream(progress),
                piece = piece => Event::Client(piece),
            }
        }
    }

    fn hear(&self, session: &Session) {
        if self.body.is_some() {
            session.control().hear();
        }
    }

    /// A piece of the client's body, or its end.
    async fn upload(&mut self, session: &mut Session, ctx: &mut Context, piece: Option<Bytes>) -> Result<()> {
        self.body_has_ended |= piece.is_none();
        if self.upload_is_over {
            // Not sent: the plugins did not see it, so that another attempt would send less than the client.
            if ctx.upload.shown {
                ctx.upload.passed = BodyProgress::Lost;
            }
            return Ok(());
        }
        let is_done = session.is_body_done();
        self.push(session, ctx, piece, is_done).await
    }

    /// Passes a piece through the plugins, and adds the result.
    async fn push(
        &mut self,
        session: &mut Session,
        ctx: &mut Context,
        mut piece: Option<Bytes>,
        is_done: bool,
    ) -> Result<()> {
        let is_end = is_done || piece.is_none();
        request_body::filter(session, &mut piece, is_end, ctx).await?;
        self.add(session, ctx, piece, is_end)
    }

    /// Adds a piece after the plugins to what is to be written.
    fn add(&mut self, session: &Session, ctx: &Context, piece: Option<Bytes>, is_end: bool) -> Result<()> {
        let ends_body = is_end || piece.is_none();
        let mismatch = |error: LengthMismatch| Error::explain(OURS, error.to_string());
        if let Some(piece) = piece {
            self.encoder.push(piece, &mut self.out, &mut self.data).map_err(mismatch)?;
        }
        if ends_body {
            if !self.data.is_empty() && self.encoder.is_chunked() {
                // The end follows the large piece, whose data is written after `out`.
                self.out.extend_from_slice(&std::mem::take(&mut self.data));
            }
            let trailers = is_end.then(|| forwarded_trailers::of_request(session, ctx)).flatten();
            self.encoder.finish_with(trailers.as_ref(), &mut self.out).map_err(mismatch)?;
        }
        self.upload_is_over |= is_end;
        Ok(())
    }

    /// The response ends the upload.
    fn cut_off_upload(&mut self, session: &mut Session, ctx: &mut Context) {
        attempt::end_upload(session, ctx);
        self.stop_upload(None);
    }

    /// The rest of the request is not sent.
    fn stop_upload(&mut self, error: Option<io::Error>) {
        self.write_error = error;
        self.out.clear();
        self.data.clear();
        self.encoder = BodyEncoder::default();
        self.connection.stop_writing();
        self.upload_is_over = true;
        self.is_cut_off = true;
    }

    /// Passes on what was received. Returns whether the response is complete.
    async fn forward_received(&mut self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        while self.body.is_none() {
            if self.switched.is_some() {
                // RFC 9110 §7.8: the client has completed its request before it uses the other protocol.
                let is_written = self.out.is_empty() && self.data.is_empty() && !self.connection.must_flush();
                return Ok(self.upload_is_over && is_written);
            }
            let head = self.connection.next_head();
            let Some((head, names)) = head.map_err(|error| bad_response(&error))? else { return Ok(false) };
            self.take_head(session, ctx, head, names).await?;
        }
        loop {
            let Some(body) = &mut self.body else { return Ok(false) };
            if body.is_over() {
                self.forward_data(session, ctx, None, true).await?;
                return Ok(true);
            }
            match self.connection.next_part(body).map_err(|error| bad_response(&error))? {
                BodyPart::Data(data) => {
                    let is_end = body.is_over();
                    self.dropped += if ctx.response.is_replaced { data.len() } else { 0 };
                    let is_too_large = self.dropped > MAX_DROPPED;
                    self.keeps_alive &= is_end || !is_too_large;
                    self.forward_data(session, ctx, Some(data), is_end).await?;
                    if is_end || is_too_large {
                        return Ok(true);
                    }
                }
                BodyPart::End => {
                    self.forward_data(session, ctx, None, true).await?;
                    return Ok(true);
                }
                BodyPart::NeedsBytes if ctx.response.is_replaced => {
                    // The client does not wait for the rest of a response that it does not get.
                    self.keeps_alive = false;
                    return Ok(true);
                }
                BodyPart::NeedsBytes => {
                    if let Some((head, names)) = self.head.take() {
                        session.write_spelled_head(head, &names, false).await.map_err(Error::into_down)?;
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// Passes on an interim response, or prepares a final one.
    async fn take_head(
        &mut self,
        session: &mut Session,
        ctx: &mut Context,
        mut head: ResponseHeader,
        names: FieldNames,
    ) -> Result<()> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS && ctx.upgrade.is_some() {
            let (protocol, chosen) = attempt::switched(session, &mut head, ctx)?;
            self.switched = Some(Box::new(SwitchedHead { head, names, protocol, chosen }));
            return Ok(());
        }
        let keeps_alive = keeps_alive(&head);
        if head.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(bad_response(&"too many interim responses"));
            }
            attempt::response_started(session, &mut head, ctx)?;
            upstream_response::from_backend(session, &mut head, ctx).await?;
            return session.write_spelled_head(head, &names, false).await.map_err(Error::into_down);
        }
        attempt::response_started(session, &mut head, ctx)?;
        if !ctx.upload.is_sent {
            // Whether all of it will be read is uncertain.
            session.close_after_response();
            if self.is_cut_off || !head.status.is_success() {
                self.cut_off_upload(session, ctx);
            } else {
                // The client may listen meanwhile: the idle limit of the response applies to both directions.
                session.set_body_timeout(None);
            }
        }
        let method = ctx.method().unwrap_or(&session.request().method);
        let body = BodyDecoder::new(method, head.status, &head.headers);
        // A backend that has not read the request would parse its rest as another one.
        self.keeps_alive = keeps_alive && !body.ends_with_connection() && ctx.upload.is_sent;
        if body.ends_with_connection() {
            // The client's connection need not end with the backend's.
            head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        self.body = Some(body);
        upstream_response::from_backend(session, &mut head, ctx).await?;
        if !ctx.response.is_replaced {
            self.head = Some((head, names));
        }
        Ok(())
    }

    /// Passes a part of the body through the plugins to the client, after the header if that was not sent
    /// yet: a plugin that fails at the first part may still replace the response.
    async fn forward_data(
        &mut self,
        session: &mut Session,
        ctx: &mut Context,
        mut data: Option<Bytes>,
        is_end: bool,
    ) -> Result<()> {
        response_body::filter(session, &mut data, is_end, ctx)?;
        let trailers = self.body.as_ref().filter(|_| is_end).and_then(BodyDecoder::trailers);
        let trailers = trailers.and_then(|trailers| forwarded_trailers::of_response(trailers, ctx));
        if let Some((head, names)) = self.head.take() {
            let has_nothing_else = is_end && data.is_none() && trailers.is_none();
            session.write_spelled_head(head, &names, has_nothing_else).await.map_err(Error::into_down)?;
            if has_nothing_else {
                return Ok(());
            }
        }
        if ctx.response.is_replaced || (data.is_none() && !is_end) {
            return Ok(());
        }
        let Some(trailers) = trailers else {
            return session.write_body(data.unwrap_or_default(), is_end).await.map_err(Error::into_down);
        };
        session.write_body(data.unwrap_or_default(), false).await.map_err(Error::into_down)?;
        session.write_trailers(trailers).await.map_err(Error::into_down)
    }

    /// The backend closed the connection. Returns whether that ended the response.
    async fn close(&mut self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if self.body.as_ref().is_some_and(BodyDecoder::ends_with_connection) {
            self.forward_data(session, ctx, None, true).await?;
            return Ok(true);
        }
        Err(match self.write_error.take() {
            Some(error) => Error::because(ErrorType::WriteError, "", error).into_up(),
            None => Error::new_up(ErrorType::ConnectionClosed),
        })
    }

    fn read_error(&mut self, error: io::Error) -> Box<Error> {
        match self.write_error.take() {
            Some(error) => Error::because(ErrorType::WriteError, "", error).into_up(),
            None => Error::because(ErrorType::ReadError, "", error).into_up(),
        }
    }

    /// Returns whether the backend switched to another protocol.
    pub(super) fn has_switched(&self) -> bool {
        self.switched.is_some()
    }

    /// The connection of a backend that switched to another protocol, after [`Transfer::run`].
    pub(super) fn into_switched(self) -> Option<Box<SwitchedConnection>> {
        let SwitchedHead { head, names, protocol, chosen } = *self.switched?;
        let (stream, early) = self.connection.into_stream();
        Some(Box::new(SwitchedConnection { head, names, protocol, chosen, stream, early }))
    }

    /// The connection after [`Transfer::run`], if both messages are complete and the backend keeps it.
    pub(super) fn reusable(
        mut self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Option<Box<Http1Connection>> {
        if !self.upload_is_over {
            self.cut_off_upload(session, ctx);
        }
        if ctx.upload.is_cut_off {
            attempt::cut_off_upload(session, ctx);
        }
        let is_written = self.out.is_empty() && self.data.is_empty();
        let may_keep = self.keeps_alive && self.upload_is_over && !self.is_cut_off && is_written;
        may_keep.then_some(self.connection)
    }
}

/// The backend's response is not HTTP.
fn bad_response(why: &impl ToString) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, why.to_string()).into_up()
}
