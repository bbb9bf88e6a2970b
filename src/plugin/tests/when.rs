//! Tests of entries' conditions.

use super::*;
use moongate_sdk::testing::settings;
use moongate_sdk::{Fault, Piece};

/// Has response phases only.
struct Late;

impl Plugin for Late {
    fn phases(&self) -> Phases {
        Phases { response_headers: true, ..Phases::default() }
    }

    fn response_headers<'f>(&'f self, _: &'f mut Exchange<'_>, answer: &'f mut Response<'_>) -> Flow<'f> {
        answer.headers.append(&TRAIL, HeaderValue::from_static("late"));
        Flow::Continue
    }
}

/// Has no header phases.
struct Bodies;

impl Plugin for Bodies {
    fn phases(&self) -> Phases {
        Phases { request_body: true, response_body: true, ..Phases::default() }
    }

    fn response_body(&self, _: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        piece.bytes = "changed".into();
        Ok(())
    }
}

const MORE: &[Kind<dyn Plugin>] = &[
    Kind { name: "walker", about: "Leaves a letter.", schema: |_| true.into(), build },
    Kind { name: "late", about: "Sees answers.", schema: |_| true.into(), build: |_| Ok(Box::new(Late)) },
    Kind { name: "bodies", about: "Sees bodies.", schema: |_| true.into(), build: |_| Ok(Box::new(Bodies)) },
];

fn written(kind: &str, letter: &str, then: &str, when: Option<&str>) -> PluginEntry {
    let when = when.map(|when| Placed {
        value: when.to_owned(),
        place: Place { column: 9, width: u32::try_from(when.len()).unwrap(), ..place(3) },
    });
    PluginEntry { when, ..entry(kind, letter, then, 1) }
}

fn of(entries: &[PluginEntry]) -> Chain {
    let prior = Instances::default();
    let mut builder = Builder::new(MORE, &prior);
    Chain::build(&entries.iter().map(|entry| builder.entry("r", entry).unwrap()).collect::<Vec<_>>())
}

#[test]
fn a_plugin_whose_condition_does_not_hold_takes_part_in_nothing() {
    let (decision, request, response) = run(&of(&[
        written("walker", "a", "go", Some("request.method == 'GET'")),
        written("walker", "b", "answer", Some("request.method == 'PUT'")),
        PluginEntry { on_error: OnError::Open, ..written("walker", "c", "panic", Some("int('x') == 1")) },
        written("walker", "d", "go", None),
    ]));
    assert!(matches!(decision, Decision::Continue));
    assert_eq!(request, ["a", "d", "11", "11"], "the last two see the end");
    assert_eq!(response.1, ["a", "d"]);
}

#[test]
fn no_request_passes_a_guard_whose_condition_cannot_be_evaluated() {
    let (decision, request, _) = run(&of(&[
        written("walker", "a", "answer", Some("int('x') == 1")),
        written("walker", "b", "go", None),
    ]));
    assert!(matches!(decision, Decision::Failed(_)));
    assert!(!request.contains(&"b".to_owned()));
    let (_, _, response) = run(&of(&[written("late", "", "", Some("int(response.headers.trail) == 1"))]));
    assert!(matches!(response.0, Decision::Failed(_)));
}

#[test]
fn a_condition_sees_changes_of_earlier_plugins_and_is_evaluated_once() {
    let (_, request, response) = run(&of(&[
        written("walker", "a", "go", None),
        written("walker", "b", "go", Some("request.headers.trail == 'a'")),
        written("walker", "c", "go", Some("request.headers.trail == 'a'")),
    ]));
    assert_eq!(request, ["a", "b", "11", "11"]);
    assert_eq!(response.1, ["a", "b"], "changes after its turn do not count");
}

#[test]
fn a_plugin_after_an_early_response_is_evaluated_then() {
    let (_, request, response) = run(&of(&[
        written("walker", "a", "answer", None),
        written("walker", "b", "go", Some("request.method == 'GET'")),
        written("walker", "c", "go", Some("request.method == 'PUT'")),
    ]));
    assert_eq!(request, ["a", "11", "10"]);
    assert_eq!(response.1, ["a", "b"]);
}

#[test]
fn a_plugin_with_response_phases_only_may_read_the_response() {
    let (_, _, response) = run(&of(&[
        written("late", "", "", Some("response.status == 200")),
        written("late", "", "", Some("response.status == 200 && response.headers.trail == ''")),
    ]));
    assert_eq!(response.1, ["late"]);
    let none = Instances::default();
    let early = written("walker", "a", "go", Some("response.status == 200"));
    assert!(Builder::new(MORE, &none).entry("r", &early).is_err());
}

#[test]
fn a_plugin_without_a_phase_of_heads_is_judged_all_the_same() {
    for (when, wants) in [("request.method == 'GET'", true), ("request.method == 'PUT'", false)] {
        let chain = of(&[written("bodies", "", "", Some(when))]);
        assert!(!chain.skips_request_headers());
        let mut visit = TestExchange::new("/");
        visit.with_exchange(|exchange| {
            wait(chain.request_headers(exchange));
            assert_eq!(chain.wants_request_body(0, exchange.running), wants);
        });
    }
    assert!(of(&[written("bodies", "", "", None)]).skips_request_headers(), "no condition, no cost");
}

#[test]
fn a_body_plugin_after_an_early_response_is_evaluated_then() {
    for (when, expected) in [("request.method == 'GET'", "changed"), ("request.method == 'PUT'", "hello")] {
        let chain = of(&[written("walker", "a", "answer", None), written("bodies", "", "", Some(when))]);
        let mut piece = Piece { bytes: "hello".into(), last: true };
        let mut visit = TestExchange::new("/");
        visit.with_exchange(|exchange| {
            assert!(matches!(wait(chain.request_headers(exchange)), Decision::Respond { at: 0, .. }));
            chain.response_body(exchange, &mut piece).unwrap();
        });
        assert_eq!(piece.bytes, expected, "{when}");
    }
}

#[test]
fn a_changed_condition_is_a_new_instance() {
    let none = Instances::default();
    let entry =
        |when| PluginEntry { settings: settings(serde_json::json!({})), ..written("late", "", "", when) };
    let mut first = Builder::new(MORE, &none);
    let before = first.entry("r", &entry(Some("true"))).unwrap();
    let prior = first.finish();
    let again = |when| Builder::new(MORE, &prior).entry("r", &entry(when)).unwrap();
    assert!(Arc::ptr_eq(&before, &again(Some("true"))));
    assert!(!Arc::ptr_eq(&before, &again(Some("false"))) && !Arc::ptr_eq(&before, &again(None)));
}

#[test]
fn a_bad_condition_is_a_problem_at_its_column() {
    let none = Instances::default();
    let bad = written("late", "", "", Some("request.pth == '/'"));
    let problems = Builder::new(MORE, &none).entry("r", &bad).unwrap_err();
    assert_eq!(problems.0[0].to_string(), "test.yaml:3:17: unknown member of `request` `pth`");
}
