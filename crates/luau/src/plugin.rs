//! The plugin: the arguments of each phase's function, and the mapping of its outcome to a verdict.

use crate::call_context::{self, Outcome, Subject};
use crate::handles::Handle;
use crate::invoke::{RunProgress, ScriptRunner, ScriptState};
use crate::limits::Limits;
use crate::phase::{DefinedPhases, Phase};
use crate::script::Script;
use crate::vm::Vm;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use moongate_config::Problem;
use moongate_sdk::{
    Exchange, Fault, Flow, Message, MessageVerdict, Phases, Piece, Plugin, Response, Verdict, WebSocketEnd,
    log_throttle,
};
use std::sync::Arc;
use std::time::Duration;

/// One configured script.
pub(crate) struct Luau {
    /// The entry's name, for the log.
    name: Box<str>,
    runner: ScriptRunner,
    defined: DefinedPhases,
    phases: Phases,
}

impl Luau {
    /// Runs the script's top level once, to learn which functions it defines.
    pub(crate) fn new(
        name: &str,
        script: Script,
        config: serde_json::Value,
        limits: Limits,
        recheck: Option<Duration>,
    ) -> Result<Self, Problem> {
        let script = Arc::new(script);
        let machine = Vm::load(&script, &config, limits).map_err(Problem::new)?;
        let defined = machine.defined();
        if defined == DefinedPhases::default() {
            return Err(nothing(&script, &machine));
        }
        let (phases, remembers) = (defined.phases(recheck), script.keeps && defined.remembers(recheck));
        let runner = ScriptRunner::new(script, config, limits, remembers, machine);
        Ok(Self { name: name.into(), runner, defined, phases })
    }

    pub(crate) fn phases_without_request_headers(&self) -> bool {
        !self.defined.has(Phase::RequestHeaders)
    }

    /// The verdict of the script on a request.
    fn request_verdict(&self, exchange: &Exchange<'_>, outcome: Outcome) -> Verdict {
        if let Some(reply) = outcome.reply {
            return Verdict::Respond(reply);
        }
        if outcome.skip_body || !self.defined.has(Phase::RequestBody) || !has_body(exchange) {
            return Verdict::Continue;
        }
        Verdict::Body(self.runner.limits.body as u64)
    }

    /// The outcome of a phase that never waits.
    fn done(&self, progress: Result<RunProgress, Fault>) -> Result<Outcome, Fault> {
        match progress? {
            RunProgress::Done(outcome) => Ok(outcome),
            RunProgress::Waits(_) => Err(self.runner.fault(&mlua::Error::runtime("the script yielded"))),
        }
    }

    /// Logs a fault that can no longer affect the request.
    fn too_late(&self, progress: Result<RunProgress, Fault>) {
        if let Err(fault) = self.done(progress)
            && log_throttle::admit(log::Level::Warn, "plugin failed", &[&self.name])
        {
            log::warn!(plugin = &*self.name, kind = "luau", fault:% = fault; "plugin failed");
        }
    }
}

impl Plugin for Luau {
    fn phases(&self) -> Phases {
        self.phases
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        if !self.defined.has(Phase::RequestHeaders) {
            return self.request_verdict(exchange, Outcome::default()).into();
        }
        let progress = self
            .runner
            .run(Phase::RequestHeaders, exchange, Subject::Request, |_, number| Ok(Handle::req(number)));
        match progress {
            Ok(RunProgress::Done(outcome)) => self.request_verdict(exchange, outcome).into(),
            Ok(RunProgress::Waits(paused)) => Flow::wait(async move {
                match self.runner.wait(paused, exchange, None).await {
                    Ok(outcome) => self.request_verdict(exchange, outcome),
                    Err(fault) => fault.into(),
                }
            }),
            Err(fault) => fault.into(),
        }
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let arguments = |_: &mlua::Lua, number| Ok((Handle::req(number), Handle::body(number)));
        let progress = self.runner.run(Phase::RequestBody, exchange, Subject::Piece(piece), arguments);
        match self.done(progress) {
            Ok(Outcome { reply: Some(reply), .. }) => Flow::Respond(reply),
            Ok(_) => Flow::Continue,
            Err(fault) => fault.into(),
        }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let verdict = |outcome: Outcome| match outcome.reply {
            Some(reply) => Verdict::Respond(reply),
            None => Verdict::Continue,
        };
        let arguments = |_: &mlua::Lua, number| Ok((Handle::req(number), Handle::res(number)));
        match self.runner.run(Phase::ResponseHeaders, exchange, Subject::Response(response), arguments) {
            Ok(RunProgress::Done(outcome)) => verdict(outcome).into(),
            Ok(RunProgress::Waits(paused)) => Flow::wait(async move {
                let waited = self.runner.wait(paused, exchange, Some(response)).await;
                waited.map_or_else(Verdict::from, verdict)
            }),
            Err(fault) => fault.into(),
        }
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let mut held = std::mem::take(&mut exchange.movable_state::<ScriptState>().held);
        if !held.is_empty() {
            held.extend_from_slice(&piece.bytes);
            piece.bytes = Bytes::from(held);
        }
        let arguments = |_: &mlua::Lua, number| Ok((Handle::req(number), Handle::body(number)));
        let progress = self.runner.run(Phase::ResponseBody, exchange, Subject::Piece(piece), arguments);
        let outcome = self.done(progress)?;
        if let Some(held) = outcome.held {
            if held.len() > self.runner.limits.body {
                let (name, limit) = (&self.runner.script.name, self.runner.limits.body);
                return Err(Fault::new(format!(
                    "{name}: the script held back more than {limit} bytes of a body"
                )));
            }
            exchange.movable_state::<ScriptState>().held = held.into();
        }
        Ok(())
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        let arguments = |_: &mlua::Lua, number| Ok((Handle::ws(number), Handle::msg(number)));
        let progress = self.runner.run(Phase::Message, exchange, Subject::Message(message), arguments);
        match self.done(progress) {
            Ok(outcome) => match outcome.verdict {
                call_context::ScriptMessageVerdict::Forward => MessageVerdict::Forward,
                call_context::ScriptMessageVerdict::Drop => MessageVerdict::Drop,
                call_context::ScriptMessageVerdict::Close(code, reason) => {
                    MessageVerdict::Close { code, reason: reason.into() }
                }
            },
            Err(fault) => MessageVerdict::Failed(fault),
        }
    }

    fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        let arguments = |lua: &mlua::Lua, number| {
            let table = lua.create_table()?;
            table.set("code", ended.code)?;
            table.set("reason", ended.reason)?;
            table.set("lifetime", ended.lifetime.as_secs_f64())?;
            let names = ["to_backend", "to_client"];
            table.set("messages", lua.create_table_from(names.into_iter().zip(ended.messages))?)?;
            table.set("bytes", lua.create_table_from(names.into_iter().zip(ended.bytes))?)?;
            Ok((Handle::ws(number), table))
        };
        let progress = self.runner.run(Phase::Closed, exchange, Subject::Request, arguments);
        self.too_late(progress);
    }

    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        let arguments = |_: &mlua::Lua, number| Ok((Handle::req(number), Handle::res(number)));
        let progress = self.runner.run(Phase::Log, exchange, Subject::Finished(status), arguments);
        self.too_late(progress);
    }
}

/// Whether the request can have a body (RFC 9112 §6.3); versions other than HTTP/1 need not announce one.
fn has_body(exchange: &Exchange<'_>) -> bool {
    let framing_fields = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    exchange.request.version > Version::HTTP_11
        || framing_fields.iter().any(|name| exchange.headers.contains_key(name))
}

/// A script without a phase has no effect: most likely a name is misspelt.
fn nothing(script: &Script, machine: &Vm) -> Problem {
    let names = Phase::ALL.map(Phase::name);
    let problem = Problem::new(format!("{}: the script has no function for any phase", script.name))
        .help(format!("it can have: {}", names.join(", ")));
    match machine.globals().iter().min() {
        Some(written) => problem.suggest(written, names),
        None => problem,
    }
}
