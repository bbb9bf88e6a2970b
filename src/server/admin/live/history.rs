//! The last ten minutes of the overview, sampled every five seconds whether somebody watches or not.

use super::counters::{CounterReading, Totals, error_rates, rate};
use crate::telemetry::metrics::{self, ObservedValue};
use crate::telemetry::unix_millis;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The time between two points.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Points that are kept: ten minutes.
const POINTS: usize = 120;

/// Round trips are shown over this many points, since a client is pinged every 30 s.
const ROUND_TRIP_POINTS: usize = 12;

/// The history of the overview.
#[derive(Default)]
pub(crate) struct History(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    points: VecDeque<Point>,
    last: Option<CounterReading>,
    /// The round trips at the last points.
    round_trips: VecDeque<ObservedValue>,
    /// Points added so far.
    number: u64,
}

/// One point: rates over its interval.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Point {
    #[serde(skip)]
    end: u64,
    requests: f64,
    handshakes: f64,
    messages_to_backend: f64,
    messages_to_client: f64,
    bytes_to_backend: f64,
    bytes_to_client: f64,
    websockets: u64,
    errors: f64,
    rtt_p50: Option<f64>,
    rtt_p99: Option<f64>,
    /// Error rates by reason, without those that are 0.
    #[serde(skip)]
    reasons: Vec<(&'static str, f64)>,
}

/// A point for another process.
#[derive(Deserialize, Serialize)]
struct MovedPoint {
    end: u64,
    point: Point,
    reasons: Vec<(String, f64)>,
}

/// The median and the 99th percentile of ping round trips, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct RttPercentiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Adds a point every interval.
pub(crate) async fn keep(history: Arc<History>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        history.add(CounterReading::now());
    }
}

impl History {
    fn add(&self, reading: CounterReading) {
        let mut ring = self.0.lock();
        if let Some(before) = &ring.last {
            let seconds = (reading.at - before.at).as_secs_f64();
            let change = reading.since(before);
            let of = |pick: fn(&Totals) -> u64| rate(pick(&change), 0, seconds);
            let quantiles = RttPercentiles::of(&reading.round_trips, ring.round_trips.front());
            let point = Point {
                end: unix_millis(),
                requests: of(|totals| totals.requests),
                handshakes: of(|totals| totals.handshakes),
                messages_to_backend: of(|totals| totals.messages[0]),
                messages_to_client: of(|totals| totals.messages[1]),
                bytes_to_backend: of(|totals| totals.bytes[0]),
                bytes_to_client: of(|totals| totals.bytes[1]),
                websockets: reading.open(),
                errors: of(|totals| totals.errors),
                rtt_p50: quantiles.map(|quantiles| quantiles.p50),
                rtt_p99: quantiles.map(|quantiles| quantiles.p99),
                reasons: error_rates(&reading, before, seconds).filter(|(_, rate)| *rate > 0.0).collect(),
            };
            if ring.points.len() == POINTS {
                ring.points.pop_front();
            }
            ring.points.push_back(point);
            ring.number += 1;
        }
        if ring.round_trips.len() == ROUND_TRIP_POINTS {
            ring.round_trips.pop_front();
        }
        ring.round_trips.push_back(reading.round_trips.clone());
        ring.last = Some(reading);
    }

    /// The points for another process.
    pub(crate) fn state(&self) -> Value {
        let ring = self.0.lock();
        let moved = |point: &Point| MovedPoint {
            end: point.end,
            point: point.clone(),
            reasons: point.reasons.iter().map(|(reason, rate)| ((*reason).to_owned(), *rate)).collect(),
        };
        let points: Vec<_> = ring.points.iter().map(moved).collect();
        // Numbers and names are always JSON.
        serde_json::to_value(points).unwrap_or_default()
    }

    /// Continues with the points of another process. What this one has read before it got the counts of the other one is
    /// forgotten: the difference is no rate.
    pub(crate) fn restore(&self, state: Value) {
        let names: Vec<_> = metrics::global().failed_requests().into_iter().map(|(name, _)| name).collect();
        let known = |reason: &str| names.iter().find(|name| **name == reason).copied();
        let moved: Vec<MovedPoint> = serde_json::from_value(state).unwrap_or_default();
        let older = moved.len().saturating_sub(POINTS);
        let point = |MovedPoint { end, point, reasons }: MovedPoint| {
            let reasons = reasons.iter().filter_map(|(reason, rate)| Some((known(reason)?, *rate))).collect();
            Point { end, reasons, ..point }
        };
        let points: VecDeque<_> = moved.into_iter().skip(older).map(point).collect();
        let mut ring = self.0.lock();
        *ring = Ring { number: points.len() as u64, points, ..Ring::default() };
    }

    /// The number of points added so far.
    pub(super) fn number(&self) -> u64 {
        self.0.lock().number
    }

    /// Ping round trips of the last minute.
    pub(super) fn round_trips(&self, now: &ObservedValue) -> Option<RttPercentiles> {
        RttPercentiles::of(now, self.0.lock().round_trips.front())
    }

    /// All points, a list for each value, and for each reason of an error.
    pub(super) fn whole(&self) -> Value {
        let ring = self.0.lock();
        // Every value has a list before the first point too.
        let names = values(&Point::default()).into_iter().map(|(name, _)| (name, json!([])));
        let mut lists: Map<_, _> = names.collect();
        let mut errors = BTreeMap::<_, Vec<f64>>::new();
        for (index, point) in ring.points.iter().enumerate() {
            for (name, value) in values(point) {
                if let Some(Value::Array(list)) = lists.get_mut(&name) {
                    list.push(value);
                }
            }
            for (reason, rate) in &point.reasons {
                errors.entry(*reason).or_insert_with(|| vec![0.0; ring.points.len()])[index] = *rate;
            }
        }
        json!({
            "interval": INTERVAL.as_secs_f64(),
            "end": ring.points.back().map_or_else(unix_millis, |point| point.end),
            "points": lists,
            "errors": errors,
        })
    }

    /// The last point.
    pub(super) fn last(&self) -> Option<Value> {
        let point = self.0.lock().points.back()?.clone();
        let errors: BTreeMap<_, _> = point.reasons.iter().copied().collect();
        Some(json!({ "end": point.end, "points": point, "errors": errors }))
    }
}

/// The values of a point by name.
fn values(point: &Point) -> Map<String, Value> {
    match serde_json::to_value(point) {
        Ok(Value::Object(values)) => values,
        // A struct is an object.
        _ => Map::new(),
    }
}

impl RttPercentiles {
    fn of(now: &ObservedValue, before: Option<&ObservedValue>) -> Option<Self> {
        let recent = before.map_or_else(|| now.clone(), |before| now.since(before));
        Some(Self { p50: recent.quantile(0.5)?, p99: recent.quantile(0.99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn reading(began: Instant, seconds: u64, errors: u64) -> CounterReading {
        CounterReading {
            at: began + Duration::from_secs(seconds),
            routes: Vec::new(),
            failed: vec![("no_route", errors), ("connect_refused", 7)],
            round_trips: ObservedValue::default(),
        }
    }

    #[test]
    fn the_ring_keeps_ten_minutes_of_rates() {
        let history = History::default();
        let began = Instant::now();
        history.add(reading(began, 0, 0));
        assert_eq!((history.number(), history.last()), (0, None), "a rate needs two readings");
        assert_eq!(history.whole()["points"]["requests"], json!([]));
        for step in 1..=200 {
            history.add(reading(began, step * 5, step * 50));
        }
        let whole = history.whole();
        let requests = whole["points"]["requests"].as_array().map_or(0, Vec::len);
        assert_eq!((history.number(), requests), (200, POINTS));
        assert_eq!(whole["points"]["errors"][0], 10.0);
        assert_eq!(whole["errors"].as_object().map(Map::len), Some(1), "reasons without errors have no list");
        assert_eq!(whole["errors"]["no_route"].as_array().map(Vec::len), Some(POINTS));
        assert_eq!(history.last().map(|last| last["errors"].clone()), Some(json!({ "no_route": 10.0 })));
        history.add(reading(began, 1005, 200 * 50));
        assert_eq!(history.last().map(|last| last["errors"].clone()), Some(json!({})));
        assert_eq!(history.last().map(|last| last["points"]["rtt_p50"].clone()), Some(Value::Null));
    }
}
