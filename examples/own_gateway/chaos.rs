//! A plugin that fails where its settings say, to test the effects of a failing plugin.

use http::StatusCode;
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{
    Exchange, Fault, Flow, Message, MessageVerdict, Phases, Piece, Plugin, Reply, Response, Verdict,
    WebSocketEnd,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "chaos",
    about: "Fails, panics or responds in a selected phase",
    schema: <Chaos as JsonSchema>::json_schema,
    build: |settings: &Settings| -> Result<Box<dyn Plugin>, Problems> {
        Ok(Box::new(settings.read::<Chaos>()?))
    },
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Chaos {
    /// The phase.
    phase: Phase,
    /// The failure.
    act: FailureMode,
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
enum FailureMode {
    Fail,
    Panic,
    /// Fails after a wait.
    FailLater,
    Reply,
}

impl Chaos {
    fn is_at(&self, phase: Phase) -> bool {
        self.phase == phase
    }

    #[allow(clippy::panic, reason = "the settings request it")]
    fn act(&self) -> Flow<'static> {
        match self.act {
            FailureMode::Fail => Fault::new("requested by the settings").into(),
            FailureMode::Panic => panic!("requested by the settings"),
            FailureMode::FailLater => Flow::wait(async {
                std::future::ready(()).await;
                Verdict::from(Fault::new("requested by the settings"))
            }),
            FailureMode::Reply => Reply::new(StatusCode::IM_A_TEAPOT).body("chaos").into(),
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

    fn closed(&self, _: &mut Exchange<'_>, _: &WebSocketEnd<'_>) {
        self.act();
    }

    fn log(&self, _: &mut Exchange<'_>, _: Option<StatusCode>) {
        self.act();
    }
}
