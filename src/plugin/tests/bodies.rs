//! Tests of bodies, and of dispensable plugins.

use super::*;
use bytes::Bytes;
use moongate_sdk::{Fault, Piece, RequestState};

/// Appends its letter to every chunk, then acts by its settings.
struct Marker {
    letter: String,
    then: String,
}

impl Marker {
    fn mark(&self, piece: &mut Piece) -> Result<(), Fault> {
        match self.then.as_str() {
            "hold" if !piece.last => piece.bytes = Bytes::new(),
            "fail" => return Err(Fault::new("as the test wants")),
            "panic" => panic!("as the test wants"),
            "take" => {
                piece.bytes = Bytes::new();
                panic!("as the test wants")
            }
            // It fails at the end, after it changed earlier chunks.
            "late" if piece.last => return Err(Fault::new("as the test wants")),
            "late_hold" if piece.last => return Err(Fault::new("as the test wants")),
            "late_hold" => piece.bytes = Bytes::new(),
            "late_look" if piece.last => return Err(Fault::new("as the test wants")),
            "late_look" => {}
            _ => piece.bytes = [&piece.bytes, self.letter.as_bytes()].concat().into(),
        }
        // Only the gateway sets the end of a body.
        piece.last = !piece.last;
        Ok(())
    }
}

impl Plugin for Marker {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            request_body: self.then != "whole",
            looks_only: self.then == "look",
            response_body: true,
            encodes: self.then == "encode",
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        if self.then == "leave" {
            exchange.leave_bodies();
        }
        if self.then == "whole" { Flow::Body(7) } else { Flow::Continue }
    }

    fn request_body<'f>(&'f self, _: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        match self.then.as_str() {
            "ask" => Flow::Body(1),
            "answer" => Reply::new(StatusCode::FORBIDDEN).into(),
            _ => self.mark(piece).map_or_else(Flow::from, |()| Flow::Continue),
        }
    }

    fn response_body(&self, _: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        self.mark(piece)
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let ValueKind::Map(pairs) = &settings.value.kind else { panic!("settings are a mapping") };
    let ValueKind::Scalar { text, .. } = &pairs[0].1.kind else { panic!("a word says what to do") };
    Ok(Box::new(Marker { letter: pairs[0].0.text.clone(), then: text.clone() }))
}

const KINDS: &[Kind<dyn Plugin>] =
    &[Kind { name: "marker", about: "Marks pieces.", schema: |_| true.into(), build }];

fn chain(markers: &[(&str, &str)], on_error: OnError) -> Chain {
    let prior = Instances::default();
    let mut builder = Builder::new(KINDS, &prior);
    let entry = |(letter, then): &(&str, &str)| {
        builder.entry("r", &PluginEntry { on_error, ..entry("marker", letter, then, 1) }).unwrap()
    };
    Chain::build(&markers.iter().map(entry).collect::<Vec<_>>())
}

fn piece(text: &'static str, last: bool) -> Piece {
    Piece { bytes: Bytes::from_static(text.as_bytes()), last }
}

/// Passes chunks in both directions; returns what each became.
fn pass(chain: &Chain, pieces: &[(&'static str, bool)]) -> (Vec<String>, Vec<Result<String, PluginFailure>>) {
    let mut visit = TestExchange::new("/");
    let text = |piece: Piece| String::from_utf8(piece.bytes.to_vec()).unwrap();
    visit.with_exchange(|exchange| {
        assert!(matches!(wait(chain.request_headers(exchange)), Decision::Continue));
        let up = |(bytes, last): &(&'static str, bool)| {
            let mut piece = piece(bytes, *last);
            wait(sendable(chain.request_body(0..usize::MAX, exchange, &mut piece)));
            assert_eq!(piece.last, *last);
            text(piece)
        };
        let up = pieces.iter().map(up).collect();
        let down = |(bytes, last): &(&'static str, bool)| {
            let mut piece = piece(bytes, *last);
            chain.response_body(exchange, &mut piece).map(|()| text(piece))
        };
        (up, pieces.iter().map(down).collect())
    })
}

#[test]
fn pieces_pass_in_order_and_held_back_bytes_reach_no_plugin() {
    let marked = chain(&[("a", "go"), ("b", "go")], OnError::Closed);
    let (up, down) = pass(&marked, &[("1", false), ("", false), ("", true)]);
    assert_eq!(up, ["1ab", "", "ab"]);
    assert_eq!(down.into_iter().map(Result::unwrap).collect::<Vec<_>>(), up);
    let held = chain(&[("a", "hold"), ("b", "go")], OnError::Closed);
    assert_eq!(pass(&held, &[("1", false), ("2", true)]).0, ["", "2ab"]);
}

#[test]
fn a_plugin_that_encodes_bodies_comes_last_wherever_it_is_configured() {
    let chain = chain(&[("a", "encode"), ("b", "go"), ("c", "encode"), ("d", "go")], OnError::Closed);
    let (up, down) = pass(&chain, &[("1", true)]);
    assert_eq!((up[0].as_str(), down[0].as_deref()), ("1abcd", Ok("1bdac")));
}

#[test]
fn a_read_only_plugin_changes_nothing() {
    let looking = chain(&[("a", "look")], OnError::Closed);
    assert_eq!(pass(&looking, &[("1", false), ("2", true)]).0, ["1", "2"]);
    let running = RequestState::default();
    assert!(looking.wants_request_body(0, &running) && !looking.may_change_request_body(&running));
    let both = chain(&[("a", "look"), ("b", "go")], OnError::Closed);
    assert_eq!(pass(&both, &[("1", true)]).0, ["1b"]);
    assert!(both.may_change_request_body(&running));
}

#[test]
fn a_plugin_that_skips_bodies_gets_none_and_without_plugins_none_is_read() {
    let one = chain(&[("a", "leave"), ("b", "go")], OnError::Closed);
    assert_eq!(pass(&one, &[("1", true)]).0, ["1b"]);
    let none = chain(&[("a", "leave")], OnError::Closed);
    let mut visit = TestExchange::new("/");
    assert!(none.wants_request_body(0, &visit.running) && none.wants_response_body(&visit.running));
    visit.with_exchange(|exchange| drop(wait(none.request_headers(exchange))));
    assert!(!none.wants_request_body(0, &visit.running) && !none.wants_response_body(&visit.running));
    assert!(!chain(&[("a", "go")], OnError::Closed).wants_request_body(1, &RequestState::default()));
}

#[test]
fn a_request_goes_on_without_a_plugin_that_is_not_needed() {
    for then in ["fail", "panic"] {
        let open = chain(&[("a", then), ("b", "go")], OnError::Open);
        let (up, down) = pass(&open, &[("1", false), ("2", true)]);
        assert_eq!(up, ["1b", "2b"], "{then}");
        assert_eq!(down[1].as_deref(), Ok("2b"));
        let closed = chain(&[("a", then)], OnError::Closed);
        let mut visit = TestExchange::new("/");
        let (first, second) = visit.with_exchange(|exchange| {
            let mut down = || closed.response_body(exchange, &mut piece("1", true));
            (down(), down())
        });
        assert!(first.is_err() && second.is_ok(), "{then}: a failed plugin is skipped");
    }
}

#[test]
fn the_whole_body_is_requested_with_the_header_and_passed_to_that_plugin() {
    let chain = chain(&[("a", "go"), ("b", "whole"), ("c", "go")], OnError::Closed);
    let mut visit = TestExchange::new("/");
    visit.with_exchange(|exchange| {
        let Decision::Body { at: 1, limit: 7 } = wait(chain.request_headers(exchange)) else {
            panic!("b wants the body")
        };
        let mut whole = piece("1", true);
        wait(chain.request_body(0..1, exchange, &mut whole));
        wait(chain.whole_body(1, exchange, &mut whole));
        assert!(matches!(wait(chain.request_headers_from(2, exchange)), Decision::Continue));
        wait(chain.request_body(2..usize::MAX, exchange, &mut whole));
        assert_eq!((&*whole.bytes, whole.last), (&b"1abc"[..], true));
    });
}

#[test]
fn a_piece_may_be_responded_to_and_the_body_is_requested_once() {
    let decide = |then, on_error| {
        let chain = chain(&[("a", then)], on_error);
        TestExchange::new("/")
            .with_exchange(|exchange| wait(chain.request_body(0..9, exchange, &mut piece("1", true))))
    };
    assert!(matches!(decide("answer", OnError::Closed), Decision::Respond { at: 0, .. }));
    assert!(matches!(decide("ask", OnError::Closed), Decision::Failed(_)));
    assert!(matches!(decide("ask", OnError::Open), Decision::Continue));
}

#[test]
fn a_piece_that_a_plugin_had_begun_to_change_goes_on_as_it_came() {
    let (up, down) = pass(&chain(&[("a", "take"), ("b", "go")], OnError::Open), &[("1", false), ("2", true)]);
    assert_eq!(up, ["1b", "2b"]);
    assert_eq!(down.into_iter().map(Result::unwrap).collect::<Vec<_>>(), up);
}

#[test]
fn no_body_goes_on_half_changed_without_a_plugin() {
    for then in ["late", "late_hold"] {
        let open = chain(&[("a", then), ("b", "go")], OnError::Open);
        let mut visit = TestExchange::new("/");
        visit.with_exchange(|exchange| {
            for (bytes, last) in [("1", false), ("2", true)] {
                let mut up = piece(bytes, last);
                let decision = wait(open.request_body(0..9, exchange, &mut up));
                assert_eq!(matches!(decision, Decision::Failed(_)), last, "{then}");
            }
        });
        let mut visit = TestExchange::new("/");
        visit.with_exchange(|exchange| {
            for (bytes, last) in [("1", false), ("2", true)] {
                assert_eq!(open.response_body(exchange, &mut piece(bytes, last)).is_err(), last, "{then}");
            }
        });
    }
    // A failed plugin that changed nothing has no effect.
    let (up, _) =
        pass(&chain(&[("a", "late_look"), ("b", "go")], OnError::Open), &[("1", false), ("2", true)]);
    assert_eq!(up, ["1b", "2b"]);
}
