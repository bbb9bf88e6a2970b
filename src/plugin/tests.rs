//! Tests of chains, with plugins written for them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
mod bodies;
mod kinds;
mod owned;

use super::*;
use crate::config::{OnError, PluginEntry};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use moongate_config::{Key, Kind, Place, Placed, Problem, Problems, Quotes, Settings, Value, ValueKind};
use moongate_sdk::testing::{TestExchange, wait};
use moongate_sdk::{Exchange, Flow, Headers, Plugin, Response, Verdict};

mod when;

const TRAIL: HeaderName = HeaderName::from_static("trail");

/// Appends its letter to the field `trail`, then acts by its settings.
struct Walker {
    letter: HeaderValue,
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoOn,
    Wait,
    Answer,
    Panic,
    PanicLater,
}

#[derive(Default)]
struct Seen(u32);

impl Plugin for Walker {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            response_headers: self.then != Then::Wait,
            log: true,
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        exchange.headers.append(&TRAIL, self.letter.clone());
        exchange.state::<Seen>().0 += 1;
        match self.then {
            Then::GoOn => Flow::Continue,
            Then::Answer => Reply::new(StatusCode::FORBIDDEN).body("no").into(),
            Then::Panic => panic!("as the test wants"),
            Then::Wait => Flow::wait(async move {
                std::future::ready(()).await;
                exchange.headers.append(&TRAIL, HeaderValue::from_static("waited"));
                Verdict::Continue
            }),
            Then::PanicLater => Flow::wait(async { panic!("as the test wants") }),
        }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        assert!(self.then != Then::Panic, "as the test wants");
        exchange.state::<Seen>().0 += 10;
        answer.headers.append(&TRAIL, self.letter.clone());
        Flow::Continue
    }

    fn log(&self, exchange: &mut Exchange<'_>, _: Option<StatusCode>) {
        let seen = exchange.state::<Seen>().0;
        exchange.headers.append(&TRAIL, HeaderValue::from(seen));
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let ValueKind::Map(pairs) = &settings.value.kind else { return Err(Problem::new("no settings").into()) };
    let Some((Key { text: letter, .. }, Value { kind: ValueKind::Scalar { text, .. }, .. })) = pairs.first()
    else {
        return Err(Problem::new("no letter").into());
    };
    let then = match text.as_str() {
        "wait" => Then::Wait,
        "answer" => Then::Answer,
        "panic" => Then::Panic,
        "panic_later" => Then::PanicLater,
        _ => Then::GoOn,
    };
    Ok(Box::new(Walker { letter: letter.parse().unwrap(), then }))
}

const KINDS: &[Kind<dyn Plugin>] =
    &[Kind { name: "walker", about: "Leaves a letter.", schema: |_| true.into(), build }];

fn place(line: u32) -> Place {
    Place { file: "test.yaml".into(), line, column: 1, width: 1, path: "".into() }
}

pub(super) fn entry(kind: &str, letter: &str, then: &str, line: u32) -> PluginEntry {
    let place = place(line);
    let key = Key { place: place.clone(), text: letter.to_owned() };
    let scalar = ValueKind::Scalar { text: then.to_owned(), quotes: Quotes::Absent };
    let value = Value { place: place.clone(), kind: scalar };
    let settings = Settings::new(Value { place: place.clone(), kind: ValueKind::Map(vec![(key, value)]) });
    let kind = Placed { value: kind.to_owned(), place };
    PluginEntry {
        kind,
        name: None,
        on_error: OnError::Closed,
        when: None,
        owned_headers: Vec::new(),
        settings,
    }
}

fn chain(walkers: &[(&str, &str)]) -> Chain {
    let prior = Instances::default();
    let mut builder = Builder::new(KINDS, &prior);
    let entry =
        |(letter, then): &(&str, &str)| builder.entry("r", &entry("walker", letter, then, 1)).unwrap();
    Chain::build(&walkers.iter().map(entry).collect::<Vec<_>>())
}

/// Runs all phases; returns the decision, the request's trail and the response's trail.
fn run(chain: &Chain) -> (Decision, Vec<String>, (Decision, Vec<String>)) {
    let mut visit = TestExchange::new("/");
    let mut response = HeaderMap::new();
    let (decision, answered) = visit.with_exchange(|exchange| {
        let decision = wait(sendable(chain.request_headers(exchange)));
        let mut answer =
            Response { status: StatusCode::OK, headers: Headers::response(&mut response), endpoint: None };
        let answered = wait(sendable(chain.response_headers(exchange, &mut answer, &[])));
        chain.log(exchange, Some(StatusCode::OK));
        (decision, answered)
    });
    let trail =
        |map: &HeaderMap| map.get_all(&TRAIL).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    (decision, trail(&visit.request), (answered, trail(&response)))
}

/// Worker threads exchange tasks, so the future of a chain must be `Send`.
pub(super) fn sendable<T: Send>(future: T) -> T {
    future
}

#[test]
fn plugins_run_in_order_and_keep_separate_state() {
    let (decision, request, response) = run(&chain(&[("a", "go"), ("b", "wait"), ("c", "go")]));
    assert!(matches!(decision, Decision::Continue));
    assert_eq!(request, ["a", "b", "waited", "c", "11", "1", "11"]);
    assert_eq!(response.1, ["a", "c"]);
}

#[test]
fn a_response_ends_the_request_phase_and_all_plugins_see_it() {
    let (decision, request, response) = run(&chain(&[("a", "answer"), ("b", "go")]));
    assert!(
        matches!(decision, Decision::Respond { at: 0, by, reply } if &*by == "walker" && reply.body == "no")
    );
    assert_eq!(request, ["a", "11", "10"]);
    assert_eq!(response.1, ["a", "b"]);
}

#[test]
fn a_panic_costs_one_request_and_no_more() {
    for then in ["panic", "panic_later"] {
        let chain = chain(&[("a", "go"), ("b", then)]);
        for _ in 0..2 {
            let (decision, ..) = run(&chain);
            assert!(matches!(decision, Decision::Failed(PluginFailure { plugin }) if &*plugin == "walker"));
        }
    }
    let (_, request, response) = run(&chain(&[("b", "panic"), ("c", "go")]));
    assert!(matches!(response.0, Decision::Continue), "a failed plugin is skipped");
    assert_eq!(response.1, ["c"]);
    assert_eq!(request.last().map(String::as_str), Some("10"), "the others hear of the end");
}

#[test]
fn an_empty_chain_skips_every_phase() {
    let chain = Chain::default();
    assert!(chain.skips_request_headers() && chain.skips_response_headers() && chain.skips_log());
    assert!(matches!(run(&chain).0, Decision::Continue));
}

#[test]
fn an_unchanged_entry_keeps_its_instance() {
    let none = Instances::default();
    let mut first = Builder::new(KINDS, &none);
    let twins = [1, 2].map(|line| first.entry("r", &entry("walker", "a", "go", line)).unwrap());
    let prior = first.finish();
    let mut next = Builder::new(KINDS, &prior);
    let mut again = |owner, letter| next.entry(owner, &entry("walker", letter, "go", 9)).unwrap();
    assert!(Arc::ptr_eq(&again("r", "a"), &twins[0]), "only its line changed");
    assert!(Arc::ptr_eq(&again("r", "a"), &twins[1]), "each twin is taken over once");
    for new in [again("r", "a"), again("r", "b"), again("s", "a")] {
        assert!(twins.iter().all(|twin| !Arc::ptr_eq(twin, &new)));
    }
}

#[test]
fn an_unknown_kind_is_a_problem_at_its_place() {
    let none = Instances::default();
    let problems = Builder::new(KINDS, &none).entry("r", &entry("walkre", "a", "go", 7)).unwrap_err();
    assert_eq!(problems.0[0].to_string(), "test.yaml:7:1: unknown plugin `walkre`");
    assert_eq!(problems.0[0].label.as_deref(), Some("did you mean `walker`?"));
}
