//! A configuration without what is wrong with it, so that compiling can tell what else is wrong in
//! the same go. Nothing is ever served from it.

use crate::config::Config;
use moongate_config::{Place, Problems, Value, ValueKind};
use std::collections::HashSet;

/// The rest of a refused configuration, when one remains that reads, and that raises no false
/// alarms: where an upstream or a listener falls out as a whole, routes would miss it.
pub(super) fn rest(tree: &Value, problems: &Problems) -> Option<Config> {
    let places: HashSet<&Place> =
        problems.0.iter().map(|problem| problem.place.as_ref()).collect::<Option<_>>()?;
    let mut tree = tree.clone();
    prune(&mut tree, &places).then(|| tree.read().ok()).flatten()
}

/// Drops what stands at one of the places; false when that takes away what others refer to.
fn prune(value: &mut Value, places: &HashSet<&Place>) -> bool {
    let wrong = |place: &Place| places.iter().any(|known| same(known, place));
    match &mut value.kind {
        ValueKind::List(items) => {
            let before = items.len();
            items.retain(|item| !wrong(&item.place));
            let whole = before == items.len() || !is_referred_to(&value.place.path);
            whole && items.iter_mut().all(|item| prune(item, places))
        }
        ValueKind::Map(entries) => {
            let before = entries.len();
            entries.retain(|(key, item)| !wrong(&key.place) && !wrong(&item.place));
            let whole = before == entries.len() || !is_referred_to(&value.place.path);
            whole && entries.iter_mut().all(|(_, item)| prune(item, places))
        }
        ValueKind::Null | ValueKind::Scalar { .. } => true,
    }
}

/// A mapping begins where its first key does: only the way to it tells them apart.
fn same(a: &Place, b: &Place) -> bool {
    (a.line, a.column, &a.path, &a.file) == (b.line, b.column, &b.path, &b.file)
}

fn is_referred_to(path: &str) -> bool {
    path.is_empty() || path == "upstreams" || path == "listeners" || path.ends_with("endpoints")
}
