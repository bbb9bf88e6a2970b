//! CPU time of one load with several settings of Moongate, compared with the first of them. The other gateways have no
//! equivalent of what these settings do.

use crate::Outcome;
use crate::cases::cost::{self, Cost, Sample};
use crate::cases::{Bench, NoiseHandling, SampleSeries, failures};
use crate::gateway::{Gateway, InstalledGateway};
use crate::table::{Spread, Table, digits};

/// A row of the table.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Top-level settings of Moongate, as lines of YAML.
    pub(crate) settings: String,
    /// What its extra cost is divided by; 0 for the baseline.
    pub(crate) parts: usize,
}

/// A comparison of variants. The first one is the baseline of the others.
pub(crate) struct Comparison {
    pub(crate) cost: &'static Cost,
    /// The heading of the cost per part.
    pub(crate) per_part: Option<&'static str>,
    pub(crate) variants: Vec<Variant>,
    /// Checks a started gateway before the load: a variant without effect would cost nothing.
    pub(crate) check: fn(&Gateway, &Variant) -> Outcome<()>,
}

impl Comparison {
    /// Measures the rounds, each with a new process, and prints the table.
    pub(crate) fn measure(&self, bench: &Bench) -> Outcome<Vec<String>> {
        let Some(moongate) = bench.installed.iter().find(|installed| installed.kind.name == "moongate")
        else {
            println!(
                "\n{}\n  skipped: moongate is not selected, and the other gateways have no equivalent",
                self.cost.title
            );
            return Ok(Vec::new());
        };
        let gateways: Vec<_> = self
            .variants
            .iter()
            .map(|variant| InstalledGateway { settings: variant.settings.clone(), ..moongate.clone() })
            .collect();
        let mut series: Vec<_> = self
            .variants
            .iter()
            .zip(&gateways)
            .map(|(variant, gateway)| SampleSeries::new(variant.name, gateway, self.cost.setup))
            .collect();
        bench.rounds(bench.options.rounds, NoiseHandling::Repeat, &mut series, |series| {
            // A second, idle gateway would run its timers on the same CPU.
            let mut gateway = Gateway::start(series.installed, series.setup, &bench.environment)?;
            let variant = self.variants.iter().find(|variant| variant.name == series.name);
            variant.map_or(Ok(()), |variant| (self.check)(&gateway, variant))?;
            cost::sample(bench, self.cost, &mut gateway)
        })?;
        self.print(bench, &series);
        Ok(failures(&series))
    }

    fn print(&self, bench: &Bench, series: &[SampleSeries<'_, Sample>]) {
        let Some(baseline) = series.first() else { return };
        let over = format!("over {}", baseline.name);
        let headings = ["", "CPU us/op", "user", "kernel", "op/s", &over];
        let mut table = Table::new(headings.into_iter().chain(self.per_part));
        for (gateway, variant) in series.iter().zip(&self.variants) {
            if gateway.samples.is_empty() {
                continue;
            }
            let spread = |of: fn(&Sample) -> f64| Spread::new(gateway.samples.iter().map(of));
            // Computed within a round, like the ratios of the other cases.
            let more = |share: f64| {
                let pairs = gateway.samples.iter().zip(&baseline.samples);
                Spread::new(pairs.map(|(sample, baseline)| (sample.cpu - baseline.cpu) / share)).show(2)
            };
            let compared = variant.parts > 0 && !baseline.samples.is_empty();
            let cpu = spread(|sample| sample.cpu);
            let mut row = vec![
                gateway.name.to_owned(),
                cpu.show(digits(cpu.median)),
                cost::show(spread(|sample| sample.user).median),
                cost::show(spread(|sample| sample.kernel).median),
                cost::show(spread(|sample| sample.rate).median),
                if compared { more(1.0) } else { "-".into() },
            ];
            row.extend(self.per_part.map(|_| if compared { more(variant.parts as f64) } else { "-".into() }));
            table.row(row);
        }
        println!("\n{}", self.cost.title);
        table.print();
        bench.print_conditions(series);
    }
}
