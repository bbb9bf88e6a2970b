//! Screen of `moongate top`, a pure function of its state. Every width and height is valid.

use super::endpoint_details;
use super::endpoint_table;
use super::live_state::{EndpointKey, EndpointRow, LiveState, Overview, Percentiles};
use super::view_state::{DrainOrder, ViewMode, ViewState};
use crate::cli::human_units::{duration, quantity, size};
use crate::cli::printable::printable;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Wrap};

/// The least size of a screen with sparklines; smaller ones have the numbers alone.
const SPARKLINE_WIDTH: u16 = 60;
const SPARKLINE_HEIGHT: u16 = 18;

const HELP: &[(&str, &str)] = &[
    ("q, Esc, Ctrl-C", "quit"),
    ("arrows, j, k", "select an endpoint"),
    ("PgUp, PgDn, g, G", "select further up or down"),
    ("Enter", "details of the endpoint: closes by code, routes"),
    ("s", "sort by the next column"),
    ("/", "filter; Esc clears the filter"),
    ("d", "drain the endpoint"),
    ("u", "end its drain"),
    ("?", "this help"),
    ("a/b", "rates to backends / to clients"),
];

/// A number with its history.
struct Tile {
    name: &'static str,
    value: String,
    history: Vec<f64>,
    color: Color,
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, address: &str, state: &LiveState, view: &ViewState) {
    let area = frame.area();
    let with_sparklines = area.width >= SPARKLINE_WIDTH && area.height >= SPARKLINE_HEIGHT;
    let tile_height = if with_sparklines { 3 } else { 1 };
    let tile_rows = if area.width >= SPARKLINE_WIDTH { 2 } else { 3 };
    let [header, tiles, process, table, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(tile_rows * tile_height),
        Constraint::Length(2),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header_line(address, state), header);
    if let Some(overview) = &state.overview {
        draw_tiles(frame, tiles, tile_rows, overview, state);
        frame.render_widget(Paragraph::new(process_lines(overview)), process);
    }
    let rows = view.rows(state);
    let selected = view.selected_row(&rows);
    endpoint_table::draw(frame, table, &rows, selected.map(EndpointRow::key).as_ref());
    frame.render_widget(footer_line(view, rows.len(), selected, state), footer);
    match &view.mode {
        ViewMode::Confirm(order) => draw_dialog(frame, "confirm", question(order, state)),
        ViewMode::Help => draw_dialog(frame, "keys", help()),
        ViewMode::Details => {
            if let Some(key) = selected.map(EndpointRow::key) {
                draw_dialog(frame, "endpoint", details(&key, state));
            }
        }
        ViewMode::Table | ViewMode::Filter => {}
    }
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn shown(text: &str) -> String {
    printable(text).into_owned()
}

fn header_line(address: &str, state: &LiveState) -> Line<'static> {
    let mut parts =
        vec![bold(format!("moongate {}", shown(&state.hello.version))), format!("  {address}").into()];
    if let Some(lost) = &state.lost {
        let text = format!("  reconnecting: {}", shown(lost));
        parts.push(Span::styled(text, Style::new().fg(Color::Red)));
        return Line::from(parts);
    }
    if let Some(Overview { process, .. }) = &state.overview {
        parts.push(format!("  up {}  generation {}", duration(process.uptime), process.generation).into());
        if process.draining {
            parts.push(Span::styled("  draining", Style::new().fg(Color::Yellow)));
        }
    }
    Line::from(parts)
}

fn tiles(overview: &Overview, state: &LiveState) -> [Tile; 6] {
    let Overview { messages, bytes, .. } = overview;
    // The sum of nothing is -0.
    let errors = overview.errors.iter().map(|error| error.rate).sum::<f64>() + 0.0;
    let tile =
        |name, value, names: &[&str], color| Tile { name, value, history: state.history(names), color };
    [
        tile("requests/s", quantity(overview.requests), &["requests"], Color::Cyan),
        tile("websockets", quantity(overview.websockets), &["websockets"], Color::Green),
        tile("handshakes/s", quantity(overview.handshakes), &["handshakes"], Color::Green),
        tile(
            "messages/s",
            format!("{}/{}", quantity(messages.to_backend), quantity(messages.to_client)),
            &["messages_to_backend", "messages_to_client"],
            Color::Blue,
        ),
        tile(
            "bytes/s",
            format!("{}/{}", size(bytes.to_backend), size(bytes.to_client)),
            &["bytes_to_backend", "bytes_to_client"],
            Color::Blue,
        ),
        tile("errors/s", quantity(errors), &["errors"], Color::Red),
    ]
}

fn draw_tiles(frame: &mut Frame<'_>, area: Rect, rows: u16, overview: &Overview, state: &LiveState) {
    let tiles = tiles(overview, state);
    let in_row = tiles.len() / usize::from(rows.max(1));
    let lines = Layout::vertical(vec![Constraint::Ratio(1, rows.into()); rows.into()]).split(area);
    for (tiles, line) in tiles.chunks(in_row.max(1)).zip(lines.iter()) {
        let cells = Layout::horizontal(vec![Constraint::Fill(1); tiles.len()]).spacing(2).split(*line);
        for (tile, cell) in tiles.iter().zip(cells.iter()) {
            draw_tile(frame, *cell, tile);
        }
    }
}

fn draw_tile(frame: &mut Frame<'_>, area: Rect, tile: &Tile) {
    let [label, graph] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::from(vec![Span::raw(format!("{} ", tile.name)), bold(&*tile.value)]), label);
    if graph.height == 0 {
        return;
    }
    let bars = bars(&tile.history, graph.width);
    frame.render_widget(Sparkline::default().data(bars).style(tile.color), graph);
}

/// The newest points that fit, in thousandths: a bar is a whole number, and a rate may be below 1.
fn bars(history: &[f64], width: u16) -> Vec<u64> {
    let first = history.len().saturating_sub(width.into());
    history[first..].iter().map(|number| (number.max(0.0) * 1000.0) as u64).collect()
}

fn process_lines(overview: &Overview) -> Vec<Line<'static>> {
    let process = &overview.process;
    let most = process.max_descriptors.map(|most| format!(" of {}", quantity(most))).unwrap_or_default();
    let descriptors = process.descriptors.map(|open| format!("{}{most}", quantity(open)));
    let facts = [
        ("cpu", process.cpu.map(|part| format!("{:.0}%", part * 100.0))),
        ("memory", process.memory.map(size)),
        ("descriptors", descriptors),
        ("threads", process.threads.map(quantity)),
        ("requests in flight", Some(quantity(overview.requests_in_flight))),
    ];
    // What the gateway cannot measure is left out.
    let facts = facts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let process = facts.collect::<Vec<_>>().join("  ");
    let mut errors: Vec<_> = overview.errors.iter().filter(|error| error.rate > 0.0).collect();
    errors.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let errors: Vec<_> =
        errors.iter().map(|error| format!("{} {}/s", shown(&error.reason), quantity(error.rate))).collect();
    let rtt = overview
        .rtt
        .map(|Percentiles { p50, p99 }| format!("round trip p50 {} p99 {}  ", duration(p50), duration(p99)));
    let errors = Span::styled(errors.join("  "), Style::new().fg(Color::Red));
    vec![Line::from(process), Line::from(vec![Span::raw(rtt.unwrap_or_default()), errors])]
}

fn footer_line(
    view: &ViewState,
    count: usize,
    selected: Option<&EndpointRow>,
    state: &LiveState,
) -> Line<'static> {
    if view.mode == ViewMode::Filter {
        return Line::from(vec![bold("filter: "), Span::raw(format!("{}_", shown(&view.filter)))]);
    }
    if let Some(message) = &view.message {
        return Line::from(bold(shown(message)));
    }
    let probe = selected.and_then(|row| row.probe.as_ref()).filter(|probe| !probe.ok);
    if let Some(reason) = probe.and_then(|probe| probe.reason.as_ref()) {
        return Line::from(format!("health check: {}", shown(reason))).style(Style::new().fg(Color::Red));
    }
    let mut text = format!("{count} of {} endpoints by {}", state.endpoints.len(), view.order.name());
    if !view.filter.is_empty() {
        text.push_str(&format!("  filter: {}", shown(&view.filter)));
    }
    text.push_str("  q quit  s sort  / filter  d drain  u undrain  ? help");
    Line::from(text).style(Style::new().add_modifier(Modifier::DIM))
}

fn question(order: &DrainOrder, state: &LiveState) -> Vec<Line<'static>> {
    let (upstream, endpoint) = &order.endpoint;
    let sockets = state.endpoints.get(&order.endpoint).map_or(0.0, |row| row.websockets);
    let verb = if order.verb == "drain" { "Drain" } else { "End the drain of" };
    let mut lines = vec![Line::from(bold(format!("{verb} {} {}?", shown(upstream), shown(endpoint))))];
    if order.verb == "drain" {
        let plural = if sockets == 1.0 { "" } else { "s" };
        lines.push(Line::from(format!("{} WebSocket{plural} will be closed with 1012.", quantity(sockets))));
    }
    lines.push(Line::from("y yes   n no"));
    lines
}

fn details(key: &EndpointKey, state: &LiveState) -> Vec<Line<'static>> {
    let line =
        |(name, value): (&str, String)| Line::from(vec![bold(format!("{name:<14}")), shown(&value).into()]);
    let lines = endpoint_details::lines(key, state).into_iter().map(line);
    let (upstream, endpoint) = key;
    let title = Line::from(bold(format!("{} {}", shown(upstream), shown(endpoint))));
    [title].into_iter().chain(lines).collect()
}

fn help() -> Vec<Line<'static>> {
    let line = |(keys, effect): &(&str, &str)| {
        Line::from(vec![bold(format!("{keys:<18}")), Span::raw(effect.to_string())])
    };
    HELP.iter().map(line).collect()
}

fn draw_dialog(frame: &mut Frame<'_>, title: &'static str, lines: Vec<Line<'static>>) {
    let area = frame.area();
    let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let width = width.min(area.width);
    // A line that does not fit is wrapped; the dialog has room for one more line each.
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let height: usize = lines.iter().map(|line| line.width().div_ceil(inner).max(1)).sum();
    let height = (height as u16 + 2).min(area.height);
    let dialog =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered()
        .title(title)
        .title_alignment(Alignment::Center)
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, dialog);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), dialog);
}

#[cfg(test)]
mod tests;
