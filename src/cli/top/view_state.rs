//! Interaction of `moongate top`: selection, order, filter and dialogs, changed by keys.

use super::endpoint_table::{self, SortOrder};
use super::live_state::{EndpointKey, EndpointRow, LiveState};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The maximum length of a filter, in bytes.
const LONGEST_FILTER: usize = 100;

/// What the keys have set.
#[derive(Debug, Default)]
pub(super) struct ViewState {
    /// By name and not by position: rows move, and the operator drains what is selected.
    pub(super) selected: Option<EndpointKey>,
    pub(super) order: SortOrder,
    pub(super) filter: String,
    pub(super) mode: ViewMode,
    /// The outcome of the last order.
    pub(super) message: Option<String>,
}

/// What the keys mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ViewMode {
    #[default]
    Table,
    /// The filter is written.
    Filter,
    /// An order waits for its confirmation.
    Confirm(DrainOrder),
    /// The details of the selected endpoint.
    Details,
    Help,
}

/// An order for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DrainOrder {
    pub(super) endpoint: EndpointKey,
    /// The last segment of the path of the API.
    pub(super) verb: &'static str,
}

/// What a key asks of the command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyAction {
    None,
    Quit,
    Send(DrainOrder),
}

impl ViewState {
    /// The rows of the table.
    pub(super) fn rows<'a>(&self, state: &'a LiveState) -> Vec<&'a EndpointRow> {
        endpoint_table::rows(state, &self.filter, self.order)
    }

    /// The selected row, or the first one.
    pub(super) fn selected_row<'a>(&self, rows: &[&'a EndpointRow]) -> Option<&'a EndpointRow> {
        let is_selected = |row: &&&EndpointRow| self.selected.as_ref() == Some(&row.key());
        rows.iter().find(is_selected).or(rows.first()).copied()
    }

    /// Handles a key.
    pub(super) fn press(&mut self, key: KeyEvent, state: &LiveState) -> KeyAction {
        if key.kind == KeyEventKind::Release {
            return KeyAction::None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { KeyAction::Quit } else { KeyAction::None };
        }
        self.message = None;
        match std::mem::take(&mut self.mode) {
            ViewMode::Table => return self.press_in_table(key.code, state),
            ViewMode::Filter => self.press_in_filter(key.code),
            ViewMode::Confirm(order) => match key.code {
                KeyCode::Char('y' | 'Y') => return KeyAction::Send(order),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {}
                _ => self.mode = ViewMode::Confirm(order),
            },
            // Keys that select change the endpoint, every other one closes the dialog.
            ViewMode::Details => match key.code {
                KeyCode::Down | KeyCode::Up | KeyCode::Char('j' | 'k') => {
                    self.mode = ViewMode::Details;
                    return self.press_in_table(key.code, state);
                }
                _ => {}
            },
            // Every key closes the help.
            ViewMode::Help => {}
        }
        KeyAction::None
    }

    fn press_in_table(&mut self, code: KeyCode, state: &LiveState) -> KeyAction {
        const PAGE: isize = 10;
        match code {
            KeyCode::Char('q') => return KeyAction::Quit,
            // The first Esc ends the filter.
            KeyCode::Esc if self.filter.is_empty() => return KeyAction::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1, state),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1, state),
            KeyCode::PageDown => self.move_by(PAGE, state),
            KeyCode::PageUp => self.move_by(-PAGE, state),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN, state),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX, state),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('/') => self.mode = ViewMode::Filter,
            KeyCode::Enter => self.mode = ViewMode::Details,
            KeyCode::Char('?' | 'h') => self.mode = ViewMode::Help,
            KeyCode::Char('d') => self.ask("drain", state),
            KeyCode::Char('u') => self.ask("undrain", state),
            _ => {}
        }
        KeyAction::None
    }

    fn press_in_filter(&mut self, code: KeyCode) {
        self.mode = ViewMode::Filter;
        match code {
            KeyCode::Enter => self.mode = ViewMode::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = ViewMode::Table;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.len() < LONGEST_FILTER => self.filter.push(c),
            _ => {}
        }
    }

    fn move_by(&mut self, steps: isize, state: &LiveState) {
        let rows = self.rows(state);
        let current = self.selected_row(&rows).map(EndpointRow::key);
        let index = rows.iter().position(|row| Some(row.key()) == current).unwrap_or(0);
        let last = rows.len().saturating_sub(1);
        let index = index.saturating_add_signed(steps).min(last);
        self.selected = rows.get(index).map(|row| row.key());
    }

    /// Asks whether the selected endpoint is meant. The row is selected from then on, whatever moves.
    fn ask(&mut self, verb: &'static str, state: &LiveState) {
        let rows = self.rows(state);
        let Some(row) = self.selected_row(&rows) else { return };
        self.selected = Some(row.key());
        match (verb, row.draining.as_deref()) {
            ("drain", Some(cause)) => self.message = Some(format!("already draining ({cause})")),
            ("undrain", None) => self.message = Some("not draining".to_owned()),
            ("undrain", Some(cause)) if cause != "operator" => {
                self.message = Some(format!("draining ({cause}): only the configuration ends that"));
            }
            _ => self.mode = ViewMode::Confirm(DrainOrder { endpoint: row.key(), verb }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::super::live_state::tests::apply;
    use super::*;

    const ROWS: &str = r#"{"reset":true,"rows":[
        {"upstream":"api","endpoint":"10.0.0.1:80","health":"healthy","websockets":1},
        {"upstream":"chat","endpoint":"10.0.0.2:80","health":"unhealthy","websockets":0},
        {"upstream":"chat","endpoint":"10.0.0.3:80","health":"healthy","websockets":9,"draining":"operator"},
        {"upstream":"chat","endpoint":"10.0.0.4:80","health":"healthy","draining":"marked"}]}"#;

    struct Session(LiveState, ViewState);

    impl Session {
        fn new() -> Self {
            let mut state = LiveState::default();
            apply(&mut state, &[("upstreams", ROWS)]);
            Self(state, ViewState::default())
        }

        fn press(&mut self, code: KeyCode) -> KeyAction {
            self.1.press(KeyEvent::new(code, KeyModifiers::NONE), &self.0)
        }

        fn write(&mut self, text: &str) -> Vec<KeyAction> {
            text.chars().map(|c| self.press(KeyCode::Char(c))).collect()
        }

        fn endpoints(&self) -> Vec<&str> {
            self.1.rows(&self.0).iter().map(|row| &row.endpoint[7..8]).collect()
        }

        fn selected(&self) -> String {
            self.1.selected_row(&self.1.rows(&self.0)).map_or(String::new(), |row| row.endpoint.clone())
        }
    }

    #[test]
    fn q_escape_and_control_c_quit() {
        let mut session = Session::new();
        assert_eq!(session.press(KeyCode::Char('q')), KeyAction::Quit);
        assert_eq!(session.press(KeyCode::Esc), KeyAction::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        session.write("/");
        assert_eq!(session.1.press(interrupt, &session.0), KeyAction::Quit);
    }

    #[test]
    fn the_selection_moves_within_the_rows() {
        let mut session = Session::new();
        assert_eq!(session.selected(), "10.0.0.1:80");
        session.press(KeyCode::Down);
        session.write("j");
        assert_eq!(session.selected(), "10.0.0.3:80");
        session.press(KeyCode::Up);
        assert_eq!(session.selected(), "10.0.0.2:80");
        session.press(KeyCode::PageDown);
        assert_eq!(session.selected(), "10.0.0.4:80");
        session.write("gk");
        assert_eq!(session.selected(), "10.0.0.1:80");
        session.write("Gj");
        assert_eq!(session.selected(), "10.0.0.4:80");
    }

    #[test]
    fn the_order_changes_and_the_selection_stays_at_its_endpoint() {
        let mut session = Session::new();
        session.write("j");
        for order in [["1", "2", "3", "4"], ["2", "1", "3", "4"], ["3", "1", "2", "4"]] {
            assert_eq!(session.endpoints(), order);
            assert_eq!(session.selected(), "10.0.0.2:80");
            session.write("s");
        }
        session.write("sss");
        assert_eq!(session.endpoints(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_filter_is_written_kept_and_cleared() {
        let mut session = Session::new();
        session.write("/CHATq");
        session.press(KeyCode::Backspace);
        assert_eq!((session.endpoints(), &session.1.mode), (vec!["2", "3", "4"], &ViewMode::Filter));
        session.press(KeyCode::Enter);
        assert_eq!(session.1.mode, ViewMode::Table);
        assert_eq!(session.press(KeyCode::Esc), KeyAction::None);
        assert_eq!(session.endpoints().len(), 4);
        session.write("/drain");
        assert_eq!(session.endpoints(), ["3", "4"]);
        session.press(KeyCode::Esc);
        assert_eq!((session.endpoints().len(), &session.1.mode), (4, &ViewMode::Table));
    }

    #[test]
    fn a_drain_is_sent_only_after_y_and_for_the_endpoint_of_the_question() {
        let mut session = Session::new();
        let order = DrainOrder { endpoint: ("api".into(), "10.0.0.1:80".into()), verb: "drain" };
        assert_eq!(session.write("d"), [KeyAction::None]);
        assert_eq!(session.1.mode, ViewMode::Confirm(order.clone()));
        // Rows before it arrive in between.
        apply(&mut session.0, &[("upstreams", r#"{"rows":[{"upstream":"a","endpoint":"10.0.0.0:80"}]}"#)]);
        session.press(KeyCode::Enter);
        assert_eq!(session.write("xy"), [KeyAction::None, KeyAction::Send(order)]);
        for refusal in ["dn", "dq"] {
            assert_eq!(session.write(refusal), [KeyAction::None, KeyAction::None]);
            assert_eq!(session.1.mode, ViewMode::Table);
        }
    }

    #[test]
    fn only_an_operators_drain_is_ended() {
        let mut session = Session::new();
        session.write("u");
        assert_eq!(session.1.message.as_deref(), Some("not draining"));
        session.write("jjd");
        assert_eq!(session.1.message.as_deref(), Some("already draining (operator)"));
        session.write("u");
        assert!(matches!(&session.1.mode, ViewMode::Confirm(order) if order.verb == "undrain"));
        session.write("nju");
        assert!(session.1.message.as_ref().unwrap().contains("marked"));
    }

    #[test]
    fn keys_do_nothing_without_rows() {
        let mut session = Session(LiveState::default(), ViewState::default());
        assert!(session.write("jkdusgG").iter().all(|action| *action == KeyAction::None));
        session.press(KeyCode::Enter);
        assert_eq!(session.1.mode, ViewMode::Details);
        session.write("jx");
        assert_eq!(session.1.mode, ViewMode::Table);
        session.write("?");
        assert_eq!(session.1.mode, ViewMode::Help);
        assert_eq!(session.write("q"), [KeyAction::None]);
        assert_eq!(session.1.mode, ViewMode::Table);
    }
}
