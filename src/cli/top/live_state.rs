//! State of a gateway as its live stream reports it: overview, history and endpoints.
//!
//! Members that an older or newer gateway lacks have their defaults, so that one of them does not hide the rest.

use crate::cli::admin_client::StreamEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The maximum number of points of a history: 10 minutes in steps of 5 seconds.
const MOST_POINTS: usize = 120;

/// The maximum number of rows of a kind, against the memory of a hostile stream.
const MOST_ROWS: usize = 100_000;

/// Upstream and endpoint.
pub(super) type EndpointKey = (String, String);

/// Everything that the stream has reported.
#[derive(Debug, Default)]
pub(super) struct LiveState {
    pub(super) hello: HelloEvent,
    pub(super) overview: Option<Overview>,
    history: BTreeMap<String, Vec<Option<f64>>>,
    pub(super) endpoints: BTreeMap<EndpointKey, EndpointRow>,
    /// By route and upstream.
    pub(super) flows: BTreeMap<(String, String), FlowState>,
    /// Why the stream is not connected.
    pub(super) lost: Option<String>,
}

/// The first event of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HelloEvent {
    pub(super) version: String,
}

/// Rates a second, and the process.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Overview {
    pub(super) requests: f64,
    pub(super) handshakes: f64,
    pub(super) messages: DirectionPair,
    pub(super) bytes: DirectionPair,
    pub(super) websockets: f64,
    pub(super) requests_in_flight: f64,
    pub(super) errors: Vec<ErrorRate>,
    pub(super) rtt: Option<Percentiles>,
    pub(super) process: ProcessState,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DirectionPair {
    pub(super) to_backend: f64,
    pub(super) to_client: f64,
}

impl DirectionPair {
    pub(super) fn sum(self) -> f64 {
        self.to_backend + self.to_client
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorRate {
    pub(super) reason: String,
    pub(super) rate: f64,
}

/// Ping round trips in seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProcessState {
    pub(super) uptime: f64,
    pub(super) memory: Option<f64>,
    pub(super) descriptors: Option<f64>,
    pub(super) max_descriptors: Option<f64>,
    pub(super) threads: Option<f64>,
    pub(super) cpu: Option<f64>,
    pub(super) generation: u64,
    pub(super) draining: bool,
}

/// An endpoint of an upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointRow {
    pub(super) upstream: String,
    pub(super) endpoint: String,
    pub(super) weight: f64,
    /// 0, or 1 for a backup.
    pub(super) tier: f64,
    pub(super) max_connections: Option<f64>,
    pub(super) health: String,
    pub(super) probe: Option<ProbeState>,
    pub(super) ejected: bool,
    pub(super) origin: Option<String>,
    pub(super) state: Option<String>,
    pub(super) draining: Option<String>,
    pub(super) active: f64,
    pub(super) websockets: f64,
    pub(super) opens: f64,
    pub(super) closes: f64,
    pub(super) messages: DirectionPair,
    pub(super) bytes: DirectionPair,
    pub(super) rtt: RoundTrip,
    pub(super) latency: Option<f64>,
    pub(super) drain: Option<DrainState>,
    /// The part of its weight during a slow start.
    pub(super) slow_start: Option<f64>,
    pub(super) closed: Vec<CloseCount>,
}

/// Closed WebSockets by code and initiator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CloseCount {
    pub(super) code: String,
    pub(super) by: String,
    pub(super) count: f64,
}

/// The traffic from a route to an upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowState {
    pub(super) route: String,
    pub(super) upstream: String,
    pub(super) requests: f64,
    pub(super) websockets: f64,
    pub(super) messages: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProbeState {
    pub(super) ok: bool,
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RoundTrip {
    pub(super) client: Option<f64>,
    pub(super) backend: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DrainState {
    /// Seconds until the end of the window.
    pub(super) left: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HistoryEvent {
    points: BTreeMap<String, Vec<Option<f64>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PointEvent {
    points: BTreeMap<String, Option<f64>>,
}

#[derive(Debug, Deserialize)]
struct RowChanges<R> {
    #[serde(default)]
    reset: bool,
    // Serde would demand a default of `R`.
    #[serde(default = "Vec::new")]
    rows: Vec<R>,
    /// Their keys, as the stream writes them.
    #[serde(default)]
    gone: Vec<(String, String)>,
}

impl<R> RowChanges<R> {
    /// Applies them to the rows by key, up to a number of rows.
    fn apply(self, rows: &mut BTreeMap<(String, String), R>, key: fn(&R) -> (String, String)) {
        if self.reset {
            rows.clear();
        }
        for gone in &self.gone {
            rows.remove(gone);
        }
        for row in self.rows {
            if rows.len() < MOST_ROWS || rows.contains_key(&key(&row)) {
                rows.insert(key(&row), row);
            }
        }
    }
}

impl EndpointRow {
    pub(super) fn key(&self) -> EndpointKey {
        (self.upstream.clone(), self.endpoint.clone())
    }
}

impl LiveState {
    /// Applies an event. Unknown events, and those that cannot be read, are skipped.
    pub(super) fn apply(&mut self, event: &StreamEvent) {
        fn read<T: DeserializeOwned>(event: &StreamEvent) -> Option<T> {
            serde_json::from_str(&event.data).ok()
        }
        match event.name.as_str() {
            "hello" => self.hello = read(event).unwrap_or_default(),
            "overview" => self.overview = read(event).or(self.overview.take()),
            "history" => {
                if let Some(HistoryEvent { points }) = read(event) {
                    self.history = points;
                    self.history.values_mut().for_each(bound);
                }
            }
            "point" => {
                let Some(PointEvent { points }) = read(event) else { return };
                for (name, number) in points {
                    // Only names of the history: a stream cannot add more and more of them.
                    if let Some(series) = self.history.get_mut(&name) {
                        series.push(number);
                        bound(series);
                    }
                }
            }
            "upstreams" => {
                let Some(changes) = read::<RowChanges<EndpointRow>>(event) else { return };
                changes.apply(&mut self.endpoints, EndpointRow::key);
            }
            "flows" => {
                let Some(changes) = read::<RowChanges<FlowState>>(event) else { return };
                changes.apply(&mut self.flows, |flow| (flow.route.clone(), flow.upstream.clone()));
            }
            _ => {}
        }
    }

    /// The sums of some series, oldest first; a point without a number counts as 0.
    pub(super) fn history(&self, names: &[&str]) -> Vec<f64> {
        let series: Vec<_> = names.iter().filter_map(|name| self.history.get(*name)).collect();
        let length = series.iter().map(|points| points.len()).max().unwrap_or(0);
        let at = |index: usize| {
            let number = |points: &&Vec<Option<f64>>| points.get(index).copied().flatten();
            series.iter().filter_map(number).sum()
        };
        (0..length).map(at).collect()
    }
}

/// Keeps the newest points.
fn bound(series: &mut Vec<Option<f64>>) {
    let surplus = series.len().saturating_sub(MOST_POINTS);
    series.drain(..surplus);
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    pub(in crate::cli::top) fn apply(state: &mut LiveState, events: &[(&str, &str)]) {
        for (name, data) in events {
            state.apply(&StreamEvent { name: (*name).to_owned(), data: (*data).to_owned() });
        }
    }

    #[test]
    fn rows_are_replaced_removed_and_reset() {
        let mut state = LiveState::default();
        let names = |state: &LiveState| {
            let shown =
                |((_, endpoint), row): (&EndpointKey, &EndpointRow)| format!("{endpoint}={}", row.active);
            state.endpoints.iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        apply(
            &mut state,
            &[(
                "upstreams",
                r#"{"reset":true,"rows":[{"upstream":"a","endpoint":"1","active":1},{"upstream":"a","endpoint":"2","active":2}]}"#,
            )],
        );
        assert_eq!(names(&state), "1=1 2=2");
        apply(
            &mut state,
            &[(
                "upstreams",
                r#"{"reset":false,"rows":[{"upstream":"a","endpoint":"2","active":7}],"gone":[["a","1"]]}"#,
            )],
        );
        assert_eq!(names(&state), "2=7");
        for wrong in ["", "[1]", r#"{"rows":[{"active":"x"}]}"#, r#"{"gone":[["a"]]}"#] {
            apply(&mut state, &[("upstreams", wrong), ("overview", wrong), ("later", wrong)]);
        }
        assert_eq!(names(&state), "2=7");
        apply(&mut state, &[("upstreams", r#"{"reset":true,"rows":[]}"#)]);
        assert_eq!(names(&state), "");
        let flows = r#"{"reset":true,"rows":[{"route":"r","upstream":"a"},{"route":"r","upstream":"b"}]}"#;
        apply(&mut state, &[("flows", flows), ("flows", r#"{"rows":[],"gone":[["r","a"]]}"#)]);
        assert_eq!(state.flows.keys().map(|(_, upstream)| upstream.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_history_grows_to_ten_minutes() {
        let mut state = LiveState::default();
        apply(&mut state, &[("history", r#"{"points":{"requests":[1,null,3],"errors":[]}}"#)]);
        assert_eq!(state.history(&["requests"]), [1.0, 0.0, 3.0]);
        for _ in 0..200 {
            apply(&mut state, &[("point", r#"{"points":{"requests":4,"errors":0.5,"other":1}}"#)]);
        }
        assert_eq!(state.history(&["requests", "errors"]), vec![4.5; MOST_POINTS]);
        assert!(state.history(&["other"]).is_empty());
    }

    #[test]
    fn an_overview_that_cannot_be_read_leaves_the_last_one() {
        let mut state = LiveState::default();
        apply(
            &mut state,
            &[("overview", r#"{"requests":2.5,"rtt":null,"errors":[{"reason":"a","rate":1}]}"#)],
        );
        apply(&mut state, &[("overview", r#"{"requests":"many"}"#)]);
        assert_eq!(state.overview.unwrap().requests, 2.5);
    }
}
