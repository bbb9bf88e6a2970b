//! Tracer of a generation, compiled from `tracing`.

use crate::config::{self, TraceParent};
use crate::telemetry::traces::{ExportSettings, Parent, Tracer};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use moongate_config::{Placed, Problem, Problems};

/// The path of traces below the URL of a collector (OTLP/HTTP).
const PATH: &str = "/v1/traces";

/// The limits of `queue`: one export, and some 100 MiB.
const QUEUE: std::ops::RangeInclusive<u32> = 512..=65_536;

/// Fields that the exporter writes itself.
const OURS: [HeaderName; 3] = [HOST, CONTENT_TYPE, CONTENT_LENGTH];

/// Compiles the settings. The queue of `prior` is kept if it leads to the same collector.
pub(super) fn compile(
    written: Option<&Placed<config::Tracing>>,
    prior: Option<&Tracer>,
    problems: &mut Problems,
) -> Option<Tracer> {
    let written = &written?.value;
    let url = problems.keep(url(&written.otlp).map_err(Problems::from));
    if !(0.0..=1.0).contains(&written.sampling.value) {
        let problem = Problem::new("`sampling` must be 0 to 1");
        problems.push(problem.help("0.01 samples one trace in a hundred").at(&written.sampling.place));
    }
    if written.service_name.trim().is_empty() {
        let problem = Problem::new("`service_name` is empty");
        problems.push(problem.help("omit it for `moongate`").at(&written.service_name.place));
    }
    if !QUEUE.contains(&written.queue.value) {
        let problem = Problem::new("`queue` must be 512 to 65536 spans");
        problems.push(
            problem.help("a request has two spans or more; the default is 2048").at(&written.queue.place),
        );
    }
    let headers = headers(written, problems);
    let parent = match written.parent {
        TraceParent::Follow => Parent::Follow,
        TraceParent::Trusted => Parent::Trusted,
        TraceParent::Ignore => Parent::Ignore,
    };
    let settings = ExportSettings {
        url: url?,
        headers,
        timeout: written.timeout.0,
        service_name: written.service_name.value.clone(),
        queue: written.queue.value as usize,
    };
    Some(Tracer::new(settings, parent, written.sampling.value, prior))
}

/// The URL for exports of spans.
fn url(written: &Placed<String>) -> Result<String, Problem> {
    let bad = |help: &str| {
        Err(Problem::new(format!("`{}` is not the URL of a collector", written.value))
            .help(help)
            .at(&written.place))
    };
    let usual = "write a URL such as http://127.0.0.1:4318";
    let Ok(uri) = written.value.parse::<Uri>() else { return bad(usual) };
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return bad(usual);
    };
    if authority.host().is_empty() {
        return bad(usual);
    }
    if authority.as_str().contains('@') {
        // The URL is not repeated: it has credentials.
        return Err(Problem::new("the URL of a collector must have no credentials")
            .help("write them in `headers`, as in `authorization: Basic …`")
            .at(&written.place));
    }
    if uri.query().is_some() {
        return bad("a URL with a query is not supported; write fields in `headers`");
    }
    if authority.port_u16() == Some(4317) {
        return bad("port 4317 is OTLP over gRPC; the port of OTLP over HTTP is 4318");
    }
    let base = written.value.trim_end_matches('/');
    let base = base.strip_suffix(PATH).unwrap_or(base);
    Ok(format!("{base}{PATH}"))
}

fn headers(written: &config::Tracing, problems: &mut Problems) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &written.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value.value)) {
            (Ok(known), Ok(_)) if OURS.contains(&known) => {
                let problem = Problem::new(format!("the exporter sets the header field `{name}` itself"));
                problems.push(problem.help("remove it").at(&value.place));
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => {
                problems.push(Problem::new(format!("invalid header field name `{name}`")).at(&value.place));
            }
            // The value may be a secret.
            (_, Err(_)) => {
                let problem = Problem::new(format!("the value of the header field `{name}` is invalid"));
                problems.push(problem.help("it contains a control character").at(&value.place));
            }
        }
    }
    headers
}
