//! CPU of the whole gateway for a request through 0, 1 and 5 plugins of each tier, Moongate alone: the other
//! gateways have no equivalent. Every tier does the same work, one field each way.

use crate::Outcome;
use crate::cases::cost::{self, Cost, Sample};
use crate::cases::{Bench, Contestant, Disturbed, failures};
use crate::gateway::{Gateway, Installed};
use crate::http;
use crate::table::{Spread, Table};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Reads X-Team, writes X-Seen-Team to the backend and X-Filter to the client, as every tier here does.
const MODULE: &[u8] = include_bytes!("../../../crates/wasm/fixtures/c.wasm");

/// The field that the filters read.
const FIELDS: &str = "X-Team: blue\r\n";

/// Timeout of a probe.
const PATIENCE: Duration = Duration::from_secs(5);

const PAGES: Cost = Cost {
    name: "plugins",
    title: "plugins: a keep-alive GET of 2 bytes through plugins that write a field each way; 16 connections, 100 routes",
    open: |target, stop| cost::readers(target, stop, FIELDS),
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
type Row = (&'static str, Tier, usize);

/// The first row is the baseline of the others.
const ROWS: [Row; 9] = [
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
            PAGES.title
        );
        return Ok(Vec::new());
    };
    let module = bench.ground.directory.join("filter.wasm");
    fs::write(&module, MODULE)?;
    let gateways = ROWS.map(|(_, tier, count)| {
        let plugins = (0..count).map(|number| entry(tier, number, &module)).collect::<Vec<_>>().join(", ");
        Installed { plugins, ..moongate.clone() }
    });
    let mut contestants: Vec<_> =
        ROWS.iter().zip(&gateways).map(|((name, ..), gateway)| Contestant::new(name, gateway)).collect();
    bench.rounds(bench.options.rounds, Disturbed::Again, &mut contestants, |contestant| {
        // A second, idle gateway would run its timers on the same CPU.
        let mut gateway = Gateway::start(contestant.installed, &bench.ground)?;
        probe(&gateway, !contestant.installed.plugins.is_empty())?;
        cost::sample(bench, &PAGES, &mut gateway)
    })?;
    print(bench, &contestants);
    Ok(failures(&contestants))
}

/// The `number`th plugin of a tier, as an entry of a list in YAML.
fn entry(tier: Tier, number: usize, module: &Path) -> String {
    let fields = "request: { set: { X-Seen-Team: blue } }, response: { set: { X-Filter: bench } }";
    match tier {
        Tier::Native => format!("{{ kind: headers, name: p{number}, {fields} }}"),
        Tier::Cel => {
            let when = "when: 'request.headers[\"x-team\"] == \"blue\"'";
            format!("{{ kind: headers, name: p{number}, {when}, {fields} }}")
        }
        Tier::Wasm => format!("{{ kind: wasm, name: p{number}, module: \"{}\" }}", module.display()),
        Tier::Luau => {
            let ask = "function request_headers(req) req:set_header('x-seen-team', req:header('x-team')) end";
            let answer = "function response_headers(req, res) res:set_header('x-filter', 'bench') end";
            format!("{{ kind: luau, name: p{number}, source: \"{ask} {answer}\" }}")
        }
    }
}

/// Sends one request before the load: a plugin that is not loaded would cost nothing.
fn probe(gateway: &Gateway, filtered: bool) -> Outcome<()> {
    let mut stream = TcpStream::connect_timeout(&gateway.target.plain, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&http::page(0, FIELDS))?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        let length = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..length]);
        match http::whole_answer(&answer)? {
            Some(end) => break end,
            None if length == 0 => return Err("the gateway closed the connection in a response".into()),
            None => {}
        }
    };
    match http::field(&answer[..end], "x-filter").is_some() == filtered {
        true => Ok(()),
        false => Err("the response did not pass the plugins of its row".into()),
    }
}

fn print(bench: &Bench, contestants: &[Contestant<'_, Sample>]) {
    let mut table = Table::new(&["", "CPU us/op", "user", "ops/s", "over none", "per plugin"]);
    let Some(none) = contestants.first() else { return };
    for (contestant, (_, _, count)) in contestants.iter().zip(&ROWS) {
        if contestant.samples.is_empty() {
            continue;
        }
        let spread = |of: fn(&Sample) -> f64| Spread::of(contestant.samples.iter().map(of));
        // Computed within a round, like the ratios of the other cases.
        let more = |share: f64| {
            let pairs = contestant.samples.iter().zip(&none.samples);
            Spread::of(pairs.map(|(own, none)| (own.micros - none.micros) / share)).show(2)
        };
        let compared = *count > 0 && !none.samples.is_empty();
        table.row(vec![
            contestant.name.to_owned(),
            spread(|sample| sample.micros).show(2),
            format!("{:.0} %", spread(|sample| sample.user * 100.0).median),
            format!("{:.0}", spread(|sample| sample.rate).median),
            if compared { more(1.0) } else { "-".into() },
            if compared { more(*count as f64) } else { "-".into() },
        ]);
    }
    println!("\n{}", PAGES.title);
    table.print();
    bench.print_circumstances(contestants);
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
