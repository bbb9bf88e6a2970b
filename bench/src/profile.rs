//! A CPU profile of Moongate in one case, with `perf record`. Without perf it describes valgrind's
//! instruction counts, which are far slower and need no kernel support.

use crate::Outcome;
use crate::cases::Bench;
use crate::cases::cost::Cost;
use crate::gateway::Gateway;
use crate::process::on_cpu;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Samples per second: not a divisor of common timer rates.
const FREQUENCY: &str = "4999";

/// Records the first installed gateway under the case's load and prints the most expensive symbols.
pub(crate) fn profile(bench: &Bench, cost: &Cost, output: &Path) -> Outcome<()> {
    let installed = bench.installed.first().ok_or("no gateway to profile")?;
    let gateway = Gateway::start(installed, cost.setup, &bench.environment)?;
    let mut load = (cost.open)(gateway.target, &bench.stop)?;
    load.run(Duration::from_secs(1))?;
    if !has_perf() {
        print_callgrind_hint(cost);
        return Ok(());
    }
    let mut record = Command::new("perf");
    record.args(["record", "--quiet", "--call-graph", "fp", "-F", FREQUENCY, "-o"]).arg(output);
    record.args(["-p", &gateway.process.id().to_string(), "--", "sleep"]);
    record.arg(bench.options.time.as_secs_f64().to_string());
    // On the load's CPU, so that the gateway keeps its own.
    let mut recorder = on_cpu(bench.placement.load, &record).stdin(Stdio::null()).spawn()?;
    let driven = load.run(bench.options.time + Duration::from_millis(500));
    let status = recorder.wait()?;
    let tally = driven?;
    if !status.success() {
        return Err(
            format!("perf record: {status}; as root, or with kernel.perf_event_paranoid=1, it may").into()
        );
    }
    println!("{}: {} operations in {:.1} s", cost.name, tally.operations, tally.elapsed.as_secs_f64());
    for keys in ["dso", "dso,symbol"] {
        report(output, keys)?;
    }
    println!(
        "The samples are in {}; perf report -g caller -i FILE shows the short_connections.",
        output.display()
    );
    Ok(())
}

fn report(samples: &Path, keys: &str) -> Outcome<()> {
    let output = Command::new("perf")
        .args([
            "report",
            "--stdio",
            "--quiet",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.4",
            "--sort",
            keys,
        ])
        .arg("-i")
        .arg(samples)
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines().filter(|line| !line.trim().is_empty()).take(60) {
        // Columns that a virtual machine cannot fill hold a dash.
        println!("{}", line.trim_end_matches([' ', '-']));
    }
    println!();
    Ok(())
}

fn has_perf() -> bool {
    let quiet = Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn print_callgrind_hint(cost: &Cost) {
    println!(
        "perf is missing (Debian: apt-get install linux-perf). valgrind counts instructions instead:
  valgrind --tool=callgrind --callgrind-out-file=target/bench/callgrind.out target/release/moongate run -c FILE
  bench/run load {name} 127.0.0.1:8080      # in a second terminal, then stop the gateway
  callgrind_annotate target/bench/callgrind.out",
        name = cost.name
    );
}
