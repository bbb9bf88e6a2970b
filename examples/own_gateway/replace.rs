//! A plugin that replaces words in bodies, and changes method and target of a request.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use moongate_config::{Kind, Problem, Problems, Settings, Size};
use moongate_sdk::{Exchange, Fault, Flow, Phases, Piece, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::mem::take;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "replace",
    about: "Replaces words in bodies, and changes method and target",
    schema: <Replace as JsonSchema>::json_schema,
    build,
};

const LENGTH: HeaderName = HeaderName::from_static("x-body-length");

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Replace {
    /// Replaces these words in the request's body; a word split over two pieces is missed. Default none.
    request: Option<WordReplacement>,
    /// Replaces these words in the response's body. Default none.
    response: Option<WordReplacement>,
    /// Reads the whole body of a request, up to this size, before it is forwarded, and sets X-Body-Length. Default
    /// off.
    whole: Option<Size>,
    /// Holds bodies back to their end, so that no word is missed. Default false.
    hold: bool,
    /// Sets the method for the backend. Default unchanged.
    method: Option<String>,
    /// Sets path and query for the backend. Default unchanged.
    target: Option<String>,
    /// Sets the response's status. Default unchanged.
    status: Option<u16>,
    /// Leaves the response's body unchanged. Default false.
    leave: bool,
    /// Adds this note to the access log line. Default none.
    note: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WordReplacement {
    from: String,
    to: String,
}

/// The held-back parts of a request and of its response.
#[derive(Default)]
struct HeldBytes {
    request: Vec<u8>,
    response: Vec<u8>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let replace: Replace = settings.read()?;
    if replace.method.as_ref().is_some_and(|method| method.parse::<Method>().is_err()) {
        return Err(Problem::new("`method` is not a method").into());
    }
    if replace.status.is_some_and(|status| StatusCode::from_u16(status).is_err()) {
        return Err(Problem::new("`status` is not a status").into());
    }
    Ok(Box::new(replace))
}

impl WordReplacement {
    fn apply(&self, bytes: &[u8]) -> Bytes {
        String::from_utf8_lossy(bytes).replace(&self.from, &self.to).into()
    }
}

impl Replace {
    /// Replaces words in a piece, or holds it back.
    fn pass(&self, words: &WordReplacement, held: &mut Vec<u8>, piece: &mut Piece) {
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
            self.pass(words, &mut exchange.state::<HeldBytes>().request, piece);
        }
        if self.whole.is_some() {
            exchange.headers.set(&LENGTH, HeaderValue::from(piece.bytes.len()));
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        if let Some(status) = self.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            response.status = status;
        }
        if self.leave {
            exchange.leave_bodies();
        }
        Flow::Continue
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        if let Some(words) = &self.response {
            self.pass(words, &mut exchange.state::<HeldBytes>().response, piece);
        }
        Ok(())
    }
}
