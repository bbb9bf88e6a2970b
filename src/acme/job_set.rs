//! ACME certificates of a configuration, shared with the previous generation.

use super::job::Job;
use super::settings::Settings;
use crate::config;
use crate::tls::Challenges;
use moongate_config::{Placed, Problem, Problems};
use std::sync::Arc;

/// The ACME certificates of a generation.
#[derive(Default)]
pub struct Jobs {
    list: Vec<Arc<Job>>,
    challenges: Arc<Challenges>,
}

impl Jobs {
    /// All certificates; one used by several listeners is listed once.
    pub fn all(&self) -> &[Arc<Job>] {
        &self.list
    }

    /// The pending challenges; the same set in every generation.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }
}

/// Collects the certificates while a configuration is compiled.
pub(crate) struct JobSetBuilder<'a> {
    prior: &'a [Arc<Job>],
    jobs: Jobs,
}

impl<'a> JobSetBuilder<'a> {
    /// A builder that reuses certificates of the generation in use.
    pub(crate) fn after(prior: Option<&'a Jobs>) -> Self {
        let challenges = prior.map(|prior| Arc::clone(&prior.challenges)).unwrap_or_default();
        Self { prior: prior.map_or(&[], |prior| &prior.list), jobs: Jobs { list: Vec::new(), challenges } }
    }

    /// The pending challenges.
    pub(crate) fn challenges(&self) -> &Arc<Challenges> {
        &self.jobs.challenges
    }

    /// The certificate with these settings: an existing one of another listener or of the previous
    /// generation, or a new one.
    ///
    /// # Errors
    /// Every invalid setting, with its place.
    pub(crate) fn add(&mut self, written: &Placed<config::Acme>) -> Result<Arc<Job>, Problems> {
        let settings = Settings::read(written)?;
        if let Some(same) = self.jobs.list.iter().find(|job| *job.settings == settings) {
            return Ok(Arc::clone(same));
        }
        let rival = |job: &Arc<Job>| {
            (&job.settings.directory, job.settings.id()) == (&settings.directory, settings.id())
        };
        if self.jobs.list.iter().any(rival) {
            let problem = Problem::new("the same `domains` are configured twice, with different settings");
            return Err(Problems::from(
                problem
                    .help("use the same settings at both listeners, for example with a YAML anchor")
                    .at(&written.place),
            ));
        }
        let kept = self.prior.iter().find(|job| *job.settings == settings).cloned();
        let place = written.value.storage.as_ref().map_or(&written.place, |storage| &storage.place);
        let job = kept.unwrap_or_else(|| Arc::new(Job::new(settings, place, &self.jobs.challenges)));
        self.jobs.list.push(Arc::clone(&job));
        Ok(job)
    }

    /// All collected certificates.
    pub(crate) fn finish(self) -> Jobs {
        self.jobs
    }
}
