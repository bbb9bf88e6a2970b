//! Places of each setting, for the help of an error about a known setting in the wrong place.

use crate::config::{
    AccessLog, Acme, Admin, Config, Endpoint, Listener, ListenerTls, PassiveHealth, ProcessLog, Rebalance,
    Route, Server, Upstream, UpstreamTls, WebSocket,
};
use schemars::{JsonSchema, schema_for};

/// The settings of one mapping, computed only for an error.
struct Mapping {
    name: &'static str,
    settings: fn() -> Vec<String>,
}

const fn mapping<T: JsonSchema>(name: &'static str) -> Mapping {
    Mapping { name, settings: settings::<T> }
}

const MAPPINGS: [Mapping; 15] = [
    mapping::<Config>("the file itself"),
    mapping::<Server>("`server`"),
    mapping::<Admin>("`admin`"),
    mapping::<ProcessLog>("`log`"),
    mapping::<AccessLog>("`access_log`"),
    mapping::<Listener>("a listener"),
    mapping::<ListenerTls>("`tls` of a listener"),
    mapping::<Acme>("`tls.acme` of a listener"),
    mapping::<Upstream>("an upstream"),
    mapping::<Endpoint>("an endpoint"),
    mapping::<UpstreamTls>("`tls` of an upstream"),
    mapping::<PassiveHealth>("`passive_health` of an upstream"),
    mapping::<Rebalance>("`rebalance` of an upstream"),
    mapping::<Route>("a route"),
    mapping::<WebSocket>("`websocket` of a route"),
];

fn settings<T: JsonSchema>() -> Vec<String> {
    let schema = schema_for!(T);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

/// Help that names the places of a setting that is unknown in its present place.
pub(super) fn elsewhere(setting: &str) -> Option<String> {
    let has = |mapping: &&Mapping| (mapping.settings)().iter().any(|known| known == setting);
    let places: Vec<_> = MAPPINGS.iter().filter(has).map(|mapping| mapping.name).collect();
    match &places[..] {
        [] => None,
        [.., _, _, _, _] => None,
        places => Some(format!("`{setting}` is a setting of {}", places.join(", or of "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_has_settings() {
        for mapping in &MAPPINGS {
            assert!(!(mapping.settings)().is_empty(), "{}", mapping.name);
        }
    }

    #[test]
    fn the_help_names_the_place_of_a_setting() {
        let help_for = |setting| elsewhere(setting).unwrap_or_default();
        assert_eq!(help_for("retries"), "`retries` is a setting of an upstream");
        assert_eq!(help_for("ping_interval"), "`ping_interval` is a setting of `websocket` of a route");
        assert_eq!(
            help_for("keepalive_timeout"),
            "`keepalive_timeout` is a setting of `server`, or of an upstream"
        );
        assert_eq!(elsewhere("no_such_setting"), None);
    }
}
