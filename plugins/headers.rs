//! Header fields of requests and responses: set, add and remove.
//!
//! Fields of framing and of one connection are excluded: a change could make the gateway and a backend disagree
//! about the end of a message.

use http::{HeaderName, HeaderValue, header};
use indexmap::IndexMap;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_expr::{ExpressionPhase, Template};
use moongate_sdk::{Exchange, Flow, Headers, Phases, Plugin, Response, is_reserved_header, is_same_spelling};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "headers",
    about: "Sets, adds and removes header fields",
    schema: <HeadersSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeadersSettings {
    /// Changes the request before it is forwarded. Default none.
    #[serde(default)]
    request: Changes,
    /// Changes the response before it is sent to the client. Default none.
    #[serde(default)]
    response: Changes,
}

/// Changes: fields are removed first, then set, then added.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Changes {
    /// Replaces all fields of a name. A mapping of names to values with placeholders: `{client_ip}`, `{host}`,
    /// `{method}`, `{path}`, `{query}`, `{request_id}`, `{route}`, `{scheme}`, and `{cel: …}` for an expression;
    /// `{{` and `}}` are literal braces. In a request, spellings with `_` count as the same name. Default none.
    set: IndexMap<String, Placed<String>>,
    /// Adds a field and keeps others of its name. A mapping as `set`. Default none.
    add: IndexMap<String, Placed<String>>,
    /// Removes all fields of these names, in a request also in spellings with `_`. A list. Default none.
    remove: Vec<Placed<String>>,
}

struct HeadersPlugin {
    request: Vec<Edit>,
    response: Vec<Edit>,
}

enum Edit {
    Remove(HeaderName),
    Set(HeaderName, Template),
    Add(HeaderName, Template),
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: HeadersSettings = settings.read()?;
    let mut problems = Problems::default();
    let request = edits(&mut problems, &written.request, ExpressionPhase::Request);
    let response = edits(&mut problems, &written.response, ExpressionPhase::Response);
    if problems.refuse() {
        return Err(problems);
    }
    if request.is_empty() && response.is_empty() {
        let problem = Problem::new("`headers` changes nothing").at(settings.place());
        return Err(problem
            .help("write `request:` or `response:` with `set`, `add` or `remove` below it")
            .into());
    }
    Ok(Box::new(HeadersPlugin { request, response }))
}

fn edits(problems: &mut Problems, changes: &Changes, phase: ExpressionPhase) -> Vec<Edit> {
    let mut edits = Vec::new();
    for name in &changes.remove {
        let edit = changeable(name).map(Edit::Remove).map_err(|problem| problem.at(&name.place).into());
        edits.extend(problems.keep(edit));
    }
    let mut seen = Vec::new();
    for (name, value) in &changes.set {
        let edit = field(name).and_then(|name| {
            if seen.contains(&name) {
                return Err(
                    Problem::new(format!("`{name}` is set twice")).help("names are equal in any case")
                );
            }
            seen.push(name.clone());
            Ok(Edit::Set(name, Template::parse_for(value, phase)?))
        });
        edits.extend(problems.keep(edit.map_err(|problem| problem.at(&value.place).into())));
    }
    for (name, value) in &changes.add {
        let edit = changeable(name).and_then(|name| Ok(Edit::Add(name, Template::parse_for(value, phase)?)));
        edits.extend(problems.keep(edit.map_err(|problem| problem.at(&value.place).into())));
    }
    edits
}

/// A field that may be set.
pub(crate) fn field(name: &str) -> Result<HeaderName, Problem> {
    let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(Problem::new(format!("`{name}` is not a field name"))
            .help("a name has letters, digits and `-`, as in `X-Team`"));
    };
    if is_reserved_header(&field) {
        return Err(Problem::new(format!("`{name}` is the gateway's own"))
            .help("such fields frame messages or belong to one connection"));
    }
    Ok(field)
}

/// A field that may also be removed or occur more than once.
fn changeable(name: &str) -> Result<HeaderName, Problem> {
    match field(name)? {
        header::HOST => {
            Err(Problem::new("there is exactly one `Host`").help("write `Host` under `set:` to replace it"))
        }
        field => Ok(field),
    }
}

impl Plugin for HeadersPlugin {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: !self.request.is_empty(),
            response_headers: !self.response.is_empty(),
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        for (at, edit) in self.request.iter().enumerate() {
            let value = edit.value(exchange, None);
            // An operator may set two spellings; the first one stays.
            let is_set_before = |name: &HeaderName| {
                let is_same = |other: &HeaderName| is_same_spelling(other.as_str(), name.as_str());
                self.request[..at].iter().any(|edit| matches!(edit, Edit::Set(other, _) if is_same(other)))
            };
            match (edit, value) {
                (Edit::Set(name, _), Some(value)) if is_set_before(name) => {
                    exchange.headers.set_exact(name, value);
                }
                (Edit::Set(name, _), None) if is_set_before(name) => exchange.headers.remove_exact(name),
                (edit, value) => edit.apply(value, &mut exchange.headers),
            }
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        for edit in &self.response {
            let value = edit.value(exchange, Some(response));
            edit.apply(value, &mut response.headers);
        }
        Flow::Continue
    }
}

impl Edit {
    fn value(&self, exchange: &mut Exchange<'_>, response: Option<&Response<'_>>) -> Option<HeaderValue> {
        let (Self::Set(_, template) | Self::Add(_, template)) = self else { return None };
        match response {
            Some(response) => template.fill_with_response(exchange, response),
            None => template.fill(exchange),
        }
    }

    /// A field without a value is removed: no stale or forged value remains.
    fn apply(&self, value: Option<HeaderValue>, fields: &mut Headers<'_>) {
        match (self, value) {
            (Self::Set(name, _), Some(value)) => fields.set(name, value),
            (Self::Add(name, _), Some(value)) => fields.append(name, value),
            (Self::Remove(name) | Self::Set(name, _), None) => fields.remove(name),
            (Self::Add(..), None) | (Self::Remove(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
        build(&settings(written))
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let plugin = plugin(json!({
            "request": {
                "set": { "X-Client": "{client_ip}", "Host": "inner" },
                "add": { "x-a": "two", "X-Gone": "back" },
                "remove": ["x-gone"],
            },
            "response": { "set": { "Strict-Transport-Security": "max-age=1" } },
        }))
        .unwrap();
        let visit = TestExchange::new("/a").field("x-a", "one").field("x-gone", "here");
        let mut visit = visit.field("x-client", "forged").field("host", "outer");
        visit.request_headers(&*plugin);
        visit.response_headers(&*plugin);
        let all = |name| visit.request.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-a"), ["one", "two"]);
        assert_eq!(all("x-gone"), ["back"]);
        assert_eq!((all("x-client"), all("host")), (vec!["127.0.0.1"], vec!["inner"]));
        assert_eq!(visit.response["strict-transport-security"], "max-age=1");
    }

    #[test]
    fn a_value_that_cannot_be_computed_removes_its_field() {
        let plugin = plugin(json!({
            "request": { "set": {
                "x-area": "{cel: request.path.split('/')[1]}",
                "x-number": "{cel: string(int(request.headers['x-forged']))}",
            } },
            "response": { "set": { "x-late": "{cel: response.status >= 500 ? 'yes' : 'no'}" } },
        }))
        .unwrap();
        let mut visit = TestExchange::new("/area/7").field("x-number", "forged").field("x-forged", "many");
        visit.request_headers(&*plugin);
        visit.response_headers(&*plugin);
        assert_eq!(visit.request["x-area"], "area");
        assert!(!visit.request.contains_key("x-number"));
        assert_eq!(visit.response["x-late"], "no");
    }

    #[test]
    fn a_clients_spellings_of_a_set_or_removed_field_are_removed() {
        let plugin = plugin(json!({
            "request": {
                "set": {
                    "X-Client-Subject": "ours",
                    "X-Late-One": "{cel: string(int(request.headers['x-none']))}",
                    "X-Both-One": "ours",
                    "X_Both_One": "ours",
                },
                "remove": ["x-gone-one"],
                "add": { "x-more-one": "ours" },
            },
            "response": { "set": { "x-response-one": "ours" } },
        }))
        .unwrap();
        let mut visit = TestExchange::new("/");
        for name in ["client-subject", "late-one", "gone-one", "more-one", "both-one"] {
            for spelling in [name.to_owned(), name.replace('-', "_")] {
                visit = visit.field(&format!("x-{spelling}"), "forged");
                visit = visit.field(&format!("x_{spelling}"), "forged");
            }
        }
        visit.response.insert("x_response_one", HeaderValue::from_static("theirs"));
        visit.request_headers(&*plugin);
        visit.response_headers(&*plugin);
        let spoken = |name: &str| visit.request.keys().filter(|key| key.as_str().contains(name)).count();
        assert_eq!((spoken("subject"), spoken("late"), spoken("gone")), (1, 0, 0));
        assert_eq!(visit.request["x-client-subject"], "ours");
        assert_eq!((spoken("both"), visit.request["x_both_one"].as_bytes()), (2, &b"ours"[..]));
        assert_eq!(spoken("more"), 4, "`add` keeps the others");
        assert_eq!(visit.response["x_response_one"], "theirs");
    }

    #[test]
    fn its_phases_follow_from_its_changes() {
        let response_plugin = plugin(json!({ "response": { "set": { "x": "one" } } })).unwrap();
        assert_eq!(response_plugin.phases(), Phases { response_headers: true, ..Phases::default() });
        assert!(plugin(json!({})).is_err());
    }

    #[test]
    fn the_gateways_own_fields_are_refused() {
        for name in [
            "Connection",
            "transfer-encoding",
            "Content-Length",
            "Upgrade",
            "Sec-WebSocket-Key",
            "Keep-Alive",
        ] {
            for changes in [json!({ "set": { name: "x" } }), json!({ "remove": [name] })] {
                let problems = plugin(json!({ "request": changes })).err().unwrap();
                assert_eq!(problems.0[0].message, format!("`{name}` is the gateway's own"));
            }
        }
        assert!(plugin(json!({ "request": { "remove": ["Host"] } })).is_err());
        assert!(plugin(json!({ "request": { "set": { "X-A": "one", "x-a": "two" } } })).is_err());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let set = json!({ "a b": "one", "ok": "{nope}", "Upgrade": "x" });
        assert_eq!(plugin(json!({ "request": { "set": set } })).err().unwrap().0.len(), 3);
    }
}
