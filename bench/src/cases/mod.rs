//! The cases and their rounds. Each round measures every gateway once, so that a disturbance of the machine
//! affects all gateways alike.

pub(crate) mod cost;
pub(crate) mod cost_cases;
pub(crate) mod idle;
mod latency_under_reload;
mod members;
mod plugins;
mod tracing;
mod upgrade;
mod variants;

use crate::Outcome;
use crate::cases::cost::Cost;
use crate::cases::idle::IdleMemory;
use crate::gateway::{Environment, Gateway, InstalledGateway, Setup};
use crate::machine::CpuPlacement;
use crate::noise::OtherProcesses;
use crate::options::Options;
use crate::stop::Stop;
use crate::table::Spread;

/// The share of a CPU above which other processes disturb a measurement.
const NOISE_LIMIT: f64 = 0.05;

/// Attempts of a disturbed measurement; then the least disturbed one counts.
const ATTEMPTS: usize = 3;

/// A case.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// CPU per operation.
    Cost(&'static Cost),
    /// Memory per idle connection.
    Idle(&'static IdleMemory),
    /// Latency at a fixed rate, without and with reloads.
    Latency,
    /// CPU per request with and without plugins; Moongate only.
    Plugins,
    /// CPU per request without and with traces; Moongate only.
    Tracing,
    /// Latency while the WebSockets move to a new process; Moongate only.
    Upgrade,
    /// Latency and CPU while the endpoints of an upstream change; Moongate only.
    Members,
}

/// Every case, in the order of `all`.
pub(crate) const CASES: [Case; 25] = [
    Case::Cost(&cost_cases::HTTP),
    Case::Cost(&cost_cases::HTTP_ROUTES),
    Case::Cost(&cost_cases::ECHO),
    Case::Cost(&cost_cases::BURST),
    Case::Cost(&cost_cases::BULK),
    Case::Cost(&cost_cases::MESSAGES),
    Case::Cost(&cost_cases::CONNECT),
    Case::Cost(&cost_cases::SSE),
    Case::Cost(&cost_cases::DOWNLOAD_1M),
    Case::Cost(&cost_cases::DOWNLOAD_1G),
    Case::Cost(&cost_cases::UPLOAD_1M),
    Case::Cost(&cost_cases::UPLOAD_1G),
    Case::Cost(&cost_cases::TLS_NEW),
    Case::Cost(&cost_cases::TLS_RESUMED),
    Case::Cost(&cost_cases::TLS_ECHO),
    Case::Cost(&cost_cases::H2),
    Case::Plugins,
    Case::Tracing,
    Case::Latency,
    Case::Upgrade,
    Case::Members,
    Case::Idle(&idle::IDLE),
    Case::Idle(&idle::TLS_IDLE),
    Case::Idle(&idle::SSE_IDLE),
    Case::Idle(&idle::HTTP_IDLE),
];

impl Case {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cost(cost) => cost.name,
            Self::Idle(idle) => idle.name,
            Self::Latency => "latency",
            Self::Plugins => "plugins",
            Self::Tracing => "tracing",
            Self::Upgrade => "upgrade",
            Self::Members => "members",
        }
    }
}

/// The handling of a sample that other processes disturbed.
#[derive(Clone, Copy)]
enum NoiseHandling {
    /// Measure again, up to [`ATTEMPTS`] times.
    Repeat,
    /// Keep it: the sample does not depend on time.
    Accept,
}

impl NoiseHandling {
    fn attempts(self) -> usize {
        match self {
            Self::Repeat => ATTEMPTS,
            Self::Accept => 1,
        }
    }
}

/// Everything that a case needs.
pub(crate) struct Bench {
    /// The user's options.
    pub(crate) options: Options,
    /// The installed gateways.
    pub(crate) installed: Vec<InstalledGateway>,
    /// The environment in which gateways start.
    pub(crate) environment: Environment,
    /// The CPUs of gateway, backend and load.
    pub(crate) placement: CpuPlacement,
    /// The stop flag.
    pub(crate) stop: Stop,
}

impl Bench {
    /// Measures one case, prints its table, and returns the failures.
    ///
    /// # Errors
    /// The run was interrupted.
    pub(crate) fn measure(&self, case: Case) -> Outcome<Vec<String>> {
        match case {
            Case::Cost(cost) => cost::measure(self, cost),
            Case::Idle(idle) => idle::measure(self, idle),
            Case::Latency => latency_under_reload::measure(self),
            Case::Plugins => plugins::measure(self),
            Case::Tracing => tracing::measure(self),
            Case::Upgrade => upgrade::measure(self),
            Case::Members => members::measure(self),
        }
    }

    /// Every gateway that supports the setup, with an empty list of samples.
    fn series<S>(&self, setup: Setup) -> Vec<SampleSeries<'_, S>> {
        let able = self.installed.iter().filter(|installed| installed.kind.supports(setup));
        able.map(|installed| SampleSeries::new(installed.kind.name, installed, setup)).collect()
    }

    /// Runs the rounds: in each, every gateway that has not failed is measured once.
    fn rounds<S>(
        &self,
        count: u32,
        noise_handling: NoiseHandling,
        series: &mut [SampleSeries<'_, S>],
        mut sample: impl FnMut(&mut SampleSeries<'_, S>) -> Outcome<S>,
    ) -> Outcome<()> {
        for _ in 0..count {
            for gateway in series.iter_mut().filter(|gateway| gateway.failure.is_none()) {
                let result = self.least_disturbed(gateway, noise_handling.attempts(), &mut sample);
                self.stop.check()?;
                match result {
                    Ok((sample, others)) => {
                        gateway.samples.push(sample);
                        gateway.others.push(others);
                    }
                    Err(e) => gateway.fail(&e.to_string()),
                }
            }
        }
        Ok(())
    }

    /// A sample with the share of a CPU that other processes used during it. Of several attempts, the one with the
    /// least disturbance counts, whatever its figure.
    fn least_disturbed<S>(
        &self,
        gateway: &mut SampleSeries<'_, S>,
        attempts: usize,
        sample: &mut impl FnMut(&mut SampleSeries<'_, S>) -> Outcome<S>,
    ) -> Outcome<(S, f64)> {
        let mut best: Option<(S, f64)> = None;
        for attempt in 0..attempts {
            let others = OtherProcesses::observe(self.placement);
            let taken = (sample(gateway)?, others.cpu_share());
            gateway.repeated += usize::from(attempt > 0);
            if best.as_ref().is_none_or(|best| taken.1 < best.1) {
                best = Some(taken);
            }
            if best.as_ref().is_some_and(|best| best.1 <= NOISE_LIMIT) {
                break;
            }
        }
        best.ok_or_else(|| "no sample was taken".into())
    }

    /// Prints the number and length of the rounds and the CPU use of other processes.
    fn print_conditions<S>(&self, series: &[SampleSeries<'_, S>]) {
        let others = Spread::new(series.iter().flat_map(|one| &one.others).copied());
        println!(
            "  rounds: {} of {} s; other processes used {:.0} % of a CPU (median), {:.0} % (worst); {} samples repeated",
            self.options.rounds,
            self.options.time.as_secs_f64(),
            others.median * 100.0,
            others.max * 100.0,
            series.iter().map(|one| one.repeated).sum::<usize>()
        );
        if others.median > NOISE_LIMIT {
            println!("  The machine was not idle: these figures are for orientation only.");
        }
    }
}

/// The samples of a gateway in a case.
struct SampleSeries<'a, S> {
    name: &'static str,
    installed: &'a InstalledGateway,
    setup: Setup,
    /// The running gateway, started on first use and stopped with the case.
    gateway: Option<Gateway>,
    samples: Vec<S>,
    /// The share of a CPU that other processes used, for each sample.
    others: Vec<f64>,
    /// Samples that were taken again.
    repeated: usize,
    failure: Option<String>,
}

impl<'a, S> SampleSeries<'a, S> {
    fn new(name: &'static str, installed: &'a InstalledGateway, setup: Setup) -> Self {
        Self {
            name,
            installed,
            setup,
            gateway: None,
            samples: Vec::new(),
            others: Vec::new(),
            repeated: 0,
            failure: None,
        }
    }

    /// Records the failure and ends the gateway: its remaining work would disturb the others.
    fn fail(&mut self, reason: &str) {
        self.failure = Some(format!("{} failed: {reason}", self.name));
        self.gateway = None;
    }

    /// The running gateway, started if necessary.
    fn gateway(&mut self, environment: &Environment) -> Outcome<&mut Gateway> {
        let gateway = match self.gateway.take() {
            Some(gateway) => gateway,
            None => Gateway::start(self.installed, self.setup, environment)?,
        };
        Ok(self.gateway.insert(gateway))
    }
}

/// The failures, for the end of the run.
fn failures<S>(series: &[SampleSeries<'_, S>]) -> Vec<String> {
    series.iter().filter_map(|gateway| gateway.failure.clone()).collect()
}
