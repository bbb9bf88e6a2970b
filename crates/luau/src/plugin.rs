//! The plugin: the arguments of each phase's function, and the mapping of its outcome to a verdict.

use crate::call_context::{self, Outcome, Subject};
use crate::handles::Handle;
use crate::invoke::{Memory, Played, ScriptRunner};
use crate::limits::Limits;
use crate::phase::{Defined, Phase};
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
    defined: Defined,
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
        if defined == Defined::default() {
            return Err(nothing(&script, &machine));
        }
        let (phases, remembers) = (defined.phases(recheck), script.keeps && defined.remembers(recheck));
        let runner = ScriptRunner::new(script, config, limits, remembers, machine);
        Ok(Self { name: name.into(), runner, defined, phases })
    }

    pub(crate) fn phases_without_request_headers(&self) -> bool {
        !self.defined.has(Phase::RequestHeaders)
    }

    /// What the script wants done with a request.
    fn judge(&self, exchange: &Exchange<'_>, outcome: Outcome) -> Verdict {
        if let Some(reply) = outcome.reply {
            return Verdict::Respond(reply);
        }
        if outcome.skip_body || !self.defined.has(Phase::RequestBody) || !has_body(exchange) {
            return Verdict::Continue;
        }
        Verdict::Body(self.runner.limits.body as u64)
    }

    /// The outcome of a phase that never waits.
    fn done(&self, played: Result<Played, Fault>) -> Result<Outcome, Fault> {
        match played? {
            Played::Done(outcome) => Ok(outcome),
            Played::Waits(_) => Err(self.runner.fault(&mlua::Error::runtime("it yielded"))),
        }
    }

    /// Logs a fault that can no longer affect the request.
    fn too_late(&self, played: Result<Played, Fault>) {
        if let Err(fault) = self.done(played)
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
            return self.judge(exchange, Outcome::default()).into();
        }
        let played = self
            .runner
            .run(Phase::RequestHeaders, exchange, Subject::Request, |_, turn| Ok(Handle::req(turn)));
        match played {
            Ok(Played::Done(outcome)) => self.judge(exchange, outcome).into(),
            Ok(Played::Waits(paused)) => Flow::wait(async move {
                match self.runner.wait(paused, exchange, None).await {
                    Ok(outcome) => self.judge(exchange, outcome),
                    Err(fault) => fault.into(),
                }
            }),
            Err(fault) => fault.into(),
        }
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let given = |_: &mlua::Lua, turn| Ok((Handle::req(turn), Handle::body(turn)));
        let played = self.runner.run(Phase::RequestBody, exchange, Subject::Piece(piece), given);
        match self.done(played) {
            Ok(Outcome { reply: Some(reply), .. }) => Flow::Respond(reply),
            Ok(_) => Flow::Continue,
            Err(fault) => fault.into(),
        }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let verdict = |outcome: Outcome| match outcome.reply {
            Some(reply) => Verdict::Respond(reply),
            None => Verdict::Continue,
        };
        let given = |_: &mlua::Lua, turn| Ok((Handle::req(turn), Handle::res(turn)));
        match self.runner.run(Phase::ResponseHeaders, exchange, Subject::Answer(answer), given) {
            Ok(Played::Done(outcome)) => verdict(outcome).into(),
            Ok(Played::Waits(paused)) => Flow::wait(async move {
                let waited = self.runner.wait(paused, exchange, Some(answer)).await;
                waited.map_or_else(Verdict::from, verdict)
            }),
            Err(fault) => fault.into(),
        }
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let mut held = std::mem::take(&mut exchange.state::<Memory>().held);
        if !held.is_empty() {
            held.extend_from_slice(&piece.bytes);
            piece.bytes = Bytes::from(held);
        }
        let given = |_: &mlua::Lua, turn| Ok((Handle::req(turn), Handle::body(turn)));
        let played = self.runner.run(Phase::ResponseBody, exchange, Subject::Piece(piece), given);
        let outcome = self.done(played)?;
        if let Some(held) = outcome.held {
            if held.len() > self.runner.limits.body {
                let (name, limit) = (&self.runner.script.name, self.runner.limits.body);
                return Err(Fault::new(format!("{name}: it held back more than {limit} bytes of a body")));
            }
            exchange.state::<Memory>().held = held.into();
        }
        Ok(())
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        let given = |_: &mlua::Lua, turn| Ok((Handle::ws(turn), Handle::msg(turn)));
        let played = self.runner.run(Phase::Message, exchange, Subject::Message(message), given);
        match self.done(played) {
            Ok(outcome) => match outcome.fate {
                call_context::MessageVerdict::Forward => MessageVerdict::Forward,
                call_context::MessageVerdict::Drop => MessageVerdict::Drop,
                call_context::MessageVerdict::Close(code, reason) => {
                    MessageVerdict::Close { code, reason: reason.into() }
                }
            },
            Err(fault) => MessageVerdict::Failed(fault),
        }
    }

    fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        let given = |lua: &mlua::Lua, turn| {
            let table = lua.create_table()?;
            table.set("code", ended.code)?;
            table.set("reason", ended.reason)?;
            table.set("lifetime", ended.lifetime.as_secs_f64())?;
            let names = ["to_backend", "to_client"];
            table.set("messages", lua.create_table_from(names.into_iter().zip(ended.messages))?)?;
            table.set("bytes", lua.create_table_from(names.into_iter().zip(ended.bytes))?)?;
            Ok((Handle::ws(turn), table))
        };
        let played = self.runner.run(Phase::Closed, exchange, Subject::Request, given);
        self.too_late(played);
    }

    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        let given = |_: &mlua::Lua, turn| Ok((Handle::req(turn), Handle::res(turn)));
        let played = self.runner.run(Phase::Log, exchange, Subject::Gone(status), given);
        self.too_late(played);
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
