//! One call into a script: selection of the VM, the call's context, and its outcome. The plugin selects the phase
//! and reports to the gateway.

use crate::call_context::{self, Outcome, Scene, Subject};
use crate::http_call;
use crate::limits::Limits;
use crate::phase::Phase;
use crate::script::Script;
use crate::script_error;
use crate::vm::{Step, Vm, VmGuard};
use mlua::{IntoLuaMulti, Lua, Table, Thread};
use moongate_sdk::{CallError, CallResponse, Exchange, Fault, Response, worker};
use parking_lot::Mutex;
use std::sync::Arc;

/// The maximum number of HTTP calls of a script in one phase of a request.
const MOST_CALLS: u32 = 32;

/// How many states there are at most; workers beyond that share.
const SLOTS: usize = 64;

/// A script with its states.
pub(crate) struct ScriptRunner {
    pub(crate) script: Arc<Script>,
    config: serde_json::Value,
    pub(crate) limits: Limits,
    /// Whether a request can find again what it left in `ctx`.
    remembers: bool,
    /// A state for each worker, made when it is first needed.
    slots: Box<[Slot]>,
}

/// On a cache line of its own, for every request of a worker takes its lock.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Option<Arc<Vm>>>);

/// What is kept about a request from call to call.
#[derive(Default)]
pub(crate) struct Memory {
    kept: Option<RequestState>,
    /// The part of the response's body that the script holds back.
    pub(crate) held: Vec<u8>,
}

/// The request's table, and its VM.
struct RequestState {
    machine: Arc<Vm>,
    ctx: Table,
}

/// The outcome of a call into the script.
pub(crate) enum Played {
    Done(Outcome),
    Waits(Box<Paused>),
}

/// A script suspended in `call`.
pub(crate) struct Paused {
    machine: Arc<Vm>,
    thread: Thread,
    turn: u64,
    phase: Phase,
    outcome: Outcome,
    calls: u32,
}

/// The VM and the number of a call that resumes.
struct Entrance {
    machine: Arc<Vm>,
    ctx: Option<Table>,
    /// The number of a call that resumes.
    turn: Option<u64>,
    phase: Phase,
    outcome: Outcome,
    calls: u32,
}

impl ScriptRunner {
    /// `machine` is a state that the script has been loaded into; this worker goes on with it.
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

    /// This worker's state.
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

    /// Calls the script's function for `phase` with what `given` makes for this call.
    pub(crate) fn run<G: IntoLuaMulti>(
        &self,
        phase: Phase,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
        given: impl FnOnce(&Lua, u64) -> mlua::Result<G>,
    ) -> Result<Played, Fault> {
        let kept = if self.remembers { exchange.state::<Memory>().kept.take() } else { None };
        let (machine, ctx) = match kept {
            Some(RequestState { machine, ctx }) if !machine.is_spent() => (machine, Some(ctx)),
            _ => (self.machine()?, None),
        };
        let waits = self.script.waits && phase.may_wait();
        let entrance = Entrance { machine, ctx, turn: None, phase, outcome: Outcome::default(), calls: 0 };
        self.enter(entrance, exchange, subject, |machine, turn, number| {
            machine.call(turn, phase, waits, given(&machine.lua, number)?)
        })
    }

    /// Resumes a script that waited for `called`.
    fn resume(
        &self,
        paused: Paused,
        called: &Result<CallResponse, CallError>,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
    ) -> Result<Played, Fault> {
        let Paused { machine, thread, turn, phase, outcome, calls } = paused;
        let kept = if self.remembers { exchange.state::<Memory>().kept.take() } else { None };
        let ctx = kept.map(|kept| kept.ctx);
        let entrance = Entrance { machine, ctx, turn: Some(turn), phase, outcome, calls };
        self.enter(entrance, exchange, subject, |machine, turn, _| {
            let results = http_call::results(&machine.lua, called)?;
            machine.resume(turn, thread, results)
        })
    }

    fn enter(
        &self,
        entrance: Entrance,
        exchange: &mut Exchange<'_>,
        subject: Subject<'_, '_>,
        act: impl FnOnce(&Vm, &mut VmGuard, u64) -> mlua::Result<Step>,
    ) -> Result<Played, Fault> {
        let Entrance { machine, ctx, turn, phase, outcome, calls } = entrance;
        let mut turns = machine.turn.lock();
        let number = turn.unwrap_or_else(|| turns.next());
        let mut scene = Scene { turn: number, phase, exchange, subject, ctx, outcome };
        let step = call_context::play(&mut scene, || act(&machine, &mut turns, number));
        let Scene { ctx, outcome, exchange, .. } = scene;
        let step = step.map_err(|error| machine.failed(&self.script, self.limits, &error));
        drop(turns);
        if self.remembers {
            let kept = ctx.map(|ctx| RequestState { machine: Arc::clone(&machine), ctx });
            exchange.state::<Memory>().kept = kept;
        }
        match step.map_err(Fault::new)? {
            Step::Returned if outcome.call.is_none() => Ok(Played::Done(outcome)),
            Step::Returned => Err(self.fault(&http_call::in_a_coroutine())),
            Step::Yielded(thread) => {
                Ok(Played::Waits(Box::new(Paused { machine, thread, turn: number, phase, outcome, calls })))
            }
        }
    }

    /// Awaits the script's HTTP calls, one after another, until it ends.
    pub(crate) async fn wait(
        &self,
        paused: Box<Paused>,
        exchange: &mut Exchange<'_>,
        mut answer: Option<&mut Response<'_>>,
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
                return Err(Fault::new(format!("{name}: it yielded, but not in `call`")));
            };
            call.limit = self.limits.body;
            let called = exchange.services.call(*call).await;
            let subject = match answer.as_deref_mut() {
                Some(answer) => Subject::Answer(answer),
                None => Subject::Request,
            };
            match self.resume(*paused, &called, exchange, subject)? {
                Played::Done(outcome) => return Ok(outcome),
                Played::Waits(again) => paused = again,
            }
        }
    }
}
