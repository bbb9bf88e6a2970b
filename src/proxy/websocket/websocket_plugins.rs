//! Plugins of an open WebSocket: messages, end, and rechecks. Only the parts of the request that these
//! plugins may read are kept.

use super::tunnel_log::CloseLogFields;
use crate::plugin::{Chain, ChainVerdict, Entry, RecheckVerdict};
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::request::received_state::ReceivedState;
use crate::proxy::request::request_facts::{Received, RequestLine};
use crate::proxy::response::request_end;
use crate::snapshot::Route;
use crate::tunnel::{Inspector, Outcome, Recheck, RecheckFuture, Side};
use http::{HeaderMap, Method, Uri};
use moongate_sdk::{
    Direction, Exchange, Fields, Headers, Message, ReadOnlyHeaders, RequestState, SavedRequestState,
    Services, WebSocketEnd, saved_fields,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The plugins' hooks of a tunnel.
#[derive(Default)]
pub(in crate::proxy) struct TunnelPlugins {
    pub(in crate::proxy) inspector: Option<Box<dyn Inspector>>,
    pub(in crate::proxy) recheck: Option<Arc<dyn Recheck>>,
    /// The plugins' log fields when the tunnel has ended.
    pub(in crate::proxy) final_log_fields: Option<FinalLogFields>,
}

/// Set when the tunnel ends.
pub(in crate::proxy) type FinalLogFields = Arc<Mutex<Vec<CloseLogFields>>>;

impl TunnelPlugins {
    /// Takes the plugins' state of the request; its handshake phases are complete.
    pub(in crate::proxy) fn of(
        ctx: &mut Context,
        route: &Route,
        line: RequestLine<'_>,
        headers: &HeaderMap,
    ) -> Self {
        let chain = &route.chain;
        let questions: Vec<_> = chain.rechecks().filter(|(at, _)| !ctx.running.skips(*at)).collect();
        let inspects = chain.inspects_any() || !chain.skips_closed();
        if !inspects && questions.is_empty() {
            return Self::default();
        }
        let kept = Arc::new(PluginExchange::of(ctx, route, line));
        let recheck = recheck(ctx, chain, &kept, questions);
        let final_log_fields = inspects.then(FinalLogFields::default);
        let inspector = final_log_fields.clone().map(|final_log_fields| {
            let running = std::mem::take(&mut ctx.running);
            Box::new(Watch { kept, headers: headers.clone(), running, final_log_fields })
                as Box<dyn Inspector>
        });
        Self { inspector, recheck, final_log_fields }
    }
}

/// The rechecks of a raw relay, whose bytes and end no plugin sees.
pub(in crate::proxy) fn rechecks(
    ctx: &mut Context,
    route: &Route,
    line: RequestLine<'_>,
) -> Option<Arc<dyn Recheck>> {
    let chain = &route.chain;
    let questions: Vec<_> = chain.rechecks().filter(|(at, _)| !ctx.running.skips(*at)).collect();
    let kept = (!questions.is_empty()).then(|| Arc::new(PluginExchange::of(ctx, route, line)))?;
    recheck(ctx, chain, &kept, questions)
}

fn recheck(
    ctx: &mut Context,
    chain: &Chain,
    kept: &Arc<PluginExchange>,
    questions: Vec<(usize, Duration)>,
) -> Option<Arc<dyn Recheck>> {
    if questions.is_empty() {
        return None;
    }
    let headers = ctx.original_fields.take().map_or_else(HeaderMap::new, |original_fields| *original_fields);
    let running = Mutex::new(apart(ctx, chain, &questions));
    Some(Arc::new(Doubts { kept: Arc::clone(kept), questions, headers, running }))
}

/// The plugins of a tunnel, for another process.
#[derive(Clone, Deserialize, Serialize)]
pub(in crate::proxy) struct PluginsState {
    /// The positions of those that recheck.
    #[serde(default)]
    questions: Vec<usize>,
    /// Kind and name of each plugin of the chain, since positions have no meaning in another one.
    chain: Vec<(String, String)>,
    received: ReceivedState,
    method: String,
    uri: String,
    #[serde(with = "saved_fields")]
    headers: HeaderMap,
    running: SavedRequestState,
}

impl PluginsState {
    fn of(
        kept: &PluginExchange,
        headers: &HeaderMap,
        running: SavedRequestState,
    ) -> Option<serde_json::Value> {
        serde_json::to_value(Self {
            questions: kept.chain.rechecks().map(|(at, _)| at).collect(),
            chain: names(&kept.chain),
            received: kept.received.state(),
            method: kept.method.to_string(),
            uri: kept.uri.to_string(),
            headers: headers.clone(),
            running,
        })
        .ok()
    }

    /// The request and its state in this process; `None` if the route has other plugins now, or it is no request.
    fn restore(
        self,
        gateway: &Gateway,
        route: &Route,
    ) -> Option<(Arc<PluginExchange>, HeaderMap, RequestState)> {
        if self.chain != names(&route.chain) {
            return None;
        }
        let kept = PluginExchange {
            chain: Arc::clone(&route.chain),
            services: Arc::clone(&gateway.shared.services),
            received: Received::restore(self.received, gateway.shared.live.look().globals.client_prefix)?,
            method: self.method.parse().ok()?,
            uri: self.uri.parse().ok()?,
            route: Arc::clone(&route.name),
        };
        Some((Arc::new(kept), self.headers, RequestState::restore(self.running)))
    }
}

fn names(chain: &Chain) -> Vec<(String, String)> {
    chain.entries().iter().map(|entry| (entry.kind().to_owned(), entry.name().to_string())).collect()
}

impl TunnelPlugins {
    /// Continues the plugins of another process, which see messages of the directions `inspected`, by source side; `None`
    /// if the route has other plugins now. As after a reload, plugins that a WebSocket did not begin with see nothing of
    /// it.
    pub(in crate::proxy) fn restore(
        inspector: Option<PluginsState>,
        recheck: Option<PluginsState>,
        inspected: [bool; 2],
        gateway: &Gateway,
        route: &Route,
    ) -> Option<Self> {
        let mut plugins = Self::default();
        if let Some(state) = inspector {
            let (kept, headers, running) = state.restore(gateway, route)?;
            // Their settings may select another direction now.
            let directions = [Direction::ToBackend, Direction::ToClient];
            if directions.map(|direction| kept.chain.inspects(direction)) != inspected {
                return None;
            }
            let final_log_fields = FinalLogFields::default();
            plugins.final_log_fields = Some(Arc::clone(&final_log_fields));
            plugins.inspector = Some(Box::new(Watch { kept, headers, running, final_log_fields }));
        }
        if let Some(mut state) = recheck {
            let asked = std::mem::take(&mut state.questions);
            let (kept, headers, running) = state.restore(gateway, route)?;
            // Their settings may recheck no longer, or only now.
            if !kept.chain.rechecks().map(|(at, _)| at).eq(asked) {
                return None;
            }
            let questions = kept.chain.rechecks().filter(|(at, _)| !running.skips(*at)).collect();
            plugins.recheck =
                Some(Arc::new(Doubts { kept, questions, headers, running: Mutex::new(running) }));
        }
        Some(plugins)
    }
}

/// The state of rechecking plugins. A plugin with message phases starts with a new state there.
fn apart(ctx: &mut Context, chain: &Chain, questions: &[(usize, Duration)]) -> RequestState {
    let mut running = RequestState::default();
    if let Some(id) = ctx.running.known_request_id() {
        running.set_request_id(id.clone());
    }
    // Another process sees from it which plugins were left out.
    for (at, _) in chain.rechecks().filter(|(at, _)| ctx.running.skips(*at)) {
        running.skip(at);
    }
    for (at, _) in questions {
        if !is_called_later(&chain.entries()[*at]) {
            ctx.running.hand_over(*at, &mut running);
        }
    }
    running
}

/// Whether it sees the messages or the end of a WebSocket.
fn is_called_later(entry: &Entry) -> bool {
    let phases = entry.phases();
    phases.messages_to_backend || phases.messages_to_client || phases.closed
}

/// The kept parts of the request.
struct PluginExchange {
    chain: Arc<Chain>,
    services: Arc<dyn Services>,
    received: Received,
    method: Method,
    uri: Uri,
    route: Arc<str>,
}

impl PluginExchange {
    fn of(ctx: &Context, route: &Route, line: RequestLine<'_>) -> Self {
        Self {
            chain: Arc::clone(&route.chain),
            services: Arc::clone(&ctx.services),
            received: ctx.received.clone(),
            method: line.method.clone(),
            uri: line.uri.clone(),
            route: Arc::clone(&route.name),
        }
    }

    /// The handshake as plugins see it.
    fn exchange<'a>(&'a self, fields: &'a mut dyn Fields, running: &'a mut RequestState) -> Exchange<'a> {
        let line = RequestLine { method: &self.method, uri: &self.uri };
        Exchange {
            request: self.received.request(line, &self.route),
            headers: Headers::request(fields),
            running,
            services: &self.services,
        }
    }
}

/// Calls the plugins with messages and the end.
struct Watch {
    kept: Arc<PluginExchange>,
    /// The fields after the plugins' changes.
    headers: HeaderMap,
    running: RequestState,
    final_log_fields: FinalLogFields,
}

impl Watch {
    fn see<T>(&mut self, look: impl FnOnce(&Chain, &mut Exchange<'_>) -> T) -> T {
        let mut fields = ReadOnlyHeaders(&self.headers);
        look(&self.kept.chain, &mut self.kept.exchange(&mut fields, &mut self.running))
    }
}

impl Inspector for Watch {
    fn inspects(&self, from: Side) -> bool {
        self.kept.chain.inspects(match from {
            Side::Client => Direction::ToBackend,
            Side::Backend => Direction::ToClient,
        })
    }

    fn message(&mut self, message: &mut Message) -> ChainVerdict {
        self.see(|chain, exchange| chain.message(exchange, message))
    }

    fn ended(&mut self, outcome: &Outcome) {
        let ended = WebSocketEnd {
            code: outcome.code,
            reason: outcome.reason.token(),
            lifetime: outcome.lifetime,
            messages: outcome.messages,
            bytes: outcome.bytes,
        };
        self.see(|chain, exchange| chain.closed(exchange, &ended));
        *self.final_log_fields.lock() =
            CloseLogFields::all(&request_end::notes_of(&self.kept.chain, &self.running));
    }

    fn state(&mut self) -> Option<serde_json::Value> {
        let entries = self.kept.chain.entries();
        let running = self.running.save(|at| entries.get(at).is_some_and(|entry| is_called_later(entry)))?;
        PluginsState::of(&self.kept, &self.headers, running)
    }
}

/// Rechecks the original handshake. Its plugin state is separate from that of the message phases, since both
/// may run at once.
struct Doubts {
    kept: Arc<PluginExchange>,
    /// Positions in the chain, and intervals.
    questions: Vec<(usize, Duration)>,
    headers: HeaderMap,
    /// Taken during a recheck; only one runs at a time.
    running: Mutex<RequestState>,
}

impl Recheck for Doubts {
    fn intervals(&self) -> Vec<Duration> {
        self.questions.iter().map(|(_, every)| *every).collect()
    }

    fn ask(self: Arc<Self>, question: usize) -> RecheckFuture {
        Box::pin(async move {
            let Some((at, _)) = self.questions.get(question) else { return RecheckVerdict::Granted };
            let mut headers = self.headers.clone();
            let mut running = std::mem::take(&mut *self.running.lock());
            let exchange = &mut self.kept.exchange(&mut headers, &mut running);
            let standing = self.kept.chain.recheck(*at, exchange).await;
            *self.running.lock() = running;
            standing
        })
    }

    fn state(&self) -> Option<serde_json::Value> {
        let running =
            self.running.lock().save(|at| self.questions.iter().any(|(question, _)| *question == at))?;
        PluginsState::of(&self.kept, &self.headers, running)
    }
}
