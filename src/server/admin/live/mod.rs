//! The live view of the gateway: samples once a second while somebody watches, and a history of ten minutes.

mod counters;
mod history;
mod rows;
mod sampler;
mod stream;

pub(crate) use history::{History, keep};
pub(super) use sampler::Sampler;
pub(super) use stream::{LiveStream, Sections};

use super::AdminState;
use serde_json::{Value, json};
use std::sync::Arc;

/// Samples and history of one process.
pub(super) struct Live {
    pub(super) sampler: Sampler,
    pub(super) history: Arc<History>,
}

impl Live {
    pub(super) fn new(history: Arc<History>) -> Self {
        Self { sampler: Sampler::default(), history }
    }

    /// A sample with rates, which takes up to a second.
    async fn sample(&self, state: &dyn AdminState) -> Option<Arc<sampler::Sample>> {
        if let Some(sample) = self.sampler.sample(state, &self.history) {
            return Some(sample);
        }
        tokio::time::sleep(sampler::INTERVAL).await;
        self.sampler.sample(state, &self.history)
    }

    /// The overview with its history.
    pub(super) async fn overview(&self, state: &dyn AdminState) -> Value {
        let sample = self.sample(state).await;
        let mut overview = sample.map_or(Value::Null, |sample| json!(sample.overview));
        overview["history"] = self.history.whole();
        overview
    }

    /// The rows of endpoints and flows.
    pub(super) async fn upstreams(&self, state: &dyn AdminState) -> Value {
        let sample = self.sample(state).await;
        sample.map_or(Value::Null, |sample| json!({ "rows": sample.endpoints, "flows": sample.flows }))
    }
}
