//! Settings of `forward_auth`.

use super::{ForwardAuth, ForwardedFields};
use crate::common::outbound_url;
use http::{HeaderName, Method};
use moongate_config::{Period, Placed, Problem, Problems, Settings, off_if_zero};
use moongate_sdk::CallTarget;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForwardAuthSettings {
    /// Sends requests to this upstream, with its balancer and health checks. Either this or `url` is required.
    /// Default none.
    upstream: Option<Placed<String>>,
    /// Requests this path and query at the upstream. Default /.
    path: Option<Placed<String>>,
    /// Sends requests to this `http://` or `https://` URL. Its name is resolved again when its TTL expires. The
    /// last addresses stay while no name server responds. Default none.
    url: Option<Placed<String>>,
    /// Sends this method: `GET`, `HEAD` or `POST`. Default GET.
    method: Option<Placed<String>>,
    /// Sends only these request fields to the service. Default all but those of bodies, conditions, ranges and
    /// WebSocket handshakes.
    request_headers: Option<Vec<Placed<String>>>,
    /// Copies these fields of a 2xx response to the backend request. Values from clients are removed. Default none.
    #[serde(default)]
    response_headers: Vec<Placed<String>>,
    /// Copies these fields of a 2xx response to the client's response, such as Set-Cookie. Default none.
    #[serde(default)]
    client_headers: Vec<Placed<String>>,
    /// Fails after this long without a response. Longer than 0. Default 5s.
    timeout: Option<Placed<Period>>,
    /// Repeats the request during a WebSocket, with the fields of its handshake. At least 1s; `0s`: off. Default off.
    #[serde(default, deserialize_with = "off_if_zero")]
    recheck: Option<Placed<Period>>,
}

pub(super) fn read(settings: &Settings) -> Result<ForwardAuth, Problems> {
    let written: ForwardAuthSettings = settings.read()?;
    let mut problems = Problems::default();
    let to = problems.keep(callee(settings, &written));
    let path = written.path.as_ref();
    if let Some(path) = path.filter(|path| !is_target(path)) {
        let problem = Problem::new(format!("`{}` is not a path", path.value)).at(&path.place);
        problems
            .push(problem.help("it must begin with `/` and have only visible ASCII characters except `#`"));
    }
    let method = problems.keep(written.method.as_ref().map_or(Ok(Method::GET), method));
    let sent = match &written.request_headers {
        None => ForwardedFields::All,
        Some(names) => ForwardedFields::These(sent(names, &mut problems)),
    };
    let to_backend = changed(&written.response_headers, &mut problems);
    let to_client = changed(&written.client_headers, &mut problems);
    let timeout = at_least("timeout", written.timeout.as_ref(), Duration::from_millis(1), &mut problems);
    let recheck = at_least("recheck", written.recheck.as_ref(), Duration::from_secs(1), &mut problems);
    match (to, method) {
        (Some(to), Some(method)) if !problems.refuse() => Ok(ForwardAuth {
            to,
            target: path.map_or_else(|| "/".to_owned(), |path| path.value.clone()),
            method,
            sent,
            to_backend,
            to_client,
            timeout: timeout.unwrap_or(Duration::from_secs(5)),
            recheck,
        }),
        _ => Err(problems),
    }
}

fn callee(settings: &Settings, written: &ForwardAuthSettings) -> Result<CallTarget, Problems> {
    match (&written.upstream, &written.url, &written.path) {
        (Some(name), None, _) => Ok(CallTarget::Upstream(name.value.clone())),
        (None, Some(url), None) => {
            outbound_url::check(url)?;
            Ok(CallTarget::Url(url.value.clone()))
        }
        (None, Some(_), Some(path)) => Err(Problem::new("`path` cannot be combined with `url`")
            .at(&path.place)
            .help("write it into `url`")
            .into()),
        _ => Err(Problem::new("`forward_auth` needs exactly one service")
            .at(settings.place())
            .help("write either `upstream` (and `path`) or `url`")
            .into()),
    }
}

fn is_target(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn method(written: &Placed<String>) -> Result<Method, Problems> {
    match written.value.as_str() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        other => Err(Problem::new(format!("`{other}` is not a supported method"))
            .at(&written.place)
            .help("write GET, HEAD or POST")
            .into()),
    }
}

fn sent(names: &[Placed<String>], problems: &mut Problems) -> Vec<HeaderName> {
    let name = |name: &Placed<String>| {
        let bad = |_| Problem::new(format!("`{}` is not a field name", name.value)).at(&name.place);
        HeaderName::from_bytes(name.as_bytes()).map_err(bad)
    };
    names.iter().filter_map(|written| problems.keep(name(written).map_err(Problems::from))).collect()
}

fn changed(names: &[Placed<String>], problems: &mut Problems) -> Vec<HeaderName> {
    let field =
        |name: &Placed<String>| crate::headers::field(name).map_err(|problem| problem.at(&name.place).into());
    names.iter().filter_map(|name| problems.keep(field(name))).collect()
}

fn at_least(
    what: &str,
    written: Option<&Placed<Period>>,
    least: Duration,
    problems: &mut Problems,
) -> Option<Duration> {
    let written = written?;
    if written.0 < least {
        let least = Period(least);
        let problem = Problem::new(format!("`{what}` must be at least {least}"));
        problems.push(problem.help("omit it for the default").at(&written.place));
    }
    Some(written.0)
}
