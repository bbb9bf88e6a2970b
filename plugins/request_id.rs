//! Request IDs for the backend, the client, logs and error responses. The gateway generates IDs, which its error
//! responses contain too; this plugin selects the field and decides about IDs from clients.

use http::{HeaderMap, HeaderName, HeaderValue};
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest ID that is adopted from a client.
const LONGEST: usize = 128;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "request_id",
    about: "Assigns a request ID",
    schema: <RequestIdSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RequestIdSettings {
    /// Carries the ID in this field. Default X-Request-Id.
    header: Option<Placed<String>>,
    /// Keeps an ID that the client sent, if it has 1 to 128 letters, digits and `-._~+/=:`. Default false.
    trust: bool,
}

struct RequestId {
    header: HeaderName,
    trust: bool,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: RequestIdSettings = settings.read()?;
    let header = match &written.header {
        None => HeaderName::from_static("x-request-id"),
        Some(name) => crate::headers::field(name).map_err(|problem: Problem| problem.at(&name.place))?,
    };
    Ok(Box::new(RequestId { header, trust: written.trust }))
}

impl Plugin for RequestId {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let theirs = if self.trust { sent(&exchange.headers, &self.header) } else { None };
        if let Some(id) = theirs.cloned() {
            // The field is present once, with the right value.
            exchange.running.set_request_id(id);
        } else {
            let id = exchange.request_id().clone();
            exchange.headers.set(&self.header, id);
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        response.headers.set(&self.header, exchange.request_id().clone());
        Flow::Continue
    }
}

/// The client's ID, if it sent exactly one that is safe in logs.
fn sent<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let id = all.next()?;
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(byte);
    let fits = (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(safe);
    (fits && all.next().is_none()).then_some(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    /// Runs a request with these fields through a plugin with these settings, both directions.
    fn trip(written: Value, fields: &[(&str, &str)]) -> TestExchange {
        let plugin = build(&settings(written)).unwrap();
        let mut visit =
            fields.iter().fold(TestExchange::new("/"), |visit, (name, value)| visit.field(name, value));
        visit.request_headers(&*plugin);
        visit.response_headers(&*plugin);
        visit
    }

    #[test]
    fn the_backend_and_the_client_get_the_same_new_id() {
        let visit = trip(json!({}), &[("x-request-id", "theirs")]);
        let id = &visit.request["x-request-id"];
        assert_eq!((id.len(), id), (32, &visit.response["x-request-id"]));
    }

    #[test]
    fn a_trusted_client_keeps_its_id_when_it_is_a_safe_one() {
        let written = json!({ "header": "X-Trace", "trust": true });
        let visit = trip(written.clone(), &[("x-trace", "abc-1")]);
        assert!(visit.request["x-trace"] == "abc-1" && visit.response["x-trace"] == "abc-1");
        let long = "a".repeat(129);
        for bad in [
            &[("x-trace", "a b")][..],
            &[("x-trace", "")],
            &[("x-trace", &long)],
            &[("x-trace", "a"), ("x-trace", "b")],
        ] {
            let visit = trip(written.clone(), bad);
            assert_eq!(visit.request["x-trace"].len(), 32);
            assert_eq!(visit.request.get_all("x-trace").iter().count(), 1);
        }
    }

    #[test]
    fn a_field_that_frames_messages_cannot_carry_it() {
        for name in ["Content-Length", "connection", "a b", ""] {
            assert!(build(&settings(json!({ "header": name }))).is_err(), "{name}");
        }
    }
}
