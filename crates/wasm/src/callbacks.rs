//! Calls into a module, named after proxy-wasm's callbacks. The instance handles locks and failures.

use crate::engine::{self, Budget, LONGEST};
use crate::exports::{Export, Exports};
use crate::host::Guest;
use crate::host::{Buffer, Context, Host, Phase, ROOT, Shared};
use crate::module::{Abi, CompiledModule};
use bytes::Bytes;
use moongate_sdk::{CallError, CallResponse};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Store, UpdateDeadline, WasmParams, WasmResults};

/// The maximum number of contexts that a module may keep beyond their streams.
const LINGERING: usize = 1_000;

/// The number of streams after which an instance is replaced, to bound a module's leaks.
const STREAMS: u32 = 1 << 20;

/// The state that the lock protects.
pub(crate) struct Core {
    pub(crate) store: Store<Host>,
    exports: Exports,
    abi: Abi,
    streams: u32,
    /// Bytes of memory beyond which it is replaced.
    full: usize,
}

/// Whether a stream continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Continue,
    Pause,
}

impl Core {
    pub(crate) fn start(program: &CompiledModule, shared: &Arc<Shared>) -> wasmtime::Result<Self> {
        let mut store = Store::new(program.engine(), Host::new(shared.clone()));
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(|mut context| {
            let spent = context.data_mut().budget.is_spent();
            Ok(if spent { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        begin(&mut store, LONGEST);
        let instance = program.ready().instantiate(&mut store)?;
        let memory = instance.get_memory(&mut store, "memory");
        let memory = memory.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .into_iter()
            .find(|name| program.has(name))
            .ok_or_else(|| wasmtime::Error::msg("the module exports no allocator"))?;
        let allocate = instance.get_typed_func(&mut store, allocate)?;
        store.data_mut().guest = Some(Guest { memory, allocate });
        let exports = Exports::of(&mut store, &instance, program)?;
        for name in ["_initialize", "_start"] {
            if program.has(name) {
                instance.get_typed_func::<(), ()>(&mut store, name)?.call(&mut store, ())?;
                break;
            }
        }
        if program.has("_initialize")
            && let Ok(main) = instance.get_typed_func::<(i32, i32), i32>(&mut store, "main")
        {
            main.call(&mut store, (0, 0))?;
        }
        let mut core = Self { store, exports, abi: program.abi(), streams: 0, full: usize::MAX };
        core.configure()?;
        core.full = full(memory.data_size(&core.store), shared.settings.memory);
        Ok(core)
    }

    fn configure(&mut self) -> wasmtime::Result<()> {
        let size = i32::try_from(self.store.data().shared.settings.config.len())?;
        self.call(|exports| &exports.context_create, (ROOT.cast_signed(), 0))?;
        if self.call(|exports| &exports.vm_start, (ROOT.cast_signed(), 0))? == Some(0) {
            return Err(wasmtime::Error::msg("`proxy_on_vm_start` returned false"));
        }
        if self.call(|exports| &exports.configure, (ROOT.cast_signed(), size))? == Some(0) {
            return Err(wasmtime::Error::msg("`proxy_on_configure` returned false"));
        }
        Ok(())
    }

    pub(crate) fn prepare(
        &mut self,
        phase: Phase,
        stream: u32,
        body: Option<(Buffer, Bytes)>,
        budget: Duration,
    ) {
        begin(&mut self.store, budget);
        let host = self.store.data_mut();
        (host.phase, host.stream, host.body) = (phase, stream, body);
        host.effective = if stream == 0 { ROOT } else { stream };
    }

    /// Calls an export; `None` when the module has none.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        export: impl FnOnce(&Exports) -> &Export<P, R>,
        parameters: P,
    ) -> wasmtime::Result<Option<R>> {
        export(&self.exports).as_ref().map(|export| export.call(&mut self.store, parameters)).transpose()
    }

    pub(crate) fn begin(&mut self) -> wasmtime::Result<(u32, bool)> {
        self.streams += 1;
        let id = ROOT + self.streams;
        let host = self.store.data_mut();
        host.contexts.insert(id, Context::default());
        host.effective = id;
        self.call(|exports| &exports.context_create, (id.cast_signed(), ROOT.cast_signed()))?;
        let size = self.store.data().guest.as_ref().map(|guest| guest.memory);
        let size = size.map_or(0, |memory| memory.data_size(&self.store));
        Ok((id, self.streams >= STREAMS || size > self.full))
    }

    pub(crate) fn finish(&mut self, id: u32) -> wasmtime::Result<()> {
        if !self.store.data().contexts.contains_key(&id) {
            return Ok(());
        }
        let waits = self.call(|exports| &exports.done, id.cast_signed())? == Some(0);
        let host = self.store.data_mut();
        if waits && host.contexts.values().filter(|context| context.lingers).count() < LINGERING {
            if let Some(context) = host.contexts.get_mut(&id) {
                context.lingers = true;
            }
            return Ok(());
        }
        self.call(|exports| &exports.log, id.cast_signed())?;
        self.delete(id)
    }

    fn delete(&mut self, id: u32) -> wasmtime::Result<()> {
        self.call(|exports| &exports.delete, id.cast_signed())?;
        self.store.data_mut().contexts.remove(&id);
        Ok(())
    }

    /// Deletes the contexts that the module is done with.
    pub(crate) fn delete_done_contexts(&mut self) -> wasmtime::Result<()> {
        while let Some(id) = self.store.data_mut().done.pop() {
            if self.store.data().contexts.contains_key(&id) {
                self.call(|exports| &exports.log, id.cast_signed())?;
                self.delete(id)?;
            }
        }
        Ok(())
    }

    /// `proxy_on_request_headers`.
    pub(crate) fn request_headers(&mut self, id: u32, fields: usize, ends: bool) -> wasmtime::Result<Action> {
        let (id, fields) = (id.cast_signed(), i32::try_from(fields)?);
        let action = match self.abi {
            Abi::V0_1 => self.call(|exports| &exports.request_headers_0_1, (id, fields))?,
            Abi::V0_2 => self.call(|exports| &exports.request_headers, (id, fields, ends.into()))?,
        };
        Ok(Action::of(action))
    }

    /// `proxy_on_response_headers`.
    pub(crate) fn response_headers(
        &mut self,
        id: u32,
        fields: usize,
        ends: bool,
    ) -> wasmtime::Result<Action> {
        let (id, fields) = (id.cast_signed(), i32::try_from(fields)?);
        let action = match self.abi {
            Abi::V0_1 => self.call(|exports| &exports.response_headers_0_1, (id, fields))?,
            Abi::V0_2 => self.call(|exports| &exports.response_headers, (id, fields, ends.into()))?,
        };
        Ok(Action::of(action))
    }

    /// `proxy_on_request_body` and similar: this many bytes are in the buffer.
    pub(crate) fn data(
        &mut self,
        buffer: Buffer,
        id: u32,
        size: usize,
        ends: bool,
    ) -> wasmtime::Result<Action> {
        let parameters = (id.cast_signed(), i32::try_from(size)?, ends.into());
        let action = self.call(
            |exports| match buffer {
                Buffer::RequestBody => &exports.request_body,
                Buffer::ResponseBody => &exports.response_body,
                Buffer::DownstreamData => &exports.downstream_data,
                _ => &exports.upstream_data,
            },
            parameters,
        )?;
        Ok(Action::of(action))
    }

    /// `proxy_on_new_connection`.
    pub(crate) fn connected(&mut self, id: u32) -> wasmtime::Result<()> {
        self.call(|exports| &exports.new_connection, id.cast_signed()).map(drop)
    }

    /// `proxy_on_downstream_connection_close` and `proxy_on_upstream_connection_close`.
    pub(crate) fn disconnected(&mut self, id: u32) -> wasmtime::Result<()> {
        self.call(|exports| &exports.downstream_close, (id.cast_signed(), 0))?;
        self.call(|exports| &exports.upstream_close, (id.cast_signed(), 0)).map(drop)
    }

    /// `proxy_on_http_call_response`.
    pub(crate) fn http_call_response(
        &mut self,
        number: u32,
        result: Result<CallResponse, CallError>,
    ) -> wasmtime::Result<()> {
        let host = self.store.data_mut();
        host.effective = ROOT;
        let (mut fields, mut size) = (0, 0);
        match result {
            Ok(response) => {
                (fields, size) =
                    (i32::try_from(response.headers.len() + 1)?, i32::try_from(response.body.len())?);
                host.call_response = Some(response);
            }
            Err(error) => host.log(log::Level::Debug, format!("an HTTP call failed: {error}").as_bytes()),
        }
        self.call(
            |exports| &exports.call_response,
            (ROOT.cast_signed(), number.cast_signed(), fields, size, 0),
        )
        .map(drop)
    }

    /// `proxy_on_tick`.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<()> {
        self.call(|exports| &exports.tick, ROOT.cast_signed()).map(drop)
    }
}

impl Action {
    fn of(number: Option<i32>) -> Self {
        if number.unwrap_or(0) == 0 { Self::Continue } else { Self::Pause }
    }
}

/// Starts the clock of a callback.
fn begin(store: &mut Store<Host>, budget: Duration) {
    engine::awake();
    store.set_epoch_deadline(1);
    store.data_mut().budget = Budget::new(budget);
}

/// The memory beyond which an instance is replaced: three quarters of its limit, or all of it if the module needs
/// that much at startup.
fn full(now: usize, limit: usize) -> usize {
    let quarters = limit / 4 * 3;
    if now > quarters { limit } else { quarters }
}
