//! The order for an upgrade, and its outcome.

use crate::support::raw::lossy;
use crate::support::{Gateway, eventually, moongate};

/// The WebSockets of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) moved: usize,
    pub(crate) left: usize,
}

/// Runs `moongate upgrade`: the WebSockets, or its standard error if it exits with 1.
pub(crate) fn upgrade(gateway: &Gateway) -> Result<Moved, String> {
    let output = moongate(&["upgrade", "--json", "--admin", &gateway.admin().to_string()]);
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        return Err(lossy(&output.stderr));
    }
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    gateway.succeeded_by(u32::try_from(outcome["pid"].as_u64().unwrap()).unwrap());
    let count = |name: &str| outcome["websockets"][name].as_u64().unwrap() as usize;
    Ok(Moved { moved: count("moved"), left: count("left") })
}

/// Upgrades, and waits for the end of the old process.
pub(crate) fn upgrade_and_end(gateway: &Gateway) -> Moved {
    let old = gateway.pid();
    let moved = upgrade(gateway).unwrap();
    eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
    moved
}
