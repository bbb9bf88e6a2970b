//! The host's state of one instance: its contexts, the visible request, and its decisions.

use crate::engine::Budget;
use crate::logs::Logs;
use crate::metrics::Ledger;
use crate::module_settings::ModuleSettings;
use crate::shared_data::SharedData;
use crate::status::{Status, Stop};
use bytes::Bytes;
use foldhash::fast::FixedState;
use moongate_sdk::{CallFuture, CallResponse, Reply, Services};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Memory, ResourceLimiter, TypedFunc};

/// The root context in every instance.
pub(crate) const ROOT: u32 = 1;

/// The maximum number of entries in a module's tables.
const TABLE: usize = 100_000;

/// State shared by all instances of an entry.
pub(crate) struct Shared {
    pub(crate) settings: ModuleSettings,
    pub(crate) logs: Logs,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) data: Arc<SharedData>,
    /// Notifies the timer task that an instance has a new tick period.
    pub(crate) ticks: tokio::sync::Notify,
}

/// The subject of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No request: a start, a tick, the response to an HTTP call.
    NoRequest,
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Message,
    Log,
}

/// Buffers that a module can read and replace; the numbers are proxy-wasm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    DownstreamData = 2,
    UpstreamData = 3,
    CallBody = 4,
    VmConfiguration = 6,
    PluginConfiguration = 7,
}

/// A path and its value.
pub(crate) type Property = (Box<[u8]>, Box<[u8]>);

/// The context of a stream.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Properties that the module set with `proxy_set_property`.
    pub(crate) properties: Vec<Property>,
    /// The stream is over, and the module has delayed its deletion.
    pub(crate) lingers: bool,
}

/// A callback's decisions besides its action.
#[derive(Default)]
pub(crate) struct Outcome {
    /// It responded.
    pub(crate) reply: Option<Box<Reply>>,
    /// It resumes the stream.
    pub(crate) resumed: bool,
    /// It closes the WebSocket.
    pub(crate) close: Option<(u16, Cow<'static, str>)>,
    /// HTTP calls that it started, by their numbers.
    pub(crate) calls: Vec<(u32, CallFuture)>,
}

/// A module's memory and its allocator.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) allocate: TypedFunc<i32, i32>,
}

/// One instance.
pub(crate) struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) guest: Option<Guest>,
    pub(crate) contexts: HashMap<u32, Context, FixedState>,
    /// The effective context of the module's calls.
    pub(crate) effective: u32,
    /// The stream whose request is visible; 0 for none.
    pub(crate) stream: u32,
    pub(crate) phase: Phase,
    /// The visible body or message, and whether it was replaced.
    pub(crate) body: Option<(Buffer, Bytes)>,
    /// The gateway's services, in a callback without a request.
    pub(crate) services: Option<Arc<dyn Services>>,
    /// The response to an HTTP call of the module.
    pub(crate) call_response: Option<CallResponse>,
    pub(crate) outcome: Outcome,
    /// The number of HTTP calls so far, for their IDs.
    pub(crate) calls: u32,
    /// Every pending HTTP call holds a clone.
    pub(crate) outstanding: Arc<()>,
    /// Delayed contexts that the module is done with.
    pub(crate) done: Vec<u32>,
    pub(crate) tick: Option<Duration>,
    pub(crate) budget: Budget,
    pub(crate) limiter: Limiter,
    pub(crate) scratch: Vec<u8>,
    /// Output of the module without a final line break.
    pub(crate) lines: [Vec<u8>; 2],
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let limiter = Limiter { memory: shared.settings.memory };
        let budget = Budget::new(shared.settings.cpu);
        let mut contexts = HashMap::with_hasher(FixedState::default());
        contexts.insert(ROOT, Context::default());
        Self {
            shared,
            guest: None,
            contexts,
            effective: ROOT,
            stream: 0,
            phase: Phase::NoRequest,
            body: None,
            services: None,
            call_response: None,
            outcome: Outcome::default(),
            calls: 0,
            outstanding: Arc::new(()),
            done: Vec::new(),
            tick: None,
            budget,
            limiter,
            scratch: Vec::new(),
            lines: [Vec::new(), Vec::new()],
        }
    }

    /// The module's memory; `None` while its start function runs.
    pub(crate) fn guest(&self) -> Result<&Guest, Stop> {
        self.guest.as_ref().ok_or(Stop::Status(Status::InvalidMemoryAccess))
    }

    /// Whether the effective context is the stream whose request is visible.
    pub(crate) fn sees_request(&self) -> bool {
        self.stream != 0 && self.effective == self.stream
    }

    /// The bytes of a buffer, while it is visible.
    pub(crate) fn buffer(&self, number: i32) -> Option<&[u8]> {
        if let Some((buffer, bytes)) = &self.body
            && *buffer as i32 == number
        {
            return Some(bytes);
        }
        if number == Buffer::CallBody as i32 {
            return self.call_response.as_ref().map(|response| &*response.body);
        }
        if number == Buffer::PluginConfiguration as i32 {
            return Some(&self.shared.settings.config);
        }
        (number == Buffer::VmConfiguration as i32).then_some(&[])
    }

    pub(crate) fn log(&self, level: log::Level, text: &[u8]) {
        self.shared.logs.write(&self.shared.settings.name, level, text);
    }
}

/// Limits on the growth of an instance.
pub(crate) struct Limiter {
    memory: usize,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.memory)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }
}
