//! CPU time per operation: the CPU time of a gateway's processes, divided by the operations of the load.

use crate::Outcome;
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, Setup};
use crate::load::Load;
use crate::load::event_streams::STREAMS;
use crate::stop::Stop;
use crate::system_calls::{CallCount, Strace};
use crate::table::{Spread, Table, digits};
use crate::transport::Target;
use std::io;
use std::time::Duration;

/// Warm-up before each measurement, because connections are new and caches cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// The length of the round under strace.
const STRACE_TIME: Duration = Duration::from_secs(1);

/// The share of all system calls below which one is not printed.
const RARE: f64 = 0.01;

/// The gateways to which a table gives ratios.
const BASELINES: [&str; 3] = ["nginx", "haproxy", "pingora"];

/// A case of CPU time: a load that counts its operations.
pub(crate) struct Cost {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The title of its table.
    pub(super) title: &'static str,
    /// The work of the gateways.
    pub(crate) setup: Setup,
    /// What its figures refer to.
    pub(super) unit: &'static Unit,
    /// Opens the load.
    pub(crate) open: fn(Target, &Stop) -> io::Result<Box<dyn Load>>,
}

/// The unit to which a figure of CPU time refers.
pub(crate) struct Unit {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// The counted operations in one unit.
    pub(super) operations: f64,
    /// The unit of CPU time.
    pub(super) time: &'static str,
    /// The units of CPU time in a second.
    pub(super) per_second: f64,
}

/// One operation of the load.
pub(super) const OPERATION: Unit = Unit { name: "op", operations: 1.0, time: "us", per_second: 1e6 };

/// One event to all event streams.
pub(super) const BROADCAST: Unit =
    Unit { name: "broadcast", operations: STREAMS as f64, time: "ms", per_second: 1e3 };

/// A GiB of bodies.
pub(super) const GIB: Unit =
    Unit { name: "GiB", operations: (1u64 << 30) as f64, time: "ms", per_second: 1e3 };

/// The result of one round of one gateway.
pub(super) struct Sample {
    /// CPU time per unit, in the unit's unit of time.
    pub(super) cpu: f64,
    /// The part of it in user space.
    pub(super) user: f64,
    /// The part of it in the kernel.
    pub(super) kernel: f64,
    /// Units per second.
    pub(super) rate: f64,
    /// The CPU use of the gateway, 1 for a whole CPU.
    busy: f64,
}

/// Measures the rounds and prints the table.
pub(crate) fn measure(bench: &Bench, cost: &Cost) -> Outcome<Vec<String>> {
    let mut series = bench.series(cost.setup);
    bench.rounds(bench.options.rounds, NoiseHandling::Repeat, &mut series, |series| {
        let gateway = series.gateway(&bench.environment)?;
        sample(bench, cost, gateway)
    })?;
    print(bench, cost, &series);
    print_system_calls(bench, cost, &mut series);
    Ok(failures(&series))
}

/// Measures one round of one gateway.
pub(super) fn sample(bench: &Bench, cost: &Cost, gateway: &mut Gateway) -> Outcome<Sample> {
    let mut load = (cost.open)(gateway.target, &bench.stop)?;
    load.run(WARM_UP)?;
    let before = gateway.cpu();
    let tally = load.run(bench.options.time)?;
    let cpu = gateway.cpu().since(before);
    gateway.process.check()?;
    if tally.operations == 0 || cpu.total().is_zero() {
        return Err("no operation completed; increase `--seconds`".into());
    }
    let units = tally.operations as f64 / cost.unit.operations;
    let per_unit = |time: Duration| time.as_secs_f64() * cost.unit.per_second / units;
    Ok(Sample {
        cpu: per_unit(cpu.total()),
        user: per_unit(cpu.user),
        kernel: per_unit(cpu.system),
        rate: units / tally.elapsed.as_secs_f64(),
        busy: cpu.total().as_secs_f64() / tally.elapsed.as_secs_f64(),
    })
}

fn print(bench: &Bench, cost: &Cost, series: &[SampleSeries<'_, Sample>]) {
    let Unit { name, time, .. } = cost.unit;
    let baselines: Vec<_> =
        BASELINES.iter().filter_map(|name| series.iter().find(|series| series.name == *name)).collect();
    let mut columns = ["", &format!("CPU {time}/{name}"), "user", "kernel", &format!("{name}/s"), "CPU busy"]
        .map(str::to_owned)
        .to_vec();
    columns.extend(baselines.iter().map(|baseline| format!("of {}", baseline.name)));
    let mut table = Table::new(columns);
    for gateway in series.iter().filter(|series| !series.samples.is_empty()) {
        let spread = |of: fn(&Sample) -> f64| Spread::new(gateway.samples.iter().map(of));
        let cpu = spread(|sample| sample.cpu);
        let mut row = vec![
            gateway.name.to_owned(),
            cpu.show(digits(cpu.median)),
            show(spread(|sample| sample.user).median),
            show(spread(|sample| sample.kernel).median),
            show(spread(|sample| sample.rate).median),
            format!("{:.0} %", spread(|sample| sample.busy * 100.0).median),
        ];
        row.extend(baselines.iter().map(|baseline| ratio(gateway, baseline)));
        table.row(row);
    }
    println!("\n{}", cost.title);
    table.print();
    bench.print_conditions(series);
}

/// Prints the system calls of one more round under strace. It is shorter than a round, and not part of the figures:
/// strace makes every call slow.
fn print_system_calls(bench: &Bench, cost: &Cost, series: &mut [SampleSeries<'_, Sample>]) {
    if !Strace::is_installed() {
        println!("  system calls were not counted: strace is not installed");
        return;
    }
    println!("  system calls per {} in a round of {} s under strace:", cost.unit.name, STRACE_TIME.as_secs());
    for series in series.iter_mut().filter(|series| series.failure.is_none()) {
        let counted =
            series.gateway(&bench.environment).and_then(|gateway| system_calls(bench, cost, gateway));
        let text = counted.unwrap_or_else(|e| format!("not counted: {e}"));
        println!("    {:<8}   {text}", series.name);
    }
}

/// The system calls per unit: the sum, then the frequent ones.
fn system_calls(bench: &Bench, cost: &Cost, gateway: &mut Gateway) -> Outcome<String> {
    let mut load = (cost.open)(gateway.target, &bench.stop)?;
    load.run(WARM_UP)?;
    let strace = Strace::attach(&gateway.process, bench.placement.load, &bench.environment.directory)?;
    let tally = load.run(STRACE_TIME)?;
    let counts = strace.detach()?;
    gateway.process.check()?;
    let units = tally.operations as f64 / cost.unit.operations;
    let per_unit = |count: &CallCount| count.calls as f64 / units;
    let sum = counts.iter().map(per_unit).sum();
    let limit = f64::max(RARE * sum, 0.01);
    let frequent = counts.iter().filter(|count| per_unit(count) >= limit);
    let frequent: Vec<_> =
        frequent.map(|count| format!("{} {}", count.name, show(per_unit(count)))).collect();
    Ok(format!("{}: {}", show(sum), frequent.join(", ")))
}

/// A figure with two decimals if it is small, else none.
pub(super) fn show(figure: f64) -> String {
    format!("{figure:.*}", digits(figure))
}

/// The ratio to another gateway, formed within each round.
fn ratio(gateway: &SampleSeries<'_, Sample>, baseline: &SampleSeries<'_, Sample>) -> String {
    if baseline.samples.is_empty() || baseline.name == gateway.name {
        return "-".into();
    }
    let pairs = gateway.samples.iter().zip(&baseline.samples);
    Spread::new(pairs.map(|(sample, baseline)| sample.cpu / baseline.cpu)).show(2)
}
