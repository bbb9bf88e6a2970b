//! Sets the field X-Greeting of requests and responses: `- { kind: my_plugin, greeting: hello }`.

use http::{HeaderName, HeaderValue};
use moongate_config::{Kind, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;

const FIELD: HeaderName = HeaderName::from_static("x-greeting");

/// The entry in the table of kinds; `kind: my_plugin` selects it.
pub const KIND: Kind<dyn Plugin> = Kind {
    name: "my_plugin",
    about: "Sets the field X-Greeting of requests and responses",
    schema: <MyPluginSettings as JsonSchema>::json_schema,
    build,
};

/// The settings. `moongate kinds my_plugin` and editors show their comments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MyPluginSettings {
    /// Sets X-Greeting to this text. Required.
    greeting: String,
}

struct MyPlugin {
    greeting: HeaderValue,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: MyPluginSettings = settings.read()?;
    let Ok(greeting) = written.greeting.parse() else {
        return Err(Problem::new("`greeting` has a character that is invalid in a header field").into());
    };
    Ok(Box::new(MyPlugin { greeting }))
}

impl Plugin for MyPlugin {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, response_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        exchange.headers.set(&FIELD, self.greeting.clone());
        Flow::Continue
    }

    fn response_headers<'f>(&'f self, _: &'f mut Exchange<'_>, response: &'f mut Response<'_>) -> Flow<'f> {
        response.headers.set(&FIELD, self.greeting.clone());
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moongate_sdk::testing::{TestExchange, settings};

    #[test]
    fn the_greeting_is_set_in_both_directions() {
        let plugin = build(&settings(serde_json::json!({ "greeting": "hello" }))).ok().unwrap();
        let mut visit = TestExchange::new("/");
        visit.request_headers(&*plugin);
        visit.response_headers(&*plugin);
        assert!(visit.request["x-greeting"] == "hello" && visit.response["x-greeting"] == "hello");
    }
}
