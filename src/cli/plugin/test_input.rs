//! Arguments of `moongate plugin test`: the plugin, and the exchange that it processes.

use super::TestArguments;
use super::log_capture::LogCapture;
use super::offline_services::OfflineServices;
use crate::snapshot::Kinds;
use crate::websocket::handshake;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use moongate_config::{Files, Kind, Problem, Problems};
use moongate_sdk::testing::{self, TestExchange};
use moongate_sdk::{Direction, Plugin};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Builds the plugin from a file or a kind.
pub(super) fn plugin(arguments: &TestArguments, kinds: Kinds) -> Result<Box<dyn Plugin>, Problems> {
    let config = match arguments.config.as_deref().map(serde_json::from_str) {
        None => None,
        Some(Ok(config)) => Some(config),
        Some(Err(error)) => return Err(Problem::new(format!("`--config` is not JSON: {error}")).into()),
    };
    let (kind, settings) = match (&arguments.kind, &arguments.file) {
        (Some(kind), _) => (kind.as_str(), config.unwrap_or_else(|| serde_json::json!({}))),
        (None, Some(file)) => {
            let (kind, key) = sort(file)?;
            let mut settings = serde_json::Map::from_iter([(key.to_owned(), file.to_string_lossy().into())]);
            settings.extend(config.map(|config| ("config".to_owned(), config)));
            (kind, serde_json::Value::Object(settings))
        }
        (None, None) => {
            return Err(Problem::new("no plugin given; name a file, or a kind with `--kind`").into());
        }
    };
    if !settings.is_object() {
        return Err(Problem::new("`--config` must be a JSON object: the settings of the kind").into());
    }
    let name = kind;
    let kind = Kind::find(kinds.plugins, "plugin", kind)?;
    (kind.build)(&testing::settings(settings).noting(name, &Files::default()))
}

/// The kind of a file by its extension, and the setting that takes the file's path.
fn sort(file: &Path) -> Result<(&'static str, &'static str), Problem> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("luau" | "lua") => Ok(("luau", "script")),
        Some("wasm" | "wat") => Ok(("wasm", "module")),
        _ => Err(Problem::new(format!("unknown type of plugin file `{}`", file.display()))
            .help("expected a `.luau` script or a `.wasm` filter; for another kind, use `--kind NAME`")),
    }
}

/// The input of the plugin.
pub(super) struct TestInput {
    pub(super) visit: TestExchange,
    pub(super) body: Bytes,
    pub(super) response_body: Bytes,
    pub(super) messages: Vec<(Direction, String)>,
}

impl TestInput {
    /// Reads the input from the command line; log lines of the plugin go to `capture`.
    pub(super) fn read(arguments: &TestArguments, capture: &LogCapture) -> Result<Self, String> {
        let (method, target) = arguments.request.split_once(' ').unwrap_or(("GET", &arguments.request));
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is not an HTTP method"))?;
        let uri: Uri = target.trim().parse().map_err(|error| format!("`{target}` is not a URL: {error}"))?;
        let mut visit = TestExchange::new(uri.path_and_query().map_or("/", |target| target.as_str()));
        visit.method = method;
        visit.client = arguments.client;
        if let Some(host) = uri.host() {
            host.clone_into(&mut visit.host);
        }
        visit.request = fields(&arguments.headers)?;
        visit.response = fields(&arguments.response_headers)?;
        visit.services = Arc::new(OfflineServices(capture.clone()));
        match visit.request.get(header::HOST).and_then(|host| host.to_str().ok()) {
            Some(host) => visit.host = host.split(':').next().unwrap_or_default().to_owned(),
            None => drop(visit.request.insert(header::HOST, literal(&visit.host)?)),
        }
        let body = content(arguments.body.as_deref())?;
        if !body.is_empty() && !visit.request.contains_key(header::CONTENT_LENGTH) {
            visit.request.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let ours = arguments.messages.iter().map(|text| (Direction::ToBackend, text.clone()));
        let theirs = arguments.backend_messages.iter().map(|text| (Direction::ToClient, text.clone()));
        let messages: Vec<_> = ours.chain(theirs).collect();
        visit.is_websocket = !messages.is_empty()
            || handshake::check(&visit.method, Version::HTTP_11, &visit.request)
                != Err(handshake::HandshakeError::NotWebSocket);
        visit.status = if messages.is_empty() { arguments.status } else { StatusCode::SWITCHING_PROTOCOLS };
        let answer_body = content(arguments.response_body.as_deref())?;
        Ok(Self { visit, body, response_body: answer_body, messages })
    }
}

fn fields(written: &[String]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for field in written {
        let (name, value) = field.split_once(':').ok_or_else(|| format!("`{field}` is not `name: value`"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| format!("`{name}` is not a header field name"))?;
        map.append(name, literal(value.trim())?);
    }
    Ok(map)
}

fn literal(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("`{value}` is not a header field value"))
}

/// The argument's own text, or the content of the file after `@`.
fn content(written: Option<&str>) -> Result<Bytes, String> {
    match written {
        None => Ok(Bytes::new()),
        Some(text) => match text.strip_prefix('@') {
            None => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Some(file) => fs::read(file).map(Bytes::from).map_err(|e| format!("cannot read `{file}`: {e}")),
        },
    }
}
