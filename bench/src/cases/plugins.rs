//! CPU time of a request through 0, 1 and 5 plugins of each tier. Moongate only: the other gateways have no
//! equivalent. Every tier does the same work: one field set in each direction.

use crate::Outcome;
use crate::cases::cost::{self, Cost, OPERATION, Sample};
use crate::cases::{Bench, NoiseHandling, SampleSeries, cost_cases, failures};
use crate::gateway::{Gateway, InstalledGateway, Setup};
use crate::http;
use crate::table::{Spread, Table, digits};
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

/// Measures the rounds, each with a new process, and prints the table.
pub(crate) fn measure(bench: &Bench) -> Outcome<Vec<String>> {
    let Some(moongate) = bench.installed.iter().find(|installed| installed.kind.name == "moongate") else {
        println!(
            "\n{}\n  skipped: moongate is not selected, and the other gateways have no such plugins",
            GETS.title
        );
        return Ok(Vec::new());
    };
    let module = bench.environment.directory.join("filter.wasm");
    fs::write(&module, MODULE)?;
    let gateways = ROWS.map(|(_, tier, count)| {
        let plugins =
            (0..count).map(|number| plugin_entry(tier, number, &module)).collect::<Vec<_>>().join(", ");
        InstalledGateway { plugins, ..moongate.clone() }
    });
    let mut series: Vec<_> = ROWS
        .iter()
        .zip(&gateways)
        .map(|((name, ..), gateway)| SampleSeries::new(name, gateway, GETS.setup))
        .collect();
    bench.rounds(bench.options.rounds, NoiseHandling::Repeat, &mut series, |series| {
        // A second, idle gateway would run its timers on the same CPU.
        let mut gateway = Gateway::start(series.installed, series.setup, &bench.environment)?;
        check_plugins(&gateway, !series.installed.plugins.is_empty())?;
        cost::sample(bench, &GETS, &mut gateway)
    })?;
    print(bench, &series);
    Ok(failures(&series))
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
fn check_plugins(gateway: &Gateway, filtered: bool) -> Outcome<()> {
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
    match http::field(&response[..end], "x-filter").is_some() == filtered {
        true => Ok(()),
        false => Err("the response did not pass the plugins of its row".into()),
    }
}

fn print(bench: &Bench, series: &[SampleSeries<'_, Sample>]) {
    let mut table = Table::new(["", "CPU us/op", "user", "kernel", "op/s", "over none", "per plugin"]);
    let Some(none) = series.first() else { return };
    for (gateway, (_, _, count)) in series.iter().zip(&ROWS) {
        if gateway.samples.is_empty() {
            continue;
        }
        let spread = |of: fn(&Sample) -> f64| Spread::new(gateway.samples.iter().map(of));
        // Computed within a round, like the ratios of the other cases.
        let more = |share: f64| {
            let pairs = gateway.samples.iter().zip(&none.samples);
            Spread::new(pairs.map(|(sample, none)| (sample.cpu - none.cpu) / share)).show(2)
        };
        let compared = *count > 0 && !none.samples.is_empty();
        let cpu = spread(|sample| sample.cpu);
        table.row(vec![
            gateway.name.to_owned(),
            cpu.show(digits(cpu.median)),
            cost::show(spread(|sample| sample.user).median),
            cost::show(spread(|sample| sample.kernel).median),
            cost::show(spread(|sample| sample.rate).median),
            if compared { more(1.0) } else { "-".into() },
            if compared { more(*count as f64) } else { "-".into() },
        ]);
    }
    println!("\n{}", GETS.title);
    table.print();
    bench.print_conditions(series);
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
