//! Copies of requests for another upstream, whose responses are discarded.
//!
//! The request never waits for its copy: one that is too long, or exceeds the number of pending copies, is not
//! made.

use bytes::BytesMut;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings, Size};
use moongate_sdk::{Call, CallTarget, Exchange, Flow, Phases, Piece, Plugin};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The longest body that may be copied.
const LONGEST_BODY: u64 = 1 << 20;
/// The length of a response that is read to keep its connection; a longer one closes the connection.
const LONGEST_RESPONSE: usize = 1 << 20;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "mirror",
    about: "Sends copies of requests to another upstream",
    schema: <MirrorSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MirrorSettings {
    /// Sends the copies to this upstream. Required.
    upstream: String,
    /// Copies this percentage of requests, 1 to 100. Default 100.
    percent: Option<Placed<u8>>,
    /// Copies only requests whose body is at most this long. At most 1MiB. Default 64KiB.
    max_body: Option<Placed<Size>>,
    /// Skips copies while this many are in progress. `0`: no limit. Default 100.
    max_in_flight: Option<u32>,
    /// Ends a copy after this long. Longer than 0. Default 10s.
    timeout: Option<Placed<Period>>,
}

struct Mirror {
    upstream: String,
    percent: u8,
    max_body: u64,
    most: u32,
    timeout: Duration,
    under_way: Arc<AtomicU32>,
}

/// A copy that waits for its body.
#[derive(Default)]
struct PendingCopy(Option<(Call, BytesMut, CopySlot)>);

/// A copy's slot in the number of pending ones.
struct CopySlot(Arc<AtomicU32>);

impl Drop for CopySlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: MirrorSettings = settings.read()?;
    let mut problems = Problems::default();
    if let Some(percent) = written.percent.as_ref().filter(|percent| !(1..=100).contains(&percent.value)) {
        problems.push(Problem::new("`percent` must be 1 to 100").at(&percent.place));
    }
    if let Some(size) = written.max_body.as_ref().filter(|size| size.0 > LONGEST_BODY) {
        problems.push(Problem::new("`max_body` must be at most 1MiB").at(&size.place));
    }
    if let Some(timeout) = written.timeout.as_ref().filter(|timeout| timeout.0.is_zero()) {
        problems
            .push(Problem::new("`timeout` must be at least 1ms").help("omit it for 10s").at(&timeout.place));
    }
    if problems.refuse() {
        return Err(problems);
    }
    Ok(Box::new(Mirror {
        upstream: written.upstream,
        percent: written.percent.map_or(100, |percent| percent.value),
        max_body: written.max_body.map_or(64 << 10, |size| size.0),
        most: match written.max_in_flight {
            Some(0) => u32::MAX,
            most => most.unwrap_or(100),
        },
        timeout: written.timeout.map_or(Duration::from_secs(10), |timeout| timeout.0),
        under_way: Arc::default(),
    }))
}

impl Plugin for Mirror {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, request_body: true, looks_only: true, ..Phases::default() }
    }

    fn upstreams(&self) -> Vec<&str> {
        vec![&self.upstream]
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let body = exchange.request.body.known();
        let wanted = fastrand::u8(..100) < self.percent
            && !exchange.request.is_websocket
            && body.is_none_or(|length| length <= self.max_body);
        let slot = if wanted { self.slot() } else { None };
        match slot {
            Some(slot) if body == Some(0) => send(exchange, self.call(exchange), slot),
            Some(slot) => {
                let call = self.call(exchange);
                exchange.state::<PendingCopy>().0 = Some((call, BytesMut::new(), slot));
                return Flow::Continue;
            }
            None => {}
        }
        exchange.leave_bodies();
        Flow::Continue
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let Some((mut call, mut body, slot)) = exchange.state::<PendingCopy>().0.take() else {
            return Flow::Continue;
        };
        if (body.len() + piece.bytes.len()) as u64 > self.max_body {
            return Flow::Continue;
        }
        body.extend_from_slice(&piece.bytes);
        if piece.last {
            call.body = body.freeze();
            send(exchange, call, slot);
        } else {
            exchange.state::<PendingCopy>().0 = Some((call, body, slot));
        }
        Flow::Continue
    }
}

impl Mirror {
    /// A slot for one more copy, if there is one.
    fn slot(&self) -> Option<CopySlot> {
        let more = |under_way| (under_way < self.most).then_some(under_way + 1);
        self.under_way.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(CopySlot(Arc::clone(&self.under_way)))
    }

    fn call(&self, exchange: &Exchange<'_>) -> Call {
        let target = match exchange.query() {
            Some(query) => format!("{}?{query}", exchange.path()),
            None => exchange.path().to_owned(),
        };
        Call {
            to: CallTarget::Upstream(self.upstream.clone()),
            method: exchange.method().clone(),
            target,
            headers: (*exchange.headers).clone(),
            body: bytes::Bytes::new(),
            timeout: self.timeout,
            limit: LONGEST_RESPONSE,
        }
    }
}

fn send(exchange: &Exchange<'_>, call: Call, slot: CopySlot) {
    let calling = exchange.services.call(call);
    exchange.services.spawn(Box::pin(async move {
        // The response is discarded.
        let _ = calling.await;
        drop(slot);
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use bytes::Bytes;
    use moongate_sdk::testing::{TestExchange, settings};
    use moongate_sdk::{CallFuture, Services};
    use serde_json::{Value, json};
    use std::pin::Pin;
    use std::sync::Mutex;

    /// Records calls, and stores background work.
    #[derive(Default)]
    struct Copies {
        asked: Mutex<Vec<Call>>,
        running: Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    }

    impl Services for Copies {
        fn call(&self, call: Call) -> CallFuture {
            self.asked.lock().unwrap().push(call);
            Box::pin(std::future::pending())
        }
        fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
            self.running.lock().unwrap().push(work);
        }
        fn has_upstream(&self, _: &str) -> bool {
            true
        }
    }

    fn plugin(extra: Value) -> Box<dyn Plugin> {
        let mut all = json!({ "upstream": "next" });
        let (Value::Object(map), Value::Object(extra)) = (&mut all, extra) else {
            panic!("both are objects")
        };
        map.extend(extra);
        build(&settings(all)).unwrap()
    }

    fn visit(copies: &Arc<Copies>) -> TestExchange {
        let mut visit = TestExchange::new("/a?b=c").field("x-forwarded-for", "127.0.0.1");
        visit.services = copies.clone();
        visit
    }

    fn send(plugin: &dyn Plugin, mut visit: TestExchange, pieces: &[&'static str]) {
        visit.request_headers(plugin);
        for (at, bytes) in pieces.iter().enumerate() {
            let mut piece =
                Piece { bytes: Bytes::from_static(bytes.as_bytes()), last: at + 1 == pieces.len() };
            visit.request_body(plugin, &mut piece);
            assert_eq!(piece.bytes, bytes.as_bytes(), "the request itself is untouched");
        }
    }

    #[test]
    fn a_copy_is_sent_when_the_whole_request_is_here() {
        let (copies, plugin) = (Arc::new(Copies::default()), plugin(json!({ "max_body": "8" })));
        send(&*plugin, visit(&copies), &[]);
        send(&*plugin, visit(&copies).field("transfer-encoding", "chunked"), &["ab", "cd"]);
        let asked = copies.asked.lock().unwrap();
        assert_eq!((&asked[0].to, &*asked[0].target), (&CallTarget::Upstream("next".into()), "/a?b=c"));
        assert_eq!(asked[0].headers["x-forwarded-for"], "127.0.0.1", "as the gateway settled it");
        assert_eq!((&asked[1].body[..], asked.len()), (&b"abcd"[..], 2));
    }

    #[test]
    fn long_bodies_and_websockets_are_not_copied() {
        let (copies, plugin) = (Arc::new(Copies::default()), plugin(json!({ "max_body": "8" })));
        send(&*plugin, visit(&copies).field("content-length", "9"), &["123456789"]);
        send(&*plugin, visit(&copies).field("transfer-encoding", "chunked"), &["12345", "6789", "0"]);
        let mut websocket = visit(&copies);
        websocket.is_websocket = true;
        send(&*plugin, websocket, &[]);
        assert!(copies.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn pending_copies_are_limited_and_release_their_slots() {
        let (copies, plugin) = (Arc::new(Copies::default()), plugin(json!({ "max_in_flight": 2 })));
        let count = || copies.asked.lock().unwrap().len();
        for _ in 0..5 {
            send(&*plugin, visit(&copies), &[]);
        }
        assert_eq!(count(), 2);
        copies.running.lock().unwrap().clear();
        // A copy that never gets its whole body releases its slot, too.
        let mut cut = visit(&copies).field("content-length", "4");
        cut.request_headers(&*plugin);
        drop(cut);
        send(&*plugin, visit(&copies), &[]);
        send(&*plugin, visit(&copies), &[]);
        assert_eq!(count(), 4);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_write() {
        for (written, expected) in [
            (json!({ "percent": 0 }), "`percent` must be 1 to 100"),
            (json!({ "max_body": "2MiB" }), "`max_body` must be at most 1MiB"),
            (json!({ "timeout": "0" }), "`timeout` must be at least 1ms"),
        ] {
            let mut all = json!({ "upstream": "next" });
            all.as_object_mut().unwrap().extend(written.as_object().unwrap().clone());
            assert_eq!(build(&settings(all)).err().unwrap().0[0].message, expected);
        }
    }
}
