//! Error recovery: a configuration without its invalid parts, so that compiling it finds further problems in
//! the same run. It is never served.

use crate::config::Config;
use moongate_config::{Place, Problems, Value, ValueKind};
use std::collections::HashSet;

/// Sections of the file that no other one refers to.
const INDEPENDENT: [&str; 5] = ["admin", "server", "log", "access_log", "tracing"];

/// The remaining configuration, if it can be read and causes no false errors: without a whole upstream, listener or store,
/// routes would report it as unknown.
pub(super) fn rest(tree: &Value, problems: &Problems) -> Option<Config> {
    let places: HashSet<&Place> =
        problems.0.iter().map(|problem| problem.place.as_ref()).collect::<Option<_>>()?;
    let mut tree = tree.clone();
    prune(&mut tree, &places).then(|| tree.read().ok()).flatten()
}

/// Removes the values at these places; returns false if other values refer to a removed one.
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
            let is_referred_to = is_referred_to(&value.place.path);
            let mut whole = true;
            entries.retain(|(key, item)| {
                let stays = !wrong(&key.place) && !wrong(&item.place);
                let is_section = value.place.path.is_empty() && INDEPENDENT.contains(&key.text.as_str());
                whole &= stays || !is_referred_to || is_section;
                stays
            });
            whole && entries.iter_mut().all(|(_, item)| prune(item, places))
        }
        ValueKind::Null | ValueKind::Scalar { .. } => true,
    }
}

/// Compares paths too: a mapping starts at the same place as its first key.
fn same(a: &Place, b: &Place) -> bool {
    (a.line, a.column, &a.path, &a.file) == (b.line, b.column, &b.path, &b.file)
}

fn is_referred_to(path: &str) -> bool {
    matches!(path, "" | "upstreams" | "listeners" | "stores") || path.ends_with("endpoints")
}
