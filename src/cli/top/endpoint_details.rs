//! Details of the selected endpoint in `moongate top`: what does not fit in a row of the table, and the routes that lead
//! to its upstream.

use super::endpoint_table::{drain, health, optional, percent};
use super::live_state::{EndpointKey, EndpointRow, FlowState, LiveState};
use crate::cli::human_units::{quantity, size};

/// The maximum number of close codes and of routes; the most frequent ones are shown.
const MOST_LINES: usize = 8;

/// Names and values, in the order of the screen. A line of a list after its first one has no name.
pub(super) fn lines(key: &EndpointKey, state: &LiveState) -> Vec<(&'static str, String)> {
    let Some(row) = state.endpoints.get(key) else {
        return vec![("", "the endpoint was removed".to_owned())];
    };
    let mut lines = vec![("health", health(row))];
    let probe = row.probe.as_ref().filter(|probe| !probe.ok);
    lines.extend(probe.and_then(|probe| probe.reason.clone()).map(|reason| ("health check", reason)));
    lines.push(("WebSockets", rates(row)));
    lines.push(("messages/s", pair(quantity, row.messages.to_backend, row.messages.to_client)));
    lines.push(("bytes/s", pair(size, row.bytes.to_backend, row.bytes.to_client)));
    let rtt =
        format!("{} to the backend, {} to clients", optional(row.rtt.backend), optional(row.rtt.client));
    lines.extend([("round trip", rtt), ("latency", optional(row.latency))]);
    let origin = row.origin.as_deref().filter(|origin| *origin != "list");
    let absent = if row.state.as_deref() == Some("absent") { ", not announced any more" } else { "" };
    lines.extend(origin.map(|origin| ("origin", format!("{origin}{absent}"))));
    lines.extend((row.tier > 0.0).then(|| ("tier", "backup".to_owned())));
    lines.extend(row.max_connections.map(|limit| ("active", limited(row.active, limit))));
    lines.extend(row.slow_start.map(|part| ("slow start", format!("{} of its weight", percent(part)))));
    lines.extend(row.draining.as_ref().map(|_| ("drain", drain(row))));
    lines.extend(list("closed", closes(row)));
    lines.extend(list("routes", flows(key, state)));
    lines
}

/// Requests and WebSockets of an endpoint with `max_connections`.
fn limited(active: f64, limit: f64) -> String {
    let full = if active >= limit { ", full" } else { "" };
    format!("{} of {}{full}", quantity(active), quantity(limit))
}

fn rates(row: &EndpointRow) -> String {
    let (open, opens, closes) = (quantity(row.websockets), quantity(row.opens), quantity(row.closes));
    format!("{open} open, {opens}/s opened, {closes}/s closed")
}

fn pair(unit: fn(f64) -> String, to_backend: f64, to_client: f64) -> String {
    format!("{} to the backend, {} to clients", unit(to_backend), unit(to_client))
}

/// Closed WebSockets by code and initiator, the most frequent first.
fn closes(row: &EndpointRow) -> Vec<String> {
    let mut closed: Vec<_> = row.closed.iter().collect();
    closed.sort_by(|a, b| b.count.total_cmp(&a.count));
    closed
        .iter()
        .map(|closed| format!("{} by {}: {}", closed.code, closed.by, quantity(closed.count)))
        .collect()
}

/// The routes to the upstream, the busiest first.
fn flows((upstream, _): &EndpointKey, state: &LiveState) -> Vec<String> {
    let mut flows: Vec<_> = state.flows.values().filter(|flow| flow.upstream == *upstream).collect();
    flows.sort_by(|a, b| b.requests.total_cmp(&a.requests));
    let line = |flow: &&FlowState| {
        let (requests, websockets) = (quantity(flow.requests), quantity(flow.websockets));
        let messages = quantity(flow.messages);
        format!("{}: {requests} requests/s, {websockets} WebSockets, {messages} messages/s", flow.route)
    };
    flows.iter().map(line).collect()
}

/// A list under one name, or nothing.
fn list(name: &'static str, mut values: Vec<String>) -> Vec<(&'static str, String)> {
    let more = values.len().saturating_sub(MOST_LINES);
    values.truncate(MOST_LINES);
    if more > 0 {
        values.push(format!("and {more} more"));
    }
    values.into_iter().enumerate().map(|(index, value)| (if index == 0 { name } else { "" }, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::live_state::tests::apply;
    use super::*;

    #[test]
    fn closes_and_routes_are_listed_by_number() {
        let mut state = LiveState::default();
        let row = r#"{"rows":[{"upstream":"a","endpoint":"1","websockets":3,"slow_start":0.25,"tier":1,"active":4,"max_connections":4,"closed":[
            {"code":"1000","by":"client","count":2},{"code":"1012","by":"gateway","count":40}]}]}"#;
        let flows = r#"{"rows":[{"route":"x","upstream":"a","requests":1},{"route":"y","upstream":"a","requests":2,"websockets":3},
            {"route":"z","upstream":"b"}]}"#;
        apply(&mut state, &[("upstreams", row), ("flows", flows)]);
        let lines = lines(&("a".to_owned(), "1".to_owned()), &state);
        let value =
            |name: &str| lines.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("WebSockets"), Some("3 open, 0/s opened, 0/s closed"));
        assert_eq!((value("tier"), value("active")), (Some("backup"), Some("4 of 4, full")));
        assert_eq!(value("slow start"), Some("25% of its weight"));
        assert_eq!(value("closed"), Some("1012 by gateway: 40"));
        assert_eq!(value("routes"), Some("y: 2 requests/s, 3 WebSockets, 0 messages/s"));
        assert_eq!(lines.len(), 13, "{lines:?}");
        assert_eq!(value("drain"), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let lines = list("closed", (0..20).map(|number| number.to_string()).collect());
        assert_eq!((lines.len(), lines[1].0, lines[8].1.as_str()), (9, "", "and 12 more"));
    }
}
