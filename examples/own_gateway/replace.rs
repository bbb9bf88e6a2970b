//! A plugin that replaces words in bodies, and what a request asks for.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use moongate_config::{Kind, Problem, Problems, Settings, Size};
use moongate_sdk::{Exchange, Fault, Flow, Phases, Piece, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::mem::take;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "replace",
    about: "Replaces words in bodies, and what a request asks for.",
    schema: <Replace as JsonSchema>::json_schema,
    build,
};

const LENGTH: HeaderName = HeaderName::from_static("x-body-length");

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Replace {
    /// A word in the request's body and what stands there instead; a word that two pieces share is missed.
    request: Option<Words>,
    /// The same in the answer's.
    response: Option<Words>,
    /// The whole body of a request, up to this size, is looked at before anything goes on, and its
    /// length is told in X-Body-Length.
    whole: Option<Size>,
    /// Bodies are held back to their end, so that no word is missed.
    hold: bool,
    /// The method to the backend.
    method: Option<String>,
    /// Path and query to the backend.
    target: Option<String>,
    /// The answer's status.
    status: Option<u16>,
    /// The answer's body is none of its business.
    leave: bool,
    /// What stands on the access log's line.
    note: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Words {
    from: String,
    to: String,
}

/// What is held back of a request and of its answer.
#[derive(Default)]
struct Held {
    request: Vec<u8>,
    response: Vec<u8>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let replace: Replace = settings.read()?;
    if replace.method.as_ref().is_some_and(|method| method.parse::<Method>().is_err()) {
        return Err(Problem::new("`method` is none").into());
    }
    if replace.status.is_some_and(|status| StatusCode::from_u16(status).is_err()) {
        return Err(Problem::new("`status` is none").into());
    }
    Ok(Box::new(replace))
}

impl Words {
    fn apply(&self, bytes: &[u8]) -> Bytes {
        String::from_utf8_lossy(bytes).replace(&self.from, &self.to).into()
    }
}

impl Replace {
    /// Replaces words in what is here, or keeps it for later.
    fn pass(&self, words: &Words, held: &mut Vec<u8>, piece: &mut Piece) {
        if !self.hold {
            piece.bytes = words.apply(&piece.bytes);
            return;
        }
        held.extend_from_slice(&take(&mut piece.bytes));
        if piece.last {
            piece.bytes = words.apply(&take(held));
        }
    }
}

impl Plugin for Replace {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            request_body: self.request.is_some() && self.whole.is_none(),
            response_headers: self.status.is_some() || self.leave,
            response_body: self.response.is_some(),
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        if let Some(method) = self.method.as_ref().and_then(|method| method.parse().ok()) {
            exchange.set_method(method);
        }
        if let Some(Err(error)) = self.target.as_ref().map(|target| exchange.set_target(target)) {
            return Fault::new(error.to_string()).into();
        }
        if let Some(note) = &self.note {
            exchange.note("said", note);
        }
        self.whole.map_or(Flow::Continue, |limit| Flow::Body(limit.0))
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        if let Some(words) = &self.request {
            self.pass(words, &mut exchange.state::<Held>().request, piece);
        }
        if self.whole.is_some() {
            exchange.headers.set(&LENGTH, HeaderValue::from(piece.bytes.len()));
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        if let Some(status) = self.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            answer.status = status;
        }
        if self.leave {
            exchange.leave_bodies();
        }
        Flow::Continue
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        if let Some(words) = &self.response {
            self.pass(words, &mut exchange.state::<Held>().response, piece);
        }
        Ok(())
    }
}
