//! Tests of scripts, each through the plugin as the gateway calls it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod abuse;
mod calls;
mod phases;
mod scripts;

use crate::settings::KIND;
use moongate_config::Problems;
use moongate_sdk::testing::{TestExchange, settings};
use moongate_sdk::{Plugin, Verdict};
use serde_json::{Value, json};

/// The plugin with these settings.
fn built(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    (KIND.build)(&settings(written))
}

/// The plugin of this script.
fn plugin(source: &str) -> Box<dyn Plugin> {
    match built(json!({ "source": source })) {
        Ok(plugin) => plugin,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// The problem with these settings.
fn wrong(written: Value) -> String {
    built(written).err().expect("it is refused").0[0].to_string()
}

/// The request phase, which must fail.
fn fault(plugin: &dyn Plugin, visit: &mut TestExchange) -> String {
    match visit.request_headers(plugin) {
        Verdict::Failed(fault) => fault.to_string(),
        other => panic!("a fault was expected, not {other:?}"),
    }
}

/// The response text of a script with this body to `GET /a?b=c`.
fn says(body: &str) -> String {
    let plugin = plugin(&format!("function request_headers(req)\n{body}\nend"));
    let mut visit = TestExchange::new("/a?b=c").field("x-team", "blue");
    let reply = visit.expect_reply(&*plugin);
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// The fault of a script with this body, which must fail.
fn raises(body: &str) -> String {
    let plugin = plugin(&format!("function request_headers(req)\n{body}\nend"));
    fault(&*plugin, &mut TestExchange::new("/a?b=c").field("x-team", "blue"))
}
