//! The secrets of a fleet in a store: read when it connects and every second, rotated by an order.

use super::connection::{StoreConnection, StoreError, StoredSecrets};
use super::store::Store;
use crate::runtime::shared_secrets::{ACTIVATION, SharedSecrets, fresh_secret};
use log::{info, warn};
use moongate_sdk::log_throttle;
use std::time::Duration;

/// The outcome of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The newest version.
    pub version: u64,
    /// The time until it signs.
    pub activation: Duration,
}

/// Why nothing was rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRotated {
    /// Nothing in the configuration uses secrets of the store.
    Unused,
    /// The store is unavailable.
    Unavailable,
    /// The last rotation is not complete.
    UnderWay,
}

impl Store {
    /// Reads the secrets over a connection that is not in use yet.
    pub(super) async fn read_secrets_over(&self, connection: &dyn StoreConnection) -> Result<(), StoreError> {
        let Some(secrets) = self.secrets_in_use() else { return Ok(()) };
        let read = connection.secrets(self.secrets_key(), secrets.proposal(), None, ACTIVATION).await?;
        self.take_secrets(secrets, &read);
        Ok(())
    }

    /// Reads the secrets, if they are used.
    pub(super) async fn read_secrets(&self) {
        let Some(secrets) = self.secrets_in_use() else { return };
        let (key, known) = (self.secrets_key(), secrets.proposal());
        if let Some(read) = self.call(|connection| connection.secrets(key, known, None, ACTIVATION)).await {
            self.take_secrets(secrets, &read);
        }
    }

    /// Adds a secret, with which all gateways of the store sign soon.
    ///
    /// # Errors
    /// Nothing was rotated.
    pub async fn rotate_secrets(&self) -> Result<Rotation, NotRotated> {
        let secrets = self.secrets_in_use().ok_or(NotRotated::Unused)?;
        let fresh = fresh_secret().ok_or(NotRotated::Unavailable)?;
        let (key, known) = (self.secrets_key(), secrets.proposal());
        let rotated = self.call(|connection| connection.secrets(key, known, Some(fresh), ACTIVATION)).await;
        let rotated = rotated.ok_or(NotRotated::Unavailable)?;
        self.take_secrets(secrets, &rotated);
        if !rotated.is_rotated {
            return Err(NotRotated::UnderWay);
        }
        let version = rotated.text.split(':').next().and_then(|version| version.parse().ok());
        Ok(Rotation { version: version.unwrap_or_default(), activation: ACTIVATION })
    }

    fn take_secrets(&self, secrets: &SharedSecrets, read: &StoredSecrets) {
        let store = &**self.name();
        match secrets.take(&read.text, read.now) {
            Some(true) => info!(store, version = secrets.version(); "shared secrets in use"),
            Some(false) => {}
            None => {
                const MESSAGE: &str = "invalid shared secrets ignored";
                if log_throttle::admit(log::Level::Warn, MESSAGE, &[store]) {
                    warn!(store, key = self.secrets_key(); "{MESSAGE}");
                }
            }
        }
    }

    fn secrets_key(&self) -> String {
        format!("{}secrets", self.settings().key_prefix)
    }
}
