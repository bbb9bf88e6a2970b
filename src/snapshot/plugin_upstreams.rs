//! The plugin entries of a configuration, and the existence of the upstreams that they call.

use super::Compiler;
use crate::config::{self, Config, UpstreamProtocol};
use crate::plugin::Entry;
use crate::upstream::Cluster;
use indexmap::IndexMap;
use moongate_config::{Place, Placed, Problem, Value, ValueKind};
use std::sync::Arc;

impl Compiler<'_> {
    pub(super) fn plugin(
        &mut self,
        owner: &str,
        written: &Placed<config::PluginEntry>,
    ) -> Option<Arc<Entry>> {
        let built = self.plugins.entry(owner, &written.value);
        let entry = self.problems.keep(built.map_err(|problems| problems.at(&written.place)))?;
        let upstreams = match entry.upstreams() {
            Ok(upstreams) => upstreams,
            Err(broken) => {
                let problem =
                    Problem::new(format!("{broken}: the plugin panicked while listing its upstreams"));
                self.problems.push(problem.at(&written.place));
                return None;
            }
        };
        for name in upstreams {
            // An entry reused from the prior generation has places of another file.
            let place = place_of(&written.settings.value, name).unwrap_or(&written.place);
            self.called.push((name.to_owned(), place.clone()));
        }
        Some(entry)
    }

    /// Reports unknown upstreams that plugins call.
    pub(super) fn find_called(&mut self, spec: &Config, clusters: &IndexMap<String, Arc<Cluster>>) {
        for (name, place) in std::mem::take(&mut self.called) {
            // An upstream with errors has its own problem already.
            if !clusters.contains_key(&name) && !spec.upstreams.contains_key(&name) {
                let problem = Problem::new(format!("unknown upstream `{name}`")).at(&place);
                self.problems.push(problem.suggest(&name, spec.upstreams.keys().map(String::as_str)));
            }
            if clusters.get(&name).is_some_and(|found| *found.spec().protocol == UpstreamProtocol::H2c) {
                let problem = Problem::new(format!("upstream `{name}` supports only HTTP/2"));
                let help =
                    "plugins use HTTP/1.1; name an upstream with `protocol: http1`, or `h2` with `tls`";
                self.problems.push(problem.help(help).at(&place));
            }
        }
    }
}

/// The place of a text within settings.
fn place_of<'v>(value: &'v Value, wanted: &str) -> Option<&'v Place> {
    match &value.kind {
        ValueKind::Null => None,
        ValueKind::Scalar { text, .. } => (text == wanted).then_some(&value.place),
        ValueKind::List(items) => items.iter().find_map(|item| place_of(item, wanted)),
        ValueKind::Map(entries) => entries.iter().find_map(|(_, value)| place_of(value, wanted)),
    }
}
