//! Tests of the screen on an in-memory terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::super::live_state::tests::apply;
use super::super::view_state::ViewState;
use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const OVERVIEW: &str = r#"{"requests":1234.5,"handshakes":0.5,"messages":{"to_backend":10,"to_client":20000},"bytes":{"to_backend":1024,"to_client":3145728},
    "websockets":50000,"requests_in_flight":3,"errors":[{"reason":"connect_refused","total":12,"rate":0.5},{"reason":"no_endpoint","total":1,"rate":0}],
    "rtt":{"p50":0.0012,"p99":0.045},"process":{"uptime":11040,"memory":104857600,"descriptors":100500,"max_descriptors":1048576,"threads":7,"cpu":0.031,"generation":7,"draining":false}}"#;

const ROWS: &str = r#"{"reset":true,"rows":[
    {"upstream":"chat","endpoint":"127.0.0.1:8081","weight":1,"health":"healthy","active":30000,"websockets":30000,"messages":{"to_backend":5,"to_client":5},"bytes":{"to_backend":512,"to_client":512},"rtt":{"backend":0.0008}},
    {"upstream":"chat","endpoint":"127.0.0.1:8082","weight":1,"health":"unhealthy","probe":{"ok":false,"reason":"connection refused"},"websockets":20000,"draining":"operator","drain":{"left":42}}]}"#;

fn state() -> LiveState {
    let mut state = LiveState::default();
    apply(
        &mut state,
        &[
            ("hello", r#"{"version":"1.2.3"}"#),
            ("history", r#"{"points":{"requests":[0,1,2,4,8],"websockets":[1,1,1,1,1]}}"#),
            ("overview", OVERVIEW),
            ("upstreams", ROWS),
        ],
    );
    state
}

/// The lines of the screen, without spaces at their ends.
fn screen(width: u16, height: u16, state: &LiveState, view: &ViewState) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, "127.0.0.1:9901", state, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn eighty_by_twenty_four_shows_everything() {
    let lines = screen(80, 24, &state(), &ViewState::default());
    for (line, part) in [
        (0, "moongate 1.2.3  127.0.0.1:9901  up 3h4m  generation 7"),
        (1, "requests/s 1.2k"),
        (1, "websockets 50.0k"),
        (1, "handshakes/s 0.5"),
        (4, "messages/s 10/20.0k"),
        (4, "bytes/s 1.0KiB/3.0MiB"),
        (4, "errors/s 0.5"),
        (7, "cpu 3%  memory 100MiB  descriptors 100k of 1.0M  threads 7  requests in flight 3"),
        (8, "round trip p50 1.2ms p99 45ms  connect_refused 0.5/s"),
        (9, "UPSTREAM"),
        (10, "chat"),
        (10, "127.0.0.1:8081"),
        (10, "30.0k"),
        (11, "unhealthy"),
        (11, "42s left"),
        (23, "2 of 2 endpoints by name  q quit"),
    ] {
        assert!(lines[line].contains(part), "{part:?} is not in line {line} of\n{}", lines.join("\n"));
    }
    assert!(lines[3].starts_with('▁') || lines[3].contains('█'), "no sparkline in\n{}", lines.join("\n"));
    assert!(!lines[8].contains("no_endpoint"), "{}", lines[8]);
}

#[test]
fn the_reason_of_a_failed_health_check_is_shown_for_the_selected_endpoint() {
    let mut view = ViewState::default();
    let key = ratatui::crossterm::event::KeyCode::Down.into();
    view.press(key, &state());
    let lines = screen(80, 24, &state(), &view);
    assert_eq!(lines[23], "health check: connection refused");
}

#[test]
fn enter_shows_the_details_of_the_selected_endpoint() {
    let mut view = ViewState::default();
    view.press(ratatui::crossterm::event::KeyCode::Down.into(), &state());
    view.press(ratatui::crossterm::event::KeyCode::Enter.into(), &state());
    let text = screen(80, 24, &state(), &view).join("\n");
    for part in ["chat 127.0.0.1:8082", "health check  connection refused", "20.0k open", "42s left"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_narrow_terminal_shows_the_essential_columns() {
    let lines = screen(40, 12, &state(), &ViewState::default());
    let text = lines.join("\n");
    for part in ["requests/s 1.2k", "websockets 50.0k", "127.0.0.1:8081", "healthy", "30.0k"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("UPSTREAM") && !text.contains('█'), "{text}");
}

#[test]
fn every_size_and_every_state_is_drawn() {
    use super::super::live_state::EndpointKey;
    let order =
        |verb| DrainOrder { endpoint: EndpointKey::from(("chat".into(), "127.0.0.1:8081".into())), verb };
    let modes = [
        ViewMode::Table,
        ViewMode::Filter,
        ViewMode::Help,
        ViewMode::Confirm(order("drain")),
        ViewMode::Confirm(order("undrain")),
    ];
    for state in [LiveState::default(), state()] {
        for mode in &modes {
            let view = ViewState { mode: mode.clone(), ..ViewState::default() };
            for (width, height) in [(1, 1), (2, 3), (10, 5), (59, 18), (60, 17), (300, 80)] {
                screen(width, height, &state, &view);
            }
        }
    }
}

#[test]
fn a_drain_asks_with_the_number_of_websockets() {
    let mut view = ViewState::default();
    let key = |c| ratatui::crossterm::event::KeyEvent::from(ratatui::crossterm::event::KeyCode::Char(c));
    view.press(key('d'), &state());
    let text = screen(80, 24, &state(), &view).join("\n");
    for part in ["Drain chat 127.0.0.1:8081?", "30.0k WebSockets will be closed with 1012.", "y yes   n no"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let text = screen(30, 24, &state(), &view).join("\n");
    assert!(text.contains("y yes   n no"), "{text}");
    view.press(key('n'), &state());
    view.press(key('?'), &state());
    let text = screen(80, 24, &state(), &view).join("\n");
    assert!(text.contains("end its drain"), "{text}");
}

#[test]
fn a_lost_stream_and_hostile_text_are_shown_safely() {
    let mut state = state();
    state.lost = Some("cannot reach\u{1b}[2J".to_owned());
    apply(
        &mut state,
        &[("upstreams", "{\"rows\":[{\"upstream\":\"a\\u001b]0;x\",\"endpoint\":\"\\u202ee\"}]}")],
    );
    let text = screen(100, 24, &state, &ViewState::default()).join("\n");
    assert!(text.contains("reconnecting: cannot reach\\u{1b}[2J"), "{text}");
    assert!(text.contains("a\\u{1b}]0;x") && text.contains("\\u{202e}e"), "{text}");
    assert!(!text.contains('\u{1b}'));
}
