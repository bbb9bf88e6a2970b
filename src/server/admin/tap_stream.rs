//! Stream of a tap: opens, closes and messages of the selected WebSockets, for a limited time.

use super::Admin;
use super::query::Query;
use super::response::{EventSource, put_event};
use super::socket_list::SocketRow;
use super::tap_filter;
use crate::telemetry::metrics::InitiatorLabel;
use crate::telemetry::{quoted, unix_millis};
use crate::tunnel::{
    LARGEST_EXCERPT, OpenTap, Side, TapEvent, TapLimits, TapSelection, TapSession, TappedMessage,
};
use crate::websocket::frame::{Close, Opcode};
use async_trait::async_trait;
use http::HeaderMap;
use log::info;
use moongate_config::Period;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

/// The duration of a tap without one, and the longest.
const DEFAULT_DURATION: Duration = Duration::from_secs(60);
const LONGEST_DURATION: Duration = Duration::from_secs(600);

/// Events per second without a rate, and the most.
const DEFAULT_RATE: usize = 100;
const HIGHEST_RATE: usize = 1000;

/// Bytes of each message without a size.
const DEFAULT_BYTES: usize = 256;

/// The interval at which dropped events are reported.
const REPORT: Duration = Duration::from_secs(1);

/// What to tap.
#[derive(Debug)]
pub(super) struct TapRequest {
    selection: Selection,
    duration: Duration,
    limits: TapLimits,
}

/// The selection as it was written.
#[derive(Clone, Debug)]
enum Selection {
    Socket(u64),
    Route(String),
    Filter(String),
}

impl TapRequest {
    /// The ID of the WebSocket, if one is selected.
    pub(super) fn socket(&self) -> Option<u64> {
        match &self.selection {
            Selection::Socket(id) => Some(*id),
            Selection::Route(_) | Selection::Filter(_) => None,
        }
    }

    /// The name of the route, if one is selected.
    pub(super) fn route(&self) -> Option<&str> {
        match &self.selection {
            Selection::Route(route) => Some(route),
            Selection::Socket(_) | Selection::Filter(_) => None,
        }
    }

    /// Reads `socket`, `route` or `filter`, and `duration`, `rate` and `bytes`.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn read(query: &Query) -> Result<Self, String> {
        let selection = match (query.get("socket"), query.get("route"), query.get("filter")) {
            (Some(id), None, None) => {
                Selection::Socket(id.parse().map_err(|_| format!("`{id}` is not the ID of a WebSocket"))?)
            }
            (None, Some(route), None) => Selection::Route(route.to_owned()),
            (None, None, Some(filter)) => Selection::Filter(filter.to_owned()),
            _ => return Err("name one of `socket`, `route` and `filter`".to_owned()),
        };
        let duration = match query.get("duration") {
            None => DEFAULT_DURATION,
            Some(text) => {
                let period = text.parse::<Period>().ok().map(|period| period.0);
                period
                    .filter(|period| !period.is_zero() && *period <= LONGEST_DURATION)
                    .ok_or_else(|| format!("`duration` must be from 1ms to 10m, not `{text}`"))?
            }
        };
        let rate = query.number("rate", DEFAULT_RATE, (1, HIGHEST_RATE))?;
        let bytes = query.number("bytes", DEFAULT_BYTES, (0, LARGEST_EXCERPT))?;
        Ok(Self {
            selection,
            duration,
            limits: TapLimits { rate: u32::try_from(rate).unwrap_or(u32::MAX), bytes },
        })
    }
}

/// The stream of one tap.
pub(super) struct TapStream {
    admin: Arc<Admin>,
    /// The fields of the request, whose token or session must stay valid.
    fields: HeaderMap,
    /// The selection for the log.
    selection: String,
    session: Arc<TapSession>,
    events: Receiver<TapEvent>,
    tap: OpenTap,
    peer: SocketAddr,
    /// The place among the taps at a time.
    _permit: OwnedSemaphorePermit,
    until: Instant,
    next_report: Instant,
    has_begun: bool,
    has_ended: bool,
    sent: u64,
}

impl TapStream {
    /// Begins a tap for the operator at `peer`, which is logged.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub(super) fn begin(
        admin: &Arc<Admin>,
        request: TapRequest,
        fields: &HeaderMap,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, String> {
        let TapRequest { selection, duration, limits } = request;
        let shown = match &selection {
            Selection::Socket(id) => format!("socket {id}"),
            Selection::Route(route) => format!("route {route}"),
            Selection::Filter(filter) => format!("filter {filter}"),
        };
        let selection = match selection {
            Selection::Socket(id) => TapSelection::Tunnel(id),
            Selection::Route(route) => TapSelection::Route(route.into()),
            Selection::Filter(filter) => TapSelection::Filter(tap_filter::compile(&filter)?),
        };
        let (session, events) = TapSession::new(selection, limits);
        let tap = admin.state.tunnels().tap(&session);
        info!(peer:%, selection = quoted(&shown), duration:?, websockets = tap.tunnels; "tap started");
        let now = Instant::now();
        Ok(Self {
            admin: Arc::clone(admin),
            fields: fields.clone(),
            selection: shown,
            session,
            events,
            tap,
            peer,
            _permit: permit,
            until: now + duration,
            next_report: now + REPORT,
            has_begun: false,
            has_ended: false,
            sent: 0,
        })
    }

    fn put(&mut self, event: &TapEvent, out: &mut String) {
        self.sent += 1;
        match event {
            TapEvent::Open(seen) => {
                let mut opened = json!(SocketRow::new(seen));
                opened["at"] = unix_millis().into();
                put_event(out, "open", &opened);
            }
            TapEvent::Message(message) => put_event(out, "message", &message_json(message)),
            TapEvent::Close { id, code, by, reason } => {
                let by = InitiatorLabel::from(*by).label();
                let closed =
                    json!({ "socket": id, "at": unix_millis(), "code": code, "by": by, "reason": reason });
                put_event(out, "close", &closed);
            }
        }
    }

    /// Why the tap ends before its time.
    fn revoked(&self) -> Option<&'static str> {
        if !self.admin.state.allows_taps() {
            return Some("off");
        }
        if self.admin.is_retired() {
            return Some("address_closed");
        }
        (!self.admin.is_authenticated(&self.fields)).then_some("signed_out")
    }

    /// Reports how many events were dropped.
    fn report(&mut self, out: &mut String) {
        self.next_report = Instant::now() + REPORT;
        let count = self.session.take_dropped();
        if count > 0 {
            put_event(out, "dropped", &json!({ "count": count }));
        }
    }
}

/// A message as JSON: text is shown as text, anything else as hexadecimal digits.
fn message_json(message: &TappedMessage) -> Value {
    let (direction, opcode) = (
        match message.from {
            Side::Client => "to_backend",
            Side::Backend => "to_client",
        },
        match message.opcode {
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
            Opcode::Close => "close",
            Opcode::Continuation | Opcode::Reserved => "other",
        },
    );
    let mut shown = json!({
        "socket": message.id,
        "at": unix_millis(),
        "direction": direction,
        "opcode": opcode,
        "size": message.size,
        "truncated": message.size > message.excerpt.len() as u64 || message.is_compressed,
        "compressed": message.is_compressed,
    });
    match message.opcode {
        Opcode::Close => {
            if let Ok(close) = Close::read(&message.excerpt) {
                shown["code"] = close.code.into();
                shown["reason"] = close.reason.into();
            }
        }
        Opcode::Text if !message.is_compressed => shown["text"] = text(&message.excerpt).into(),
        _ => shown["hex"] = hex(&message.excerpt).into(),
    }
    shown
}

/// The text of an excerpt, without a character that its end cuts.
fn text(excerpt: &[u8]) -> String {
    let end = match std::str::from_utf8(excerpt) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => excerpt.len(),
    };
    String::from_utf8_lossy(&excerpt[..end]).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[async_trait]
impl EventSource for TapStream {
    async fn next(&mut self) -> Option<String> {
        if self.has_ended {
            return None;
        }
        let mut out = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            let left = self.until.saturating_duration_since(Instant::now());
            let until = unix_millis() + u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            put_event(&mut out, "start", &json!({ "sockets": self.tap.tunnels, "until": until }));
            return Some(out);
        }
        tokio::select! {
            biased;
            () = sleep_until(self.until) => {
                self.report(&mut out);
                put_event(&mut out, "end", &json!({ "reason": "duration" }));
                self.has_ended = true;
            }
            () = sleep_until(self.next_report) => {
                self.report(&mut out);
                if let Some(reason) = self.revoked() {
                    put_event(&mut out, "end", &json!({ "reason": reason }));
                    self.has_ended = true;
                }
            }
            event = self.events.recv() => {
                let mut next = event;
                // What is there goes in one write.
                while let Some(event) = next {
                    self.put(&event, &mut out);
                    next = if out.len() < 64 << 10 { self.events.try_recv().ok() } else { None };
                }
            }
        }
        Some(out)
    }
}

impl Drop for TapStream {
    fn drop(&mut self) {
        let (peer, events) = (self.peer, self.sent);
        info!(peer:%, selection = quoted(&self.selection), events; "tap ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opcode: Opcode, excerpt: &[u8], size: u64) -> Value {
        message_json(&TappedMessage {
            id: 7,
            from: Side::Client,
            opcode,
            size,
            excerpt: excerpt.to_vec(),
            is_compressed: false,
        })
    }

    #[test]
    fn text_is_shown_as_text_and_binary_as_digits() {
        let shown = message(Opcode::Text, "grüße".as_bytes(), 7);
        assert_eq!((shown["text"].as_str(), shown["truncated"].as_bool()), (Some("grüße"), Some(false)));
        let cut = message(Opcode::Text, &"grü".as_bytes()[..3], 7);
        assert_eq!((cut["text"].as_str(), cut["truncated"].as_bool()), (Some("gr"), Some(true)));
        assert_eq!(message(Opcode::Binary, &[0, 255], 2)["hex"], "00ff");
        let close = message(Opcode::Close, b"\x03\xe8bye", 5);
        assert_eq!((close["code"].as_u64(), close["reason"].as_str()), (Some(1000), Some("bye")));
    }

    #[test]
    fn a_wrong_request_is_explained() {
        let read = |text: &str| TapRequest::read(&Query::parse(text));
        assert!(read("route=chat&duration=5s&rate=10&bytes=0").is_ok());
        for wrong in [
            "",
            "route=a&socket=1",
            "socket=x",
            "route=a&duration=1h",
            "route=a&duration=0s",
            "route=a&rate=0",
            "route=a&bytes=5000",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
