//! One instance of a module, which runs one callback at a time.
//!
//! An instance is locked only during a callback. After a trap or a timeout an instance is dead: its state is
//! invalid, and [`Instance::is_dead`] stays true.

use crate::callbacks::Core;
use crate::host::{Buffer, Outcome, Phase, Shared};
use crate::module::{CompiledModule, first_line};
use crate::request_scope::{self, RequestScope};
use bytes::Bytes;
use moongate_sdk::{Fault, Services};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime::Trap;

/// An instance that several requests may use in turn.
pub(crate) struct Instance {
    core: Mutex<Core>,
    dead: AtomicBool,
    /// It accepts no new streams, and serves its existing ones to their end.
    retired: AtomicBool,
    /// It has served a stream to its end.
    proven: AtomicBool,
}

/// The data visible in a callback.
#[derive(Default)]
pub(crate) struct CallbackContext<'s> {
    /// The stream whose request is visible; 0 for none.
    pub(crate) stream: u32,
    pub(crate) scope: Option<&'s mut dyn RequestScope>,
    /// A body or message, readable and replaceable.
    pub(crate) body: Option<(Buffer, Bytes)>,
    /// For HTTP calls in a callback without a request.
    pub(crate) services: Option<&'s Arc<dyn Services>>,
}

/// The outcome of a callback.
pub(crate) struct CallbackResult<T> {
    pub(crate) value: T,
    pub(crate) outcome: Outcome,
    /// The body or message after the callback.
    pub(crate) body: Bytes,
}

impl Instance {
    /// Creates, starts and configures an instance.
    ///
    /// # Errors
    /// The instance cannot be created, traps, or rejects its configuration.
    pub(crate) fn start(program: &CompiledModule, shared: &Arc<Shared>) -> Result<Self, Fault> {
        let core = Core::start(program, shared).map_err(|error| fault(&error))?;
        let flag = AtomicBool::new;
        Ok(Self { core: Mutex::new(core), dead: flag(false), retired: flag(false), proven: flag(false) })
    }

    /// Runs `act` in the instance, with `context` visible.
    ///
    /// # Errors
    /// A trap or a timeout; the instance is then dead.
    pub(crate) fn run<T>(
        &self,
        phase: Phase,
        context: CallbackContext<'_>,
        act: impl FnOnce(&mut Core) -> wasmtime::Result<T>,
    ) -> Result<CallbackResult<T>, Fault> {
        let mut core = self.core.lock();
        if self.is_dead() {
            return Err(Fault::fixed("the instance of this request has ended"));
        }
        let budget = core.store.data().shared.settings.cpu;
        core.prepare(phase, context.stream, context.body, budget);
        core.store.data_mut().services = context.services.cloned();
        let result = request_scope::show(context.scope, || {
            let value = act(&mut core)?;
            core.delete_done_contexts()?;
            Ok(value)
        });
        let host = core.store.data_mut();
        host.call_response = None;
        host.services = None;
        let body = host.body.take().map_or_else(Bytes::new, |(_, bytes)| bytes);
        let outcome = std::mem::take(&mut host.outcome);
        match result {
            Ok(value) => Ok(CallbackResult { value, outcome, body }),
            Err(error) => {
                self.dead.store(true, Ordering::Relaxed);
                Err(fault(&error))
            }
        }
    }

    /// Starts a stream.
    ///
    /// # Errors
    /// As [`Instance::run`].
    pub(crate) fn begin(&self, scope: Option<&mut dyn RequestScope>) -> Result<u32, Fault> {
        let result =
            self.run(Phase::NoRequest, CallbackContext { scope, ..CallbackContext::default() }, Core::begin)?;
        let (stream, full) = result.value;
        if full {
            self.retired.store(true, Ordering::Relaxed);
        }
        Ok(stream)
    }

    /// Ends a stream; a failure affects only the instance.
    pub(crate) fn finish(&self, stream: u32, scope: Option<&mut dyn RequestScope>) {
        let context = CallbackContext { stream, scope, ..CallbackContext::default() };
        if self.run(Phase::Log, context, |core| core.finish(stream)).is_ok() {
            // Read first: the flag changes once, and all threads read it.
            if !self.proven.load(Ordering::Relaxed) {
                self.proven.store(true, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Whether it accepts new streams.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_dead() && !self.retired.load(Ordering::Relaxed)
    }

    /// Its tick period.
    pub(crate) fn tick_period(&self) -> Option<Duration> {
        if self.is_dead() { None } else { self.core.lock().store.data().tick }
    }
}

fn fault(error: &wasmtime::Error) -> Fault {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault::fixed("the callback exceeded `limits.cpu`"),
        Some(trap) => Fault::new(format!("the filter trapped: {trap}")),
        None => Fault::new(first_line(error)),
    }
}
