//! Security response headers, with defaults that break few sites. Fields of the backend are kept.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "security_headers",
    about: "Adds security response headers",
    schema: <SecurityHeadersSettings as JsonSchema>::json_schema,
    build,
};

/// The minimum max-age of browsers' preload lists, in seconds.
const PRELOAD_AGE: u64 = 365 * 86_400;

/// The settings; `off` leaves a field out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecurityHeadersSettings {
    /// Sends Strict-Transport-Security with this duration, over HTTPS only. HTTPS may end at a trusted proxy. `0s`
    /// makes browsers forget the host. Default not sent.
    hsts: Option<Placed<Period>>,
    /// Adds `includeSubDomains`. Needs `hsts`. Default false.
    #[serde(default)]
    hsts_include_subdomains: bool,
    /// Adds `preload` for browsers' preload lists. Needs `hsts` of at least `365d` and `hsts_include_subdomains`.
    /// Default false.
    #[serde(default)]
    hsts_preload: bool,
    /// Sets X-Frame-Options: `DENY` or `SAMEORIGIN`. Default SAMEORIGIN.
    frame_options: Option<Placed<String>>,
    /// Sets X-Content-Type-Options: `nosniff`. Default nosniff.
    content_type_options: Option<Placed<String>>,
    /// Sets Referrer-Policy. Default strict-origin-when-cross-origin.
    referrer_policy: Option<Placed<String>>,
    /// Sets Content-Security-Policy. Default off.
    content_security_policy: Option<Placed<String>>,
    /// Sets Permissions-Policy. Default off.
    permissions_policy: Option<Placed<String>>,
    /// Sets Cross-Origin-Opener-Policy. Default off.
    cross_origin_opener_policy: Option<Placed<String>>,
}

struct SecurityHeaders {
    fields: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: SecurityHeadersSettings = settings.read()?;
    let mut problems = Problems::default();
    let hsts = problems.keep(hsts(settings, &written).map_err(Problems::from)).flatten();
    for (text, known) in
        [(&written.frame_options, &["DENY", "SAMEORIGIN"][..]), (&written.content_type_options, &["nosniff"])]
    {
        let wrong = text.as_ref().filter(|text| text.value != "off" && !known.contains(&text.as_str()));
        problems.0.extend(wrong.map(|text| {
            let problem = Problem::new(format!("unknown value `{}`", text.value)).at(&text.place);
            problem.label(format!("{} or off", known.join(", ")))
        }));
    }
    let lines = [
        (X_FRAME_OPTIONS, &written.frame_options, "SAMEORIGIN"),
        (X_CONTENT_TYPE_OPTIONS, &written.content_type_options, "nosniff"),
        (REFERRER_POLICY, &written.referrer_policy, "strict-origin-when-cross-origin"),
        (CONTENT_SECURITY_POLICY, &written.content_security_policy, "off"),
        (HeaderName::from_static("permissions-policy"), &written.permissions_policy, "off"),
        (HeaderName::from_static("cross-origin-opener-policy"), &written.cross_origin_opener_policy, "off"),
    ];
    let mut fields = Vec::new();
    for (name, text, usual) in lines {
        let value = text.as_ref().map_or(usual, |text| text.as_str());
        if value == "off" {
            continue;
        }
        match (HeaderValue::from_str(value), text) {
            (Ok(value), _) => fields.push((name, value)),
            (Err(_), Some(text)) => {
                let problem =
                    Problem::new("a field value must be one line of plain characters").at(&text.place);
                problems.push(problem.help("join long lines with YAML's `>-`"));
            }
            (Err(_), None) => {}
        }
    }
    if problems.refuse() { Err(problems) } else { Ok(Box::new(SecurityHeaders { fields, hsts })) }
}

fn hsts(settings: &Settings, written: &SecurityHeadersSettings) -> Result<Option<HeaderValue>, Problem> {
    let Some(age) = &written.hsts else {
        let needs = match (written.hsts_include_subdomains, written.hsts_preload) {
            (true, _) => "hsts_include_subdomains",
            (false, true) => "hsts_preload",
            (false, false) => return Ok(None),
        };
        let problem = Problem::new(format!("`{needs}` needs `hsts`")).label("write `hsts: 365d` too");
        return Err(problem.at(settings.place_of(needs)));
    };
    let seconds = age.0.as_secs();
    if written.hsts_preload && (seconds < PRELOAD_AGE || !written.hsts_include_subdomains) {
        let problem = Problem::new("preload lists do not accept this host").at(&age.place);
        return Err(problem.help("they require `hsts: 365d` at least, and `hsts_include_subdomains: true`"));
    }
    let mut text = format!("max-age={seconds}");
    if written.hsts_include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if written.hsts_preload {
        text.push_str("; preload");
    }
    Ok(HeaderValue::from_str(&text).ok())
}

impl Plugin for SecurityHeaders {
    fn phases(&self) -> Phases {
        Phases { response_headers: true, ..Phases::default() }
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return Flow::Continue;
        }
        for (name, value) in &self.fields {
            if !response.headers.contains_key(name) {
                response.headers.set(name, value.clone());
            }
        }
        if let Some(hsts) = &self.hsts
            && exchange.request.scheme == "https"
            && !response.headers.contains_key(STRICT_TRANSPORT_SECURITY)
        {
            response.headers.set(&STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use http::HeaderMap;
    use moongate_sdk::Headers;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    /// The fields of a response to a client with this scheme.
    fn response_fields(
        written: Value,
        scheme: &'static str,
        backend: &[(&'static str, &'static str)],
    ) -> HeaderMap {
        let plugin = build(&settings(written)).unwrap();
        let mut fields = HeaderMap::new();
        for (name, value) in backend {
            fields.insert(*name, HeaderValue::from_static(value));
        }
        TestExchange::new("/").with_exchange(|exchange| {
            exchange.request.scheme = scheme;
            let headers = Headers::response(&mut fields);
            let mut response = Response { status: StatusCode::OK, headers, endpoint: None };
            let _ = plugin.response_headers(exchange, &mut response);
        });
        fields
    }

    #[test]
    fn the_defaults_are_set_unless_the_backend_sets_them() {
        let fields = response_fields(json!({}), "https", &[("x-frame-options", "DENY")]);
        assert_eq!(fields["x-frame-options"], "DENY");
        assert_eq!(fields["x-content-type-options"], "nosniff");
        assert_eq!(fields["referrer-policy"], "strict-origin-when-cross-origin");
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn configured_values_are_sent_and_off_is_not() {
        let written = json!({
            "frame_options": "off", "referrer_policy": "off", "content_type_options": "off",
            "content_security_policy": "default-src 'self'", "permissions_policy": "camera=()",
            "cross_origin_opener_policy": "same-origin",
        });
        let fields = response_fields(written, "http", &[]);
        assert_eq!(fields["content-security-policy"], "default-src 'self'");
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn hsts_is_sent_over_https_only() {
        let written = json!({ "hsts": "365d", "hsts_include_subdomains": true, "hsts_preload": true });
        let fields = response_fields(written.clone(), "https", &[]);
        assert_eq!(fields["strict-transport-security"], "max-age=31536000; includeSubDomains; preload");
        assert!(!response_fields(written, "http", &[]).contains_key("strict-transport-security"));
        assert_eq!(
            response_fields(json!({ "hsts": 0 }), "https", &[])["strict-transport-security"],
            "max-age=0"
        );
    }

    #[test]
    fn values_that_browsers_reject_are_refused() {
        for bad in [
            json!({ "frame_options": "ALLOW-FROM https://a" }),
            json!({ "content_type_options": "sniff" }),
            json!({ "content_security_policy": "a\nb" }),
            json!({ "hsts_preload": true }),
            json!({ "hsts": "1d", "hsts_include_subdomains": true, "hsts_preload": true }),
            json!({ "hsts": "365d", "hsts_preload": true }),
        ] {
            assert!(build(&settings(bad.clone())).is_err(), "{bad}");
        }
    }
}
