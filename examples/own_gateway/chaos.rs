//! A plugin that misbehaves where it is told to: to see what a failure of another one would do.

use http::StatusCode;
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{
    Ended, Exchange, Fault, Flow, Message, MessageVerdict, Phases, Piece, Plugin, Reply, Response, Verdict,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "chaos",
    about: "Fails, panics or replies in a phase of choice.",
    schema: <Chaos as JsonSchema>::json_schema,
    build: |settings: &Settings| -> Result<Box<dyn Plugin>, Problems> {
        Ok(Box::new(settings.read::<Chaos>()?))
    },
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Chaos {
    /// Where.
    phase: Phase,
    /// What.
    act: Act,
}

#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Phase {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Message,
    Recheck,
    Closed,
    Log,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Act {
    Fail,
    Panic,
    /// Fails after it has waited.
    FailLater,
    Reply,
}

impl Chaos {
    fn is_at(&self, phase: Phase) -> bool {
        self.phase == phase
    }

    #[allow(clippy::panic, reason = "it is asked for")]
    fn act(&self) -> Flow<'static> {
        match self.act {
            Act::Fail => Fault::new("as its settings say").into(),
            Act::Panic => panic!("as its settings say"),
            Act::FailLater => Flow::wait(async {
                std::future::ready(()).await;
                Verdict::from(Fault::new("as its settings say"))
            }),
            Act::Reply => Reply::new(StatusCode::IM_A_TEAPOT).body("chaos").into(),
        }
    }
}

impl Plugin for Chaos {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: self.is_at(Phase::RequestHeaders),
            request_body: self.is_at(Phase::RequestBody),
            response_headers: self.is_at(Phase::ResponseHeaders),
            response_body: self.is_at(Phase::ResponseBody),
            messages_to_backend: self.is_at(Phase::Message),
            recheck: self.is_at(Phase::Recheck).then_some(Duration::from_millis(50)),
            closed: self.is_at(Phase::Closed),
            log: self.is_at(Phase::Log),
            ..Phases::default()
        }
    }

    fn always_responds(&self) -> bool {
        self.is_at(Phase::RequestHeaders)
    }

    fn request_headers<'f>(&'f self, _: &'f mut Exchange<'_>) -> Flow<'f> {
        self.act()
    }

    fn request_body<'f>(&'f self, _: &'f mut Exchange<'_>, _: &'f mut Piece) -> Flow<'f> {
        self.act()
    }

    fn response_headers<'f>(&'f self, _: &'f mut Exchange<'_>, _: &'f mut Response<'_>) -> Flow<'f> {
        self.act()
    }

    fn response_body(&self, _: &mut Exchange<'_>, _: &mut Piece) -> Result<(), Fault> {
        match self.act() {
            Flow::Failed(fault) => Err(fault),
            _ => Ok(()),
        }
    }

    fn message(&self, _: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        message.payload.clear();
        match self.act() {
            Flow::Failed(fault) => MessageVerdict::Failed(fault),
            _ => MessageVerdict::Drop,
        }
    }

    fn closed(&self, _: &mut Exchange<'_>, _: &Ended<'_>) {
        self.act();
    }

    fn log(&self, _: &mut Exchange<'_>, _: Option<StatusCode>) {
        self.act();
    }
}
