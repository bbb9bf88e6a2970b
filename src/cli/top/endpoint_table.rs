//! Endpoint table of `moongate top`: columns by the width of the terminal, order and filter of its rows.

use super::live_state::{EndpointKey, EndpointRow, LiveState};
use crate::cli::human_units::{duration, quantity, size};
use crate::cli::printable::printable;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use std::cmp::Ordering;

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SortOrder {
    /// Upstream, then endpoint.
    #[default]
    Name,
    /// The unhealthy ones first.
    Health,
    Sockets,
    Messages,
    Bytes,
    Rtt,
}

impl SortOrder {
    /// The order after this one.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Name => Self::Health,
            Self::Health => Self::Sockets,
            Self::Sockets => Self::Messages,
            Self::Messages => Self::Bytes,
            Self::Bytes => Self::Rtt,
            Self::Rtt => Self::Name,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Health => "health",
            Self::Sockets => "sockets",
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Rtt => "round trip",
        }
    }

    /// Numbers are descending. Equal rows keep the order of their names.
    fn compare(self, a: &EndpointRow, b: &EndpointRow) -> Ordering {
        let descending = |number: fn(&EndpointRow) -> f64| number(b).total_cmp(&number(a));
        match self {
            Self::Name => Ordering::Equal,
            Self::Health => severity(b).cmp(&severity(a)),
            Self::Sockets => descending(|row| row.websockets),
            Self::Messages => descending(|row| row.messages.sum()),
            Self::Bytes => descending(|row| row.bytes.sum()),
            Self::Rtt => descending(|row| row.rtt.backend.unwrap_or(0.0)),
        }
    }
}

fn severity(row: &EndpointRow) -> u8 {
    match row.health.as_str() {
        "unhealthy" => 3,
        _ if row.ejected => 2,
        "healthy" => 0,
        _ => 1,
    }
}

/// The rows that contain the filter in a name or a state, in that order.
pub(super) fn rows<'a>(state: &'a LiveState, filter: &str, order: SortOrder) -> Vec<&'a EndpointRow> {
    let filter = filter.to_lowercase();
    let matches = |row: &&EndpointRow| {
        let draining = if row.draining.is_some() { "draining" } else { "" };
        let backup = if row.tier > 0.0 { "backup" } else { "" };
        [&row.upstream, &row.endpoint, &row.health, draining, backup]
            .iter()
            .any(|text| text.to_lowercase().contains(&filter))
    };
    let mut rows: Vec<_> = state.endpoints.values().filter(matches).collect();
    rows.sort_by(|a, b| order.compare(a, b));
    rows
}

/// A column, with its least width and the rank by which columns leave a narrow terminal.
struct TableColumn {
    heading: &'static str,
    width: u16,
    /// 0 stays always.
    rank: u8,
    is_number: bool,
    text: fn(&EndpointRow) -> String,
}

const COLUMNS: &[TableColumn] = &[
    TableColumn {
        heading: "UPSTREAM",
        width: 12,
        rank: 2,
        is_number: false,
        text: |row| row.upstream.clone(),
    },
    TableColumn {
        heading: "ENDPOINT",
        width: 21,
        rank: 0,
        is_number: false,
        text: |row| row.endpoint.clone(),
    },
    TableColumn { heading: "HEALTH", width: 9, rank: 0, is_number: false, text: health },
    TableColumn {
        heading: "SOCKETS",
        width: 7,
        rank: 0,
        is_number: true,
        text: |row| quantity(row.websockets),
    },
    TableColumn { heading: "OPEN/s", width: 6, rank: 6, is_number: true, text: |row| quantity(row.opens) },
    TableColumn { heading: "CLOSE/s", width: 7, rank: 6, is_number: true, text: |row| quantity(row.closes) },
    TableColumn {
        heading: "MSG/s",
        width: 6,
        rank: 3,
        is_number: true,
        text: |row| quantity(row.messages.sum()),
    },
    TableColumn { heading: "BYTES/s", width: 8, rank: 4, is_number: true, text: |row| size(row.bytes.sum()) },
    TableColumn { heading: "RTT", width: 6, rank: 5, is_number: true, text: |row| optional(row.rtt.backend) },
    TableColumn {
        heading: "CLIENT RTT",
        width: 10,
        rank: 10,
        is_number: true,
        text: |row| optional(row.rtt.client),
    },
    TableColumn { heading: "LATENCY", width: 7, rank: 7, is_number: true, text: |row| optional(row.latency) },
    TableColumn { heading: "ACTIVE", width: 6, rank: 8, is_number: true, text: |row| quantity(row.active) },
    TableColumn { heading: "WEIGHT", width: 6, rank: 9, is_number: true, text: |row| quantity(row.weight) },
    TableColumn {
        heading: "RAMP",
        width: 4,
        rank: 11,
        is_number: true,
        text: |row| row.slow_start.map(percent).unwrap_or_default(),
    },
    TableColumn { heading: "DRAIN", width: 9, rank: 1, is_number: false, text: drain },
];

/// A part of 1 as a percentage.
pub(super) fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

pub(super) fn health(row: &EndpointRow) -> String {
    if row.ejected && row.health != "unhealthy" { "ejected".to_owned() } else { row.health.clone() }
}

pub(super) fn optional(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), duration)
}

pub(super) fn drain(row: &EndpointRow) -> String {
    match (&row.draining, &row.drain) {
        (None, _) => String::new(),
        (Some(_), Some(progress)) if progress.left > 0.0 => format!("{} left", duration(progress.left)),
        (Some(cause), _) => cause.clone(),
    }
}

/// The columns that fit, in the order of the table.
fn fitting(width: u16) -> Vec<&'static TableColumn> {
    let mut columns: Vec<_> = COLUMNS.iter().collect();
    loop {
        let needed: u16 = columns.iter().map(|column| column.width + 1).sum();
        let last = columns.iter().enumerate().max_by_key(|(_, column)| column.rank);
        match last {
            Some((index, column)) if needed > width + 1 && column.rank > 0 => {
                columns.remove(index);
            }
            _ => return columns,
        }
    }
}

/// Draws the rows with the selected one highlighted.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, rows: &[&EndpointRow], selected: Option<&EndpointKey>) {
    let columns = fitting(area.width);
    let align = |column: &TableColumn| if column.is_number { Alignment::Right } else { Alignment::Left };
    let cell = |column: &TableColumn, text: String| {
        Cell::from(Text::from(Line::from(text).alignment(align(column))))
    };
    let heading = columns.iter().map(|column| cell(column, column.heading.to_owned()));
    let heading = Row::new(heading).style(Style::new().add_modifier(Modifier::BOLD));
    let index = selected.and_then(|key| rows.iter().position(|row| row.key() == *key));
    // The widget measures every row that it is given, so it is given those of the screen.
    let height = usize::from(area.height.saturating_sub(1));
    let first = first_row(index.unwrap_or(0), height, rows.len());
    let shown = rows.iter().skip(first).take(height);
    let body = shown.map(|row| {
        let cells = columns.iter().map(|column| {
            let text = printable(&(column.text)(row)).into_owned();
            cell(column, text).style(style(column, row))
        });
        Row::new(cells)
    });
    // The names take the width that is left.
    let widths = columns.iter().map(|column| match column.is_number || column.heading == "HEALTH" {
        true => Constraint::Length(column.width),
        false => Constraint::Min(column.width),
    });
    let table = Table::new(body, widths)
        .header(heading)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(index.map(|index| index - first));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The first row of a window that contains the selected one, near its middle.
fn first_row(selected: usize, height: usize, count: usize) -> usize {
    selected.saturating_sub(height / 2).min(count.saturating_sub(height))
}

fn style(column: &TableColumn, row: &EndpointRow) -> Style {
    match column.heading {
        "HEALTH" => Style::new().fg(match severity(row) {
            0 => Color::Green,
            3 => Color::Red,
            _ => Color::Yellow,
        }),
        "DRAIN" => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_leave_by_rank_and_the_essential_ones_stay() {
        let headings = |width| fitting(width).iter().map(|column| column.heading).collect::<Vec<_>>();
        assert_eq!(headings(200).len(), COLUMNS.len());
        assert_eq!(headings(80), ["UPSTREAM", "ENDPOINT", "HEALTH", "SOCKETS", "MSG/s", "BYTES/s", "DRAIN"]);
        assert_eq!(headings(40), ["ENDPOINT", "HEALTH", "SOCKETS"]);
        assert_eq!(headings(0), ["ENDPOINT", "HEALTH", "SOCKETS"]);
    }

    #[test]
    fn the_window_contains_the_selected_row() {
        for (selected, height, count, first) in [
            (0, 10, 100, 0),
            (4, 10, 100, 0),
            (50, 10, 100, 45),
            (99, 10, 100, 90),
            (3, 10, 4, 0),
            (2, 0, 4, 2),
        ] {
            assert_eq!(first_row(selected, height, count), first, "{selected} {height} {count}");
        }
    }
}
