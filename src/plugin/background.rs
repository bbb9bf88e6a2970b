//! Background work of a plugin, and the upstreams that it calls. `control` keeps it running.

use super::panic_guard::{CaughtFuture, guard};
use super::{Entry, PluginFailure};
use moongate_sdk::Services;
use std::sync::Arc;

impl Entry {
    /// The upstreams that the plugin calls.
    ///
    /// # Errors
    /// When the plugin panicked.
    pub fn upstreams(&self) -> Result<Vec<&str>, PluginFailure> {
        guard(|| self.plugin().upstreams()).ok_or_else(|| PluginFailure { plugin: self.name().clone() })
    }

    /// The plugin's background work, until it is done; returns at once if there is none.
    ///
    /// # Errors
    /// When the plugin panicked.
    pub async fn background(&self, services: &Arc<dyn Services>) -> Result<(), PluginFailure> {
        let broken = || PluginFailure { plugin: self.name().clone() };
        match guard(|| self.plugin().background(services)).ok_or_else(broken)? {
            Some(work) => CaughtFuture::new(work).await.ok_or_else(broken),
            None => Ok(()),
        }
    }
}
