//! The admin address in service, and the history that its live page shows.

use super::admin::AdminListener;
use super::admin::live::{self, History};
use super::bind::BoundListener;
use crate::runtime::supervision;
use crate::snapshot::AdminAddress;
use crate::telemetry::recent_lines;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The admin address in service.
pub(super) struct OpenAdmin {
    pub(super) settings: AdminAddress,
    pub(super) socket: Arc<BoundListener>,
    pub(super) listener: AdminListener,
}

/// The admin address while another process serves it.
pub(super) struct PausedAdmin {
    pub(super) settings: AdminAddress,
    pub(super) socket: Arc<BoundListener>,
}

/// The history of the live page, kept while there is an admin address.
pub(super) struct ViewHistory {
    pub(super) history: Arc<History>,
    task: JoinHandle<()>,
}

impl ViewHistory {
    /// Keeps a history on the runtime of reloads.
    pub(super) fn begin(history: Arc<History>, control: &Handle) -> Self {
        recent_lines::ACCESS_LOG.keep();
        recent_lines::PROCESS_LOG.keep();
        let (kept, _entered) = (Arc::clone(&history), control.enter());
        let task = supervision::spawn("history", "", move || live::keep(Arc::clone(&kept)));
        Self { history, task }
    }
}

impl Drop for ViewHistory {
    fn drop(&mut self) {
        self.task.abort();
        recent_lines::ACCESS_LOG.forget();
        recent_lines::PROCESS_LOG.forget();
    }
}
