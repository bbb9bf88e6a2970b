//! One viewer's stream of the live view: first everything, then what changed.

use super::rows::{EndpointRow, FlowRow};
use super::sampler::{INTERVAL, Sample};
use crate::server::admin::query::Query;
use crate::server::admin::response::{EventSource, put_event};
use crate::server::admin::socket_list::SocketQuery;
use crate::server::admin::{Admin, log_lines};
use async_trait::async_trait;
use http::HeaderMap;
use serde::Serialize;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The part of its time that a stream may take for the list of sockets: 1 in this many.
const SOCKET_LIST_PART: u32 = 200;

/// What a viewer watches.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    overview: bool,
    upstreams: bool,
    sockets: Option<SocketQuery>,
    reloads: bool,
    logs: Vec<log_lines::Follower>,
}

impl Sections {
    /// Reads the query parameters.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(in crate::server::admin) fn read(query: &Query) -> Result<Self, String> {
        let mut sections = Self::default();
        for name in query.get("sections").unwrap_or("overview").split(',').filter(|name| !name.is_empty()) {
            match name {
                "overview" => sections.overview = true,
                "upstreams" => sections.upstreams = true,
                "sockets" => sections.sockets = Some(SocketQuery::read(query)?),
                "reloads" => sections.reloads = true,
                "log" => sections.logs = log_lines::followers(query)?,
                other => {
                    return Err(format!(
                        "unknown section `{other}`; the sections are overview, upstreams, sockets, reloads and log"
                    ));
                }
            }
        }
        Ok(sections)
    }
}

/// The stream of one viewer.
pub(crate) struct LiveStream {
    admin: Arc<Admin>,
    /// The fields of the request, whose token or session must stay valid.
    fields: HeaderMap,
    sections: Sections,
    next: Instant,
    has_begun: bool,
    endpoints: SentRows<EndpointRow>,
    flows: SentRows<FlowRow>,
    /// The number of points that were sent.
    points: u64,
    reloads: u64,
    generations: String,
    generations_due: Instant,
    /// When the list of sockets is due.
    sockets_due: Instant,
}

/// A row with a name.
trait KeyedRow {
    fn name(&self) -> (Arc<str>, Arc<str>);
}

impl KeyedRow for EndpointRow {
    fn name(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.upstream), Arc::clone(&self.endpoint))
    }
}

impl KeyedRow for FlowRow {
    fn name(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.route), Arc::clone(&self.upstream))
    }
}

/// The rows that a viewer has.
struct SentRows<R> {
    rows: HashMap<(Arc<str>, Arc<str>), R>,
    has_any: bool,
}

impl<R> Default for SentRows<R> {
    fn default() -> Self {
        Self { rows: HashMap::new(), has_any: false }
    }
}

#[derive(Serialize)]
struct Update<'a, R> {
    reset: bool,
    rows: Vec<&'a R>,
    gone: Vec<(Arc<str>, Arc<str>)>,
}

impl<R: KeyedRow + Clone + PartialEq + Serialize> SentRows<R> {
    /// Appends an event with what changed, unless nothing did.
    fn update(&mut self, rows: &[R], event: &str, out: &mut String) {
        let changed: Vec<&R> =
            rows.iter().filter(|row| self.rows.get(&row.name()).is_none_or(|known| known != *row)).collect();
        let present: HashSet<_> = rows.iter().map(KeyedRow::name).collect();
        let gone: Vec<_> = self.rows.keys().filter(|name| !present.contains(*name)).cloned().collect();
        if self.has_any && changed.is_empty() && gone.is_empty() {
            return;
        }
        for name in &gone {
            self.rows.remove(name);
        }
        for row in &changed {
            self.rows.insert(row.name(), (*row).clone());
        }
        put_event(out, event, &Update { reset: !self.has_any, rows: changed, gone });
        self.has_any = true;
    }
}

impl LiveStream {
    pub(in crate::server::admin) fn new(admin: Arc<Admin>, sections: Sections, fields: &HeaderMap) -> Self {
        let now = Instant::now();
        Self {
            admin,
            fields: fields.clone(),
            generations_due: now,
            sections,
            next: now,
            has_begun: false,
            endpoints: SentRows::default(),
            flows: SentRows::default(),
            points: 0,
            reloads: 0,
            generations: String::new(),
            sockets_due: now,
        }
    }

    fn events(&mut self) -> String {
        let mut out = String::new();
        let admin = Arc::clone(&self.admin);
        if !self.has_begun {
            self.has_begun = true;
            put_event(&mut out, "hello", &admin.hello());
            if self.sections.overview {
                put_event(&mut out, "history", &admin.live.history.whole());
                self.points = admin.live.history.number();
            }
        }
        if self.sections.overview || self.sections.upstreams {
            let sample = admin.live.sampler.sample(&*admin.state, &admin.live.history);
            if let Some(sample) = sample {
                self.put_sample(&sample, &mut out);
            }
        }
        if self.sections.reloads {
            self.put_reloads(&admin, &mut out);
        }
        for follower in &mut self.sections.logs {
            if let Some(lines) = follower.next() {
                put_event(&mut out, "log", &lines);
            }
        }
        self.put_sockets(&admin, &mut out);
        out
    }

    fn put_sample(&mut self, sample: &Sample, out: &mut String) {
        if self.sections.overview {
            put_event(out, "overview", &sample.overview);
            let history = &self.admin.live.history;
            if self.points != history.number()
                && let Some(point) = history.last()
            {
                self.points = history.number();
                put_event(out, "point", &point);
            }
        }
        if self.sections.upstreams {
            self.endpoints.update(&sample.endpoints, "upstreams", out);
            self.flows.update(&sample.flows, "flows", out);
        }
    }

    fn put_reloads(&mut self, admin: &Admin, out: &mut String) {
        let reloads = admin.state.reloads();
        if self.reloads != reloads.count() {
            self.reloads = reloads.count();
            put_event(out, "reloads", &json!({ "entries": reloads.entries() }));
        }
        let now = Instant::now();
        if now < self.generations_due {
            return;
        }
        let generations = json!(admin.state.tunnels().generations());
        // As for the list of sockets.
        self.generations_due = now + now.elapsed() * SOCKET_LIST_PART;
        let text = generations.to_string();
        if text != self.generations {
            put_event(out, "generations", &generations);
            self.generations = text;
        }
    }

    /// Appends the list of sockets, if it is due: iterating over many takes time, which is bounded to a part of all.
    fn put_sockets(&mut self, admin: &Admin, out: &mut String) {
        let Some(query) = &self.sections.sockets else { return };
        let began = Instant::now();
        if began < self.sockets_due {
            return;
        }
        put_event(out, "sockets", &query.list(admin.state.tunnels()));
        self.sockets_due =
            began + (began.elapsed() * SOCKET_LIST_PART).max(INTERVAL - Duration::from_millis(50));
    }
}

#[async_trait]
impl EventSource for LiveStream {
    async fn next(&mut self) -> Option<String> {
        sleep_until(self.next).await;
        self.next = Instant::now() + INTERVAL;
        // A session may have ended meanwhile.
        self.admin.may_continue(&self.fields).then(|| self.events())
    }
}
