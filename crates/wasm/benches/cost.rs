//! The cost of a filter per request: `cargo bench -p moongate-wasm`.
//!
//! Prints nanoseconds per stream in the best of several rounds: its context, the request head with one field read
//! and one set, the response head with one set, and the end.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use http::StatusCode;
use moongate_sdk::Plugin;
use moongate_sdk::testing::{TestExchange, settings};
use moongate_wasm::KIND;
use serde_json::json;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 7;
const STREAMS: u32 = 50_000;

fn main() {
    for (name, isolation) in [
        ("c.wasm", "worker"),
        ("rust-http.wasm", "worker"),
        ("assemblyscript.wasm", "worker"),
        ("c.wasm", "request"),
        ("rust-http.wasm", "request"),
    ] {
        let module = format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let written = json!({ "module": module, "isolation": isolation });
        let plugin = (KIND.build)(&settings(written)).unwrap_or_else(|problems| panic!("{problems:?}"));
        let spent = (0..ROUNDS).map(|_| round(&*plugin)).min().unwrap_or_default();
        let bare = (0..ROUNDS).map(|_| visits(None)).min().unwrap_or_default();
        let each = spent.saturating_sub(bare) / STREAMS;
        println!("{name:<22} isolation: {isolation:<8} {:>7} ns per stream", each.as_nanos());
    }
}

fn round(plugin: &dyn Plugin) -> Duration {
    visits(Some(plugin))
}

/// Requests, with or without a plugin: the cost of the requests themselves is subtracted.
fn visits(plugin: Option<&dyn Plugin>) -> Duration {
    let began = Instant::now();
    for _ in 0..STREAMS {
        let mut visit = TestExchange::new("/a?b=c").field("x-team", "blue").field("user-agent", "a bench");
        let Some(plugin) = plugin else { continue };
        visit.request_headers(plugin);
        visit.response_headers(plugin);
        if plugin.phases().log {
            visit.with_exchange(|exchange| plugin.log(exchange, Some(StatusCode::OK)));
        }
    }
    began.elapsed()
}
