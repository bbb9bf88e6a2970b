//! List of open WebSockets: filtered, sorted and paged.
//!
//! Only the rows of the page are made; the others are compared by their key.

use super::query::Query;
use super::socket_fields::{client, endpoint, host, path, protocol, subprotocol, upstream};
use super::socket_filter::SocketFilter;
use crate::tunnel::{Registry, Side, TunnelSnapshot};
use serde::Serialize;
use std::cmp::Ordering;
use std::time::Duration;

/// The most rows of a page.
const LARGEST_PAGE: usize = 500;

/// What to list.
#[derive(Debug)]
pub(super) struct SocketQuery {
    filter: SocketFilter,
    sort: SortKey,
    descending: bool,
    page: usize,
    per_page: usize,
}

/// The column by which rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SortKey {
    Id,
    Client,
    Route,
    Upstream,
    Endpoint,
    Path,
    Age,
    Idle,
    Messages,
    Bytes,
    RoundTrip,
    Protocol,
    Subprotocol,
    Generation,
}

/// Name and key of each column.
const SORT_KEYS: [(&str, SortKey); 14] = [
    ("id", SortKey::Id),
    ("client", SortKey::Client),
    ("route", SortKey::Route),
    ("upstream", SortKey::Upstream),
    ("endpoint", SortKey::Endpoint),
    ("path", SortKey::Path),
    ("age", SortKey::Age),
    ("idle", SortKey::Idle),
    ("messages", SortKey::Messages),
    ("bytes", SortKey::Bytes),
    ("rtt", SortKey::RoundTrip),
    ("protocol", SortKey::Protocol),
    ("subprotocol", SortKey::Subprotocol),
    ("generation", SortKey::Generation),
];

/// The value of a row in its column.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortValue {
    Number(u128),
    Text(String),
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(super) struct SocketPage {
    total: usize,
    /// Those of them that are no WebSockets.
    upgraded: usize,
    matched: usize,
    page: usize,
    pages: usize,
    rows: Vec<SocketRow>,
}

/// A WebSocket.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SocketRow {
    id: u64,
    client: String,
    route: String,
    upstream: String,
    endpoint: String,
    host: String,
    path: String,
    age: f64,
    idle: f64,
    messages: Directions,
    bytes: Directions,
    rtt: SideRoundTrips,
    protocol: String,
    subprotocol: Option<String>,
    generation: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Directions {
    to_backend: u64,
    to_client: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct SideRoundTrips {
    client: Option<f64>,
    backend: Option<f64>,
}

impl SocketQuery {
    /// Reads `filter`, `sort`, `page` and `per_page`.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn read(query: &Query) -> Result<Self, String> {
        let sort = query.get("sort").unwrap_or("-id");
        let (descending, name) = sort.strip_prefix('-').map_or((false, sort), |name| (true, name));
        let known = SORT_KEYS.iter().find(|(known, _)| *known == name);
        let Some((_, sort)) = known else {
            let names: Vec<_> = SORT_KEYS.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown column `{name}` in `sort`; the columns are {}", names.join(", ")));
        };
        Ok(Self {
            filter: SocketFilter::parse(query.get("filter").unwrap_or_default())?,
            sort: *sort,
            descending,
            page: query.number("page", 1, (1, usize::MAX))?,
            per_page: query.number("per_page", 50, (1, LARGEST_PAGE))?,
        })
    }

    /// The page of the WebSockets that are open now.
    pub(super) fn list(&self, tunnels: &Registry) -> SocketPage {
        let (mut total, mut upgraded) = (0, 0);
        let mut matching: Vec<(SortValue, TunnelSnapshot)> = Vec::new();
        tunnels.each(|seen| {
            total += 1;
            upgraded += usize::from(seen.protocol.is_some());
            if self.filter.matches(&seen) {
                matching.push((self.sort.of(&seen), seen));
            }
        });
        let matched = matching.len();
        let pages = matched.div_ceil(self.per_page).max(1);
        let page = self.page.min(pages);
        let (start, end) = ((page - 1) * self.per_page, (page * self.per_page).min(matched));
        let order = |a: &(SortValue, TunnelSnapshot), b: &(SortValue, TunnelSnapshot)| self.order(a, b);
        // Sorted is only the page: what is before it and after it stays as it is.
        if end < matched {
            matching.select_nth_unstable_by(end, order);
            matching.truncate(end);
        }
        if start > 0 && start < matching.len() {
            matching.select_nth_unstable_by(start, order);
            matching.drain(..start);
        }
        matching.sort_unstable_by(order);
        let rows = matching.iter().map(|(_, seen)| SocketRow::new(seen)).collect();
        SocketPage { total, upgraded, matched, page, pages, rows }
    }

    fn order(&self, a: &(SortValue, TunnelSnapshot), b: &(SortValue, TunnelSnapshot)) -> Ordering {
        let by_key = if self.descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) };
        // The order of equal rows is the same at every refresh.
        by_key.then(a.1.id.cmp(&b.1.id))
    }
}

impl SortKey {
    fn of(self, seen: &TunnelSnapshot) -> SortValue {
        let number = |number: u64| SortValue::Number(number.into());
        let time = |time: Duration| SortValue::Number(time.as_micros());
        match self {
            Self::Id => number(seen.id),
            Self::Age => time(seen.age),
            Self::Idle => time(seen.idle),
            Self::Messages => number(seen.messages.iter().sum()),
            Self::Bytes => number(seen.bytes.iter().sum()),
            Self::RoundTrip => time(seen.round_trips[Side::Client as usize].unwrap_or_default()),
            Self::Generation => number(seen.generation),
            Self::Route => SortValue::Text(seen.route.to_string()),
            Self::Client => SortValue::Text(client(seen)),
            Self::Upstream => SortValue::Text(upstream(seen)),
            Self::Endpoint => SortValue::Text(endpoint(seen)),
            Self::Path => SortValue::Text(path(seen)),
            Self::Protocol => SortValue::Text(protocol(seen).to_owned()),
            Self::Subprotocol => SortValue::Text(subprotocol(seen)),
        }
    }
}

impl SocketRow {
    /// The row of a WebSocket.
    pub(super) fn new(seen: &TunnelSnapshot) -> Self {
        let seconds = |side: Side| seen.round_trips[side as usize].map(|time| time.as_secs_f64());
        let directions = |counts: [u64; 2]| Directions {
            to_backend: counts[Side::Client as usize],
            to_client: counts[Side::Backend as usize],
        };
        Self {
            id: seen.id,
            client: client(seen),
            route: seen.route.to_string(),
            upstream: upstream(seen),
            endpoint: endpoint(seen),
            host: host(seen),
            path: path(seen),
            age: seen.age.as_secs_f64(),
            idle: seen.idle.as_secs_f64(),
            messages: directions(seen.messages),
            bytes: directions(seen.bytes),
            rtt: SideRoundTrips { client: seconds(Side::Client), backend: seconds(Side::Backend) },
            protocol: protocol(seen).to_owned(),
            subprotocol: Some(subprotocol(seen)).filter(|name| !name.is_empty()),
            generation: seen.generation,
        }
    }
}
