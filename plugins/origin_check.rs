//! Rejection of requests from pages of other origins, WebSocket handshakes included.
//!
//! Browsers set Origin and pages cannot forge it; other programs can. The check protects a visitor's cookies from
//! use by another site (cross-site request forgery, WebSocket hijacking), but does not authenticate clients.

use crate::common::origins::Origins;
use http::header::ORIGIN;
use http::{HeaderMap, StatusCode, header};
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Request};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "origin_check",
    about: "Rejects requests from pages of other origins",
    schema: <OriginCheckSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OriginCheckSettings {
    /// Accepts these origins, in the forms of `cors` except `*`. Default none.
    #[serde(default)]
    origins: Vec<Placed<String>>,
    /// Accepts pages of the requested host: Origin must equal Host, with its port, and the scheme where it is
    /// known. Default true.
    same_host: Option<bool>,
    /// Accepts requests without Origin, such as those of programs and plain navigation. Default true.
    without_origin: Option<bool>,
}

struct OriginCheck {
    origins: Origins,
    same_host: bool,
    without_origin: bool,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: OriginCheckSettings = settings.read()?;
    let origins = Origins::parse(&written.origins)?;
    if origins.is_any() {
        let place = written.origins.iter().find(|text| text.value == "*").map(|text| &text.place);
        let problem =
            Problem::new("a check that accepts `*` has no effect").help("list origins, or remove the plugin");
        return Err(problem.at(place.unwrap_or(settings.place())).into());
    }
    let (same_host, without_origin) =
        (written.same_host.unwrap_or(true), written.without_origin.unwrap_or(true));
    if origins.is_empty() && !same_host {
        let problem = Problem::new("no origin is accepted").at(settings.place_of("same_host"));
        return Err(problem.help("list origins under `origins:`, or remove `same_host`").into());
    }
    Ok(Box::new(OriginCheck { origins, same_host, without_origin }))
}

impl OriginCheck {
    fn allows(&self, request: &Request<'_>, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(ORIGIN).iter();
        match (all.next(), all.next()) {
            (None, _) => self.without_origin,
            (Some(origin), None) => {
                self.origins.allow(origin.as_bytes())
                    || self.same_host && is_own(origin.as_bytes(), request, headers)
            }
            _ => false,
        }
    }
}

/// Whether the origin is the requested host, with its port and scheme. A page from http, which anyone on the path
/// can modify, does not belong to the https site. If a load balancer in front may have terminated TLS, the scheme
/// is unknown and both are accepted.
fn is_own(origin: &[u8], request: &Request<'_>, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return false };
    let Ok(origin) = str::from_utf8(origin) else { return false };
    let Some((scheme, name)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    if request.scheme_is_certain && scheme != request.scheme {
        return false;
    }
    let Ok(host) = host.to_str() else { return false };
    let bare = host.strip_suffix(usual).unwrap_or(host);
    !name.is_empty() && name.strip_suffix(usual).unwrap_or(name).eq_ignore_ascii_case(bare)
}

impl Plugin for OriginCheck {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        match self.allows(&exchange.request, &exchange.headers) {
            true => Flow::Continue,
            false => exchange.refuse(StatusCode::FORBIDDEN, "origin_denied").into(),
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

    fn enters(written: &Value, host: &str, origins: &[&str]) -> bool {
        let plugin = build(&settings(written.clone())).unwrap();
        let visit = TestExchange::new("/").field("host", host);
        let mut visit = origins.iter().fold(visit, |visit, origin| visit.field("origin", origin));
        matches!(visit.request_headers(&*plugin), Verdict::Continue)
    }

    #[test]
    fn listed_origins_and_the_requested_host_pass() {
        let written = json!({ "origins": ["https://*.b.example"] });
        for (host, origin, fine) in [
            ("a.example", "https://x.b.example", true),
            ("a.example", "https://a.example", true),
            ("A.example:443", "https://a.example", true),
            ("a.example:8443", "https://a.example:8443", true),
            ("a.example", "http://a.example:80", true),
            ("a.example", "https://a.example:8443", false),
            ("a.example:8443", "https://a.example", false),
            ("a.example", "https://evil.org", false),
            ("a.example", "https://a.example.evil.org", false),
            ("a.example", "null", false),
            ("a.example", "", false),
            ("", "https://", false),
        ] {
            assert_eq!(enters(&written, host, &[origin]), fine, "{host} {origin}");
        }
        assert!(!enters(&written, "a.example", &["https://a.example", "https://a.example"]));
        let listed = json!({ "origins": ["https://b.example"], "same_host": false });
        assert!(!enters(&listed, "a.example", &["https://a.example"]));
    }

    #[test]
    fn the_scheme_counts_where_it_is_known() {
        let plugin = build(&settings(json!({}))).unwrap();
        for (scheme, scheme_is_certain, origin, fine) in [
            ("https", true, "https://a.example", true),
            ("https", true, "http://a.example", false),
            ("https", true, "http://a.example:443", false),
            ("http", true, "https://a.example", false),
            ("http", true, "http://a.example", true),
            ("http", false, "https://a.example", true),
            ("http", false, "http://a.example", true),
        ] {
            let mut visit = TestExchange::new("/").field("host", "a.example").field("origin", origin);
            let allowed = visit.with_exchange(|exchange| {
                exchange.request = Request { scheme, scheme_is_certain, ..exchange.request };
                matches!(plugin.request_headers(exchange), Flow::Continue)
            });
            assert_eq!(allowed, fine, "{scheme} {scheme_is_certain} {origin}");
        }
    }

    #[test]
    fn a_request_without_origin_passes_by_default() {
        assert!(enters(&json!({}), "a.example", &[]));
        assert!(!enters(&json!({ "without_origin": false }), "a.example", &[]));
    }

    #[test]
    fn a_check_without_effect_is_refused() {
        for bad in [json!({ "origins": ["*"] }), json!({ "same_host": false }), json!({ "origins": ["a"] })] {
            assert!(build(&settings(bad.clone())).is_err(), "{bad}");
        }
    }
}
