//! The order that rotates the secrets of stores.

use super::AdminState;
use super::query::Query;
use super::response::Response;
use crate::limit::{NotRotated, Rotation};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// What became of the rotation of one store's secrets.
#[derive(Clone, Debug)]
pub struct StoreRotation {
    /// The name of the store.
    pub store: Arc<str>,
    /// The outcome.
    pub outcome: Result<Rotation, NotRotated>,
}

/// Rotates the secrets of `store`, or of all stores.
pub(super) async fn respond(state: &dyn AdminState, query: &Query) -> Response {
    let rotations = state.rotate_secrets(query.get("store")).await;
    let failed = rotations.iter().find_map(|rotation| Some((rotation, rotation.outcome.err()?)));
    if rotations.is_empty() {
        return Response::error(StatusCode::NOT_FOUND, "unused_secrets");
    }
    if let Some((rotation, reason)) = failed {
        let (status, token) = match reason {
            NotRotated::Unused => (StatusCode::NOT_FOUND, "unused_secrets"),
            NotRotated::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            NotRotated::UnderWay => (StatusCode::CONFLICT, "rotation_under_way"),
        };
        let rotated: Vec<_> =
            rotations.iter().filter(|other| other.outcome.is_ok()).map(|other| &*other.store).collect();
        return match rotated.is_empty() {
            true => Response::explained(status, token, &rotation.store),
            // A second order would rotate these once more.
            false => {
                let detail = format!("{}; rotated: {}", rotation.store, rotated.join(", "));
                Response::explained(status, token, &detail)
            }
        };
    }
    let rows: Vec<Value> = rotations.iter().filter_map(row).collect();
    Response::json(StatusCode::OK, &json!({ "ok": true, "stores": rows }))
}

fn row(rotation: &StoreRotation) -> Option<Value> {
    let done = rotation.outcome.ok()?;
    Some(json!({
        "store": &*rotation.store,
        "version": done.version,
        "signs_in": done.activation.as_secs(),
    }))
}
