//! One call into a script: selection of the VM, the call's context, and its outcome. The plugin selects the phase
//! and reports to the gateway.

use crate::call_context::{self, CallContext, Outcome, Subject};
use crate::http_call;
use crate::json;
use crate::limits::Limits;
use crate::phase::Phase;
use crate::script::Script;
use crate::script_error;
use crate::vm::{Step, Vm, VmGuard};
use mlua::{IntoLuaMulti, Lua, Table, Thread, Value};
use moongate_sdk::{CallError, CallResponse, Exchange, Fault, Response, worker};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::Deserializer;
use serde::ser::{Error as _, Serialize, Serializer};
use std::sync::Arc;

/// The maximum number of HTTP calls of a script in one phase of a request.
const MOST_CALLS: u32 = 32;

/// The maximum number of VMs; further workers share them.
const SLOTS: usize = 64;

/// A script with its VMs.
pub(crate) struct ScriptRunner {
    pub(crate) script: Arc<Script>,
    config: serde_json::Value,
    pub(crate) limits: Limits,
    /// Whether later phases of a request can read its `ctx`.
    remembers: bool,
    /// A VM for each worker, created on first use.
    slots: Box<[Slot]>,
}

/// Aligned to a cache line: every request of a worker takes its lock.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Option<Arc<Vm>>>);

/// State of a request between calls.
#[derive(Default)]
pub(crate) struct ScriptState {
    table: Option<RequestTable>,
    /// The table of another process, until the next call.
    saved: Option<serde_json::Value>,
    /// The part of the response's body that the script holds back.
    pub(crate) held: Vec<u8>,
}

/// The request's table, and its VM.
struct RequestTable {
    machine: Arc<Vm>,
    ctx: Table,
}

/// For another process that continues an open WebSocket. A table moves that has only plain values.
impl Serialize for ScriptState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.held.is_empty() {
            return Err(S::Error::custom("a body is held back"));
        }
        let table = match (&self.table, &self.saved) {
            (Some(RequestTable { machine, ctx }), _) => {
                let _guard = machine.guard.lock();
                Some(json::plain(&machine.lua, &Value::Table(ctx.clone())).map_err(S::Error::custom)?)
            }
            (None, saved) => saved.clone(),
        };
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ScriptState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { saved: Option::deserialize(deserializer)?, ..Self::default() })
    }
}

/// The outcome of a call into the script.
pub(crate) enum RunProgress {
    Done(Outcome),
    Waits(Box<PausedScript>),
}

/// A script suspended in `call`.
pub(crate) struct PausedScript {
    machine: Arc<Vm>,
    thread: Thread,
    number: u64,
    phase: Phase,
    outcome: Outcome,
    calls: u32,
}

/// A call that starts or resumes.
struct CallSetup {
    machine: Arc<Vm>,
    ctx: Option<Table>,
    /// The number of a call that resumes.
    number: Option<u64>,
    phase: Phase,
    outcome: Outcome,
    calls: u32,
}

impl ScriptRunner {
    /// `machine` has loaded the script; this worker uses it.
    pub(crate) fn new(
        script: Arc<Script>,
        config: serde_json::Value,
        limits: Limits,
        remembers: bool,
        machine: Vm,
    ) -> Self {
        let slots: Box<[Slot]> = (0..SLOTS).map(|_| Slot::default()).collect();
        *slots[worker() % SLOTS].0.lock() = Some(Arc::new(machine));
        Self { script, config, limits, remembers, slots }
    }

    /// This worker's VM.
    fn machine(&self) -> Result<Arc<Vm>, Fault> {
        let mut slot = self.slots[worker() % SLOTS].0.lock();
        if let Some(machine) = slot.as_ref().filter(|machine| !machine.is_stale()) {
            return Ok(Arc::clone(machine));
        }
        *slot = None;
        let machine = Vm::load(&self.script, &self.config, self.limits).map_err(Fault::new)?;
        Ok(Arc::clone(slot.insert(Arc::new(machine))))
    }

    pub(crate) fn fault(&self, error: &mlua::Error) -> Fault {
        Fault::new(script_error::text(&self.script.name, error))
    }

    /// Calls the script's function for `phase` with the arguments that `arguments` creates.
    pub(crate) fn run<G: IntoLuaMulti>(
        &self,
        phase: Phase,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
        arguments: impl FnOnce(&Lua, u64) -> mlua::Result<G>,
    ) -> Result<RunProgress, Fault> {
        let (table, saved) = if self.remembers {
            let state = exchange.movable_state::<ScriptState>();
            (state.table.take(), state.saved.take())
        } else {
            (None, None)
        };
        let (machine, ctx) = match (table, saved) {
            (Some(RequestTable { machine, ctx }), _) if !machine.is_spent() => (machine, Some(ctx)),
            (None, Some(saved)) => {
                let machine = self.machine()?;
                let guard = machine.guard.lock();
                let table = json::table(&machine.lua, &saved);
                let failed = |error| Fault::new(machine.failed(&self.script, self.limits, &error));
                let ctx = table.map_err(failed)?;
                drop(guard);
                (machine, Some(ctx))
            }
            _ => (self.machine()?, None),
        };
        let waits = self.script.waits && phase.may_wait();
        let setup = CallSetup { machine, ctx, number: None, phase, outcome: Outcome::default(), calls: 0 };
        self.enter(setup, exchange, subject, |machine, guard, number| {
            machine.call(guard, phase, waits, arguments(&machine.lua, number)?)
        })
    }

    /// Resumes a script that waited for `call_result`.
    fn resume(
        &self,
        paused: PausedScript,
        call_result: &Result<CallResponse, CallError>,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
    ) -> Result<RunProgress, Fault> {
        let PausedScript { machine, thread, number, phase, outcome, calls } = paused;
        let table = if self.remembers { exchange.movable_state::<ScriptState>().table.take() } else { None };
        let ctx = table.map(|table| table.ctx);
        let setup = CallSetup { machine, ctx, number: Some(number), phase, outcome, calls };
        self.enter(setup, exchange, subject, |machine, guard, _| {
            let results = http_call::results(&machine.lua, call_result)?;
            machine.resume(guard, thread, results)
        })
    }

    fn enter(
        &self,
        setup: CallSetup,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
        act: impl FnOnce(&Vm, &mut VmGuard, u64) -> mlua::Result<Step>,
    ) -> Result<RunProgress, Fault> {
        let CallSetup { machine, ctx, number, phase, outcome, calls } = setup;
        let mut guard = machine.guard.lock();
        let number = number.unwrap_or_else(|| guard.next());
        let mut context = CallContext { number, phase, exchange, subject, ctx, outcome };
        let step = call_context::run_in(&mut context, || act(&machine, &mut guard, number));
        let CallContext { ctx, outcome, exchange, .. } = context;
        let step = step.map_err(|error| machine.failed(&self.script, self.limits, &error));
        drop(guard);
        if self.remembers {
            let table = ctx.map(|ctx| RequestTable { machine: Arc::clone(&machine), ctx });
            exchange.movable_state::<ScriptState>().table = table;
        }
        match step.map_err(Fault::new)? {
            Step::Returned if outcome.call.is_none() => Ok(RunProgress::Done(outcome)),
            Step::Returned => Err(self.fault(&http_call::in_a_coroutine())),
            Step::Yielded(thread) => Ok(RunProgress::Waits(Box::new(PausedScript {
                machine,
                thread,
                number,
                phase,
                outcome,
                calls,
            }))),
        }
    }

    /// Awaits the script's HTTP calls, one after another, until it ends.
    pub(crate) async fn wait(
        &self,
        paused: Box<PausedScript>,
        exchange: &mut Exchange<'_>,
        mut response: Option<&mut Response<'_>>,
    ) -> Result<Outcome, Fault> {
        let mut paused = paused;
        loop {
            paused.calls += 1;
            if paused.calls > MOST_CALLS {
                let name = &self.script.name;
                return Err(Fault::new(format!("{name}: more than {MOST_CALLS} calls for one request")));
            }
            let Some(mut call) = paused.outcome.call.take() else {
                let name = &self.script.name;
                return Err(Fault::new(format!("{name}: the script yielded outside `call`")));
            };
            call.limit = self.limits.body;
            let call_result = exchange.services.call(*call).await;
            let subject = match response.as_deref_mut() {
                Some(response) => Subject::Response(response),
                None => Subject::Request,
            };
            match self.resume(*paused, &call_result, exchange, subject)? {
                RunProgress::Done(outcome) => return Ok(outcome),
                RunProgress::Waits(again) => paused = again,
            }
        }
    }
}
