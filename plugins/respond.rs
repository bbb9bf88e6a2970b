//! Fixed responses: a text or a file.

use crate::{common, headers};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use indexmap::IndexMap;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_expr::Template;
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Reply};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "respond",
    about: "Responds with text or a file",
    schema: <RespondSettings as JsonSchema>::json_schema,
    build,
};

/// The largest file that is held in memory, in bytes.
const LARGEST_FILE: u64 = 8 << 20;

/// Media types by file extension; other files have none that a browser would guess from.
const TYPES: [(&str, &str); 14] = [
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
    ("xml", "application/xml"),
];

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RespondSettings {
    /// Sets the status. Default 200.
    status: Option<Placed<u16>>,
    /// Sets response fields, with placeholders. Default `Content-Type` per file extension, else `text/plain;
    /// charset=utf-8`.
    #[serde(default)]
    headers: IndexMap<String, Placed<String>>,
    /// Sends this text. Default empty.
    body: Option<Placed<String>>,
    /// Sends this file in place of `body`, of at most 8 MiB. It is read with the configuration. Default none.
    file: Option<Placed<String>>,
}

struct Respond {
    status: StatusCode,
    headers: Vec<(HeaderName, Template)>,
    body: Page,
}

/// A body and its type.
pub(crate) struct Page {
    bytes: Bytes,
    media_type: HeaderValue,
}

impl Page {
    /// Reads a text or a file; `None` if neither is given.
    ///
    /// # Errors
    /// Both are given, or the file cannot be read.
    pub(crate) fn read(
        settings: &Settings,
        body: Option<&Placed<String>>,
        file: Option<&Placed<String>>,
    ) -> Result<Option<Self>, Problem> {
        match (body, file) {
            (None, None) => Ok(None),
            (Some(body), None) => {
                let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
                Ok(Some(Self { bytes: Bytes::copy_from_slice(body.as_bytes()), media_type }))
            }
            (None, Some(file)) => {
                let bytes = Bytes::from_owner(settings.file(file, LARGEST_FILE)?.bytes);
                Ok(Some(Self { bytes, media_type: media_type(file) }))
            }
            (Some(_), Some(file)) => {
                Err(Problem::new("`file` cannot be combined with `body`").label("remove one").at(&file.place))
            }
        }
    }

    /// Sets it as the body of a response.
    pub(crate) fn set_body(&self, reply: &mut Reply) {
        reply.body = self.bytes.clone();
        if !self.bytes.is_empty() {
            reply.headers.insert(header::CONTENT_TYPE, self.media_type.clone());
        }
    }
}

fn media_type(file: &str) -> HeaderValue {
    let end = Path::new(file).extension().and_then(|end| end.to_str()).unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(end));
    HeaderValue::from_static(known.map_or("application/octet-stream", |(_, media_type)| media_type))
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: RespondSettings = settings.read()?;
    let mut problems = Problems::default();
    let status = match &written.status {
        None => Some(StatusCode::OK),
        Some(status) => problems.keep(common::status(status).map_err(Problems::from)),
    };
    let page = Page::read(settings, written.body.as_ref(), written.file.as_ref());
    let body = problems.keep(page.map_err(Problems::from)).flatten();
    let mut fields = Vec::new();
    for (name, value) in &written.headers {
        let field = headers::field(name).and_then(|name| Ok((name, Template::parse(value)?)));
        fields.extend(problems.keep(field.map_err(|problem| problem.at(&value.place).into())));
    }
    if let (Some(204 | 205 | 304), Some(body)) = (status.map(|s| s.as_u16()), &body)
        && !body.bytes.is_empty()
    {
        let place = written.body.or(written.file).map_or(settings.place().clone(), |body| body.place);
        problems.push(Problem::new("a response with this status has no body").label("remove it").at(&place));
    }
    let Some(status) = status.filter(|_| !problems.refuse()) else { return Err(problems) };
    let none = || Page { bytes: Bytes::new(), media_type: HeaderValue::from_static("text/plain") };
    Ok(Box::new(Respond { status, headers: fields, body: body.unwrap_or_else(none) }))
}

impl Plugin for Respond {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn always_responds(&self) -> bool {
        true
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let mut reply = Reply::new(self.status);
        self.body.set_body(&mut reply);
        for (name, template) in &self.headers {
            if let Some(value) = template.fill(exchange) {
                reply.headers.insert(name.clone(), value);
            }
        }
        reply.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    fn reply(written: Value) -> Reply {
        TestExchange::new("/a").expect_reply(&*build(&settings(written)).unwrap())
    }

    #[test]
    fn a_text_is_plain_unless_content_type_is_set() {
        let plain = reply(json!({ "body": "hello {path}\n" }));
        assert_eq!((plain.status.as_u16(), &plain.body[..]), (200, &b"hello {path}\n"[..]));
        assert_eq!(plain.headers["content-type"], "text/plain; charset=utf-8");
        let fields = json!({ "Content-Type": "application/json", "X-Path": "{path}" });
        let json = reply(json!({ "status": 418, "body": "{}", "headers": fields }));
        assert_eq!(
            (json.status.as_u16(), &json.headers["content-type"]),
            (418, &"application/json".parse().unwrap())
        );
        assert_eq!(json.headers["x-path"], "/a");
        assert!(reply(json!({})).headers.is_empty());
    }

    #[test]
    fn a_files_type_follows_its_extension() {
        let folder = tempfile::tempdir().unwrap();
        for (name, sort) in [("a.HTML", "text/html; charset=utf-8"), ("a", "application/octet-stream")] {
            let file = folder.path().join(name);
            std::fs::write(&file, "<p>").unwrap();
            let reply = reply(json!({ "file": file }));
            assert_eq!(
                (&reply.body[..], reply.headers["content-type"].to_str().unwrap()),
                (&b"<p>"[..], sort)
            );
        }
    }

    #[test]
    fn an_invalid_response_is_refused() {
        for bad in [
            json!({ "status": 101 }),
            json!({ "status": 600 }),
            json!({ "status": 204, "body": "x" }),
            json!({ "body": "x", "file": "y" }),
            json!({ "file": "not/there" }),
            json!({ "headers": { "Content-Length": "1" } }),
            json!({ "headers": { "X": "{nope}" } }),
        ] {
            assert!(build(&settings(bad.clone())).is_err(), "{bad}");
        }
    }
}
