//! CPU time of a request through 0, 1 and 5 plugins of each tier. Moongate only: the other gateways have no
//! equivalent. Every tier does the same work: one field set in each direction.

use crate::Outcome;
use crate::cases::cost::{Cost, OPERATION};
use crate::cases::variants::{Comparison, Variant};
use crate::cases::{Bench, cost_cases};
use crate::gateway::{Gateway, Setup};
use crate::http;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Reads X-Team, writes X-Seen-Team to the backend and X-Filter to the client, as every tier here does.
const MODULE: &[u8] = include_bytes!("../../../crates/wasm/fixtures/c.wasm");

/// The field that the filters read.
const FIELDS: &str = "X-Team: blue\r\n";

/// The timeout of the request that checks the plugins.
const TIMEOUT: Duration = Duration::from_secs(5);

const GETS: Cost = Cost {
    name: "plugins",
    title: "plugins: a keep-alive GET of 2 bytes through plugins that write a field each way; 16 connections, 100 routes",
    setup: Setup::Full,
    unit: &OPERATION,
    open: |target, stop| cost_cases::keepalive_clients(target, stop, FIELDS),
};

/// A tier of plugins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// Compiled in.
    Native,
    /// Compiled in, with a condition.
    Cel,
    /// A WebAssembly module.
    Wasm,
    /// A script.
    Luau,
}

/// A row: its name, and the number of plugins of a tier.
type PluginRow = (&'static str, Tier, usize);

/// The first row is the baseline of the others.
const ROWS: [PluginRow; 9] = [
    ("none", Tier::Native, 0),
    ("native", Tier::Native, 1),
    ("native, 5", Tier::Native, 5),
    ("CEL", Tier::Cel, 1),
    ("CEL, 5", Tier::Cel, 5),
    ("wasm", Tier::Wasm, 1),
    ("wasm, 5", Tier::Wasm, 5),
    ("Luau", Tier::Luau, 1),
    ("Luau, 5", Tier::Luau, 5),
];

/// Measures the rounds and prints the table.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let module = bench.environment.directory.join("filter.wasm");
    fs::write(&module, MODULE)?;
    let variant = |(name, tier, parts): PluginRow| {
        let plugins: Vec<_> = (0..parts).map(|number| plugin_entry(tier, number, &module)).collect();
        Variant { name, settings: format!("plugins: [{}]\n", plugins.join(", ")), parts }
    };
    let comparison = Comparison {
        cost: &GETS,
        per_part: Some("per plugin"),
        variants: ROWS.map(variant).into(),
        check: check_plugins,
    };
    comparison.measure(bench)
}

/// The `number`th plugin of a tier, as an entry of a list in YAML.
fn plugin_entry(tier: Tier, number: usize, module: &Path) -> String {
    let fields = "request: { set: { X-Seen-Team: blue } }, response: { set: { X-Filter: bench } }";
    match tier {
        Tier::Native => format!("{{ kind: headers, name: p{number}, {fields} }}"),
        Tier::Cel => {
            let when = "when: 'request.headers[\"x-team\"] == \"blue\"'";
            format!("{{ kind: headers, name: p{number}, {when}, {fields} }}")
        }
        Tier::Wasm => format!("{{ kind: wasm, name: p{number}, module: \"{}\" }}", module.display()),
        Tier::Luau => {
            let request =
                "function request_headers(req) req:set_header('x-seen-team', req:header('x-team')) end";
            let response = "function response_headers(req, res) res:set_header('x-filter', 'bench') end";
            format!("{{ kind: luau, name: p{number}, source: \"{request} {response}\" }}")
        }
    }
}

/// Sends one request before the load: a plugin that is not loaded would cost nothing.
fn check_plugins(gateway: &Gateway, variant: &Variant) -> Outcome<()> {
    let mut stream = TcpStream::connect_timeout(&gateway.target.plain, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&http::get_request(0, FIELDS))?;
    let (mut response, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        let length = stream.read(&mut piece)?;
        response.extend_from_slice(&piece[..length]);
        match http::response_length(&response)? {
            Some(end) => break end,
            None if length == 0 => return Err("the gateway closed the connection in a response".into()),
            None => {}
        }
    };
    let is_filtered = http::field(&response[..end], "x-filter").is_some();
    match is_filtered == (variant.parts > 0) {
        true => Ok(()),
        false => Err("the response did not pass the plugins of its row".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_without_plugins_comes_first_and_every_tier_has_one_and_five() {
        assert_eq!(ROWS[0].2, 0);
        for tier in [Tier::Native, Tier::Cel, Tier::Wasm, Tier::Luau] {
            let counts: Vec<_> = ROWS[1..].iter().filter(|row| row.1 == tier).map(|row| row.2).collect();
            assert_eq!(counts, [1, 5]);
        }
    }
}
