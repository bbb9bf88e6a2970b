//! The certificates of a generation, and which of them were there before.

use super::job::Job;
use super::settings::Settings;
use crate::config;
use crate::tls::Challenges;
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;

/// The certificates that a generation gets by itself.
#[derive(Default)]
pub struct Jobs {
    list: Vec<Arc<Job>>,
    challenges: Arc<Challenges>,
}

impl Jobs {
    /// All of them; one that several listeners want is there once.
    pub fn all(&self) -> &[Arc<Job>] {
        &self.list
    }

    /// The proofs that authorities may ask for; the same set in every generation.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }
}

/// Gathers those of a generation while it is compiled.
pub struct JobSetBuilder<'a> {
    prior: &'a [Arc<Job>],
    jobs: Jobs,
}

impl<'a> JobSetBuilder<'a> {
    /// Behind the generation that serves now, if one does.
    pub fn after(prior: Option<&'a Jobs>) -> Self {
        let challenges = prior.map(|prior| Arc::clone(&prior.challenges)).unwrap_or_default();
        Self { prior: prior.map_or(&[], |prior| &prior.list), jobs: Jobs { list: Vec::new(), challenges } }
    }

    /// The proofs that authorities may ask for.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.jobs.challenges
    }

    /// The certificate that these settings ask for: that of another listener or of the prior generation
    /// when it is the same one.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, with places.
    pub fn add(&mut self, written: &Placed<config::Acme>) -> Result<Arc<Job>, Problems> {
        let settings = Settings::read(written)?;
        if let Some(same) = self.jobs.list.iter().find(|job| *job.settings == settings) {
            return Ok(Arc::clone(same));
        }
        let rival = |job: &Arc<Job>| {
            (&job.settings.directory, job.settings.id()) == (&settings.directory, settings.id())
        };
        if self.jobs.list.iter().any(rival) {
            let problem = Problem::new("a certificate of these names is wanted twice, with other settings");
            return Err(Problems::from(
                problem
                    .help("write the same settings at both listeners, for instance by a YAML anchor")
                    .at(&written.place),
            ));
        }
        let kept = self.prior.iter().find(|job| *job.settings == settings).cloned();
        let place = written.value.storage.as_ref().map_or(&written.place, |storage| &storage.place);
        let job = kept.unwrap_or_else(|| Arc::new(Job::new(settings, place, &self.jobs.challenges)));
        self.jobs.list.push(Arc::clone(&job));
        Ok(job)
    }

    /// All that were gathered.
    pub fn finish(self) -> Jobs {
        self.jobs
    }
}
