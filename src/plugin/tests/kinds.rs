//! Tests of every plugin kind of the build: a panic in any phase and at any moment has only the effect of its
//! `on_error`. Each kind is built from its example in `conf/kinds/plugins` and wrapped in a plugin that
//! panics on demand.

use super::*;
use crate::config;
use crate::plugin::kinds::PLUGINS;
use crate::plugin::{ChainVerdict, RecheckVerdict};
use bytes::Bytes;
use moongate_sdk::{
    Background, Direction, Fault, Message, MessageVerdict, Phases, Piece, Services, WebSocketEnd,
};
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A phase of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    ToBackend,
    ToClient,
    Recheck,
    Closed,
    Log,
    Background,
}

/// When the panic happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Before the plugin is called.
    Before,
    /// After the plugin has run and changed its arguments.
    Behind,
    /// In the future of the phase, if the phase may wait.
    Later,
    /// When that future is dropped before completion, as after a client disconnect.
    Dropped,
}

/// The state of the next wrapper: a kind's `build` is a plain function.
struct Next {
    kind: &'static Kind<dyn Plugin>,
    at: At,
    moment: Moment,
    armed: Arc<AtomicBool>,
}

thread_local! {
    static NEXT: RefCell<Option<Next>> = const { RefCell::new(None) };
}

/// The plugin of a kind, which panics at the chosen place.
struct Wrapped {
    inner: Box<dyn Plugin>,
    next: Next,
}

const FAULTY: &[Kind<dyn Plugin>] = &[
    Kind { name: "wrapped", about: "", schema: |_| true.into(), build: wrap },
    Kind { name: "witness", about: "", schema: |_| true.into(), build: |_| Ok(Box::new(Witness)) },
];

fn wrap(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let next = NEXT.with_borrow_mut(Option::take).unwrap();
    Ok(Box::new(Wrapped { inner: (next.kind.build)(settings)?, next }))
}

/// Panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

/// The state of a plugin may also panic, when it is dropped after its request.
struct Memory(#[expect(dead_code, reason = "its drop counts")] Option<Grenade>);

impl Default for Memory {
    fn default() -> Self {
        Self(Some(Grenade))
    }
}

impl Wrapped {
    /// Returns whether it panics there after the plugin has run.
    fn spoils(&self, at: At) -> bool {
        (self.next.at, self.next.moment) == (at, Moment::Behind) && self.next.armed.load(Ordering::Relaxed)
    }

    fn panics(&self, at: At, moment: Moment) {
        if (self.next.at, self.next.moment) == (at, moment) && self.next.armed.load(Ordering::Relaxed) {
            panic!("as the test wants");
        }
    }

    /// The phase's verdict: the plugin's, or a future with a panic.
    fn flow<'f>(&self, at: At, flow: Flow<'f>) -> Flow<'f> {
        if self.next.at != at || !self.next.armed.load(Ordering::Relaxed) {
            return flow;
        }
        match self.next.moment {
            Moment::Before => flow,
            Moment::Behind => panic!("as the test wants"),
            Moment::Later => Flow::wait(async {
                std::future::ready(()).await;
                panic!("as the test wants")
            }),
            Moment::Dropped => Flow::wait(async {
                let _grenade = Grenade;
                std::future::pending().await
            }),
        }
    }
}

impl Plugin for Wrapped {
    fn phases(&self) -> Phases {
        self.inner.phases()
    }

    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        self.panics(At::Background, Moment::Before);
        let work = self.inner.background(services);
        let armed = self.next.at == At::Background && self.next.armed.load(Ordering::Relaxed);
        match (armed, self.next.moment) {
            (true, Moment::Later) => Some(Box::pin(async { panic!("as the test wants") })),
            (true, Moment::Dropped) => Some(Box::pin(async {
                let _grenade = Grenade;
                std::future::pending::<()>().await;
            })),
            _ => work,
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        for at in [At::RequestHeaders, At::Recheck] {
            self.panics(at, Moment::Before);
        }
        if self.next.moment == Moment::Behind {
            exchange.state::<Memory>();
        }
        let at = if self.next.at == At::Recheck { At::Recheck } else { At::RequestHeaders };
        self.flow(at, self.inner.request_headers(exchange))
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        self.panics(At::RequestBody, Moment::Before);
        if self.spoils(At::RequestBody) {
            piece.bytes = Bytes::from_static(b"half");
        }
        self.flow(At::RequestBody, self.inner.request_body(exchange, piece))
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        self.panics(At::ResponseHeaders, Moment::Before);
        self.flow(At::ResponseHeaders, self.inner.response_headers(exchange, answer))
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        self.panics(At::ResponseBody, Moment::Before);
        let done = self.inner.response_body(exchange, piece);
        if self.spoils(At::ResponseBody) {
            piece.bytes = Bytes::new();
        }
        self.panics(At::ResponseBody, Moment::Behind);
        done
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        let at = match message.direction {
            Direction::ToBackend => At::ToBackend,
            Direction::ToClient => At::ToClient,
        };
        self.panics(at, Moment::Before);
        let verdict = self.inner.message(exchange, message);
        if self.spoils(at) {
            message.payload.clear();
        }
        self.panics(at, Moment::Behind);
        verdict
    }

    fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        self.panics(At::Closed, Moment::Before);
        self.inner.closed(exchange, ended);
        self.panics(At::Closed, Moment::Behind);
    }

    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        self.panics(At::Log, Moment::Before);
        self.inner.log(exchange, status);
        self.panics(At::Log, Moment::Behind);
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        assert!(!self.next.armed.load(Ordering::Relaxed), "an instance may panic when it goes");
    }
}

/// Comes after the wrapped plugin and records that it was called.
struct Witness;

fn witnessed(exchange: &mut Exchange<'_>) {
    exchange.note("witness", "was here");
}

impl Plugin for Witness {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            request_body: true,
            response_headers: true,
            response_body: true,
            messages_to_backend: true,
            messages_to_client: true,
            closed: true,
            log: true,
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        witnessed(exchange);
        Flow::Continue
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, _: &'f mut Piece) -> Flow<'f> {
        witnessed(exchange);
        Flow::Continue
    }

    fn response_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>, _: &'f mut Response<'_>) -> Flow<'f> {
        witnessed(exchange);
        Flow::Continue
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, _: &mut Piece) -> Result<(), Fault> {
        witnessed(exchange);
        Ok(())
    }

    fn message(&self, exchange: &mut Exchange<'_>, _: &mut Message) -> MessageVerdict {
        witnessed(exchange);
        MessageVerdict::Forward
    }

    fn closed(&self, exchange: &mut Exchange<'_>, _: &WebSocketEnd<'_>) {
        witnessed(exchange);
    }

    fn log(&self, exchange: &mut Exchange<'_>, _: Option<StatusCode>) {
        witnessed(exchange);
    }
}

/// The entries of a kind in its example; they may have different phases.
fn examples(kind: &str) -> Vec<PluginEntry> {
    let path = format!("{}/conf/kinds/plugins/{kind}.yaml", env!("CARGO_MANIFEST_DIR"));
    let loaded = config::load(Path::new(&path)).unwrap_or_else(|_| panic!("{path} is read"));
    let routes = loaded.spec.routes.iter().flat_map(|route| &route.value.plugins);
    let all = routes.chain(&loaded.spec.plugins).filter(|entry| entry.value.kind.value == kind);
    all.map(|entry| entry.value.clone()).collect()
}

/// The phases of an entry, and the moments at which a plugin can panic in each.
fn places(phases: Phases) -> Vec<(At, &'static [Moment])> {
    use Moment::{Before, Behind, Dropped, Later};
    let all: [(bool, At, &[Moment]); 9] = [
        (phases.request_headers, At::RequestHeaders, &[Before, Behind, Later, Dropped]),
        (phases.request_body, At::RequestBody, &[Before, Behind, Later, Dropped]),
        (phases.response_headers, At::ResponseHeaders, &[Before, Behind, Later, Dropped]),
        (phases.response_body, At::ResponseBody, &[Before, Behind]),
        (phases.messages_to_backend, At::ToBackend, &[Before, Behind]),
        (phases.messages_to_client, At::ToClient, &[Before, Behind]),
        (phases.recheck.is_some(), At::Recheck, &[Before, Behind, Later, Dropped]),
        (phases.closed, At::Closed, &[Before, Behind]),
        (phases.log, At::Log, &[Before, Behind]),
    ];
    let mut places: Vec<_> = all
        .into_iter()
        .filter(|(takes_part, ..)| *takes_part)
        .map(|(_, at, moments)| (at, moments))
        .collect();
    places.push((At::Background, &[Before, Later, Dropped]));
    places
}

/// The result of a phase, in a form common to all phases.
#[derive(Debug, PartialEq)]
enum Outcome {
    WentOn,
    Failed,
    /// Another result, which only a plugin without a panic may have.
    Decided,
}

fn outcome(decision: &Decision) -> Outcome {
    match decision {
        Decision::Continue => Outcome::WentOn,
        Decision::Failed(broken) => {
            assert_eq!(&*broken.plugin, "wrapped");
            Outcome::Failed
        }
        Decision::Respond { .. } | Decision::Body { .. } => Outcome::Decided,
    }
}

fn passed(passage: &ChainVerdict) -> Outcome {
    match passage {
        ChainVerdict::Forward => Outcome::WentOn,
        ChainVerdict::Failed => Outcome::Failed,
        ChainVerdict::Drop | ChainVerdict::Close { .. } => Outcome::Decided,
    }
}

/// Awaits the future, or drops it after one poll.
fn driven<T>(future: impl Future<Output = T>, moment: Moment) -> Option<T> {
    if moment != Moment::Dropped {
        return Some(wait(future));
    }
    let mut future = Box::pin(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending(), "it waits");
    None
}

/// The test body or message.
const BODY: &[u8] = b"{}";

fn body() -> Piece {
    Piece { bytes: Bytes::from_static(BODY), last: true }
}

/// Runs one phase of the chain. `None` if it was dropped before completion.
fn show(
    chain: &Chain,
    visit: &mut TestExchange,
    at: At,
    moment: Moment,
    body: &mut Piece,
) -> Option<Outcome> {
    let mut response = HeaderMap::new();
    visit.with_exchange(|exchange| match at {
        At::RequestHeaders => driven(chain.request_headers(exchange), moment).map(|made| outcome(&made)),
        At::RequestBody => {
            let decision = driven(chain.request_body(0..usize::MAX, exchange, &mut *body), moment)?;
            Some(outcome(&decision))
        }
        At::ResponseHeaders => {
            let mut answer = Response {
                status: StatusCode::OK,
                headers: Headers::response(&mut response),
                endpoint: None,
            };
            let decision = driven(chain.response_headers(exchange, &mut answer, &[]), moment)?;
            Some(outcome(&decision))
        }
        At::ResponseBody => Some(match chain.response_body(exchange, &mut *body) {
            Ok(()) => Outcome::WentOn,
            Err(_) => Outcome::Failed,
        }),
        At::ToBackend | At::ToClient => {
            let direction = if at == At::ToBackend { Direction::ToBackend } else { Direction::ToClient };
            let mut message = Message { direction, binary: false, payload: body.bytes.clone().into() };
            let passage = chain.message(exchange, &mut message);
            body.bytes = message.payload.freeze();
            Some(passed(&passage))
        }
        At::Recheck => driven(chain.recheck(0, exchange), moment).map(|standing| match standing {
            RecheckVerdict::Granted => Outcome::WentOn,
            RecheckVerdict::Failed => Outcome::Failed,
            RecheckVerdict::Refused(_) => Outcome::Decided,
        }),
        At::Closed => {
            let ended = WebSocketEnd {
                code: 1000,
                reason: "close",
                lifetime: Duration::ZERO,
                messages: [0; 2],
                bytes: [0; 2],
            };
            chain.closed(exchange, &ended);
            Some(Outcome::WentOn)
        }
        At::Log => {
            chain.log(exchange, Some(StatusCode::OK));
            Some(Outcome::WentOn)
        }
        At::Background => {
            let entry = &chain.entries()[0];
            let services = Arc::clone(exchange.services);
            driven(entry.background(&services), moment).map(|done| match done {
                Ok(()) => Outcome::WentOn,
                Err(_) => Outcome::Failed,
            })
        }
    })
}

/// The required result of a panic there.
fn expected(at: At, on_error: OnError) -> Outcome {
    match (at, on_error) {
        // These phases decide nothing, so nothing fails.
        (At::Closed | At::Log, _) => Outcome::WentOn,
        // Background work restarts, regardless of `on_error`.
        (At::Background, _) | (_, OnError::Closed) => Outcome::Failed,
        (_, OnError::Open) => Outcome::WentOn,
    }
}

/// A chain of the wrapped plugin and a witness after it.
fn wrapped(written: &PluginEntry, on_error: OnError, next: Next) -> Chain {
    NEXT.set(Some(next));
    let place = written.kind.place.clone();
    let named = |name: &str| Placed { value: name.to_owned(), place: place.clone() };
    let none = Instances::default();
    let mut builder = Builder::new(FAULTY, &none);
    let wrapped = PluginEntry { kind: named("wrapped"), name: None, on_error, when: None, ..written.clone() };
    let witness = PluginEntry { kind: named("witness"), ..wrapped.clone() };
    Chain::build(&[wrapped, witness].map(|entry| builder.entry("r", &entry).unwrap()))
}

fn hold(kind: &'static Kind<dyn Plugin>, written: &PluginEntry, at: At, moment: Moment, on_error: OnError) {
    let what = format!("{} {at:?} {moment:?} {on_error:?}", kind.name);
    let armed = Arc::new(AtomicBool::new(false));
    let unharmed = wrapped(written, on_error, Next { kind, at, moment, armed: Arc::default() });
    let chain = wrapped(written, on_error, Next { kind, at, moment, armed: Arc::clone(&armed) });
    armed.store(true, Ordering::Relaxed);

    let mut visit = TestExchange::new("/");
    let mut shown = body();
    let found = show(&chain, &mut visit, at, moment, &mut shown);
    if moment == Moment::Dropped {
        assert_eq!(found, None, "{what}");
    } else {
        assert_eq!(found, Some(expected(at, on_error)), "{what}");
        let goes_on = found == Some(Outcome::WentOn) && at != At::Recheck;
        let reached = visit.running.notes().iter().any(|note| note.by == 1);
        // Encoding plugins come last, so the others run before them.
        let encodes = chain.entries()[0].phases().encodes;
        let last = encodes && matches!(at, At::ResponseHeaders | At::ResponseBody);
        assert_eq!(reached, goes_on || last, "{what}: whether the next plugin was reached");
        assert!(!goes_on || (&*shown.bytes, shown.last) == (BODY, true), "{what}: {shown:?} goes on");
        // For an open WebSocket and for background work, the next call runs again.
        let ends_for_the_request = matches!(
            at,
            At::RequestHeaders | At::RequestBody | At::ResponseHeaders | At::ResponseBody | At::Log
        );
        assert_eq!(visit.running.skips(0), ends_for_the_request, "{what}: whether it is left out");
    }
    drop(visit);

    // The next request is served normally.
    armed.store(false, Ordering::Relaxed);
    let serve = |chain| show(chain, &mut TestExchange::new("/"), at, Moment::Before, &mut body());
    // Background work may run forever.
    assert!(at == At::Background || serve(&chain) == serve(&unharmed), "{what}: and then");
    armed.store(true, Ordering::Relaxed);
    drop(chain);
}

/// `compress` and others run only for certain requests; a plugin that does not run is tested the same way.
#[test]
fn a_panic_inside_any_kind_is_its_on_error_and_nothing_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    for kind in PLUGINS {
        let examples = examples(kind.name);
        assert!(!examples.is_empty(), "{} has an example", kind.name);
        for written in examples {
            let phases =
                (kind.build)(&written.settings).unwrap_or_else(|p| panic!("{}: {p:?}", kind.name)).phases();
            for (at, moments) in places(phases) {
                for moment in moments {
                    for on_error in [OnError::Closed, OnError::Open] {
                        hold(kind, &written, at, *moment, on_error);
                    }
                }
            }
        }
    }
}

/// Has every phase and does nothing, so that the tests cover phases without a built-in kind.
struct Everywhere;

impl Plugin for Everywhere {
    fn phases(&self) -> Phases {
        Phases { recheck: Some(Duration::from_secs(60)), ..Witness.phases() }
    }
}

static EVERYWHERE: Kind<dyn Plugin> =
    Kind { name: "everywhere", about: "", schema: |_| true.into(), build: |_| Ok(Box::new(Everywhere)) };

#[test]
fn a_panic_is_on_error_in_every_phase_that_there_is() {
    for (at, moments) in places(Everywhere.phases()) {
        for moment in moments {
            for on_error in [OnError::Closed, OnError::Open] {
                hold(&EVERYWHERE, &entry("everywhere", "a", "b", 1), at, *moment, on_error);
            }
        }
    }
}

#[test]
fn a_kind_that_panics_when_it_is_built_is_a_problem_of_its_entry() {
    const BROKEN: &[Kind<dyn Plugin>] = &[
        Kind { name: "unbuilt", about: "", schema: |_| true.into(), build: |_| panic!("as the test wants") },
        Kind { name: "unsure", about: "", schema: |_| true.into(), build: |_| Ok(Box::new(Unsure)) },
    ];
    struct Unsure;
    impl Plugin for Unsure {
        fn phases(&self) -> Phases {
            panic!("as the test wants")
        }
    }
    for kind in ["unbuilt", "unsure"] {
        let none = Instances::default();
        let problems = Builder::new(BROKEN, &none).entry("r", &entry(kind, "a", "b", 7)).unwrap_err();
        let message = format!("test.yaml:7:1: plugin `{kind}` panicked while it was built");
        assert_eq!(problems.0[0].to_string(), message);
    }
}
