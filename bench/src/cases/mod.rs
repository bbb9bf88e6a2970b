//! The measured cases and the run: every case over every installed gateway, in interleaved rounds, so that a noisy
//! minute of the machine affects all gateways alike.

mod latency_under_reload;
pub(crate) mod cost;
pub(crate) mod idle;
mod plugins;

use crate::Outcome;
use crate::cases::cost::Cost;
use crate::cases::idle::Idle;
use crate::gateway::{Gateway, Ground, Installed};
use crate::machine::Seats;
use crate::noise::Strangers;
use crate::options::Options;
use crate::stop::Stop;
use crate::table::Spread;

/// Other processes that use more than this share of a CPU disturb a measurement.
const CALM: f64 = 0.05;

/// The number of attempts for a disturbed measurement before the calmest one counts.
const ATTEMPTS: usize = 3;

/// A case.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// CPU per operation.
    Cost(&'static Cost),
    /// Memory per tunnel.
    Idle(&'static Idle),
    /// Latency at an offered rate, undisturbed and with reloads.
    Latency,
    /// CPU per request with and without plugins: Moongate alone.
    Plugins,
}

/// Every case, in the order of `all`.
pub(crate) const CASES: [Case; 14] = [
    Case::Cost(&cost::HTTP),
    Case::Cost(&cost::ECHO),
    Case::Cost(&cost::BURST),
    Case::Cost(&cost::BULK),
    Case::Cost(&cost::MESSAGES),
    Case::Cost(&cost::CONNECT),
    Case::Cost(&cost::TLS_NEW),
    Case::Cost(&cost::TLS_RESUMED),
    Case::Cost(&cost::TLS_ECHO),
    Case::Cost(&cost::H2),
    Case::Plugins,
    Case::Latency,
    Case::Idle(&idle::IDLE),
    Case::Idle(&idle::TLS_IDLE),
];

impl Case {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cost(cost) => cost.name,
            Self::Idle(idle) => idle.name,
            Self::Latency => "latency",
            Self::Plugins => "plugins",
        }
    }
}

/// Handling of a sample during which other processes used the bench's CPUs.
#[derive(Clone, Copy)]
enum Disturbed {
    /// The sample is taken again.
    Again,
    /// The sample counts: it does not measure time.
    Counts,
}

impl Disturbed {
    fn attempts(self) -> usize {
        match self {
            Self::Again => ATTEMPTS,
            Self::Counts => 1,
        }
    }
}

/// Everything that a case needs.
pub(crate) struct Bench {
    /// The user's options.
    pub(crate) options: Options,
    /// The installed gateways.
    pub(crate) installed: Vec<Installed>,
    /// The environment in which gateways start.
    pub(crate) ground: Ground,
    /// The assignment of processes to CPUs.
    pub(crate) seats: Seats,
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
        }
    }

    /// Every gateway with an empty list of samples.
    fn contestants<S>(&self) -> Vec<Contestant<'_, S>> {
        self.installed.iter().map(|installed| Contestant::new(installed.kind.name, installed)).collect()
    }

    /// Runs the rounds: in each, every contestant that has not failed takes a sample.
    fn rounds<S>(
        &self,
        count: u32,
        disturbed: Disturbed,
        contestants: &mut [Contestant<'_, S>],
        mut sample: impl FnMut(&mut Contestant<'_, S>) -> Outcome<S>,
    ) -> Outcome<()> {
        for _ in 0..count {
            for contestant in contestants.iter_mut().filter(|contestant| contestant.failure.is_none()) {
                let result = self.calmest(contestant, disturbed.attempts(), &mut sample);
                self.stop.check()?;
                match result {
                    Ok((sample, others)) => {
                        contestant.samples.push(sample);
                        contestant.others.push(others);
                    }
                    Err(e) => contestant.fail(&e.to_string()),
                }
            }
        }
        Ok(())
    }

    /// A sample and the share of a CPU that other processes used meanwhile. A disturbed sample is taken again; the
    /// disturbance decides which one counts, never the figure.
    fn calmest<S>(
        &self,
        contestant: &mut Contestant<'_, S>,
        attempts: usize,
        sample: &mut impl FnMut(&mut Contestant<'_, S>) -> Outcome<S>,
    ) -> Outcome<(S, f64)> {
        let mut best: Option<(S, f64)> = None;
        for attempt in 0..attempts {
            let strangers = Strangers::watch(self.seats);
            let taken = (sample(contestant)?, strangers.share());
            contestant.repeated += usize::from(attempt > 0);
            if best.as_ref().is_none_or(|best| taken.1 < best.1) {
                best = Some(taken);
            }
            if best.as_ref().is_some_and(|best| best.1 <= CALM) {
                break;
            }
        }
        best.ok_or_else(|| "no sample was taken".into())
    }

    /// Prints the number and length of the rounds and the disturbance by other processes.
    fn print_circumstances<S>(&self, contestants: &[Contestant<'_, S>]) {
        let others = Spread::of(contestants.iter().flat_map(|one| &one.others).copied());
        println!(
            "  {} rounds of {} s; other processes used {:.0} % of a CPU (median), {:.0} % (worst); {} samples repeated",
            self.options.rounds,
            self.options.time.as_secs_f64(),
            others.median * 100.0,
            others.most * 100.0,
            contestants.iter().map(|one| one.repeated).sum::<usize>()
        );
        if others.median > CALM {
            println!("  The machine was not idle: these figures are for orientation only.");
        }
    }
}

/// A gateway in a case.
struct Contestant<'a, S> {
    name: &'static str,
    installed: &'a Installed,
    /// The running gateway, started on first use and stopped with the case.
    gateway: Option<Gateway>,
    samples: Vec<S>,
    /// The share of a CPU that other processes used, for each sample.
    others: Vec<f64>,
    /// Samples that were taken again.
    repeated: usize,
    failure: Option<String>,
}

impl<'a, S> Contestant<'a, S> {
    fn new(name: &'static str, installed: &'a Installed) -> Self {
        Self {
            name,
            installed,
            gateway: None,
            samples: Vec::new(),
            others: Vec::new(),
            repeated: 0,
            failure: None,
        }
    }

    /// Ends the contestant's part and its processes: leftover work would disturb the others.
    fn fail(&mut self, reason: &str) {
        self.failure = Some(format!("{} failed: {reason}", self.name));
        self.gateway = None;
    }

    /// The running gateway, started if necessary.
    fn gateway(&mut self, ground: &Ground) -> Outcome<&mut Gateway> {
        let gateway = match self.gateway.take() {
            Some(gateway) => gateway,
            None => Gateway::start(self.installed, ground)?,
        };
        Ok(self.gateway.insert(gateway))
    }
}

/// The failures, for the end of the run.
fn failures<S>(contestants: &[Contestant<'_, S>]) -> Vec<String> {
    contestants.iter().filter_map(|contestant| contestant.failure.clone()).collect()
}
