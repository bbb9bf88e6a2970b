//! What is measured, and the run that measures it: every case over every gateway that is installed, in
//! interleaved rounds, so that a slow minute of the machine falls on all of them alike.

pub(crate) mod cost;
mod idle;
mod latency;

use crate::Outcome;
use crate::gateway::{Gateway, Ground, Installed};
use crate::machine::Seats;
use crate::options::Options;
use crate::stop::Stop;

/// A case.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// CPU an operation.
    Cost(&'static cost::Cost),
    /// Memory a tunnel.
    Idle,
    /// Latency at an offered rate, undisturbed and with reloads.
    Latency,
}

/// Every case, in the order of `all`.
pub(crate) const CASES: [Case; 7] = [
    Case::Cost(&cost::HTTP),
    Case::Cost(&cost::ECHO),
    Case::Cost(&cost::BURST),
    Case::Cost(&cost::BULK),
    Case::Cost(&cost::CONNECT),
    Case::Latency,
    Case::Idle,
];

impl Case {
    /// What the command line calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cost(cost) => cost.name,
            Self::Idle => "idle",
            Self::Latency => "latency",
        }
    }
}

/// All that a case needs.
pub(crate) struct Bench {
    /// What the user asked for.
    pub(crate) options: Options,
    /// The gateways that are there.
    pub(crate) installed: Vec<Installed>,
    /// Where they start.
    pub(crate) ground: Ground,
    /// Who runs where.
    pub(crate) seats: Seats,
    /// Whether to go on.
    pub(crate) stop: Stop,
}

impl Bench {
    /// Measures one case and prints its table.
    ///
    /// # Errors
    /// The run was interrupted, or not one gateway got through.
    pub(crate) fn measure(&self, case: Case) -> Outcome<Vec<String>> {
        match case {
            Case::Cost(cost) => cost::measure(self, cost),
            Case::Idle => idle::measure(self),
            Case::Latency => latency::measure(self),
        }
    }

    /// Every gateway with room for its samples.
    fn contestants<S>(&self) -> Vec<Contestant<'_, S>> {
        let new = |installed| Contestant { installed, gateway: None, samples: Vec::new(), failure: None };
        self.installed.iter().map(new).collect()
    }

    /// Runs the rounds: in each, every contestant that has not failed takes a sample.
    fn rounds<S>(
        &self,
        count: u32,
        contestants: &mut [Contestant<'_, S>],
        mut sample: impl FnMut(&mut Contestant<'_, S>) -> Outcome<S>,
    ) -> Outcome<()> {
        for _ in 0..count {
            for contestant in contestants.iter_mut().filter(|contestant| contestant.failure.is_none()) {
                let result = sample(contestant);
                self.stop.check()?;
                match result {
                    Ok(sample) => contestant.samples.push(sample),
                    Err(e) => contestant.fail(&e.to_string()),
                }
            }
        }
        Ok(())
    }
}

/// A gateway in a case.
struct Contestant<'a, S> {
    installed: &'a Installed,
    /// Running, once it was needed; ended with the case.
    gateway: Option<Gateway>,
    samples: Vec<S>,
    failure: Option<String>,
}

impl<S> Contestant<'_, S> {
    fn name(&self) -> &'static str {
        self.installed.kind.name
    }

    /// It takes no further part, and its processes end: what it has left undone would disturb the others.
    fn fail(&mut self, reason: &str) {
        self.failure = Some(format!("{} failed: {reason}", self.name()));
        self.gateway = None;
    }

    /// The running gateway, started now if need be.
    fn gateway(&mut self, ground: &Ground) -> Outcome<&mut Gateway> {
        let gateway = match self.gateway.take() {
            Some(gateway) => gateway,
            None => Gateway::start(self.installed, ground)?,
        };
        Ok(self.gateway.insert(gateway))
    }
}

/// What went wrong, for the end of the run.
fn failures<S>(contestants: &[Contestant<'_, S>]) -> Vec<String> {
    contestants.iter().filter_map(|contestant| contestant.failure.clone()).collect()
}
