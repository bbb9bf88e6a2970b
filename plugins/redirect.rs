//! Redirects to a URL built from the request, or to the same URL over HTTPS.
//!
//! A request over HTTPS passes, so that the plugin can be on a route for both schemes.

use crate::common;
use http::{HeaderValue, StatusCode, header};
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_expr::Template;
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Reply};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::num::NonZeroU16;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "redirect",
    about: "Redirects to another URL, or to HTTPS",
    schema: <RedirectSettings as JsonSchema>::json_schema,
    build,
};

/// Redirect statuses (RFC 9110 §15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// The settings; exactly one of `to` and `https`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RedirectSettings {
    /// Redirects to this URL or path, with placeholders. Default none.
    to: Option<Placed<String>>,
    /// Redirects to the same URL over HTTPS. Requests that arrived over HTTPS pass. Default false.
    #[serde(default)]
    https: bool,
    /// Sets the port of the HTTPS URL. Default 443.
    port: Option<Placed<NonZeroU16>>,
    /// Sets the status: 301, 302, 303, 307 or 308. Default `302`; `308` with `https`.
    status: Option<Placed<u16>>,
    /// Adds the request's query to `to`. `https` always keeps the query. Default false.
    keep_query: Option<Placed<bool>>,
}

struct Redirect {
    goal: Goal,
    status: StatusCode,
}

enum Goal {
    Https {
        port: Option<u16>,
    },
    To {
        template: Template,
        keep_query: bool,
        /// Whether it may name another host with a leading `//`.
        foreign: bool,
    },
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: RedirectSettings = settings.read()?;
    let mut problems = Problems::default();
    if let (Some(port), false) = (&written.port, written.https) {
        problems.push(Problem::new("`port` is for `https: true`").help("write it into `to`").at(&port.place));
    }
    if let (Some(keep), true) = (&written.keep_query, written.https) {
        problems
            .push(Problem::new("with `https` the query is always kept").label("remove it").at(&keep.place));
    }
    let status = match &written.status {
        Some(status) if !REDIRECTS.contains(status) => {
            let problem = Problem::new(format!("`{}` is not the status of a redirect", status.value));
            problems.push(problem.label("301, 302, 303, 307 or 308").at(&status.place));
            None
        }
        Some(status) => problems.keep(common::status(status).map_err(Problems::from)),
        None if written.https => Some(StatusCode::PERMANENT_REDIRECT),
        None => Some(StatusCode::FOUND),
    };
    let goal = match (&written.to, written.https) {
        (None, true) => Some(Goal::Https { port: written.port.map(|port| port.get()).filter(|p| *p != 443) }),
        (Some(to), false) => problems.keep(goal(to, written.keep_query.is_some_and(|keep| keep.value))),
        _ => {
            let problem = Problem::new("`redirect` needs one of `to` and `https: true`").at(settings.place());
            problems.push(problem.help("write `to: https://new.example{path}`, or `https: true`"));
            None
        }
    };
    match (goal, status) {
        (Some(goal), Some(status)) if !problems.refuse() => Ok(Box::new(Redirect { goal, status })),
        _ => Err(problems),
    }
}

fn goal(to: &Placed<String>, keep_query: bool) -> Result<Goal, Problems> {
    if to.is_empty() || has_space(to) {
        let problem = Problem::new(format!("`{}` is not a URL", to.value)).at(&to.place);
        return Err(problem.help("write a URL as in https://new.example{path}, or a path").into());
    }
    let template = Template::parse(to).map_err(|problem| problem.at(&to.place))?;
    Ok(Goal::To { template, keep_query, foreign: to.starts_with("//") })
}

/// Whether there is a space outside of placeholders; expressions may contain spaces.
fn has_space(to: &str) -> bool {
    let mut depth = 0_usize;
    to.chars().any(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ' ' && depth == 0
    })
}

impl Goal {
    /// The target; `None` if the request passes.
    fn location(&self, exchange: &mut Exchange<'_>) -> Result<Option<HeaderValue>, NoLocation> {
        match self {
            Self::Https { .. } if exchange.request.scheme == "https" => Ok(None),
            Self::Https { port } => {
                let host = exchange.request.host;
                if host.is_empty() {
                    return Err(NoLocation);
                }
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let mut url = format!("https://{host}{port}{}", exchange.path());
                if let Some(query) = exchange.query() {
                    url.push('?');
                    url.push_str(query);
                }
                HeaderValue::try_from(url).map(Some).map_err(|_| NoLocation)
            }
            Self::To { template, keep_query, foreign } => {
                let filled = template.fill(exchange).ok_or(NoLocation)?;
                let query = exchange.query().filter(|query| *keep_query && !query.is_empty());
                // A request for `//evil.example` must not make `{path}` a URL of another host; browsers treat a
                // backslash as a slash.
                let trick = !foreign && matches!(filled.as_bytes(), [b'/', b'/' | b'\\', ..]);
                if query.is_none() && !trick {
                    return Ok(Some(filled));
                }
                let text = filled.to_str().map_err(|_| NoLocation)?;
                let own = match trick {
                    true => Cow::Owned(format!("/{}", text.trim_start_matches(['/', '\\']))),
                    false => Cow::Borrowed(text),
                };
                HeaderValue::try_from(with_query(&own, query)).map(Some).map_err(|_| NoLocation)
            }
        }
    }
}

/// A request from which no URL can be built.
struct NoLocation;

/// A query comes before the fragment, and after an existing query.
fn with_query(url: &str, query: Option<&str>) -> String {
    let Some(query) = query else { return url.to_owned() };
    let (place, fragment) = url.find('#').map_or((url, ""), |at| url.split_at(at));
    let joint = match place.find('?') {
        None => "?",
        Some(at) if at + 1 == place.len() => "",
        Some(_) => "&",
    };
    format!("{place}{joint}{query}{fragment}")
}

impl Plugin for Redirect {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn always_responds(&self) -> bool {
        matches!(self.goal, Goal::To { .. })
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        match self.goal.location(exchange) {
            Ok(None) => Flow::Continue,
            Ok(Some(location)) => Reply::new(self.status).header(header::LOCATION, location).into(),
            Err(NoLocation) => exchange.refuse(StatusCode::BAD_REQUEST, "bad_target").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::Verdict;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
        build(&settings(written))
    }

    fn sent(written: Value, target: &str) -> (u16, String) {
        let reply = TestExchange::new(target).expect_reply(&*plugin(written).unwrap());
        (reply.status.as_u16(), reply.headers[header::LOCATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_url_is_built_from_the_request() {
        let to = |text| json!({ "to": text });
        assert_eq!(sent(to("https://new.example{path}"), "/a?b"), (302, "https://new.example/a".into()));
        assert_eq!(sent(to("/{cel: request.method + request.path}"), "/a").1, "/GET/a");
        assert_eq!(sent(to("/{host}?from={path}&{query}"), "/a?b").1, "/example.com?from=/a&b");
        let written = json!({ "to": "//{host}/x", "status": 301 });
        assert_eq!(sent(written, "/"), (301, "//example.com/x".into()));
    }

    #[test]
    fn a_kept_query_is_appended_to_the_query() {
        for (to, expected) in [
            ("/x", "/x?a=1"),
            ("/x?y", "/x?y&a=1"),
            ("/x?", "/x?a=1"),
            ("/x#f", "/x?a=1#f"),
            ("/x?y#f", "/x?y&a=1#f"),
        ] {
            assert_eq!(sent(json!({ "to": to, "keep_query": true }), "/?a=1").1, expected);
        }
        assert_eq!(sent(json!({ "to": "/x", "keep_query": true }), "/").1, "/x");
    }

    #[test]
    fn a_path_never_becomes_a_host() {
        for path in ["//evil.example/a", "/\\evil.example/a", "/\\/evil.example/a"] {
            assert_eq!(sent(json!({ "to": "{path}" }), path).1, "/evil.example/a");
        }
        assert_eq!(
            sent(json!({ "to": "{path}", "keep_query": true }), "///evil.example//a?b").1,
            "/evil.example//a?b"
        );
    }

    #[test]
    fn https_keeps_path_and_query_and_passes_https() {
        assert_eq!(sent(json!({ "https": true }), "/a?b=//c"), (308, "https://example.com/a?b=//c".into()));
        let written = json!({ "https": true, "port": 8443, "status": 301 });
        assert_eq!(sent(written, "/"), (301, "https://example.com:8443/".into()));
        assert_eq!(sent(json!({ "https": true, "port": 443 }), "/").1, "https://example.com/");
        let plugin = plugin(json!({ "https": true })).unwrap();
        let mut visit = TestExchange::new("/");
        visit.host = String::new();
        assert_eq!(visit.expect_reply(&*plugin).status, 400);
        let passed = visit.with_exchange(|exchange| {
            exchange.request.scheme = "https";
            moongate_sdk::testing::resolve_flow(plugin.request_headers(exchange))
        });
        assert!(matches!(passed, Verdict::Continue));
    }

    #[test]
    fn a_redirect_without_a_valid_target_is_refused() {
        for bad in [
            json!({}),
            json!({ "to": "/x", "https": true }),
            json!({ "to": "" }),
            json!({ "to": "/x y" }),
            json!({ "to": "{nope}" }),
            json!({ "to": "/x", "status": 200 }),
            json!({ "to": "/x", "status": 304 }),
            json!({ "to": "/x", "port": 1 }),
            json!({ "https": true, "port": 0 }),
            json!({ "https": true, "keep_query": false }),
        ] {
            assert!(plugin(bad.clone()).is_err(), "{bad}");
        }
    }
}
