//! A sandboxed, limited Luau VM with a loaded script, replaced after it ran out of memory.

use crate::cpu_limit::Clock;
use crate::handles;
use crate::json;
use crate::limits::Limits;
use crate::phase::{DefinedPhases, Phase};
use crate::script::Script;
use crate::script_error;
use crate::standard_library;
use mlua::chunk::ChunkMode;
use mlua::thread::ThreadStatus;
use mlua::{Error, Function, IntoLuaMulti, Lua, LuaOptions, MultiValue, StdLib, Thread, Value, VmState};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Luau globals that a script does not need, or could do harm with.
const WITHOUT: [&str; 6] = ["collectgarbage", "loadstring", "require", "getfenv", "setfenv", "newproxy"];

/// One VM. Threads use it one at a time, by the lock `guard`.
pub(crate) struct Vm {
    pub(crate) lua: Lua,
    pub(crate) clock: Arc<Clock>,
    pub(crate) guard: Mutex<VmGuard>,
    functions: [Option<Function>; Phase::ALL.len()],
    /// It ran out of time or memory: the next request gets another VM.
    stale: AtomicBool,
    /// The VM ran out of memory: even a request with a `ctx` table in it gets another VM.
    spent: AtomicBool,
}

/// State that changes with each call.
#[derive(Default)]
pub(crate) struct VmGuard {
    calls: u64,
    /// A finished coroutine, for reuse by the next call.
    idle: Option<Thread>,
}

/// The outcome of a call into the script.
pub(crate) enum Step {
    Returned,
    Yielded(Thread),
}

impl Vm {
    /// Loads the script: its top level runs here, under the same limits as its functions.
    ///
    /// # Errors
    /// The script's error, as text.
    pub(crate) fn load(
        script: &Arc<Script>,
        config: &serde_json::Value,
        limits: Limits,
    ) -> Result<Self, String> {
        let clock = Arc::new(Clock::new(limits.time));
        let build = || -> mlua::Result<(Lua, [Option<Function>; Phase::ALL.len()])> {
            let lua = state(script, config, limits, &clock)?;
            let chunk = lua.load(&script.bytecode[..]).set_name(format!("@{}", script.name));
            chunk.set_mode(ChunkMode::Binary).exec()?;
            let functions = functions(&lua)?;
            Ok((lua, functions))
        };
        clock.start();
        let (lua, functions) = build().map_err(|error| failed(script, &clock, limits, &error))?;
        let (stale, spent) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { lua, clock, guard: Mutex::default(), functions, stale, spent })
    }

    /// The phases for which the script has functions.
    pub(crate) fn defined(&self) -> DefinedPhases {
        DefinedPhases(Phase::ALL.map(|phase| self.functions[phase as usize].is_some()))
    }

    /// The names of all functions that the script defines.
    pub(crate) fn globals(&self) -> Vec<String> {
        let globals = self.lua.globals();
        let pairs = globals.pairs::<String, Value>();
        pairs.flatten().filter(|(_, value)| value.is_function()).map(|(name, _)| name).collect()
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Relaxed)
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Relaxed)
    }

    /// The error as text; marks the VM if it must be replaced.
    pub(crate) fn failed(&self, script: &Script, limits: Limits, error: &Error) -> String {
        let spent = script_error::out_of_memory(error);
        self.spent.fetch_or(spent, Relaxed);
        self.stale.fetch_or(spent || self.clock.ran_over(), Relaxed);
        failed(script, &self.clock, limits, error)
    }

    /// Calls the function of `phase`, in a coroutine if it `waits`.
    pub(crate) fn call(
        &self,
        guard: &mut VmGuard,
        phase: Phase,
        waits: bool,
        arguments: impl IntoLuaMulti,
    ) -> mlua::Result<Step> {
        let Some(function) = &self.functions[phase as usize] else { return Ok(Step::Returned) };
        self.clock.start();
        if !waits {
            return function.call::<()>(arguments).map(|()| Step::Returned);
        }
        let thread = match guard.idle.take() {
            Some(idle) => {
                idle.reset(function.clone())?;
                idle
            }
            None => self.lua.create_thread(function.clone())?,
        };
        Self::resume_thread(guard, thread, arguments)
    }

    /// Resumes a coroutine.
    pub(crate) fn resume(
        &self,
        guard: &mut VmGuard,
        thread: Thread,
        arguments: impl IntoLuaMulti,
    ) -> mlua::Result<Step> {
        self.clock.start();
        Self::resume_thread(guard, thread, arguments)
    }

    fn resume_thread(
        guard: &mut VmGuard,
        thread: Thread,
        arguments: impl IntoLuaMulti,
    ) -> mlua::Result<Step> {
        thread.resume::<MultiValue>(arguments)?;
        if thread.status() == ThreadStatus::Resumable {
            return Ok(Step::Yielded(thread));
        }
        guard.idle = Some(thread);
        Ok(Step::Returned)
    }
}

impl VmGuard {
    /// Starts a call and returns its number.
    pub(crate) fn next(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }
}

/// A VM with everything that a script may use.
fn state(
    script: &Arc<Script>,
    config: &serde_json::Value,
    limits: Limits,
    clock: &Arc<Clock>,
) -> mlua::Result<Lua> {
    let libraries = StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::BIT
        | StdLib::MATH
        | StdLib::BUFFER
        | StdLib::COROUTINE
        | StdLib::OS;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    lua.set_memory_limit(limits.memory)?;
    let globals = lua.globals();
    for name in WITHOUT {
        globals.set(name, Value::Nil)?;
    }
    standard_library::install(&lua, script, clock)?;
    handles::install(&lua, script)?;
    globals.set("config", json::constant(&lua, config)?)?;
    drop(globals);
    lua.sandbox(true)?;
    let asked = Arc::clone(clock);
    lua.set_interrupt(move |lua| match asked.tick() {
        false => Ok(VmState::Continue),
        // The stack trace contains the line.
        true => Err(Error::runtime(lua.traceback(Some("it ran too long"), 0)?.to_string_lossy())),
    });
    Ok(lua)
}

fn functions(lua: &Lua) -> mlua::Result<[Option<Function>; Phase::ALL.len()]> {
    let globals = lua.globals();
    let mut functions = Phase::ALL.map(|_| None);
    for phase in Phase::ALL {
        functions[phase as usize] = match globals.get(phase.name())? {
            Value::Function(function) => Some(function),
            Value::Nil => None,
            other => {
                let name = phase.name();
                let kind = if other.is_integer() { "number" } else { other.type_name() };
                return Err(Error::runtime(format!("`{name}` is a {kind}, not a function")));
            }
        };
    }
    Ok(functions)
}

fn failed(script: &Script, clock: &Clock, limits: Limits, error: &Error) -> String {
    let at = || match script_error::line_of(&script.name, error) {
        Some(line) => format!("{}:{line}", script.name),
        None => script.name.to_string(),
    };
    if clock.ran_over() {
        return format!("{}: the call ran longer than {:?}", at(), limits.time);
    }
    if script_error::out_of_memory(error) {
        return format!("{}: the call needed more than {} KiB of memory", at(), limits.memory >> 10);
    }
    script_error::text(&script.name, error)
}
