//! Cross-origin resource sharing by the Fetch standard (§3.2): responses to preflights, and CORS fields in other
//! responses.
//!
//! CORS does not protect a backend: a browser keeps a page from reading a response, but sends the request anyway.
//! `origin_check` rejects requests by origin.

use crate::common::origins::Origins;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Headers, Phases, Plugin, Reply, Response};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "cors",
    about: "Handles CORS: lets pages of other origins read responses",
    schema: <CorsSettings as JsonSchema>::json_schema,
    build,
};

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// The request fields on which the response to a preflight depends.
const PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
/// Fields of the backend that are replaced; a duplicate makes browsers reject both.
const OWN: [HeaderName; 3] =
    [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS];

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CorsSettings {
    /// Allows these origins: exact, `https://*.example.com` for every subdomain, `~` with a regular expression for
    /// the whole origin, `null`, or `*` for all. Required.
    origins: Vec<Placed<String>>,
    /// Allows these methods; `*` for all. Default `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`.
    methods: Option<Vec<Placed<String>>>,
    /// Allows these request fields; `*` for all. Default all.
    headers: Option<Vec<Placed<String>>>,
    /// Exposes these response fields to pages, besides the safelisted ones; `*` for all. Default none.
    #[serde(default)]
    expose_headers: Vec<Placed<String>>,
    /// Allows requests with cookies and credentials. Then `*` is an error in `origins`, `methods` and
    /// `expose_headers`. Default false.
    #[serde(default)]
    allow_credentials: bool,
    /// Lets browsers cache a preflight for this long, in whole seconds. `0s`: no caching. Default not sent;
    /// browsers use `5s`.
    max_age: Option<Period>,
}

struct Cors {
    origins: Origins,
    methods: HeaderValue,
    /// `None`: every requested one.
    headers: Option<HeaderValue>,
    expose_headers: Option<HeaderValue>,
    allow_credentials: bool,
    max_age: Option<HeaderValue>,
    /// Whether all clients get the same response.
    same_for_all: bool,
}

/// The default methods.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: CorsSettings = settings.read()?;
    let mut problems = Problems::default();
    let origins = problems.keep(Origins::parse(&written.origins));
    let methods = match &written.methods {
        None => Some(METHODS),
        Some(list) => problems.keep(joined(list, method)),
    };
    let headers = match &written.headers {
        None => None,
        Some(list) if list.iter().any(|name| name.value == "*") => None,
        Some(list) => problems.keep(joined(list, field)),
    };
    let expose_headers = match written.expose_headers.is_empty() {
        true => None,
        false => problems.keep(joined(&written.expose_headers, field)),
    };
    // With credentials `*` is a literal name (Fetch §3.2.5): requests would fail, and only in the browser.
    let lists = [
        ("origins", Some(&written.origins)),
        ("methods", written.methods.as_ref()),
        ("expose_headers", Some(&written.expose_headers)),
    ];
    for (key, list) in lists.into_iter().filter(|_| written.allow_credentials) {
        let star = list.into_iter().flatten().find(|text| text.value == "*");
        problems.0.extend(star.map(|star| {
            Problem::new(format!("`*` in `{key}` has no effect with credentials"))
                .help("browsers treat it as a literal name; list the allowed values")
                .at(&star.place)
        }));
    }
    let max_age = written.max_age.map(|period| HeaderValue::from(period.0.as_secs()));
    let Some(origins) = origins.filter(|_| !problems.refuse()) else { return Err(problems) };
    if origins.is_empty() {
        let problem = Problem::new("`origins` is empty").at(settings.place_of("origins"));
        return Err(problem.help("list origins as in https://example.com, or `*` for all").into());
    }
    let same_for_all = origins.is_any() && !written.allow_credentials;
    let allow_credentials = written.allow_credentials;
    let methods = methods.unwrap_or(METHODS);
    Ok(Box::new(Cors { origins, methods, headers, expose_headers, allow_credentials, max_age, same_for_all }))
}

fn joined(list: &[Placed<String>], check: fn(&str) -> Result<(), Problem>) -> Result<HeaderValue, Problems> {
    let mut problems = Problems::default();
    for text in list.iter().filter(|text| text.value != "*") {
        problems.keep(check(text).map_err(|problem| problem.at(&text.place).into()));
    }
    let all = list.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", ");
    match HeaderValue::try_from(all) {
        Ok(value) if !problems.refuse() => Ok(value),
        _ => Err(problems),
    }
}

fn method(text: &str) -> Result<(), Problem> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        // The Fetch standard normalizes only some methods to upper case: `patch` stays `patch`.
        Ok(_) if text == upper => Ok(()),
        Ok(_) => {
            Err(Problem::new(format!("`{text}` is not in upper case")).label(format!("write `{upper}`")))
        }
        Err(_) => Err(Problem::new(format!("`{text}` is not a method")).label("as in `GET` or `PATCH`")),
    }
}

fn field(text: &str) -> Result<(), Problem> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::new(format!("`{text}` is not a field name")).label("as in `X-Team`")),
    }
}

/// Adds missing names to Vary.
pub(crate) fn vary(headers: &mut Headers<'_>, name: &HeaderName) {
    let there = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut named = there.flat_map(|value| value.split(',')).map(str::trim);
    if !named.any(|one| one == "*" || one.eq_ignore_ascii_case(name.as_str())) {
        headers.append(&VARY, HeaderValue::from_name(name.clone()));
    }
}

/// The origin of a request; `None` if there are several.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(ORIGIN).iter();
    all.next().filter(|_| all.next().is_none())
}

impl Cors {
    /// The value of Access-Control-Allow-Origin for this request.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = origin(request)?;
        if self.same_for_all {
            return Some(ANY);
        }
        self.origins.allow(origin.as_bytes()).then(|| origin.clone())
    }

    fn preflight(&self, exchange: &mut Exchange<'_>) -> Reply {
        let asked = exchange.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let Some(origin) = self.allowed(&exchange.headers) else {
            return exchange.refuse(StatusCode::FORBIDDEN, "origin_denied").header(VARY, PREFLIGHT);
        };
        let mut reply = Reply::new(StatusCode::NO_CONTENT)
            .header(VARY, PREFLIGHT)
            .header(ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .header(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let optional = [
            (ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone().or(asked)),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, self.allow_credentials.then_some(TRUE)),
            (ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                reply.headers.insert(name, value);
            }
        }
        reply
    }
}

/// Whether it is a preflight (Fetch §3.2.2).
fn is_preflight(exchange: &Exchange<'_>) -> bool {
    exchange.request.method == Method::OPTIONS
        && exchange.headers.contains_key(ORIGIN)
        && exchange.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Plugin for Cors {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        if is_preflight(exchange) { self.preflight(exchange).into() } else { Flow::Continue }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        // A WebSocket handshake is not a CORS request, and a preflight has its response already.
        if response.status == StatusCode::SWITCHING_PROTOCOLS || is_preflight(exchange) {
            return Flow::Continue;
        }
        for name in &OWN {
            response.headers.remove(name);
        }
        if !self.same_for_all {
            vary(&mut response.headers, &ORIGIN);
        }
        if let Some(origin) = self.allowed(&exchange.headers) {
            response.headers.set(&ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.allow_credentials {
                response.headers.set(&ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            }
            if let Some(expose_headers) = &self.expose_headers {
                response.headers.set(&ACCESS_CONTROL_EXPOSE_HEADERS, expose_headers.clone());
            }
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests;
